"""What ended a trial: the cause in words, the epoch, how to mend it, whether it was the trial's."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.errors import BenchError, MachineError
from bench.suite import Settings
from bench.suite.plugins import place_in_plugin
from bench.training.trial import TrainingDivergedError

_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "out_of_memory",  # the driver's, NVRTC's and NCCL's names of the error
    "outofmemory",  # Metal's, and those of the CUDA and HIP runtimes
    "insufficient memory",
    "invalid buffer size",  # Metal's word for more than it can have at once
    "defaultcpuallocator",
    "bad_alloc",
    "could not create a memory",
    "could not create a primitive",
    "cannot allocate memory",
    "unable to allocate",
    "failed to allocate",
    "alloc_failed",  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT, hipBLAS
    "allocation_failed",  # cuDNN 9
    "statusallocfailed",  # MIOpen
    "rocblas_status_memory_error",
    "errormemoryallocation",
)
"""What the texts of torch's and its libraries' errors have in common when memory is short."""

_NO_WORKSPACE = (
    "cublas_status_not_initialized",
    "cudnn_status_not_initialized",
    "cusolver_status_not_initialized",
    "cusparse_status_not_initialized",
    "rocblas_status_invalid_handle",
    "unable to find an engine",
    "unable to find a valid cudnn algorithm",
    "unable to find a suitable cudnn algorithm",
    "no engine found",
)
"""What a library of a GPU says that finds no memory for its workspace, once tensors are there.

Before, the same words mean an installation that does not work.
"""

_DEVICE_FAULTS = (
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "invalid address space",
    "invalid program counter",
    "device-side assert",
    "device-side exception",
    "unspecified launch failure",
    "launch timed out",
    "hardware stack error",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "memory access fault",  # HIP
    "fallen off the bus",
    "gpu is lost",
    "device lost",
    "context is destroyed",
    "driver shutting down",
    "devices are busy or unavailable",
    "mps server",
    "mps client",
    "cuda error: unknown error",
    "status_execution_failed",
    "statusunknownerror",
    "gpu hang",  # Metal
    "caused gpu timeout",
    "commandbuffercallbackerrorhang",
    "commandbuffercallbackerrortimeout",
    "commandbuffercallbackerrorpagefault",
    "commandbuffercallbackerrordeviceremoved",
)
"""Faults after which a GPU answers nothing that this process asks of it."""


class TookTooLongError(BenchError):
    """A trial has gone for longer without finishing an epoch than its suite allows."""


class DeviceLostError(BenchError):
    """A GPU has failed in this process before, and nothing can be trained here any more."""

    def __init__(self) -> None:
        super().__init__(
            "not trained: the GPU failed under an earlier trial of this process, which cannot use "
            "it again; start the run again, or use --executor processes, which renews the process"
        )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The `error` of a trial, its traceback where it tells more, and whether it is `external`.

    With `device_lost` the process cannot use its GPU any more.
    """

    error: str
    log: str | None = None
    external: bool = False
    device_lost: bool = False


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
    if is_device_fault(error):
        return Failure(error=_device_fault(error, where), log=log, external=True, device_lost=True)
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
    if not isinstance(error, RuntimeError | OSError):
        return False
    return _says(error, _NO_MEMORY) or (_says(error, _NO_WORKSPACE) and _holds_tensors())


def is_device_fault(error: BaseException) -> bool:
    """Whether a GPU has failed, so that it is lost to this process and not to the next one.

    A trial that meets it need not have caused it: what runs there fails, whose it ever was.
    """
    if isinstance(error, RankError):
        return error.failure.device_lost
    return (
        isinstance(error, RuntimeError)
        and _says(error, _DEVICE_FAULTS)
        and not is_out_of_memory(error)
    )


def _says(error: BaseException, parts: Sequence[str]) -> bool:
    text = str(error).lower()
    return any(part in text for part in parts)


def _holds_tensors() -> bool:
    """Whether a GPU has worked in this process."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    try:
        return torch.cuda.memory_allocated() > 0
    except RuntimeError:  # it does not answer any more
        return False


def _device_fault(error: Exception, where: str) -> str:
    return (
        f"the GPU failed{where}: {_cause(error)}; the process cannot use it again and is "
        "replaced; run the same command again to retry this trial"
    )


def _cause(error: Exception) -> str:
    """Its first line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _out_of_memory(error: Exception, settings: Settings, where: str) -> str:
    cause = _cause(error)
    at_once = min(settings.micro_batch or settings.batch_size, settings.batch_size)
    mend = "a smaller image_size"
    if at_once > 3:
        mend = (
            f"set micro_batch: {at_once // 2}, which trains the same batches in pieces (now "
            f"{at_once} samples at once), or {mend}"
        )
    return f"out of memory{where}: {cause}; {mend}, or fewer --workers"
