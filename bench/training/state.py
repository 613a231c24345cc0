"""The state of a trial after some epochs, and where states wait until they are needed.

A state holds what differs from the starting weights, so that of a linear probe is a few kilobytes.
Its name is its epoch key: whoever finds it may go on from it, with the numbers that training from
the start would give.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.methods.metrics import metric
from bench.models.tensor_files import read_tensor_file, write_tensor_file
from bench.suite import Settings
from bench.system.cache import cache_root
from bench.system.lru_folder import STATES, LruFolder, cached_folder

MEMORY_LIMIT = 2**29
"""Bytes of states that a process keeps in main memory; older ones are read from disk again."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What is known of one split: the mean loss in nats, and metrics by name."""

    loss: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What is recorded of an epoch, counted from 1; `lr` is the head's at its first step.

    `val` is None where there is no validation split, `test` unless the suite asks for a diagnosis:
    nothing is chosen by it. `peak_memory_mib` was the peak since its task
    began, of which `shared_memory_mib` may be that of heads trained beside it; None: not known.
    """

    epoch: int
    lr: float
    train: Scores
    val: Scores | None
    train_seconds: float
    val_seconds: float
    peak_memory_mib: float | None = field(default=None, compare=False)
    shared_memory_mib: float = field(default=0.0, compare=False)
    test: Scores | None = None

    @property
    def validation(self) -> Scores:
        """The scores of the validation split, where there must be one."""
        assert self.val is not None, "nothing is chosen by a validation split that is not there"
        return self.val


def best_record(records: Sequence[EpochRecord], primary: str) -> EpochRecord:
    """The best validation value of the metric `primary`, then the lowest loss, then the first."""
    merit = metric(primary).merit
    return max(
        records,
        key=lambda r: (merit(r.validation.metrics[primary]), -r.validation.loss, -r.epoch),
    )


def chosen_record(records: Sequence[EpochRecord], settings: Settings) -> EpochRecord:
    """The epoch that counts: the best on validation, or the last, as the suite chooses."""
    if settings.choose == "last":
        return records[-1]
    return best_record(records, settings.metric)


def val_losses(records: Sequence[EpochRecord]) -> tuple[float, ...]:
    """The validation losses so far, for schedules; none where there is no validation split."""
    return tuple(record.val.loss for record in records if record.val is not None)


@dataclass(frozen=True, kw_only=True)
class State:
    """A trial after `len(records)` epochs: tensors by the name that the library's model gives.

    `model` holds the parameters and buffers that may differ from the starting weights, `best`
    those of the epoch that is chosen, `optimizer` the optimiser's tensors per parameter, `scaler`
    what a training in fp16 knows of the scale of its losses. `best_val` are the logits of the
    validation split at the chosen epoch where this process has predicted them; no file has them.
    """

    records: tuple[EpochRecord, ...] = ()
    model: Mapping[str, Tensor] = field(default_factory=dict)
    best: Mapping[str, Tensor] = field(default_factory=dict)
    optimizer: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    scaler: Mapping[str, float] = field(default_factory=dict)
    best_val: Tensor | None = None

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.records)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them; those of `best` again, even where they are those of `model`."""
        optimizer = [tensor for slots in self.optimizer.values() for tensor in slots.values()]
        return (*self.model.values(), *self.best.values(), *optimizer)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, as `tensors` counts them."""
        return sum(tensor.nbytes for tensor in self.tensors)


def state_cache() -> LruFolder:
    """Where states are kept on this machine, for all runs."""
    return cached_folder(cache_root() / STATES)


class States(Protocol):
    """States by epoch key."""

    def save(self, key: str, state: State) -> None:
        """Keep `state`, whose tensors must not change any more."""

    def deepest(self, keys: Sequence[str]) -> State | None:
        """The last of the states called `keys` that is there; the first key is the start's."""


class StateStore:
    """States by epoch key: the latest in main memory, all of them in `cache` if there is one.

    Those of a GPU come off it, so that they take no memory of the trials there.
    """

    def __init__(self, cache: LruFolder | None) -> None:
        self._cache = cache
        self._memory: OrderedDict[str, State] = OrderedDict()
        self._bytes = 0

    def save(self, key: str, state: State) -> None:
        """Keep `state`, whose tensors must not change any more."""
        self._forget(key)
        state = _on_host(state)
        self._memory[key] = state
        self._bytes += state.nbytes
        if self._cache is not None:
            self._trim()
            # A full disk costs time later, when the state is made again, and no trial.
            with suppress(OSError), self._cache.adding(key) as temporary:
                _write(state, temporary)

    def load(self, key: str) -> State | None:
        """The state called `key`, if it is still there and whole."""
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        path = self._cache.find(key) if self._cache is not None else None
        return _read(path) if path is not None else None

    def deepest(self, keys: Sequence[str]) -> State | None:
        """The last of the states called `keys` that is there; the first key is the start's."""
        for epochs in range(len(keys) - 1, 0, -1):
            state = self.load(keys[epochs])
            if state is not None and state.epochs == epochs:
                return state
        return None

    def keep_only(self, keys: Collection[str]) -> None:
        """Leave to the cache what is in it, but for the states called `keys`."""
        for key in [key for key in self._memory if key not in keys]:
            if self._cache is not None and self._cache.holds(key):
                self._forget(key)

    def _trim(self) -> None:
        while len(self._memory) > 1 and self._bytes > MEMORY_LIMIT:
            self._forget(next(iter(self._memory)))

    def _forget(self, key: str) -> None:
        if key in self._memory:
            self._bytes -= self._memory.pop(key).nbytes


def _on_host(state: State) -> State:
    """The state with its tensors in main memory; `best` stays `model` where it is."""
    if all(tensor.device.type == "cpu" for tensor in state.tensors):
        return state
    model = {name: tensor.cpu() for name, tensor in state.model.items()}
    own_best = state.best is not state.model
    return State(
        records=state.records,
        model=model,
        best={name: tensor.cpu() for name, tensor in state.best.items()} if own_best else model,
        optimizer={
            name: {slot: tensor.cpu() for slot, tensor in slots.items()}
            for name, slots in state.optimizer.items()
        },
        scaler=state.scaler,
    )


def _write(state: State, path: Path) -> None:
    """One long tensor a type, and what lies where: files of many tensors take long to write."""
    tensors = {f"model/{name}": tensor for name, tensor in state.model.items()}
    if state.best is not state.model:
        tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    for name, slots in state.optimizer.items():
        tensors |= {f"optimizer/{name}/{slot}": tensor for slot, tensor in slots.items()}
    layout: dict[str, list[tuple[str, list[int]]]] = {}
    flat: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        # The steps of some optimisers stay on the CPU.
        kind = f"{tensor.dtype} {tensor.device.type}"
        layout.setdefault(kind, []).append((name, list(tensor.shape)))
        flat.setdefault(kind, []).append(tensor.reshape(-1))
    metadata = {
        "records": json.dumps([asdict(record) for record in state.records]),
        "layout": json.dumps(layout),
        "scaler": json.dumps(dict(state.scaler)),
    }
    write_tensor_file({kind: torch.cat(pieces) for kind, pieces in flat.items()}, path, metadata)


def _read(path: Path) -> State | None:
    try:
        return _parsed(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None  # damaged, foreign or just evicted: it is trained again


def _parsed(path: Path) -> State:
    flat, metadata = read_tensor_file(path)
    model: dict[str, Tensor] = {}
    best: dict[str, Tensor] = {}
    optimizer: dict[str, dict[str, Tensor]] = {}
    for kind, entries in json.loads(metadata["layout"]).items():
        pieces = torch.split(flat[kind], [math.prod(shape) for _, shape in entries])
        for (full_name, shape), piece in zip(entries, pieces, strict=True):
            part, _, name = full_name.partition("/")
            tensor = piece.view(shape)
            if part == "optimizer":
                parameter, _, slot = name.rpartition("/")
                optimizer.setdefault(parameter, {})[slot] = tensor
            else:
                {"model": model, "best": best}[part][name] = tensor
    return State(
        records=tuple(_record(record) for record in json.loads(metadata["records"])),
        model=model,
        best=best or model,
        optimizer=optimizer,
        scaler=json.loads(metadata.get("scaler", "{}")),
    )


def _record(content: Mapping[str, Any]) -> EpochRecord:
    found = {split: content.get(split) for split in ("train", "val", "test")}
    scores = {split: None if own is None else Scores(**own) for split, own in found.items()}
    return EpochRecord(**{**content, **scores})
