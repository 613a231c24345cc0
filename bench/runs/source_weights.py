"""`weights: fractals`: backbones pretrained on a fractal source task, once, cached by content.

The source task is trained like every other trial (`from_scratch` under a one-cycle schedule), so
the recipe is a trial and its identity names the file in the cache.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from bench.data import format_version, open_dataset, prepare
from bench.errors import WeightsError
from bench.execution.jobs import Job
from bench.execution.origins import sent_with, used_plugins
from bench.methods.plan import Plan
from bench.methods.strategies import make_plan
from bench.models import Weights, layer_group_names
from bench.runs.catalogue import catalogue
from bench.suite import Entry, FractalWeights, Settings, Trial
from bench.suite.registry import Registry
from bench.suite.rules import broken_rule
from bench.system.cache import cache_root
from bench.system.cache_mirror import fetch_file
from bench.system.download import OnProgress
from bench.training.precision import resolve_precision
from bench.training.trial import NUMERICS_VERSION

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
"""Fractal images fill the range of a byte around its middle."""

VALIDATION_PER_CLASS = 10

SUITE = "fractal-weights"
"""The suite name of source tasks."""


def source_trial(backbone: str, recipe: FractalWeights, *, image_size: int) -> Trial:
    """The trial that makes the weights; `image_size` holds unless the recipe has its own."""
    names = catalogue()
    size = recipe.image_size or image_size
    return Trial(
        suite=SUITE,
        dataset=_entry(
            names.dataset,
            "fractals",
            classes=recipe.classes,
            train_per_class=recipe.images_per_class,
            val_per_class=VALIDATION_PER_CLASS,
            test_per_class=1,
            image_size=size,
            difficulty=recipe.difficulty,
            family_seed=recipe.family_seed,
        ),
        backbone=Entry(name=backbone),
        strategy=_entry(names.strategy, "from_scratch"),
        schedule=_entry(names.schedule, "one_cycle"),
        augmentation=_entry(names.augmentation, "flip_crop"),
        settings=Settings(
            weights=Entry(name="none"),
            head=_entry(names.head, "linear"),
            epochs=recipe.epochs,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            batch_size=recipe.batch_size,
            image_size=size,
            threads=1,
        ),
    )


def _entry(registry: Registry[Any, Any], name: str, **options: Any) -> Entry:
    try:
        checked = registry.get(name).options(**options)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, detail["loc"]))
        raise WeightsError(
            f"weights 'fractals' cannot be made with {key} {detail['input']!r}: it "
            f"{broken_rule(detail['msg'])}; give them an image_size of their own"
        ) from None
    return Entry(name=name, options=checked.model_dump())


def describe_fractal_weights(
    backbone: str, recipe: FractalWeights, *, image_size: int, device: str
) -> Weights:
    """The weights as they will be; `path` is where they lie once the source task is trained."""
    trial = source_trial(backbone, recipe, image_size=image_size)
    dataset = open_dataset(trial.dataset.name, trial.dataset.options)
    context: dict[str, Any] = {
        "data": dataset.fingerprint,
        "stored": format_version(dataset),
        "normalisation": (MEAN, STD),
        "precision": resolve_precision(trial, recipe.image_size or image_size, device),
        "device": device.partition(":")[0],
        "numerics": NUMERICS_VERSION,
    }
    if used := used_plugins(trial, _plan(trial)):
        context["plugins"] = used
    key = trial.id(context)
    safe_name = backbone.replace("/", "-")
    path = cache_root() / "weights" / "fractals" / f"{safe_name}-{key}.safetensors"
    fetch_file(path)
    return Weights(
        name="fractals",
        path=path,
        fingerprint=f"fractals-{key}",
        input_size=recipe.image_size or image_size,
        mean=MEAN,
        std=STD,
        classes=None,
    )


def pretraining_job(
    backbone: str,
    recipe: FractalWeights,
    weights: Weights,
    *,
    image_size: int,
    device: str,
    progress: OnProgress | None,
) -> Job:
    """The job that trains the source task and writes `weights.path`."""
    trial = source_trial(backbone, recipe, image_size=image_size)
    dataset = open_dataset(trial.dataset.name, trial.dataset.options, progress=progress)
    size = trial.settings.image_size
    assert size is not None
    data = prepare(dataset, size=size, resize="auto", progress=progress)
    plan = _plan(trial)
    return Job(
        trial_id=weights.fingerprint,
        trial=trial,
        plan=plan,
        data=data,
        class_map=None,
        weights=replace(weights, name="none", path=None, fingerprint="none"),
        precision=resolve_precision(trial, size, device),
        device=device,
        checkpoint=weights.path,
        plugins=sent_with(used_plugins(trial, plan)),
    )


def _plan(trial: Trial) -> Plan:
    return make_plan(trial.strategy, layer_group_names(trial.backbone.name), trial.settings)
