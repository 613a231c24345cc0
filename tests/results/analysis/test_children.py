"""Children are judged by the crossed test, and what joins seeds as the trained models alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import BenchError
from bench.results.analysis import Scores, compare_pairs, read_verdict
from bench.results.analysis.children import BEST_MEMBER, families
from bench.results.folder import Run, prediction_columns, read_run
from bench.results.folder.children import FILE, PREDICTIONS, write_children
from bench.results.grid import read_grid
from bench.results.report.children import children_section
from bench.results.report.markdown import render_markdown
from tests.made_up_run import CLASSES
from tests.results.report.rendered import table_with
from tests.results.scored_run import Scored, scored_run

SEEDS, SAMPLES = 4, 300
RNG = np.random.default_rng(0)
BASE = RNG.random((SEEDS, SAMPLES)) < 0.7
BETTER = BASE | (RNG.random((SEEDS, SAMPLES)) < 0.5)
JOINED = (BASE.sum(axis=0) >= 2) | (RNG.random(SAMPLES) < 0.3)
TRUTH = np.arange(SAMPLES) % 2


def columns(child: str, right: Any) -> pd.DataFrame:
    probabilities = np.eye(2)[np.where(right, TRUTH, 1 - TRUTH)] * 0.8 + 0.1
    names = [f"test/{i:04}.jpg" for i in range(SAMPLES)]
    found = prediction_columns(
        samples=names, labels=TRUTH, probabilities=probabilities, classes=CLASSES
    )
    return pd.DataFrame({"trial": child, **found})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("children")
    lesser = RNG.random((SEEDS, SAMPLES)) < 0.5
    configs = [Scored(right=BASE), Scored(right=lesser, axes={"strategy": "linear_probe"})]
    trials = scored_run(folder, configs).trials
    base = trials[trials["strategy"] == "full_finetune"].sort_values("seed")["trial"].tolist()
    plain = {"status": "complete", "passes": 1, "chosen": "{}"}
    rows = [
        {**plain, "child": f"s{seed}", "name": "soup", "of": "all", "seed": seed,
         "members": json.dumps({base[seed]: 1, "x": 1}), "base": base[seed]}
        for seed in range(SEEDS)
    ]  # fmt: skip
    rows += [
        {**plain, "child": f"t{seed}", "name": "temperature", "of": "full_finetune",
         "config": "c", "seed": seed, "members": json.dumps({base[seed]: 1}), "base": base[seed],
         "chosen": json.dumps({"temperature": 1.0 + seed}), "test_log_loss": 0.25}
        for seed in range(SEEDS)
    ]  # fmt: skip
    rows.append(
        {**plain, "child": "e", "name": "ensemble", "of": "full_finetune", "config": "c",
         "members": json.dumps(dict.fromkeys(base, 1)), "passes": SEEDS}
    )  # fmt: skip
    rows.append(
        {"child": "n", "name": "wise_ft", "of": "linear_probe", "status": "skipped",
         "error": "no start"}
    )  # fmt: skip
    frames = [columns(f"s{seed}", BETTER[seed]) for seed in range(SEEDS)]
    frames += [columns(f"t{seed}", BASE[seed]) for seed in range(SEEDS)]
    write_children(folder, rows, pd.concat([*frames, columns("e", JOINED)]))
    return read_run(folder)


def test_each_is_compared_with_what_it_is_made_of_as_one_family(run: Run) -> None:
    grid = read_grid(run.trials, run.metric)
    soup, temperature, ensemble, skipped = families(run, grid, read_verdict(run))
    samples = tuple(f"test/{i:04}.jpg" for i in range(SAMPLES))

    def scores(right: Any) -> dict[str, Scores]:
        values = np.atleast_2d(right).astype(float)
        return {"": Scores(seeds=tuple(range(len(values))), samples=samples, values=values)}

    expected = compare_pairs(
        [
            ("a", "b", scores(BETTER), scores(BASE)),
            ("c", "d", scores(JOINED), scores(BASE.mean(axis=0))),
        ]
    )
    for family, other in zip((soup, ensemble), expected, strict=True):
        assert family.comparison is not None
        assert family.comparison.difference == pytest.approx(other.difference)
        assert family.comparison.interval == pytest.approx(other.interval)
        assert family.comparison.verdict == other.verdict
    assert (soup.base, soup.seeds, soup.figure) == (BEST_MEMBER, (0, 1, 2, 3), BETTER.mean())
    assert soup.comparison is not None
    assert soup.comparison.verdict == "better"
    assert soup.interval[0] < soup.figure < soup.interval[1]
    # What joins seeds has none of its own: of the strategies nothing is claimed.
    assert ensemble.comparison is not None
    assert (ensemble.seeds, ensemble.passes) == ((), SEEDS)
    assert ensemble.comparison.of_models
    assert ensemble.comparison.verdict == "open"
    assert ensemble.comparison.models_verdict == "better"
    assert ensemble.base == "full_finetune"
    # A temperature changes no label, so that there is nothing to compare.
    assert temperature.comparison is None
    assert temperature.chosen == {"temperature": (1.0, 2.0, 3.0, 4.0)}
    assert (skipped.members, skipped.reason) == ((), "no start")


def test_the_report_has_a_row_each_and_says_what_could_not_be_made(run: Run) -> None:
    grid = read_grid(run.trials, run.metric)
    text = render_markdown(children_section(run, grid, read_verdict(run)))
    assert "its claim holds for these trained models only" in text
    rows = table_with(text, "passes").set_index("made")
    assert list(rows.index) == ["soup", "temperature", "ensemble"]
    assert rows.loc["soup", "verdict"] == "better"
    assert rows.loc["ensemble", ["seeds", "passes"]].tolist() == ["joined", "4"]
    assert rows.loc["ensemble", "verdict"] == "open; these models: better"
    assert rows.loc["temperature", "chosen"] == "T = 1–4"
    assert "linear\\_probe: no start" in text or "linear_probe: no start" in text


def test_a_run_without_children_has_no_section(tmp_path: Path) -> None:
    run = scored_run(tmp_path, [Scored(right=BASE)])
    assert run.children.empty
    assert run.child_predictions.empty
    grid = read_grid(run.trials, run.metric)
    assert list(children_section(run, grid, read_verdict(run))) == []


def test_damaged_children_are_named(run: Run, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / PREDICTIONS).unlink()
    with pytest.raises(BenchError, match=f"{PREDICTIONS} is missing"):
        _ = read_run(tmp_path / "run").child_predictions
    (tmp_path / "run" / FILE).write_text("none")
    with pytest.raises(BenchError, match=f"{FILE} is damaged"):
        _ = read_run(tmp_path / "run").children
