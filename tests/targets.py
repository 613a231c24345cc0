"""Tiny trials of other target tasks: generated vectors, and a small perceptron."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.data import open_data, open_dataset, prepare
from bench.execution.engine import make_training
from bench.execution.jobs import Job, keyed, trial_splits
from bench.methods.strategies import make_plan
from bench.methods.target_tasks import TARGET_TASKS
from bench.models import describe_weights, layer_group_names
from bench.runs.catalogue import catalogue
from bench.suite import Entry, Settings, Trial, normal_form
from bench.suite.plugins import load_plugin, loaded_plugins, unload_plugin
from bench.training.loop import Training
from tests.tiny import entry

VECTORS = "bench.testing.vectors"
DATA = {"regression": "vector_values", "multi_label": "vector_labels"}
LENGTH, OUTPUTS = 8, 2


@contextmanager
def vectors_loaded() -> Iterator[None]:
    """The plugin of vectors is there within."""
    there = any(plugin.name == "vectors" for plugin in loaded_plugins())
    plugin = None if there else load_plugin(VECTORS)
    yield
    if plugin is not None:
        unload_plugin(plugin.place)


def target_trial(
    task: str,
    strategy: str = "linear_probe",
    *,
    options: dict[str, Any] | None = None,
    schedule: Entry | None = None,
    data: dict[str, Any] | None = None,
    **settings: Any,
) -> Trial:
    names = catalogue()
    defaults: dict[str, Any] = {
        "weights": Entry(name="none"),
        "head": entry(names.head, "linear"),
        "task": task,
        "metric": TARGET_TASKS[task].metric,
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.1,
        "image_size": LENGTH,
        "precision": "fp32",
    }
    own = {"outputs": OUTPUTS, "train": 24, "val": 16, "test": 16, **(data or {})}
    trial = Trial(
        suite="tiny",
        dataset=entry(names.dataset, DATA[task], **own),
        backbone=Entry(name="tiny_mlp"),
        strategy=entry(names.strategy, strategy, **(options or {})),
        schedule=schedule or entry(names.schedule, "constant"),
        augmentation=entry(names.augmentation, "none"),
        settings=Settings(**{**defaults, **settings}),
    )
    return normal_form(trial, names)


def target_job(trial: Trial, *, checkpoint: Path | None = None) -> Job:
    dataset = open_dataset(trial.dataset.name, trial.dataset.options)
    data = open_data(prepare(dataset, size=LENGTH, resize="auto"))
    job = Job(
        trial_id=trial.id({}),
        trial=trial,
        plan=make_plan(trial.strategy, layer_group_names(trial.backbone.name), trial.settings),
        data=data.folder,
        class_map=None,
        weights=describe_weights(trial.backbone.name, trial.settings.weights),
        precision="fp32",
        device="cpu",
        checkpoint=checkpoint,
    )
    splits = trial_splits(trial, data)
    return keyed(job, fingerprint=data.fingerprint, splits=splits, classes=data.classes)


def target_training(trial: Trial) -> Training:
    job = target_job(trial)
    data = open_data(job.data)
    return make_training(job, data, trial_splits(trial, data))
