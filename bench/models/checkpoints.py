"""Checkpoints: what a trial trained, and all that a network is built from again.

A checkpoint holds what differs from the starting weights, so that of a linear probe is a few
kilobytes. The starting weights lie beside it, once for all trials of a run, under the name of their
content: a hard link to the cache's file where the disk has such, else a copy.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import mul
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError
from torch import Tensor

from bench.errors import BenchError, MissingExtraError, WeightsError, bounded
from bench.keys import known_digest
from bench.methods.plan import FITTED, HEAD, Term
from bench.methods.strategies import STRATEGIES
from bench.methods.target_tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION, Standardisation
from bench.models.build import build_network, parameters_on_meta
from bench.models.catalogue import described_family, is_known
from bench.models.first_layer import COLOURS
from bench.models.heads import HEADS, PRETRAINED_HEAD
from bench.models.network import Network, save_tensors
from bench.models.tensor_files import DamagedFileError, read_tensor_file
from bench.models.weights import NONE, Weights
from bench.suite import TargetTaskName
from bench.system.cache import atomic_file, cache_root
from bench.system.checked_json import checked_json, first_misfit

MEND = "run the suite again with --no-reuse into another folder"

SPEC = "model"
"""What the metadata of a checkpoint calls its `ModelSpec`."""

FORMAT = 1

START = r"^start-[0-9a-f]{32}(\.[^./\\]+)?$"
"""A name beside the checkpoint, and no path."""
MAX_CLASSES, MAX_IMAGE_SIZE, MAX_CHANNELS, MAX_THREADS = 100_000, 10**7, 12, 4096
"""Of what a checkpoint may say of its network (the size of vectors is their length)."""
MAX_DESCRIBED = 2**24
"""Characters that describe a text backbone."""
MAX_TEXT_NETWORK = 5 * 10**8
"""Values of a text network that a checkpoint may describe without holding as many."""
MAX_HEAD = 10**8
"""Values of a head that a checkpoint may ask for without holding as many."""


OF_OTHER_TASKS = ("task", "standardised", "thresholds")
"""What a checkpoint says of its network only where that predicts no classes."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a trained network is built from again, beside the tensors of its checkpoint.

    `weights` names the starting weights, whose file is called `start` (None: there is none, values
    were drawn with `seed`); `weights_classes` are their classifier's, where the head keeps it.
    `adapter` is what was added to the backbone. A text backbone is `described` for its family.
    `image_size` is in pixels (of vectors their length, of texts the most tokens), and images have
    so many `channels`. The groups in front of `boundary` were frozen at the epoch that counts;
    `precision` and `threads` are those of the trial's evaluation.
    `versions` are those of the packages that wrote it, `numerics` that of this one's numbers.

    Its outputs are those of the target task `task`: of regression, `standardised` says what they
    mean in the targets' own units; of several labels a sample, `thresholds` from which probability
    on each label is given.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    trial: str
    backbone: str
    head: str
    head_options: Mapping[str, Any]
    num_classes: Annotated[int, Field(ge=1, le=MAX_CLASSES)]
    weights: str
    start: Annotated[str, Field(pattern=START)] | None
    weights_classes: Annotated[tuple[str, ...], Field(max_length=MAX_CLASSES)] | None
    class_map: Mapping[str, tuple[int | str, ...]] | None
    seed: Annotated[int, Field(ge=0)]
    image_size: Annotated[int, Field(ge=1, le=MAX_IMAGE_SIZE)]
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = COLOURS
    boundary: str | None
    precision: Annotated[str, Field(pattern="^(fp32|bf16|fp16)$")]
    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)]
    numerics: int
    versions: Mapping[str, str] = field(default_factory=dict)
    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT
    adapter: Term | None = None
    described: Annotated[str, Field(max_length=MAX_DESCRIBED)] | None = None
    task: TargetTaskName = CLASSIFICATION.name
    standardised: Standardisation | None = None
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None

    def __post_init__(self) -> None:
        standardised, thresholds = self.standardised, self.thresholds
        if (standardised is not None) != (self.task == REGRESSION.name):
            raise ValueError("of regression alone it says how targets are standardised")
        if (thresholds is not None) != (self.task == MULTI_LABEL.name):
            raise ValueError("of several labels a sample alone it says their thresholds")
        lengths = [len(each) for each in (thresholds,) if each is not None]
        if standardised is not None:
            lengths += [len(standardised.mean), len(standardised.sd)]
            if min(standardised.sd, default=0.0) <= 0:
                raise ValueError("a standard deviation must be above 0")
        if any(length != self.num_classes for length in lengths):
            raise ValueError(f"it must say so of each of {self.num_classes:,} outputs")

    def to_json(self) -> str:
        """As checkpoints keep it; what earlier versions did not know is told where it is there."""
        content = asdict(self)
        if self.channels == COLOURS:
            del content["channels"]
        for name in ("adapter", "described"):
            if content[name] is None:
                del content[name]
        if self.task == CLASSIFICATION.name:
            for name in OF_OTHER_TASKS:
                del content[name]
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """What `to_json` gave; raises `ValueError` for anything else."""
        return checked_json(cls, text)


@dataclass(frozen=True)
class _Head:
    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A checkpoint's content: `tensors` by the library's names, and all that its metadata say."""

    path: Path
    spec: ModelSpec
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    def network(self, classes: Sequence[str]) -> Network:
        """The trained network, on the CPU.

        Raises `BenchError` if the starting weights are missing or changed, the backbone is not
        known here, or no such network can be built; `WeightsError` where they do not fit.
        """
        import torch

        spec = self.spec
        if len(classes) != spec.num_classes:
            raise BenchError(
                f"{self.path} is damaged (it names {len(classes):,} classes, and is of a network "
                f"for {spec.num_classes:,}); {MEND}"
            )
        if not is_known(spec.backbone):
            raise BenchError(
                f"{self.path.name} is of the backbone {spec.backbone!r}, which is not known here: "
                "load the plugin that registers it (--plugin FILE, bench.load_plugin)"
            )
        weights = self._weights()
        try:
            self._check_described(weights)
            network = build_network(
                spec.backbone,
                weights=weights,
                head=self._head(),
                num_classes=spec.num_classes,
                seed=spec.seed,
                image_size=spec.image_size,
                channels=spec.channels,
                class_map=spec.class_map,
                classes=classes,
                adapter=self._adapter(),
            )
        except (MissingExtraError, OSError):
            raise
        except Exception as error:  # libraries raise almost anything on sizes that make no network
            reason = bounded(str(error).partition("\n")[0], 300)
            kind = WeightsError if isinstance(error, WeightsError) else BenchError
            raise kind(
                f"{self.path} is of a network that cannot be built ({reason}); {MEND}"
            ) from error
        if spec.boundary not in (None, HEAD, *network.boundaries):
            raise BenchError(f"{self.path} is damaged (it has no part {spec.boundary!r}); {MEND}")
        self._fit_head(network)
        own = network.model.state_dict()
        strange = [n for n, t in self.tensors.items() if n not in own or t.shape != own[n].shape]
        if strange:
            raise BenchError(
                f"{self.path} does not fit {spec.backbone} as it is built here ({strange[0]}): it "
                f"was written with {_written(spec.versions)}; install these versions"
            )
        endless = [n for n, t in self.tensors.items() if not bool(torch.isfinite(t).all())]
        if endless:
            raise BenchError(
                f"{self.path} holds values that are no numbers ({endless[0]}), so it classifies "
                f"nothing; {MEND}"
            )
        network.load(self.tensors)
        return network

    def _fit_head(self, network: Network) -> None:
        """Give a head that is fitted its tensors, whose shapes the file alone knows."""
        if network.fitted_head is None:
            return
        prefix, head = network.fitted_head
        held = {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}
        try:
            if not held:
                raise ValueError("its head holds nothing")
            head.hold(held)
        except ValueError as error:
            raise BenchError(f"{self.path} is damaged ({error}); {MEND}") from error

    def _head(self) -> _Head:
        """The head, if it is one, and not larger than what the file holds can explain."""
        spec = self.spec
        options = dict(spec.head_options)
        if spec.head not in (PRETRAINED_HEAD, FITTED):
            registered = HEADS.get(spec.head)
            try:
                options = registered.options.model_validate(options).model_dump()
            except ValidationError as error:
                raise ValueError(first_misfit(error)) from None
            widths = (*registered.function(**options).hidden, spec.num_classes)
            held = sum(tensor.numel() for tensor in self.tensors.values())
            if sum(map(mul, widths, widths[1:])) > max(MAX_HEAD, held):
                raise ValueError(f"a head of the widths {list(widths)}")
        return _Head(spec.head, options)

    def _check_described(self, weights: Weights) -> None:
        """Raise `ValueError` for a described network that is much larger than what the files hold.

        It is made without memory for that. One that is not described would be looked for elsewhere.
        """
        spec = self.spec
        family = described_family(spec.backbone)
        if (family is None) != (spec.described is None):
            raise ValueError("of backbones of texts, and of these alone, it describes the network")
        if family is None or spec.described is None:
            return
        with parameters_on_meta():
            made = family.build(spec.described, spec.image_size)
        values = sum(tensor.numel() for tensor in (*made.parameters(), *made.buffers()))
        beside = 0 if weights.path is None else weights.path.stat().st_size
        held = sum(tensor.numel() for tensor in self.tensors.values()) + beside
        if values > max(MAX_TEXT_NETWORK, held):
            raise ValueError(f"a network of {values:,} values, of which the files hold {held:,}")

    def _adapter(self) -> Term | None:
        """What the file says was added to the backbone, if that is what a strategy adds."""
        adapter = self.spec.adapter
        if adapter is None:
            return None
        try:
            STRATEGIES.get(adapter.name).options.model_validate(dict(adapter.options))
        except ValidationError as error:
            raise ValueError(first_misfit(error)) from None
        return adapter

    def _weights(self) -> Weights:
        spec = self.spec
        path = None if spec.start is None else self.path.parent / spec.start
        if path is not None:
            if not path.is_file():
                raise BenchError(
                    f"{path} is missing: these are the weights that {self.path.name} started from, "
                    f"and it holds only what training changed; {MEND}"
                )
            if _start_name(path) != spec.start:
                raise BenchError(
                    f"{path} is damaged: its content does not have the hash in its name; {MEND}"
                )
        return Weights(
            name=spec.weights if path is not None else NONE,
            path=path,
            fingerprint=NONE,
            input_size=spec.image_size,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            classes=spec.weights_classes,
            described=spec.described,
        )


def write_checkpoint(
    tensors: Mapping[str, Tensor], path: Path, spec: ModelSpec, metadata: Mapping[str, str]
) -> None:
    """Write a checkpoint whole or not at all; its starting weights are kept with `keep_start`."""
    save_tensors(tensors, path, {**metadata, SPEC: spec.to_json()})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raises `BenchError` if it is missing, damaged or of another version."""
    try:
        tensors, metadata = read_tensor_file(path)
    except FileNotFoundError:
        raise BenchError(f"there is no checkpoint {path}") from None
    except (OSError, DamagedFileError) as error:
        raise BenchError(f"{path} is damaged ({error}); {MEND}") from error
    if SPEC not in metadata:
        raise BenchError(
            f"{path} is from an earlier version, which kept weights without saying what network "
            f"they belong to; {MEND}"
        )
    try:
        spec = ModelSpec.from_json(metadata[SPEC])
    except ValueError as error:
        raise BenchError(
            f"{path} describes its network in a way that this version does not understand "
            f"({error}); a later version may have written it: upgrade bench"
        ) from error
    return Checkpoint(path=path, spec=spec, tensors=tensors, metadata=metadata)


def keep_start(weights: Path, folder: Path) -> str:
    """Keep a file of starting weights in `folder`; returns its name there.

    Raises `OSError` where the disk is full or refuses.
    """
    name = _start_name(weights)
    kept = folder / name
    if not (kept.is_file() and kept.stat().st_size == weights.stat().st_size):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(kept) as temporary:
            if not _linked(weights, temporary):
                shutil.copyfile(weights, temporary)
    return name


def _linked(weights: Path, to: Path) -> bool:
    """A second name for a file of the cache, which is never written in place as others may be."""
    if not weights.resolve().is_relative_to(cache_root().resolve()):
        return False
    try:
        os.link(weights.resolve(), to)
    except OSError:
        return False
    return True


def _start_name(path: Path) -> str:
    return f"start-{known_digest(path)[:32]}{path.suffix}"


def _written(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "other packages"
