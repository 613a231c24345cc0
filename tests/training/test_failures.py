"""What ended a trial, in words, and whether it was the trial's own doing."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
import torch

from bench.errors import WeightsError
from bench.methods.schedules import SCHEDULES
from bench.suite import Settings
from bench.suite.plugins import load_plugin
from bench.training.failures import RankError, failure_of, is_device_fault, place
from bench.training.trial import TrainingDivergedError
from tests.emulated_device import emulated_device

HERE = place(1, 5)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nProcess 7 has"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
        RuntimeError("HIP error: hipErrorOutOfMemory"),
        RuntimeError("miopenStatusAllocFailed"),
        RuntimeError("Invalid buffer size: 24.00 GiB"),
        RuntimeError("Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"),
    ],
)
def test_want_of_memory_whoever_notices_it(error: Exception) -> None:
    failure = failure_of(error, Settings(batch_size=64), HERE)
    first_line = (str(error) or "MemoryError").partition("\n")[0]
    assert failure.error.startswith(f"out of memory in epoch 2: {first_line}; set micro_batch: 32")
    assert not failure.external
    assert failure.log is not None


NO_WORKSPACE = (
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "Unable to find a valid cuDNN algorithm to run convolution",
    "GET was unable to find an engine to execute this computation",
    "FIND was unable to find an engine to execute this computation",
)


@pytest.mark.parametrize("text", NO_WORKSPACE)
def test_a_library_without_workspace_is_want_of_memory_once_the_gpu_has_worked(text: str) -> None:
    here = failure_of(RuntimeError(text), Settings(batch_size=64), HERE)
    assert here.error == f"RuntimeError: {text} (in epoch 2)"  # it may never have worked
    with emulated_device():
        there = failure_of(RuntimeError(text), Settings(batch_size=64), HERE)
    assert there.error.startswith(f"out of memory in epoch 2: {text}; set micro_batch: 32")
    assert not there.external


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be",
        "CUDA error: device-side assert triggered",
        "CUDA error: unspecified launch failure",
        "CUDA error: misaligned address",
        "CUDA error: the launch timed out and was terminated",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: unknown error",
        "CUDA error: all CUDA-capable devices are busy or unavailable",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "HIP error: an illegal memory access was encountered",
        "NCCL error: unhandled cuda error: an illegal memory access was encountered",
        "Caused GPU Hang Error (00000003:kIOGPUCommandBufferCallbackErrorHang)",
    ],
)
def test_a_gpu_that_fails_lies_outside_of_the_trial(text: str) -> None:
    failure = failure_of(RuntimeError(text), Settings(), HERE)
    assert failure.error.startswith(f"the GPU failed in epoch 2: {text.partition(chr(10))[0]}; ")
    assert failure.external
    assert failure.device_lost
    assert failure.log is not None
    told_by_a_rank = RankError(1, 2, failure)
    assert is_device_fault(told_by_a_rank)
    assert failure_of(told_by_a_rank, Settings(), HERE).external


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("Expected all tensors to be on the same device"),
        ValueError("an illegal memory access was encountered"),
    ],
)
def test_other_errors_leave_the_gpu_as_it_is(error: Exception) -> None:
    assert not is_device_fault(error)
    assert not failure_of(error, Settings(), HERE).external


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"batch_size": 64, "micro_batch": 16}, "set micro_batch: 8, .*now 16 samples at once"),
        ({"batch_size": 8, "micro_batch": 16}, "set micro_batch: 4, .*now 8 samples at once"),
        ({"batch_size": 64, "micro_batch": 2}, "MemoryError; a smaller image_size"),
    ],
)
def test_the_advice_is_half_of_what_was_too_much(settings: dict[str, int], advice: str) -> None:
    error = failure_of(MemoryError(), Settings(**settings), HERE).error  # type: ignore[arg-type]
    assert re.search(advice, error)


def test_what_lies_outside_of_a_trial() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/results/x")
    failure = failure_of(full, Settings(), HERE)
    assert failure.external
    assert failure.error.startswith(
        "cannot read or write: No space left on device (/results/x, whose disk has "
    )
    assert failure.error.endswith(
        " MiB free); make room, or point --out (results) or BENCH_CACHE (the cache) to another "
        "disk; then run the same command again: a run keeps its finished trials"
    )
    assert failure_of(WeightsError("no such file"), Settings(), "").external
    diverged = failure_of(TrainingDivergedError("loss is nan in epoch 2"), Settings(), HERE)
    assert (diverged.error, diverged.external) == ("loss is nan in epoch 2", False)
    own = failure_of(ValueError("boom"), Settings(), HERE)
    assert (own.error, own.external) == ("ValueError: boom (in epoch 2)", False)


@pytest.mark.usefixtures("plugins_unloaded")
@pytest.mark.parametrize(
    ("statement", "said", "external"),
    [
        ("raise BenchError('no luck')", "no luck (in epoch 2, at {})", False),
        ("raise ValueError('boom')", "ValueError: boom (in epoch 2, at {})", False),
        ("open('/no/such/file')", "cannot read or write: No such file or directory", True),
    ],
)
def test_what_a_plugin_raises_is_told_with_its_place(
    statement: str, said: str, external: bool, tmp_path: Path
) -> None:
    file = tmp_path / "raises.py"
    file.write_text(
        "from bench.errors import BenchError\nfrom bench.methods.schedules import SCHEDULES\n\n"
        f"@SCHEDULES.register('raises')\ndef raises(progress):\n    'Raises.'\n    {statement}\n"
    )
    load_plugin(file)
    with pytest.raises(Exception) as raised:  # noqa: PT011  (each case another)
        SCHEDULES.get("raises").function(None)
    failure = failure_of(raised.value, Settings(), HERE)  # type: ignore[arg-type]
    assert failure.error.startswith(said.format(f"{file}:7"))
    assert f"at {file}:7)" in failure.error
    assert failure.external is external
    assert "Traceback" in (failure.log or "")


def test_places() -> None:
    assert place(None, 5) == ""
    assert place(0, 0) == ""
    assert place(0, 5) == " in epoch 1"
    assert place(5, 5) == " after epoch 5"
