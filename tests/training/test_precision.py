"""The measured precision: decided by a rule, asked of the machine once, kept in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bench.training import precision
from bench.training.precision import (
    NEEDED_SPEEDUP,
    faster_precision,
    measured_precision,
    resolve_precision,
    step_seconds,
)
from tests.damage import LOSSES, lose
from tests.tiny import make_trial

Calls = list[tuple[str, int, str, int]]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    return tmp_path / "precision"


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "half_precision", lambda device: "bf16")


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calls]:
    """Replaces the measurement by given seconds; returns the list of its calls."""

    def set_seconds(*, fp32: float, bf16: float) -> Calls:
        calls: Calls = []

        def measure(
            backbone: str, size: int, device: str, images: int, half: str
        ) -> dict[str, float]:
            calls.append((backbone, size, device, images))
            return {"fp32": fp32, "bf16": bf16}

        monkeypatch.setattr(precision, "step_seconds", measure)
        return calls

    return set_seconds


@pytest.mark.parametrize(
    ("fp32", "bf16", "expected"),
    [
        (NEEDED_SPEEDUP, 1.0, "bf16"),
        (NEEDED_SPEEDUP - 1e-9, 1.0, "fp32"),
        (2.0, 1.0, "bf16"),
        (1.0, 2.0, "fp32"),
    ],
)
def test_bf16_must_be_faster_by_a_tenth(fp32: float, bf16: float, expected: str) -> None:
    assert faster_precision({"fp32": fp32, "bf16": bf16}) == expected


def test_nothing_is_measured_without_native_bf16(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, timing: Callable[..., Calls]
) -> None:
    monkeypatch.setattr(precision, "half_precision", lambda device: None)
    calls = timing(fp32=2.0, bf16=1.0)
    assert measured_precision("resnet18", 32, "cpu", 16) == "fp32"
    assert calls == []
    assert not own_cache.exists()


@pytest.mark.usefixtures("native")
def test_the_first_answer_is_kept(own_cache: Path, timing: Callable[..., Calls]) -> None:
    first = timing(fp32=2.0, bf16=1.0)
    assert measured_precision("resnet18", 32, "cpu", 16) == "bf16"
    assert first == [("resnet18", 32, "cpu", 16)]
    second = timing(fp32=1.0, bf16=2.0)
    assert measured_precision("resnet18", 32, "cpu", 16) == "bf16"
    assert second == []
    (file,) = own_cache.glob("*.json")
    kept = json.loads(file.read_text())
    assert kept["seconds_per_step"] == {"fp32": 2.0, "bf16": 1.0}
    assert kept["backbone"] == "resnet18"


@pytest.mark.usefixtures("own_cache", "native")
def test_other_models_sizes_processors_and_versions_are_measured_anew(
    monkeypatch: pytest.MonkeyPatch, timing: Callable[..., Calls]
) -> None:
    calls = timing(fp32=2.0, bf16=1.0)
    measured_precision("resnet18", 32, "cpu", 16)
    measured_precision("resnet18", 64, "cpu", 16)
    measured_precision("mobilenet_v2", 32, "cpu", 16)
    monkeypatch.setattr(precision, "cpu_name", lambda: "another")
    measured_precision("resnet18", 32, "cpu", 16)
    monkeypatch.setattr(torch, "__version__", "99.0")
    measured_precision("resnet18", 32, "cpu", 16)
    assert len(calls) == 5


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", "{}", '{"precision": "fp8"}', '{"precision": []}', "\udcff"]
)
def test_a_damaged_answer_is_measured_anew(
    own_cache: Path, timing: Callable[..., Calls], damage: str
) -> None:
    timing(fp32=2.0, bf16=1.0)
    measured_precision("resnet18", 32, "cpu", 16)
    (file,) = own_cache.glob("*.json")
    file.write_bytes(damage.encode(errors="surrogateescape"))
    calls = timing(fp32=1.0, bf16=2.0)
    assert measured_precision("resnet18", 32, "cpu", 16) == "fp32"
    assert len(calls) == 1
    assert json.loads(file.read_text())["precision"] == "fp32"


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("how", LOSSES)
def test_whatever_becomes_of_the_file_the_answer_makes_sense(
    own_cache: Path, timing: Callable[..., Calls], how: str
) -> None:
    timing(fp32=2.0, bf16=1.0)
    measured_precision("resnet18", 32, "cpu", 16)
    (file,) = own_cache.glob("*.json")
    lose(file, how)
    if how == "folder":
        file.with_suffix(".lock").unlink(missing_ok=True)
        file.with_suffix(".lock").mkdir()
    timing(fp32=2.0, bf16=1.0)
    assert measured_precision("resnet18", 32, "cpu", 16) == "bf16"
    assert json.loads(file.read_text())["precision"] == "bf16"


@pytest.mark.usefixtures("own_cache", "native")
def test_costly_models_are_measured_on_fewer_images(timing: Callable[..., Calls]) -> None:
    calls = timing(fp32=2.0, bf16=1.0)
    measured_precision("resnet18", 64, "cpu", 4)
    measured_precision("resnet18", 224, "cpu", 64)
    measured_precision("vit_b_16", 224, "cpu", 64)
    measured_precision("resnet18", 64, "cpu", 1)
    assert [images for *_, images in calls] == [4, 32, 3, 2]


@pytest.mark.usefixtures("own_cache", "native")
@pytest.mark.parametrize(
    ("settings", "samples"),
    [
        ({"batch_size": 24}, 24),
        ({"batch_size": 24, "micro_batch": 6}, 6),
        ({"batch_size": 24, "micro_batch": 48}, 24),
        ({"batch_size": 24, "devices_per_trial": 2}, 12),
        ({"batch_size": 24, "precision": "bf16"}, None),
    ],
)
def test_auto_is_measured_with_as_many_samples_as_train_at_once(
    timing: Callable[..., Calls], settings: dict[str, Any], samples: int | None
) -> None:
    calls = timing(fp32=2.0, bf16=1.0)
    trial = make_trial("linear_probe", **{"precision": "auto", **settings})
    assert resolve_precision(trial, 32, "cpu") == "bf16"
    assert [images for *_, images in calls] == ([] if samples is None else [samples])


@pytest.mark.parametrize(
    ("fp32", "bf16", "rounds"),
    [
        (0.1, 0.1, 6),
        (1.0, 1.0, 5),
        (60.0, 60.0, 2),
        (2.0, 1.0, 1),
        (1.0, 2.0, 1),
        (1.4, 1.0, 4),  # not far enough from what is needed
        (0.2, 0.1, 6),  # what is set up once may be most of a first step
    ],
)
def test_steps_are_repeated_less_often_where_they_are_costly_and_once_where_the_first_is_clear(
    monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float, rounds: int
) -> None:
    taken: list[tuple[int, str]] = []
    seconds = {"fp32": fp32, "bf16": bf16}

    def step(_: Any, batch: torch.Tensor, labels: torch.Tensor, precision: str) -> float:
        taken.append((len(batch), precision))
        return seconds[precision]

    monkeypatch.setattr(precision, "_timed_step", step)
    assert step_seconds("mobilenet_v3_small", 32, "cpu", 4) == seconds
    assert taken == [(2, "fp32"), (2, "bf16")] + [(4, "fp32"), (4, "bf16")] * rounds


@pytest.mark.usefixtures("own_cache", "two_threads")
def test_a_real_measurement_leaves_threads_and_random_state_alone() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    seconds = step_seconds("mobilenet_v3_small", 32, "cpu", 2)
    assert set(seconds) == {"fp32", "bf16"}
    assert all(value > 0 for value in seconds.values())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.campaign
def test_a_wait_for_others_on_the_machine_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = F.cross_entropy

    def interrupted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        time.sleep(0.2)
        return loss(logits, labels)

    monkeypatch.setattr(F, "cross_entropy", interrupted)
    began = time.perf_counter()
    seconds = step_seconds("mobilenet_v3_small", 32, "cpu", 2)
    assert time.perf_counter() - began > 2
    assert max(seconds.values()) < 0.2


@pytest.mark.usefixtures("own_cache", "two_threads")
def test_a_failed_measurement_leaves_threads_and_no_answer(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, native: None
) -> None:
    def fail(*arguments: object) -> float:
        raise RuntimeError

    monkeypatch.setattr(precision, "_timed_step", fail)
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        measured_precision("mobilenet_v3_small", 32, "cpu", 16)
    assert torch.get_num_threads() == threads
    assert list(own_cache.glob("*.json")) == []
