"""What `bench init` proposes: what takes about ten minutes here, and what that can decide."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import bench
from bench.data import open_dataset
from bench.runs.catalogue import catalogue
from bench.runs.plan import RunPlan
from bench.runs.time_estimate import TimeEstimate
from bench.suite import expand, load_suite
from bench.system.machine import resolve_device
from tests.odd_inputs.conftest import fill, photograph

PASSES_OF_A_CORE = 40_000
"""Training images of 224 pixels through a small network in some 20 minutes of a core with matrix
units, generously: `init` measures how fast the machine is, and proposes more to a faster one."""

on_cpu = pytest.mark.skipif(resolve_device("auto") != "cpu", reason="counted for a CPU")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def untimed_plan(suite: Path, **options: Any) -> RunPlan:
    """A plan that measures nothing: what it says of time is not looked at."""
    nothing = TimeEstimate(epochs=1, trained_samples=1, evaluated_samples=1, seconds=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.plan.estimate", lambda *_, **__: nothing, raising=False)
        own = {"out": suite.parent, "device": "cpu", "overrides": ["precision=fp32"], **options}
        return bench.plan(suite, **own)


def folder_of(root: Path, layout: dict[str, int], *, width: int, height: int) -> Path:
    def save(path: Path, number: int) -> None:
        photograph(number, width=width, height=height).save(path)

    return fill(root, layout, suffix=".jpg", save=save)


def takes_minutes(suite: Path) -> bool:
    """Whether the work is that of minutes, counted as if nothing were frozen or shared."""
    return passes(suite) <= PASSES_OF_A_CORE * max(2, os.cpu_count() or 2)


def passes(suite: Path) -> float:
    """Images that pass through networks in training, in units of 224 × 224 pixels."""
    names = catalogue()
    loaded = load_suite(suite, names)
    dataset = open_dataset("folder", dict(loaded.suite.dataset.options))
    images, classes = 0.64 * len(dataset), len(dataset.classes)
    settings = [trial.settings for trial in expand(loaded, names)]
    return sum(
        each.epochs * min(images, classes * (each.shots or images)) * (each.image_size or 224) ** 2
        for each in settings
    ) / (224**2)


@pytest.mark.campaign
@on_cpu
def test_small_images_are_made_larger_only_where_that_takes_minutes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "signs", {"go": 400, "stop": 400}, width=48, height=48)
    written = bench.init(folder, output=tmp_path / "s.yaml")
    sizes = yaml.safe_load(written.path.read_text()).get("image_size") or 224
    large = max(sizes if isinstance(sizes, list) else [sizes])
    assert large <= 64 or takes_minutes(written.path)


@pytest.mark.campaign
@on_cpu
def test_forty_photographs_take_minutes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "garden", {"rose": 20, "tulip": 20}, width=1200, height=900)
    assert takes_minutes(bench.init(folder, output=tmp_path / "s.yaml").path)


@pytest.mark.campaign
@on_cpu
def test_a_hundred_classes_of_five_take_minutes_and_can_be_run(tmp_path: Path) -> None:
    layout = {f"bird-{number:03}": 5 for number in range(100)}
    folder = folder_of(tmp_path / "birds", layout, width=64, height=64)
    written = bench.init(folder, output=tmp_path / "s.yaml")
    plan = untimed_plan(written.path, only=["strategy=linear_probe"])
    assert any(config.pending for config in plan.configs)
    assert takes_minutes(written.path)


@pytest.mark.campaign
def test_the_suite_says_how_long_what_it_decides_and_how_to_ask_for_more(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", {"a": 15, "b": 15}, width=40, height=40)
    written = bench.init(folder, output=tmp_path / "s.yaml")
    comments = [line for line in written.path.read_text().splitlines() if "#" in line]
    said = re.sub(r"\s*#\s*", " ", " ".join([*comments, written.summary]))
    assert re.search(r"\b\d+(\.\d+)? (s|seconds?|min|minutes?|h|hours?)\b", said), "how long"
    assert re.search(r"(differences?|points).{0,80}(show|decid|told apart|shown)", said), "what"
    assert re.search(r"more seeds|--decide|--minutes|more (images|time)", said), "how to have more"


@pytest.mark.campaign
def test_init_says_what_the_plan_will_say_of_its_seeds(tmp_path: Path) -> None:
    """A plan must not come with news: of seeds that it takes, or of differences that show."""
    folder = folder_of(tmp_path / "x", {"common": 60, "rare": 6}, width=32, height=32)
    written = bench.init(folder, output=tmp_path / "s.yaml")
    suite = yaml.safe_load(written.path.read_text())
    seeds = suite["seed"] if isinstance(suite["seed"], list) else [suite["seed"]]
    plan = untimed_plan(written.path)
    assert {seed for config in plan.configs for seed in config.seeds} == set(seeds)
    said = re.sub(r"\s*#\s*", " ", written.path.read_text() + written.summary)
    known = [float(number) for number in re.findall(r"([\d.]+\d|\d+) points", said)]
    for sentence in (*plan.sentences, *plan.notes):
        for number in re.findall(r"differences of about ([\d.]+\d) points", sentence):
            assert any(abs(own - float(number)) <= 0.2 * float(number) for own in known), sentence
        for number in re.findall(r"(?:takes|needs?|from) (?:about )?(\d+) seeds", sentence):
            assert int(number) <= len(seeds) or re.search(rf"\b{number}\b.{{0,40}}seeds", said)
