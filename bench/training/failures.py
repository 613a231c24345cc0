"""What ended a trial: the cause in words, the epoch, how to mend it, whether it was the trial's."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace

from bench.errors import BenchError, MachineError
from bench.suite import Settings
from bench.suite.plugins import place_in_plugin
from bench.training.trial import TrainingDivergedError

_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "defaultcpuallocator",
    "bad_alloc",
    "could not create a memory",
    "could not create a primitive",
    "cannot allocate memory",
)
"""What the texts of torch's and its libraries' errors have in common when memory is short."""


class TookTooLongError(BenchError):
    """A trial has gone for longer without finishing an epoch than its suite allows."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The `error` of a trial, its traceback where it tells more, and whether it is `external`."""

    error: str
    log: str | None = None
    external: bool = False


class RankError(RuntimeError):
    """Another of the processes that train a trial together has failed; `failure` says of what."""

    def __init__(self, rank: int, count: int, failure: Failure) -> None:
        super().__init__(f"rank {rank} of {count}")
        self.failure = failure


def took_too_long(minutes: float, where: str) -> str:
    """The error of a trial that ran into `resources.minutes`; `where` as of `place`."""
    return f"took longer than {minutes:g} min{where} (resources.minutes)"


def place(epochs: int | None, end: int) -> str:
    """Where a trial of `end` epochs was when so many were finished; nothing if it is not known."""
    if epochs is None or end == 0:
        return ""
    return f" after epoch {epochs}" if epochs >= end else f" in epoch {epochs + 1}"


def failure_of(error: Exception, settings: Settings, where: str) -> Failure:
    """What `error` means for a trial with `settings` that was at `where`."""
    if isinstance(error, RankError):
        return replace(error.failure, error=f"{error}{where}: {error.failure.error}")
    log = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        return Failure(error=_out_of_memory(error, settings, where), log=log)
    if isinstance(error, TrainingDivergedError | TookTooLongError):
        return Failure(error=str(error))
    outside = place_in_plugin(error)
    if isinstance(error, BenchError) and outside is None:
        return Failure(error=str(error), external=True)
    if isinstance(error, OSError):
        told = str(MachineError(error))
        return Failure(error=f"{told} (at {outside})" if outside else told, log=log, external=True)
    places = [place for place in (where.strip(), outside and f"at {outside}") if place]
    said = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
    return Failure(error=f"{said} ({', '.join(places)})" if places else said, log=log)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device had too little memory, whatever noticed it."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(part in text for part in _NO_MEMORY)


def _out_of_memory(error: Exception, settings: Settings, where: str) -> str:
    cause = str(error).strip().partition("\n")[0] or type(error).__name__
    at_once = min(settings.micro_batch or settings.batch_size, settings.batch_size)
    mend = "a smaller image_size"
    if at_once > 3:
        mend = (
            f"set micro_batch: {at_once // 2}, which trains the same batches in pieces (now "
            f"{at_once} samples at once), or {mend}"
        )
    return f"out of memory{where}: {cause}; {mend}, or fewer --workers"
