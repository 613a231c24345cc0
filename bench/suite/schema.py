"""The words of a suite as frozen models: `Entry`, `Settings`, `Trial`, `Suite`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from bench.keys import content_hash
from bench.suite.resources import Resources
from bench.suite.rules import (
    STRICT,
    BatchSize,
    Count,
    Epochs,
    Fraction,
    NotNegative,
    Positive,
    Threads,
)
from bench.suite.tune import Tune

AXES = ("backbone", "strategy", "schedule", "augmentation")
"""The axes of the grid whose values are entries; the other axes are settings."""

PATH_OPTIONS = ("path", "root")
"""Options of data sets that say where files lie; ids leave them out: contents have a hash."""

OPTIONS_ADDED_LATER = ("penalty", "objective")
"""Options that older ids do not have: where they are None, nor do newer ones."""


class Entry(BaseModel):
    """A registered name with all its options; `given` names those that the suite wrote out."""

    model_config = STRICT

    name: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    given: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name with the options that were written out, such as `step(step_size=7)`."""
        shown = [f"{key}={_text(self.options[key])}" for key in self.given]
        return f"{self.name}({', '.join(shown)})" if shown else self.name

    def identity(self) -> dict[str, Any]:
        """What of the entry changes numbers."""
        options = {
            key: value
            for key, value in self.options.items()
            if value is not None or key not in OPTIONS_ADDED_LATER
        }
        return {"name": self.name, **_plain(options)}

    def without_paths(self) -> Entry:
        """The entry without what says where its files lie."""
        options = {k: v for k, v in self.options.items() if k not in PATH_OPTIONS}
        return self.model_copy(update={"options": options})


def _plain(value: Any) -> Any:
    if isinstance(value, Entry):
        return value.identity()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _text(value: Any) -> str:
    if isinstance(value, Entry):
        return value.label
    if isinstance(value, Path):
        return value.name
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return _mapping_text(value)
    return str(value)


def _mapping_text(value: Mapping[str, Any]) -> str:
    """Options in options, such as the penalty `l2_sp(weight=0.01)`; what is None is left out."""
    if "name" not in value:
        return "+".join(_mapping_text({"name": name, **own}) for name, own in value.items())
    own = ((key, item) for key, item in value.items() if key != "name" and item is not None)
    shown = ", ".join(f"{key}={_text(item)}" for key, item in own)
    return f"{value['name']}({shown})" if shown else str(value["name"])


class FractalWeights(BaseModel):
    """The source task of `weights: fractals`: how the backbone is pretrained before it is reused.

    Its classes are those of another `family_seed` than the target's, so the two are disjoint. The
    limits are those of the data set `fractals`.
    """

    model_config = STRICT

    classes: Annotated[int, Field(ge=2, le=1000)] = 40
    images_per_class: Annotated[int, Field(ge=1, le=10_000)] = 150
    image_size: Annotated[int, Field(ge=16, le=512)] | None = None
    difficulty: Annotated[float, Field(ge=0, le=1)] = 0.5
    family_seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    epochs: Epochs = 9
    lr: Positive = 0.05
    weight_decay: NotNegative = 5e-4
    batch_size: BatchSize = 64


class Settings(BaseModel):
    """The training settings of one trial. Each may be an axis of the grid in a suite."""

    model_config = STRICT

    weights: Entry = Entry(name="imagenet")
    head: Entry = Entry(name="linear")
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.001
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NotNegative = 0.0
    weight_decay_on: Literal["all", "matrices"] = "all"
    label_smoothing: Fraction = 0.0
    grad_clip_norm: Positive | None = None
    epochs: Epochs = 12
    batch_size: BatchSize = 16
    micro_batch: Annotated[int, Field(ge=2)] | None = None
    devices_per_trial: Annotated[int, Field(ge=1, le=1024)] | None = None
    early_stopping: Count | None = None
    class_weights: Literal["none", "balanced"] = "none"
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    shots: Count | None = None
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    resize: Literal["auto", "crop", "squash", "pad"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: Threads = 1
    metric: str = "accuracy"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def devices(self) -> int:
        """How many devices the trial is trained on."""
        return self.devices_per_trial or 1


ADDED_LATER: Mapping[str, tuple[Any, ...]] = {
    "micro_batch": (None,),
    "devices_per_trial": (None, 1),
    "metric": ("accuracy",),
    "weight_decay_on": ("all",),
}
"""Settings that older ids do not have: where they have one of these values, nor do newer ones."""

DEFAULT_AXES: Mapping[str, tuple[Any, ...]] = {"seed": (0, 1, 2)}
"""Settings whose default in a suite is more than one value."""


class Trial(BaseModel):
    """One cell of the grid with one seed."""

    model_config = STRICT

    suite: str
    dataset: Entry
    backbone: Entry
    strategy: Entry
    schedule: Entry
    augmentation: Entry
    settings: Settings

    def identity(self) -> dict[str, Any]:
        """Everything that the suite says and that changes the trial's numbers."""
        axes = {axis: getattr(self, axis).identity() for axis in AXES}
        axes["dataset"] = self.dataset.without_paths().identity()
        settings = {
            name: _plain(getattr(self.settings, name)) for name in type(self.settings).model_fields
        }
        for name, absent in ADDED_LATER.items():
            if settings[name] in absent:
                del settings[name]
        return {**axes, **settings}

    @property
    def config(self) -> str:
        """Content hash of the trial without its seed: statistics group by it."""
        return content_hash({k: v for k, v in self.identity().items() if k != "seed"})

    def id(self, context: Mapping[str, Any]) -> str:
        """Content hash of the trial and of `context`: data, weights and device it meets."""
        return content_hash({**self.identity(), "context": context})

    @property
    def label(self) -> str:
        """The cell in words."""
        return " · ".join(getattr(self, axis).label for axis in AXES)

    def with_settings(self, **changes: Any) -> Trial:
        """A copy with other settings."""
        return self.model_copy(update={"settings": self.settings.model_copy(update=changes)})


class AxisEntry(BaseModel):
    """An entry of an axis, with the training settings that hold for its cells only."""

    model_config = STRICT

    entry: Entry
    settings: Mapping[str, tuple[Any, ...]] = Field(default_factory=dict)
    location: tuple[str | int, ...] = ()


class GridRule(BaseModel):
    """An `exclude` or `include` rule: axis or setting → value."""

    model_config = STRICT

    entries: Mapping[str, AxisEntry]
    settings: Mapping[str, tuple[Any, ...]]
    location: tuple[str | int, ...]


class Suite(BaseModel):
    """A checked suite: one data set, the axes of the grid, the values of every setting.

    `tune` says what `bench tune` searches; a run trains the values that stand here. `resources`
    limits what a trial may take.
    """

    model_config = STRICT

    name: str
    dataset: Entry
    axes: Mapping[str, tuple[AxisEntry, ...]]
    settings: Mapping[str, tuple[Any, ...]]
    exclude: tuple[GridRule, ...] = ()
    include: tuple[GridRule, ...] = ()
    tune: Tune | None = None
    resources: Resources = Resources()
