"""Memory and devices of the machine: measured here, GPUs simulated."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bench.errors import BenchError
from bench.system import machine
from bench.system.machine import (
    PeakMemory,
    check_devices,
    device_of_rank,
    limit_memory,
    resolve_device,
)

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux measures it")


def _filled(mebibytes: int) -> torch.Tensor:
    return torch.ones(mebibytes * 2**18)


@linux
def test_a_peak_is_that_of_its_own_span() -> None:
    large = PeakMemory("cpu")
    kept = _filled(8)
    del kept
    before = large.mebibytes()
    freed = _filled(300)
    most = large.mebibytes()
    del freed
    small = PeakMemory("cpu")
    kept = _filled(8)
    own = small.mebibytes()
    assert before is not None
    assert most is not None
    assert own is not None
    assert most > before + 250
    assert own < before + 100
    assert len(kept)


def test_where_the_mark_cannot_be_reset_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_reset_peak_resident", lambda: False)
    assert PeakMemory("cpu").mebibytes() is None
    assert PeakMemory("mps").mebibytes() is None


# GPUs -----------------------------------------------------------------------------------------


def gpus_here(monkeypatch: pytest.MonkeyPatch, kinds: Sequence[str]) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(kinds))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: kinds[index])


@pytest.mark.parametrize(
    ("kinds", "device", "expected"),
    [
        (["A", "B", "A"], "cuda", ["cuda:0", "cuda:2"]),
        (["A", "B", "A", "B"], "cuda:1", ["cuda:1", "cuda:3"]),
        (["B", "A", "A"], "cuda:1", ["cuda:1", "cuda:2"]),
    ],
)
def test_ranks_are_on_gpus_of_one_kind(
    monkeypatch: pytest.MonkeyPatch, kinds: list[str], device: str, expected: list[str]
) -> None:
    gpus_here(monkeypatch, kinds)
    check_devices(device, 2)
    assert [device_of_rank(device, rank) for rank in (0, 1)] == expected


@pytest.mark.parametrize(("kinds", "device"), [(["A", "B"], "cuda"), (["A", "A", "B"], "cuda:1")])
def test_unlike_gpus_train_no_trial_together(
    monkeypatch: pytest.MonkeyPatch, kinds: list[str], device: str
) -> None:
    gpus_here(monkeypatch, kinds)
    with pytest.raises(BenchError, match=f"1 of one kind from --device {device} on; lower it"):
        check_devices(device, 2)


def test_the_cpu_is_taken_without_a_look_at_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> bool:
        raise RuntimeError("Unexpected error from cudaGetDeviceCount()")

    monkeypatch.setattr(torch.cuda, "is_available", refuse)
    assert resolve_device("cpu") == "cpu"


# Limits ---------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", 2 * 2**30), ("cuda", 2 * 2**30 + 3 * 2**20)]
)
def test_what_a_driver_maps_does_not_count_towards_the_limit(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: int
) -> None:
    import resource

    limits: list[tuple[int, int]] = []
    data = iter([5 * 2**20, 8 * 2**20])
    monkeypatch.setattr(machine, "_data_bytes", lambda: next(data))
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    limit_memory(2, device)
    assert limits == [(expected, resource.RLIM_INFINITY)]


@linux
def test_the_data_of_this_process_are_known() -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    told = next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))
    assert machine._data_bytes() == pytest.approx(told * 1024, rel=0.1)
