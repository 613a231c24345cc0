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
from bench.training.failures import failure_of, place
from bench.training.trial import TrainingDivergedError

HERE = place(1, 5)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nProcess 7 has"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_want_of_memory_whoever_notices_it(error: Exception) -> None:
    failure = failure_of(error, Settings(batch_size=64), HERE)
    first_line = (str(error) or "MemoryError").partition("\n")[0]
    assert failure.error.startswith(f"out of memory in epoch 2: {first_line}; set micro_batch: 32")
    assert not failure.external
    assert failure.log is not None


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
    assert failure.error == (
        "cannot read or write: No space left on device (/results/x); make room, or point --out "
        "(results) or BENCH_CACHE (the cache) to another disk; then the same command goes on from "
        "what is finished"
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
