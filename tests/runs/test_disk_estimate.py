"""What `bench plan` says of the disk, against what a run then takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bench
from bench.execution.work import Work
from bench.models.build import build_network
from bench.models.sizes import activation_bytes, tensor_bytes
from bench.models.weights import describe_weights
from bench.runs.disk_estimate import DiskEstimate, _moved, disk_estimate
from bench.runs.prepare import counted_trials
from bench.runs.resolve import resolve_run
from bench.suite import Checkpoints, Entry
from tests.tiny import SMOKE_SUITE, make_job, make_trial, tiny_training

SMALL = "shufflenet_v2_x0_5"
FITS = DiskEstimate(
    checkpoints=3 * 2**20,
    tables=2**20,
    states=30 * 2**30,
    features=5 * 2**30,
    views=0,
    data=0,
    limit=10 * 2**30,
    run_free=2**40,
    cache_free=2**40,
)


def _taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.campaign
@pytest.mark.usefixtures("no_report")
def test_a_run_takes_what_its_plan_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    suite = tmp_path / "tiny.yaml"
    suite.write_text(SMOKE_SUITE)
    options: dict[str, Any] = {"out": tmp_path / "out", "device": "cpu", "executor": "in-process"}
    seeds = ["seed=[0, 1]", "schedule=[constant, {name: step, step_size: 1}]", "augmentation=none"]
    plan = bench.plan(suite, overrides=seeds, **options)
    planned = plan.disk
    assert planned.sentence() in str(plan)
    found = bench.run(suite, overrides=seeds, **options)
    cache = tmp_path / "cache"
    # The starting weights are a second name of a file of the cache, and take no room.
    starts = (found.folder / "checkpoints").glob("start-*")
    taken = _taken(found.folder / "checkpoints") - sum(path.stat().st_size for path in starts)
    assert planned.checkpoints == pytest.approx(taken, rel=0.1)
    assert planned.states == pytest.approx(_taken(cache / "states"), rel=0.35)
    assert planned.states >= 0.9 * _taken(cache / "states")
    assert planned.features == pytest.approx(_taken(cache / "features"), rel=0.1)
    fingerprint = json.loads((found.folder / "data.json").read_text())["fingerprint"]
    (images,) = (cache / "images").glob(f"*{fingerprint[:16]}")
    assert planned.data == pytest.approx(_taken(images), rel=0.2)
    again = bench.plan(suite, overrides=seeds, **options).disk
    assert (again.run, again.cache) == (0, 0)


def test_checkpoints_that_are_not_kept_take_nothing(tmp_path: Path) -> None:
    suite = tmp_path / "tiny.yaml"
    suite.write_text(SMOKE_SUITE)
    overrides = ["strategy=from_scratch", "weights=none", "seed=[0, 1]"]
    resolved = resolve_run(suite, out=tmp_path, overrides=overrides, device="cpu")
    counted = counted_trials(resolved)

    def checkpoints(kept: Checkpoints) -> int:
        loaded = replace(
            resolved.loaded, suite=resolved.loaded.suite.model_copy(update={"checkpoints": kept})
        )
        run = replace(resolved, loaded=loaded)
        return disk_estimate(run, counted, Work(), [], epoch_seconds=1.0).checkpoints

    network = sum(tensor_bytes(SMALL, Entry(name="linear"), 2).values())
    assert checkpoints("all") == 2 * network
    assert checkpoints("best") == network
    assert checkpoints("none") == 0


def test_limits_are_kept_and_too_little_room_is_told() -> None:
    assert FITS.sentence() == (
        "Disk: up to 4.0 MiB in the run folder (3.0 MiB of checkpoints), 15 GiB in the cache "
        "(10 GiB of states, 5.0 GiB of features)"
    )
    assert "has 1.0 MiB free: set checkpoints" in replace(FITS, run_free=2**20).sentence()
    assert "has 1.0 GiB free: empty it (bench" in replace(FITS, cache_free=2**30).sentence()


def test_sizes_are_those_of_the_network() -> None:
    head = Entry(name="linear")
    network = build_network(
        SMALL,
        weights=describe_weights(SMALL, Entry(name="none")),
        head=head,
        num_classes=7,
        seed=0,
        image_size=32,
    )
    sizes = tensor_bytes(SMALL, head, 7)
    tensors = network.model.state_dict()
    assert sum(sizes.values()) == sum(tensor.nbytes for tensor in tensors.values())
    assert sum(sizes[name] for name in sizes if name.startswith("head/")) == 4 * 7 * (1024 + 1)
    network.eval()
    image = torch.zeros(1, 3, 32, 32)
    assert activation_bytes(SMALL, 32)["head"] == network(image, stop="head").nbytes


@pytest.mark.parametrize("strategy", ["lora", "bitfit"])
def test_what_stays_takes_no_room(strategy: str) -> None:
    trial = make_trial(strategy, backbone=SMALL, data={"train_per_class": 4}, epochs=1)
    network = tiny_training(trial).network
    plan = make_job(trial).plan
    moving = [
        parameter.nbytes
        for name, parameter in network.model.named_parameters()
        if plan.stages[0].rule_for(network.address_of(name)).lr is not None
    ]
    assert _moved(make_job(trial), 2, 1) == sum(moving)
