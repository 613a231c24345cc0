"""Tiny real trials: two classes of generated 32-pixel images, or of texts, and a small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.data import open_data, open_with_target
from bench.data import prepare as prepare_data
from bench.execution.engine import make_training
from bench.execution.jobs import Job, keyed, trial_splits
from bench.methods.strategies import make_plan
from bench.models import layer_group_names, obtain_weights
from bench.models.text.families import family_of, is_text
from bench.runs.catalogue import catalogue
from bench.suite import Entry, Settings, Trial
from bench.suite.registry import Registry
from bench.training.loop import Training
from tests.texts import sentences

SIZE = 32
LENGTH = 24
"""Tokens of a text, at most: some are longer."""
DATA = {
    "classes": 2,
    "train_per_class": 8,
    "val_per_class": 6,
    "test_per_class": 10,
    "image_size": SIZE,
}

SMOKE_SUITE = """\
name: tiny
dataset: {name: fractals, classes: 2, train_per_class: 8, val_per_class: 6, test_per_class: 10,
          image_size: 32}
backbone: shufflenet_v2_x0_5
weights: {name: fractals, classes: 3, images_per_class: 8, epochs: 1}
strategy: [from_scratch, linear_probe]
schedule: constant
augmentation: flip_crop
epochs: 2
batch_size: 8
lr: 0.01
precision: fp32
seed: [0, 1]
"""


def entry(registry: Registry[Any, Any], name: str, **options: Any) -> Entry:
    """A checked entry with all its options."""
    checked = registry.get(name).options(**options).model_dump()
    return Entry(name=name, options=checked, given=tuple(options))


def make_trial(
    strategy: str = "full_finetune",
    *,
    options: dict[str, Any] | None = None,
    backbone: str = "resnet18",
    schedule: Entry | None = None,
    augmentation: str = "flip_crop",
    mix: str | None = None,
    data: dict[str, Any] | None = None,
    fold: int | None = None,
    **settings: Any,
) -> Trial:
    names = catalogue()
    of_texts = is_text(backbone)
    if of_texts:
        own = dict(data or {})
        made = {key: own.pop(key) for key in ("count", "seed") if key in own}
        dataset = entry(names.dataset, "text", lists=sentence_lists(**made), **own)
        augmentation = "none" if augmentation == "flip_crop" else augmentation
        settings = {"max_length": LENGTH, **settings}
    else:
        dataset = entry(names.dataset, "fractals", **{**DATA, **(data or {})})
    defaults: dict[str, Any] = {
        "weights": Entry(name="pretrained" if of_texts else "none"),
        "head": entry(names.head, "linear"),
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.01,
        "image_size": SIZE,
        "precision": "fp32",
    }
    return Trial(
        suite="tiny",
        dataset=dataset,
        backbone=Entry(name=backbone),
        strategy=entry(names.strategy, strategy, **(options or {})),
        schedule=schedule or entry(names.schedule, "constant"),
        augmentation=entry(names.augmentation, augmentation, mix=mix),
        settings=Settings(**{**defaults, **settings}),
        fold=fold,
    )


def sentence_lists(count: int = 28, seed: int = 0) -> dict[str, list[str]]:
    """Sentences as lists."""
    made = sentences(count, seed=seed)
    return {"text": list(made.texts), "label": [made.classes[label] for label in made.labels]}


def prepare(trial: Trial) -> Path:
    dataset = open_with_target(trial.dataset.name, trial.dataset.options)
    settings, name = trial.settings, trial.backbone.name
    size = settings.max_length if is_text(name) else settings.image_size
    assert size is not None
    cutter = family_of(name).tokenizer(name) if is_text(name) else None
    return prepare_data(dataset, size=size, resize=settings.resize, tokenizer=cutter)


def make_job(trial: Trial, *, checkpoint: Path | None = None, trial_id: str = "tiny") -> Job:
    job = Job(
        trial_id=trial_id,
        trial=trial,
        plan=make_plan(trial.strategy, layer_group_names(trial.backbone.name), trial.settings),
        data=prepare(trial),
        class_map=None,
        weights=obtain_weights(trial.backbone.name, trial.settings.weights),
        precision=trial.settings.precision,
        device="cpu",
        checkpoint=checkpoint,
    )
    data = open_data(job.data)
    splits = trial_splits(trial, data)
    return keyed(job, fingerprint=data.fingerprint, splits=splits, classes=data.classes)


def tiny_training(trial: Trial) -> Training:
    job = make_job(trial)
    data = open_data(job.data)
    return make_training(job, data, trial_splits(trial, data))
