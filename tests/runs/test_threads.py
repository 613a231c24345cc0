"""`threads: auto`: every core works where a suite has few trials, and the number stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import bench
from bench.runs import threads
from bench.runs.resolve import resolve_run

SUITE: dict[str, Any] = {
    "name": "few",
    "dataset": {
        "name": "fractals",
        "classes": 2,
        "train_per_class": 6,
        "val_per_class": 4,
        "test_per_class": 4,
        "image_size": 32,
    },
    "backbone": "shufflenet_v2_x0_5",
    "weights": "none",
    "strategy": "from_scratch",
    "epochs": 1,
    "batch_size": 8,
    "lr": 0.01,
    "precision": "fp32",
    "seed": 0,
}


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the cores of this machine; it starts with eight."""

    def have(number: int) -> None:
        monkeypatch.setattr(threads, "usable_cores", lambda: number)

    have(8)
    return have


def numbers(out: Path, suite: dict[str, Any], **options: Any) -> list[Any]:
    """The threads of every trial."""
    resolved = resolve_run(suite, out=out, device="cpu", **options)
    return [each.trial.settings.threads for each in resolved.trials]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [8]),
        ({"seed": [0, 1, 2]}, [2, 2, 2]),
        ({"seed": list(range(5))}, [1] * 5),
        ({"seed": list(range(9))}, [1] * 9),
        ({"devices_per_trial": 2}, [4]),
        ({"threads": 3}, [3]),
        ({"threads": [1, "auto"]}, [1, 4]),
        ({"strategy": ["from_scratch", {"name": "from_scratch", "threads": 5}]}, [4, 5]),
        ({"threads": 2, "include": [{"schedule": "cosine", "threads": "auto"}]}, [2, 4]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("cores")
def test_cores_are_shared_by_all_trials_of_the_suite(
    tmp_path: Path, changes: dict[str, Any], expected: list[int]
) -> None:
    assert numbers(tmp_path, SUITE | changes) == expected


@pytest.mark.usefixtures("cores")
def test_a_race_counts_the_seeds_that_it_starts_with(tmp_path: Path) -> None:
    suite = SUITE | {"epochs": [1, 2]}
    assert numbers(tmp_path, suite) == [4, 4]
    assert numbers(tmp_path, suite, decide=True) == [1] * 6


@pytest.mark.usefixtures("cores")
def test_a_selection_of_trials_changes_nothing(tmp_path: Path) -> None:
    assert numbers(tmp_path, SUITE | {"seed": [0, 1, 2]}, only=["seed=1"]) == [2, 2, 2]


@pytest.mark.usefixtures("cores")
def test_a_gpu_needs_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "resolve_device", lambda name: "cuda")
    assert numbers(tmp_path, SUITE) == [1]


@pytest.mark.usefixtures("cores")
def test_the_trial_is_the_one_of_that_number(tmp_path: Path) -> None:
    chosen = resolve_run(SUITE, out=tmp_path, device="cpu")
    given = resolve_run(SUITE | {"threads": 8}, out=tmp_path, device="cpu")
    assert [each.id for each in chosen.trials] == [each.id for each in given.trials]
    assert "8 CPU threads" in "\n".join(chosen.notes)


@pytest.mark.campaign
def test_a_folder_keeps_its_number(tmp_path: Path, cores: Any) -> None:
    cores(2)
    run = bench.run(SUITE, out=tmp_path, device="cpu")
    kept = yaml.safe_load((run.folder / "suite.yaml").read_text())
    assert kept["threads"] == 2
    cores(16)
    assert not resolve_run(SUITE, out=tmp_path, device="cpu").pending
    more = SUITE | {"seed": [0, 1, 2], "epochs": [1, 2]}
    assert numbers(tmp_path, more) == [2] * 6
    assert numbers(tmp_path / "elsewhere", SUITE) == [16]


@pytest.mark.parametrize("text", ["threads: [1, 2]", "threads: auto", "- 1", "\x00", "threads: no"])
@pytest.mark.usefixtures("cores")
def test_a_folder_without_a_number_gets_one(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    (folder / "suite.yaml").write_text(text)
    assert numbers(tmp_path, SUITE) == [8]
