"""Runs whose seeds are repeats of a partition into folds, and runs that choose no epoch."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import bench
from bench.errors import SuiteError
from bench.execution.work import count_work
from bench.results.grid import over_folds, rank_configs, read_grid
from bench.results.report.document import document
from bench.results.report.evidence import Findings
from bench.runs.prepare import counted_trials
from bench.runs.resolve import resolve_run
from bench.suite.plugins import load_plugin, loaded_plugins, unload_plugin

pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("folds")]

VECTORS = {
    "name": "vectors", "train_per_class": 9, "val_per_class": 4, "test_per_class": 6, "noise": 1.0
}  # fmt: skip
IMAGES = 3 * 19
SUITE: dict[str, Any] = {
    "name": "folded",
    "dataset": VECTORS,
    "backbone": "tiny_mlp",
    "weights": {"file": "start.safetensors"},
    "strategy": ["linear_probe", "lp_ft", "from_scratch"],
    "schedule": ["constant", {"name": "step", "step_size": 2}],
    "augmentation": "none",
    "folds": 3,
    "epochs": 3,
    "batch_size": 8,
    "lr": 0.05,
    "precision": "fp32",
    "seed": [0, 1],
}
CLOCK = ("seconds", "train_seconds", "started", "finished", "peak_memory_mib", "reused_epochs")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with starting weights, and the plugin of vectors loaded."""
    folder = tmp_path_factory.mktemp("folds")
    before = {plugin.place for plugin in loaded_plugins()}
    load_plugin("bench.testing.vectors")
    other = {"name": "vectors", "family_seed": 5}
    start = {**SUITE, "name": "start", "dataset": other, "weights": "none", "seed": 0}
    changed = {**start, "strategy": "from_scratch", "schedule": "constant", "folds": None}
    made = bench.run(write(folder, changed), out=folder / "out", device="cpu", workers=1)
    (checkpoint,) = (made.folder / "checkpoints").iterdir()
    (folder / "start.safetensors").write_bytes(checkpoint.read_bytes())
    yield folder
    for plugin in loaded_plugins():
        if plugin.place not in before:
            unload_plugin(plugin.place)


@pytest.fixture(scope="module")
def run(place: Path) -> bench.Run:
    """The suite on two processes, with its report."""
    return bench.run(write(place, SUITE), out=place / "two", device="cpu", workers=2)


def write(folder: Path, suite: dict[str, Any]) -> Path:
    path = folder / f"{suite['name']}.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    return path


def without_clock(run: bench.Run) -> list[pd.DataFrame]:
    assert (run.trials["status"] == "complete").all(), list(run.trials["error"].dropna())
    return [
        table.drop(columns=[*CLOCK], errors="ignore")
        for table in (run.trials, run.curves, run.predictions)
    ]


def assert_same(first: bench.Run, second: bench.Run) -> None:
    for one, other in zip(without_clock(first), without_clock(second), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_every_image_is_tested_once_for_each_seed(run: bench.Run) -> None:
    trials = run.trials
    assert len(trials) == 3 * 2 * 2 * 3
    assert sorted(trials["fold"].unique()) == [1, 2, 3]
    tested = run.predictions.merge(trials[["trial", "config", "seed", "fold"]], on="trial")
    for _, own in tested.groupby(["config", "seed"]):
        assert len(own) == own["sample"].nunique() == IMAGES
    # All configs of a seed see the same folds, another seed other ones.
    by_seed = [
        {
            tuple(sorted(own["sample"]))
            for _, own in tested[tested["seed"] == seed].groupby(["config", "fold"])
        }
        for seed in (0, 1)
    ]
    assert [len(parts) for parts in by_seed] == [3, 3]
    assert by_seed[0] != by_seed[1]


def test_two_processes_give_the_numbers_of_one_that_shares_nothing(
    place: Path, run: bench.Run, no_report: None
) -> None:
    alone = bench.run(
        write(place, SUITE), out=place / "alone", device="cpu", workers=1, reuse=False
    )
    assert_same(run, alone)


@pytest.mark.campaign
@pytest.mark.xdist_group("ray")
def test_ray_gives_the_same_numbers(place: Path, run: bench.Run, no_report: None) -> None:
    pytest.importorskip("ray")
    there = bench.run(
        write(place, SUITE), out=place / "ray", device="cpu", workers=2, executor="ray"
    )
    assert_same(run, there)


def test_more_seeds_extend_a_run(place: Path, run: bench.Run, no_report: None) -> None:
    first = {**SUITE, "seed": [0]}
    bench.run(write(place, first), out=place / "more", device="cpu", workers=1)
    resolved = resolve_run(write(place, SUITE), out=place / "more", device="cpu")
    assert {each.trial.settings.seed for each in resolved.pending} == {1}
    assert len(resolved.pending) == 18
    more = bench.run(write(place, SUITE), out=place / "more", device="cpu", workers=1)
    assert_same(run, more)


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_killed_and_started_again(
    place: Path, run: bench.Run, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies once some trials are written; the same call does the rest."""
    suite, cache = write(place, SUITE), str(place / "cache")
    code = (
        "import sys, bench; bench.load_plugin('bench.testing.vectors'); "
        f"bench.run({str(suite)!r}, out={str(place / 'killed')!r}, device='cpu', workers=1)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "BENCH_CACHE": cache}
    )
    parts, deadline = place / "killed" / "folded" / "parts", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(parts.glob("[!.]*"))) >= 4:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 4 <= len(list(parts.glob("[!.]*"))) < 36
    monkeypatch.setenv("BENCH_CACHE", cache)
    assert_same(run, bench.run(suite, out=place / "killed", device="cpu", workers=1))


def test_a_part_of_the_folds_is_trained_by_seed(place: Path, no_report: None) -> None:
    some = bench.run(
        write(place, SUITE), out=place / "some", only=["seed=1,strategy=lp_ft"], workers=1
    )
    assert some.trials["fold"].notna().all()
    assert some.trials["status"].value_counts().to_dict() == {"skipped": 30, "complete": 6}


def test_features_and_first_epochs_are_shared_within_a_fold(place: Path) -> None:
    resolved = resolve_run(
        write(place, SUITE), out=place / "plan", device="cpu", overrides=["lr=0.04", "seed=[7]"]
    )
    work = count_work(counted_trials(resolved), reuse=True)
    assert work.asked == 6 * 3 * 3
    # Every image passes the frozen trunk once, whatever the fold and the split it is in.
    assert sum(epoch.views for epoch in work.epoch_work) == IMAGES
    # Under both schedules the first two epochs are the same, and those of a probe those of lp_ft.
    assert work.tree > 3 * 3 * 2


def test_the_plan_counts_trials_and_seeds_apart(place: Path) -> None:
    plan = bench.plan(write(place, SUITE), out=place / "plan", device="cpu")
    first = plan.configs[0]
    assert (first.trials, first.seeds, first.folds) == (6, (0, 1), 3)
    assert next(plan.rows)[0] == "6"
    assert next(plan.rows)[-1] == "0, 1 × 3 folds"
    assert any("are pooled with all other images" in note for note in plan.notes)
    assert plan.time.epochs <= plan.work.asked


def test_a_config_is_averaged_by_seed_over_its_folds(run: bench.Run) -> None:
    grid = read_grid(run.trials)
    results = rank_configs(run.trials, grid)
    assert len(results) == 6
    for result in results:
        own = run.trials[run.trials["config"] == result.config]
        means = own.groupby("seed")["test_accuracy"].mean()
        assert result.seeds == (0, 1)
        assert result.test.n == 2
        assert result.test.mean == pytest.approx(means.mean())
        assert result.test.sd == pytest.approx(means.std(ddof=1))
        assert len(result.best_epochs) == 6
    rows = over_folds(run.trials)
    assert list(rows.columns) == list(run.trials.columns)
    assert len(rows) == 12
    assert rows["fold"].isna().all()
    assert over_folds(rows) is rows


def test_runs_with_folds_are_compared_by_seed(run: bench.Run, place: Path) -> None:
    found = bench.compare(run.folder, run.folder)
    (comparison,) = found.comparisons
    assert len(comparison.changes) == 6
    means = run.trials.groupby("config")["test_accuracy"].mean()
    for change in comparison.changes:
        assert change.seeds == (0, 1)
        assert change.judgement == "same"
        # The folds have 19 images each, so that their mean is that of all images.
        assert np.isclose(means, change.before).any()


def test_learning_rates_are_tested_on_the_first_fold(place: Path) -> None:
    only = ["strategy=from_scratch"]
    found = bench.lr_find(
        write(place, {**SUITE, "name": "ranges"}), out=place / "out", device="cpu", only=only
    )
    assert len(found.cells) == 2
    assert not found.untested


def test_the_report_says_what_folds_are(run: bench.Run) -> None:
    text = (run.folder / "report.md").read_text()
    assert "- **seeds:** 0, 1, each with 3 folds" in text
    assert "; images of the first fold of the first seed: 30 train, 8 val, 19 test" in text
    assert f" on {IMAGES} images, each tested once a seed (2 seeds; for other seeds" in text
    assert "it holds for the configs chosen here, trained on about 30 images like these" in text
    assert "The test is the corrected resampled t test over folds" in text
    assert "**pooled splits** (36)" in text
    assert run.data["folds"] == 3
    label = next(iter(read_grid(run.trials).labels.values()))
    assert list(bench.why(run.folder, f"{label} · seed 1 · fold 2"))


def test_the_report_shows_seeds_and_folds_apart(run: bench.Run) -> None:
    text = (run.folder / "report.md").read_text()
    section = text.split("### Seeds and folds")[1].split("\n###")[0]
    shown = re.findall(r"^\| (\w+) +\| +([\d.]+) +\| +([\d.]+) +\|$", section, flags=re.MULTILINE)
    wanted = []
    for strategy, own in run.trials.groupby("strategy", sort=False):
        val = own.pivot_table(index="seed", columns="schedule", values="val_accuracy", sort=False)
        tested = [
            own[(own["seed"] == seed) & (own["schedule"] == val.loc[1 - seed].idxmax())]
            for seed in (0, 1)
        ]
        means = [each["test_accuracy"].mean() for each in tested]
        within = [each["test_accuracy"].var() for each in tested]
        spreads = (abs(means[0] - means[1]) / math.sqrt(2), math.sqrt(sum(within) / 2))
        wanted.append((strategy, *(f"{100 * spread:.1f}" for spread in spreads)))
    assert sorted(shown) == sorted(wanted)


def test_seeds_that_lack_folds_are_told(run: bench.Run) -> None:
    def said(some: bench.Run) -> bool:
        blocks = document(Findings(run=some), {})
        return any("1 seed of a config without all folds" in repr(block) for block in blocks)

    assert not said(run)
    assert said(replace(run, trials=run.trials.iloc[1:]))


def test_runs_without_folds_are_what_they_were(place: Path, no_report: None) -> None:
    plain = {**SUITE, "name": "plain", "folds": None, "strategy": "linear_probe", "seed": 0}
    made = bench.run(write(place, plain), out=place / "out", device="cpu", workers=1)
    assert "fold" not in pd.read_parquet(made.folder / "trials.parquet")
    assert made.trials["fold"].isna().all()
    kept = yaml.safe_load((made.folder / "suite.yaml").read_text())
    assert not {"folds", "choose"} & kept.keys()
    assert not {"folds", "tested_images"} & made.data.keys()


def test_too_many_folds_are_one_message(place: Path) -> None:
    with pytest.raises(SuiteError) as error:
        bench.plan(write(place, {**SUITE, "folds": 20}), out=place / "plan", device="cpu")
    (problem,) = error.value.problems
    assert problem.message == (
        "folds must not exceed the images of the smallest class, got 20; class 'class-00' has 19"
    )


# choose: last ----------------------------------------------------------------------------------


def test_the_last_epoch_counts_whatever_validation_says(
    place: Path, run: bench.Run, no_report: None
) -> None:
    last = bench.run(
        write(place, {**SUITE, "choose": "last"}), out=place / "last", device="cpu", workers=2
    )
    trials = last.trials
    assert (trials["best_epoch"] == trials["epochs"]).all()
    for split in ("val", "test"):
        assert trials[f"{split}_accuracy"].equals(trials[f"last_{split}_accuracy"])
    # The trainings are those of the same suite that chooses, and so are the scores at their end.
    assert list(trials["last_test_accuracy"]) == list(run.trials["last_test_accuracy"])
    assert (run.trials["best_epoch"] < 3).any()
    assert not set(trials["trial"]) & set(run.trials["trial"])
    alone = bench.run(
        write(place, {**SUITE, "choose": "last"}),
        out=place / "last_alone",
        device="cpu",
        workers=1,
        reuse=False,
    )
    assert_same(last, alone)
    (sentence,) = (s for s in bench.why(last.folder, trials["trial"][0]) if "counts" in s)
    assert sentence == "Epoch 3, its last, counts: the suite says choose: last."


@pytest.fixture(scope="module")
def unvalidated(place: Path) -> bench.Run:
    """A run without validation split, with its report."""
    suite = {
        **SUITE,
        "name": "unvalidated",
        "choose": "last",
        "dataset": {**VECTORS, "val_fraction": 0},
        "schedule": "constant",
    }
    return bench.run(write(place, suite), out=place / "two", device="cpu", workers=2)


def test_without_validation_all_images_train(unvalidated: bench.Run) -> None:
    trials = unvalidated.trials
    assert (trials["status"] == "complete").all(), list(trials["error"].dropna())
    columns = [name for name in trials if name.startswith(("val_", "last_val_"))]
    assert len(columns) >= 4
    assert trials[columns].isna().all(axis=None)
    assert trials["test_accuracy"].notna().all()
    assert (trials["best_epoch"] == 3).all()
    assert set(unvalidated.curves["split"]) == {"train"}
    counts = unvalidated.data["counts"]
    assert sum(counts["train"].values()) == IMAGES - 19
    assert sum(counts["val"].values()) == 0
    by_seed = trials.groupby(["config", "seed"])["test_accuracy"].mean()
    accuracies = {
        result.config: result.test.mean for result in rank_configs(trials, read_grid(trials))
    }
    for config, mean in by_seed.groupby("config").mean().items():
        assert accuracies[str(config)] == pytest.approx(mean)


def test_without_validation_there_is_a_report(unvalidated: bench.Run) -> None:
    text = (unvalidated.folder / "report.md").read_text()
    assert "nan" not in text.lower().replace("finance", "")
    assert (unvalidated.folder / "report.html").is_file()
    bench.report(unvalidated.folder)
    assert list(bench.why(unvalidated.folder, unvalidated.trials["trial"][0]))


def test_without_validation_a_run_goes_on_from_kept_states(
    place: Path, unvalidated: bench.Run, no_report: None
) -> None:
    suite = yaml.safe_load((place / "unvalidated.yaml").read_text())
    longer = {**suite, "epochs": 5, "seed": [0]}
    made = bench.run(write(place, longer), out=place / "long", device="cpu", workers=1)
    fresh = bench.run(
        write(place, longer), out=place / "fresh", device="cpu", workers=1, reuse=False
    )
    assert_same(made, fresh)
    assert np.isfinite(made.curves["loss"]).all()
