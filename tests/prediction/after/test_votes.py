"""Votes over learning rates: whose, of which seeds, and compared with whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.prediction.after.children import make_children
from bench.prediction.after.finished import Finished
from bench.results.analysis import read_verdict
from bench.results.analysis.children import ANY_MEMBER, BEST_MEMBER, families
from bench.results.folder import Run, RunStore, read_run
from bench.results.grid import read_grid
from bench.results.report.children import children_section
from bench.results.report.markdown import render_markdown
from bench.suite import Entry
from tests.results.scored_run import Scored, scored_run

SEEDS, SAMPLES, RATES = 3, 120, (0.1, 0.001, 0.01)
RIGHT = {
    rate: np.random.default_rng(place).random((SEEDS, SAMPLES)) < 0.6 + 0.05 * place
    for place, rate in enumerate(RATES)
}
VOTE = Entry(name="vote")


def a_run(folder: Path) -> Run:
    configs = [Scored(right=RIGHT[rate], axes={"lr": rate}) for rate in RATES]
    alone = Scored(right=RIGHT[0.1], axes={"strategy": "linear_probe", "optimizer": "adamw"})
    return scored_run(folder, [*configs, alone])


def without_validation(run: Run) -> Run:
    store = RunStore(run.folder)
    for trial in run.trials["trial"]:
        part = store.read_part(trial)
        kept = {k: v for k, v in part.trial_row.items() if not k.startswith(("val_", "last_val_"))}
        store.write_part(kept, part.curves, part.predictions)
    store.consolidate(list(run.trials["trial"]))
    return read_run(run.folder)


def voted(run: Run, entry: Entry = VOTE) -> tuple[Run, pd.DataFrame]:
    finished = Finished(run, lambda _: pytest.fail("no data is needed"))
    make_children(finished, [entry], status=lambda _: None)
    run = read_run(run.folder)
    return run, run.children[run.children["status"] == "complete"].set_index("seed")


def test_a_seed_s_trials_that_differ_in_the_rate_alone_vote(tmp_path: Path) -> None:
    run, complete = voted(a_run(tmp_path))
    trials = run.trials.set_index("trial")
    assert list(complete.index) == list(range(SEEDS))
    assert set(complete["of"]) == {"full_finetune · lr 0.001, 0.01, 0.1"}
    for seed, row in complete.iterrows():
        members = trials.loc[list(json.loads(row["members"]))]
        assert members["lr"].tolist() == sorted(RATES)
        assert set(members["seed"]) == {seed}
        right = sum(own[int(str(seed))].astype(int) for own in RIGHT.values()) >= 2
        assert row["test_accuracy"] == pytest.approx(right.mean())
        assert (row["passes"], json.loads(row["chosen"])) == (3, {})
        assert trials.loc[row["base"], "val_accuracy"] == members["val_accuracy"].max()
    (skipped,) = run.children[run.children["status"] == "skipped"].to_dict("records")
    assert skipped["of"] == "linear_probe"
    assert "there is one rate" in skipped["error"]
    family, _ = families(run, read_grid(run.trials, run.metric), read_verdict(run))
    assert (family.base, family.seeds) == (BEST_MEMBER, (0, 1, 2))
    assert family.comparison is not None
    best = np.mean([trials.loc[base, "test_accuracy"] for base in complete["base"]])
    assert family.comparison.difference == pytest.approx(complete["test_accuracy"].mean() - best)


def test_without_validation_it_is_compared_with_the_middle_rate(tmp_path: Path) -> None:
    run, complete = voted(without_validation(a_run(tmp_path)))
    trials = run.trials.set_index("trial")
    assert set(trials.loc[complete["base"], "lr"]) == {0.01}
    grid, verdict = read_grid(run.trials, run.metric), read_verdict(run)
    assert families(run, grid, verdict)[0].base == ANY_MEMBER
    text = render_markdown(children_section(run, grid, verdict))
    assert "a vote is compared with the middle one of its learning rates" in text


def test_a_rate_that_a_seed_lacks_is_told(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    store = RunStore(run.folder)
    own = run.trials[(run.trials["lr"] == 0.1) & (run.trials["seed"] == 1)]
    (lost,) = own.loc[own["strategy"] == "full_finetune", "trial"]
    part = store.read_part(lost)
    store.write_part({**part.trial_row, "status": "failed", "error": "diverged"}, (), ())
    store.consolidate(list(run.trials["trial"]))
    run, complete = voted(read_run(run.folder))
    assert list(complete.index) == [0, 2]
    skipped: Any = run.children[run.children["seed"] == 1].iloc[0]
    assert (skipped["status"], "lr 0.1 is not complete" in skipped["error"]) == ("skipped", True)


def test_the_mean_is_that_of_the_members(tmp_path: Path) -> None:
    run, complete = voted(a_run(tmp_path), Entry(name="vote", options={"by": "mean"}))
    own = run.child_predictions[run.child_predictions["trial"] == complete.loc[0, "child"]]
    members = list(json.loads(complete.loc[0, "members"]))
    known = run.predictions[run.predictions["trial"].isin(members)]
    mean = known.groupby("sample").mean(numeric_only=True).filter(like="probability_")
    found = own.set_index("sample").sort_index().filter(like="probability_")
    pd.testing.assert_frame_equal(found, mean.sort_index(), check_names=False)
