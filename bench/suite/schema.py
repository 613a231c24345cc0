"""The words of a suite as frozen models: `Entry`, `Settings`, `Trial`, `Suite`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from bench.keys import content_hash
from bench.suite.claims import Claims
from bench.suite.limits import Limits
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

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Of a table of labels: the path of one stands for the data set `table`, others for `folder`."""
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Of archives that data sets read in place."""
PATH_OPTIONS = ("path", "root")
"""Options of data sets that say where files lie; ids leave them out: contents have a hash."""
CONTENT_OPTIONS = ("lists",)
"""Options of data sets that are the data themselves: ids leave them out as well."""
WHERE_PATHS_START = (
    "a relative path in a suite starts at the folder of the suite, on the command line at the "
    "working folder"
)
"""The one rule, for messages; `~` is the home folder everywhere."""

NOT_IN_LABELS = ("path", "classes")
"""What the label of a file of weights leaves out: its name stands there, and classes are many."""

OPTIONS_ADDED_LATER = (
    "penalty", "objective", "splits", "bits", "split", "group", "channels", "target", "labels",
    "stoch_norm", "top", "target_data", "unlabelled_fraction",
)  # fmt: skip
"""Options that older ids do not have: where they are None, nor do newer ones."""


def _no_limit(shots: Any) -> Any:
    """The `all` of a suite means that nothing limits how many."""
    return None if shots == "all" else shots


class Entry(BaseModel):
    """A registered name with all its options; `given` names those that the suite wrote out."""

    model_config = STRICT

    name: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    given: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name with the options that were written out, such as `step(step_size=7)`.

        Weights from a file go by the file's name.
        """
        if self.is_file:
            return self.file_label(Path(self.options["path"]).name)
        return self._labelled(self.name, self.given)

    @property
    def is_file(self) -> bool:
        """Whether the entry is a file of weights: `{file: PATH}`."""
        return self.name == "file" and "path" in self.options

    def file_label(self, file_name: str) -> str:
        """The label of a file of weights that is called so, with what is known of it."""
        return self._labelled(file_name, [key for key in self.given if key not in NOT_IN_LABELS])

    def _labelled(self, name: str, keys: Sequence[str]) -> str:
        shown = [f"{key}={value_label(self.options[key])}" for key in keys]
        return f"{name}({', '.join(shown)})" if shown else name

    def identity(self) -> dict[str, Any]:
        """What of the entry changes numbers."""
        options = {
            key: value
            for key, value in self.options.items()
            if value is not None or key not in OPTIONS_ADDED_LATER
        }
        return {"name": self.name, **_plain(options)}

    def without_paths(self) -> Entry:
        """The entry without what says where its files lie, or what is in them."""
        left = (*PATH_OPTIONS, *CONTENT_OPTIONS)
        options = {k: v for k, v in self.options.items() if k not in left}
        if options.get("target_data") is not None:
            options["target_data"] = {
                k: v for k, v in options["target_data"].items() if k not in left
            }
        return self.model_copy(update={"options": options})


def _plain(value: Any) -> Any:
    if isinstance(value, Entry):
        return value.identity()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def reader_of(path: Any, folder: Path = Path()) -> str:
    """The data set that a path alone means; a relative one starts at `folder`."""
    named = str(next(iter(path.values()), "") if isinstance(path, dict) else path)
    if named.lower().endswith(TABLE_SUFFIXES):
        return "table"
    place = os.path.join(folder, os.path.expanduser(named))
    return "hf" if any(os.path.isfile(os.path.join(place, each)) for each in HF_FILES) else "folder"


def value_label(value: Any) -> str:
    """A setting's or option's value in words."""
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
    shown = ", ".join(f"{key}={value_label(item)}" for key, item in own)
    return f"{value['name']}({shown})" if shown else str(value["name"])


class FractalWeights(BaseModel):
    """The source task of `weights: fractals`: how the backbone is pretrained before it is reused.

    Its classes are those of another `family_seed` than the target's, so the two are disjoint. The
    limits are those of the data set `fractals`.
    """

    model_config = STRICT

    classes: Annotated[
        int, Field(ge=2, le=1000, description="Classes of the source task.", examples=[40])
    ] = 40
    images_per_class: Annotated[
        int,
        Field(ge=1, le=10_000, description="Training images of each source class.", examples=[150]),
    ] = 150
    image_size: Annotated[
        Annotated[int, Field(ge=16, le=512)] | None,
        Field(
            description="Side of the source images in pixels. null: the size that the target's "
            "images have.",
            examples=[64],
        ),
    ] = None
    difficulty: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Scales the jitter of the shapes and the noise behind them.",
            examples=[0.5],
        ),
    ] = 0.5
    family_seed: Annotated[
        int,
        Field(
            ge=0,
            lt=2**32,
            description="Which family of fractals. It must differ from that of a data set "
            "`fractals`, so that source and target classes are disjoint.",
            examples=[1],
        ),
    ] = 1
    epochs: Annotated[Epochs, Field(description="Epochs of pretraining.", examples=[9])] = 9
    lr: Annotated[
        Positive,
        Field(
            description="Learning rate of pretraining: the peak of a `one_cycle` schedule.",
            examples=[0.05],
        ),
    ] = 0.05
    weight_decay: Annotated[
        NotNegative, Field(description="Weight decay of pretraining.", examples=[0.0005])
    ] = 5e-4
    batch_size: Annotated[
        BatchSize, Field(description="Images in a batch of pretraining.", examples=[64])
    ] = 64


class LanguageWeights(BaseModel):
    """How `weights: language` are made: the backbone `language_tiny` fills gaps in sentences.

    They are of the source family of the embedded language, of which the data set `language` has no
    sentence.
    """

    model_config = STRICT

    sentences: Annotated[
        int, Field(ge=1, le=1_000_000, description="Source sentences.", examples=[16_000])
    ] = 16_000
    language_seed: Annotated[
        int, Field(ge=0, lt=2**32, description="Which sentences are drawn.", examples=[0])
    ] = 0
    epochs: Annotated[Epochs, Field(description="Epochs of pretraining.", examples=[8])] = 8
    lr: Annotated[
        Positive,
        Field(
            description="Learning rate of pretraining: the peak of a `one_cycle` schedule.",
            examples=[0.003],
        ),
    ] = 0.003
    batch_size: Annotated[
        BatchSize, Field(description="Sentences in a batch of pretraining.", examples=[64])
    ] = 64


TargetTaskName = Literal["classification", "regression", "multi_label"]
"""What a suite predicts: see `bench.methods.target_tasks`."""

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
"""How pixels are computed when an image is resized, by Pillow's names."""


def _or_else(rule: str) -> WrapValidator:
    """What does not fit breaks one rule, whichever of several forms it comes closest to."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(rule) from None

    return WrapValidator(check)


_CHANNELS = (
    "must be one number or three (red, green, blue) {}, of values in [0, 1] (divide those of "
    "values up to 255 by 255)"
)
_Mean = Annotated[float, Field(ge=0, le=1)]
_Means = Annotated[
    _Mean | Annotated[tuple[_Mean, ...], Field(min_length=3, max_length=3, strict=False)] | None,
    _or_else(_CHANNELS.format("from 0 to 1")),
]
_Std = Annotated[float, Field(gt=0, le=1)]
_Stds = Annotated[
    _Std | Annotated[tuple[_Std, ...], Field(min_length=3, max_length=3, strict=False)] | None,
    _or_else(_CHANNELS.format("above 0 and at most 1")),
]
_Classes = Annotated[
    Literal["imagenet"]
    | Annotated[tuple[str, ...], Field(min_length=2, max_length=100_000, strict=False)]
    | None,
    _or_else("must be 'imagenet' or a list of at least two names"),
]


class FileWeights(BaseModel):
    """What is known of the weights in a file of one's own: how the images looked that made them.

    What is not given is not known.
    """

    model_config = STRICT

    mean: Annotated[
        _Means,
        Field(
            description="Mean of red, green and blue that is subtracted from values in [0, 1] "
            "(divide a mean for 0 to 255 by 255); one number holds for all three. null: unknown, "
            "and the value of the backbone's ImageNet weights is used.",
            examples=[[0.485, 0.456, 0.406], 0.5],
        ),
    ] = None
    std: Annotated[
        _Stds,
        Field(
            description="Standard deviation of red, green and blue, by which the difference is "
            "divided. null: unknown, and the value of the backbone's ImageNet weights is used.",
            examples=[[0.229, 0.224, 0.225], 0.5],
        ),
    ] = None
    image_size: Annotated[
        Annotated[int, Field(ge=8, le=4096)] | None,
        Field(
            description="Side in pixels of the images that trained the weights; the suite's own "
            "`image_size` takes precedence. null: unknown, and the weights ask for no size.",
            examples=[224],
        ),
    ] = None
    interpolation: Annotated[
        Interpolation | None,
        Field(
            description="How images are resized for these weights. null: unknown, and `bilinear` "
            "is used, as for all other weights.",
            examples=["bicubic"],
        ),
    ] = None
    classes: Annotated[
        _Classes,
        Field(
            description="Names of the outputs of the classifier in the file, in order, or "
            "`imagenet` for its 1000 classes: the head `pretrained` needs them. null: unknown.",
            examples=["imagenet", ["cat", "dog"]],
        ),
    ] = None


class Settings(BaseModel):
    """The training settings of one trial. Each may be an axis of the grid in a suite."""

    model_config = STRICT

    weights: Annotated[
        Entry,
        Field(
            description="Where the parameters of the backbone start: `none` (at random), "
            "`imagenet` (the library's default), a weight set by its name, `{file: PATH}` (a "
            "state dict; relative paths start at the suite's folder; options give facts about it) "
            "`fractals`, or for `language_tiny` `language` (pretrained here, once).",
            examples=["imagenet", {"file": "resnet18.pth"}, {"name": "fractals", "classes": 40}],
        ),
    ] = Entry(name="imagenet")
    head: Annotated[
        Entry,
        Field(
            description="The classifier that is put on the backbone. A strategy that always has "
            "the same head (`linear_probe`, `mlp_probe`, `pretrained_head`) ignores it, "
            "but may have `zero_shot` where it has `linear`.",
            examples=["linear", {"name": "mlp", "hidden": 256}],
        ),
    ] = Entry(name="linear")
    optimizer: Annotated[
        Literal["sgd", "adam", "adamw"],
        Field(
            description="Optimiser of torch.optim. `sgd` and `adam` add weight_decay × parameter "
            "to the gradient; `adamw` decays parameters apart from it. The betas of Adam are 0.9 "
            "and 0.999.",
            examples=["adamw"],
        ),
    ] = "sgd"
    lr: Annotated[
        Positive,
        Field(
            description="Learning rate. A parameter's own is lr × the multiplier of its rule in "
            "the strategy × the factor of the schedule.",
            examples=[0.001, [0.001, 0.003]],
        ),
    ] = 0.001
    momentum: Annotated[
        Fraction,
        Field(
            description="Momentum of `sgd`: v ← momentum · v + gradient, parameter ← parameter − "
            "lr · v. Other optimisers have none.",
            examples=[0.9],
        ),
    ] = 0.9
    nesterov: Annotated[
        bool,
        Field(
            description="Nesterov's momentum: steps by gradient + momentum · v. Needs `sgd` and a "
            "momentum above 0.",
            examples=[True],
        ),
    ] = False
    weight_decay: Annotated[
        NotNegative,
        Field(
            description="Weight decay of all parameters that train. `sgd` and `adam`: gradient ← "
            "gradient + weight_decay · parameter. `adamw`: parameter ← parameter − lr · "
            "weight_decay · parameter.",
            examples=[0.0001],
        ),
    ] = 0.0
    weight_decay_on: Annotated[
        Literal["all", "matrices"],
        Field(
            description="Which parameters decay: `all` that train, or `matrices`, which leaves "
            "out parameters of at most one dimension: biases, and the scales and shifts of norm "
            "layers.",
            examples=["matrices"],
        ),
    ] = "all"
    label_smoothing: Annotated[
        Fraction,
        Field(
            description="ε: the target of a sample of C classes is (1 − ε) · its distribution + "
            "ε / C (of several labels a sample: (1 − ε) · label + ε / 2). For training alone: "
            "reported losses are plain cross-entropy. Class weights do not apply to the part of ε.",
            examples=[0.1],
        ),
    ] = 0.0
    grad_clip_norm: Annotated[
        Positive | None,
        Field(
            description="Largest Euclidean norm of the gradients over all parameters that train; "
            "larger ones are scaled down to it. null: no limit.",
            examples=[1.0],
        ),
    ] = None
    epochs: Annotated[
        Epochs, Field(description="Passes over the training split.", examples=[12])
    ] = 12
    batch_size: Annotated[
        BatchSize,
        Field(
            description="Images in a training step. A last batch of one image joins the batch "
            "before.",
            examples=[16],
        ),
    ] = 16
    micro_batch: Annotated[
        Annotated[int, Field(ge=2)] | None,
        Field(
            description="Trains each batch in pieces of this many images, whose gradients add up: "
            "less memory, the same steps. Batch norm sees the pieces. null: a batch at once.",
            examples=[8],
        ),
    ] = None
    devices_per_trial: Annotated[
        Annotated[int, Field(ge=1, le=1024)] | None,
        Field(
            description="Devices that share each batch of a trial. null: 1.",
            examples=[2],
        ),
    ] = None
    early_stopping: Annotated[
        Count | None,
        Field(
            description="Ends a trial after this many epochs without a better one on the "
            "validation split, never before its last stage has begun. null: never.",
            examples=[5],
        ),
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced"],
        Field(
            description="`balanced` weights class c by w_c = n / (C · n_c), with n images of C "
            "classes in the training split, n_c of them of class c. The loss of a batch is "
            "Σ_i Σ_c t_ic w_c (−log p_ic) / Σ_i Σ_c t_ic w_c, with t the targets before smoothing "
            "(one-hot, or the mixture of a mix). Label smoothing ε makes it (1 − ε) · that + "
            "ε · mean_i mean_c (−log p_ic), the second part without weights. Of several labels an "
            "image, samples that have label c weigh (n − n_c) / n_c for it.",
            examples=["balanced"],
        ),
    ] = "none"
    sampler: Annotated[
        Literal["shuffle", "balanced"],
        Field(
            description="`shuffle`: every training image once an epoch. `balanced`: as many draws "
            "with replacement, every class equally likely.",
            examples=["balanced"],
        ),
    ] = "shuffle"
    shots: Annotated[
        Count | None,
        BeforeValidator(_no_limit, json_schema_input_type=Count | Literal["all"] | None),
        Field(
            description="Training images of each class that are kept, drawn by the seed; more "
            "shots keep those of fewer shots and add others. A list shows how much labelling pays. "
            "null, or `all`: all.",
            examples=[10, [5, 20, "all"]],
        ),
    ] = None
    image_size: Annotated[
        Annotated[int, Field(ge=8, le=4096)] | None,
        Field(
            description="Side of the network's input in pixels. null: the size that the weights "
            "ask for; else that of the images, where all are squares of one size that the "
            "backbone takes and that is not above its usual one; else the backbone's usual one.",
            examples=[224],
        ),
    ] = None
    max_length: Annotated[
        Annotated[int, Field(ge=1, le=100_000)] | None,
        Field(
            description="Tokens of a text that the network sees, at most; the rest of a longer one "
            "is left out. null: what the backbone's own files say, else 256 or what it can see.",
            examples=[128],
        ),
    ] = None
    pooling: Annotated[
        Literal["auto", "cls", "mean", "last", "tfidf", "sif"],
        Field(
            description="How a text backbone makes one vector of those of a text's tokens: that of "
            "the first (`cls`), their `mean`, that of the `last`. `auto`: what the backbone's own "
            "files say, else `last` where tokens see only those in front of them, else `cls`. "
            "Of word vectors their `mean` (`auto`), that with the weights of TF-IDF (`tfidf`), or "
            "`sif`, smooth inverse frequency: both as the training texts have it.",
            examples=["mean"],
        ),
    ] = "auto"
    resize: Annotated[
        Literal["auto", "crop", "squash", "pad"],
        Field(
            description="How an image becomes a square. `crop`: its shorter side becomes "
            "image_size / 0.875 pixels (256 for 224), of which the network sees the middle. "
            "`squash`: all of it, resized to a square. `pad`: all of it, on black. `auto`: squash "
            "where all images are squares, which keeps all of them (and every pixel, where they "
            "have image_size already), else crop.",
            examples=["pad"],
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Field(
            description="Number format of the backbone's matrix work; the head computes in fp32. "
            "`fp16` is for CUDA devices without bf16, and scales losses. `auto`: what is faster on "
            "this device.",
            examples=["fp32"],
        ),
    ] = "auto"
    threads: Annotated[
        Threads | Literal["auto"],
        Field(
            description="CPU threads of a trial's training. Another number may change the last "
            "bits. `auto`: 1, or more where the suite has fewer trials than the CPU has cores; "
            "chosen when a run folder is first made, and kept there.",
            examples=[1],
        ),
    ] = "auto"
    task: Annotated[
        TargetTaskName,
        Field(
            description="What is predicted, for the whole suite: `classification`, one class of "
            "several; `regression`, one number or more, standardised by mean and standard "
            "deviation of the training split; `multi_label`, which of several labels an image has.",
            examples=["regression"],
        ),
    ] = "classification"
    metric: Annotated[
        str,
        Field(
            description="The metric that chooses the epoch on the validation split, for the whole "
            "suite. All metrics of its task are measured on every validation, and once on the test "
            "split. Default of regression: r2, of multi_label: mean_average_precision.",
            examples=["macro_f1"],
        ),
    ] = "accuracy"
    choose: Annotated[
        Literal["best", "last"],
        Field(
            description="Which epoch of a trial counts, for the whole suite: `best`, the one that "
            "validation chooses by `metric`, or `last`, the one after the last step, whatever "
            "validation says. `last` allows `val_fraction: 0` of the data set.",
            examples=["last"],
        ),
    ] = "best"
    folds: Annotated[
        Annotated[int, Field(ge=2, le=1000)] | None,
        Field(
            description="Repeated k-fold for little data, for the whole suite. Each seed splits "
            "all images into this many folds, stratified by class, and becomes as many trials: "
            "each is tested on its fold, draws its validation split from the rest and trains on "
            "what remains, so that every image is tested once for each seed. Splits that the data "
            "set has are pooled. At most the images of the smallest class; not with `tune`. null: "
            "one test split for all seeds.",
            examples=[5],
        ),
    ] = None
    diagnose: Annotated[
        Literal["test_curve"] | None,
        Field(
            description="`test_curve` also scores the test split after every epoch, for the whole "
            "suite, to show what would be claimed by those who choose by it. The scores are kept "
            "apart, and choose, tune and claim nothing. Trials with it have ids of their own; not "
            "with `tune`. null: the test split is read once.",
            examples=["test_curve"],
        ),
    ] = None
    seed: Annotated[
        int,
        Field(
            ge=0,
            lt=2**31,
            description="Seeds the validation split, the head, the order of images and their "
            "views. Several seeds make claims possible. Default in a suite: [0, 1, 2].",
            examples=[0, [0, 1, 2]],
        ),
    ] = 0

    @property
    def devices(self) -> int:
        """How many devices the trial is trained on."""
        return self.devices_per_trial or 1

    @property
    def cpu_threads(self) -> int:
        """The CPU threads of its training; 1 where nobody has chosen more."""
        return 1 if self.threads == "auto" else self.threads


ADDED_LATER: Mapping[str, tuple[Any, ...]] = {
    "micro_batch": (None,),
    "devices_per_trial": (None, 1),
    "task": ("classification",),
    "metric": ("accuracy",),
    "weight_decay_on": ("all",),
    "max_length": (None,),
    "pooling": ("auto",),
    "choose": ("best",),
    "folds": (None,),
    "diagnose": (None,),
}
"""Settings that older ids do not have: where they have one of these values, nor do newer ones."""

WRITTEN_IF_SET: Mapping[str, Any] = {
    "task": "classification",
    "max_length": None,
    "pooling": "auto",
    "choose": "best",
    "folds": None,
    "diagnose": None,
}
"""Settings that a `suite.yaml` names only where they have another value than this."""

DEFAULT_AXES: Mapping[str, tuple[Any, ...]] = {"seed": (0, 1, 2)}
"""Settings whose default in a suite is more than one value."""


class Trial(BaseModel):
    """One cell of the grid with one seed, and with one `fold`, from 0, where the suite has folds.

    People count folds from 1: in labels and tables.
    """

    model_config = STRICT

    suite: str
    dataset: Entry
    backbone: Entry
    strategy: Entry
    schedule: Entry
    augmentation: Entry
    settings: Settings
    fold: int | None = None

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
        fold = {} if self.fold is None else {"fold": self.fold}
        return {**axes, **settings, **fold}

    @property
    def config(self) -> str:
        """Content hash of the trial without its seed and fold: statistics group by it."""
        identity = self.identity().items()
        return content_hash({k: v for k, v in identity if k not in ("seed", "fold")})

    def id(self, context: Mapping[str, Any]) -> str:
        """Content hash of the trial and of `context`: data, weights and device it meets."""
        return content_hash({**self.identity(), "context": context})

    @property
    def label(self) -> str:
        """The cell in words."""
        return " · ".join(getattr(self, axis).label for axis in AXES)

    @property
    def full_label(self) -> str:
        """The trial in words: its cell, its seed, and its fold if it has one."""
        return f"{self.label} · {self.repetition}"

    @property
    def repetition(self) -> str:
        """The seed in words, and the fold if the trial has one."""
        fold = "" if self.fold is None else f" · fold {self.fold + 1}"
        return f"seed {self.settings.seed}{fold}"

    def by_fold(self) -> Iterator[Trial]:
        """The trial once for each fold that its settings ask for; one with a fold is itself."""
        if self.settings.folds is None or self.fold is not None:
            yield self
            return
        for fold in range(self.settings.folds):
            yield self.model_copy(update={"fold": fold})

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


Checkpoints = Literal["all", "best", "none"]
"""Whose weights a run keeps: those of every trial, of the best one of each config, of none."""
HF_FILES = ("dataset_dict.json", "state.json")
"""What a folder has that is a data set of Hugging Face: with splits, or without."""


SplitCheck = bool | Literal["all"]
"""Whether the same is trained once more at random: one config of each strategy, or all."""


class Suite(BaseModel):
    """A checked suite: one data set, the axes of the grid, the values of every setting.

    `tune` says what `bench tune` searches; a run trains the values that stand here. `claims` says
    how its verdict weighs what it finds, `resources` limits what a trial may take, `limits` how
    large a file may be that is read, `checkpoints` says whose weights are kept, `after` what
    finished trials are made into, `split_check` what is trained under a random split too.
    """

    model_config = STRICT

    name: str
    dataset: Entry
    axes: Mapping[str, tuple[AxisEntry, ...]]
    settings: Mapping[str, tuple[Any, ...]]
    exclude: tuple[GridRule, ...] = ()
    include: tuple[GridRule, ...] = ()
    tune: Tune | None = None
    claims: Claims = Claims()
    resources: Resources = Resources()
    limits: Limits = Limits()
    checkpoints: Checkpoints = "all"
    after: tuple[Entry, ...] = ()
    split_check: SplitCheck = False

    def with_threads(self, number: int) -> Suite:
        """The suite with a number wherever it leaves that of the CPU threads open."""

        def settled(settings: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
            given = settings.get("threads", ())
            numbers = tuple(dict.fromkeys(number if each == "auto" else each for each in given))
            return {**settings, "threads": numbers} if given else dict(settings)

        def of_entry(entry: AxisEntry) -> AxisEntry:
            return entry.model_copy(update={"settings": settled(entry.settings)})

        def of_rule(rule: GridRule) -> GridRule:
            entries = {axis: of_entry(entry) for axis, entry in rule.entries.items()}
            update = {"entries": entries, "settings": settled(rule.settings)}
            return rule.model_copy(update=update)

        return self.model_copy(
            update={
                "axes": {axis: tuple(map(of_entry, own)) for axis, own in self.axes.items()},
                "settings": settled(self.settings),
                "exclude": tuple(map(of_rule, self.exclude)),
                "include": tuple(map(of_rule, self.include)),
            }
        )

    def weights_label(self, weights: Entry) -> str:
        """The label of weights of the suite; of files with one name as much path as tells them."""
        if not weights.is_file:
            return weights.label
        path = weights.options["path"]
        return weights.file_label(self._weights_files.get(path, PurePath(path).name))

    @cached_property
    def _weights_files(self) -> Mapping[str, str]:
        """The files of weights anywhere in the suite, by path: what each is called."""
        rules = (*self.exclude, *self.include)
        entries = chain(*self.axes.values(), *(rule.entries.values() for rule in rules))
        given = [self.settings, *(rule.settings for rule in rules)]
        given += [entry.settings for entry in entries]
        weights = chain.from_iterable(settings.get("weights", ()) for settings in given)
        return shortest_tails(each.options["path"] for each in weights if each.is_file)


def shortest_tails(paths: Iterable[str]) -> dict[str, str]:
    """Each path by as many of its last parts as no other of them ends with."""
    parts = {path: PurePath(path).parts for path in paths}
    return {path: _shortest_tail(own, [*parts.values()]) for path, own in parts.items()}


def _shortest_tail(own: tuple[str, ...], all_parts: Sequence[tuple[str, ...]]) -> str:
    for count in range(1, len(own) + 1):
        if sum(parts[-count:] == own[-count:] for parts in all_parts) == 1:
            return PurePath(*own[-count:]).as_posix()
    return PurePath(*own).as_posix()
