"""What label-free validators would choose, against a table by hand, SciPy and the crossed test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import weightedtau

from bench.results.analysis.comparison import compare_pairs
from bench.results.analysis.label_free import LabelFreeChoices, label_free_choices
from bench.results.analysis.scores import trial_scores
from bench.results.folder import Run, RunStore, read_run
from bench.results.folder.columns import LABEL_FREE
from bench.results.grid import read_grid
from tests.results.scored_run import Scored, scored_run

REACHED = {"plain": 0.5, "dan": 0.7, "dann": 0.9}
VALUES: Mapping[str, Mapping[str, float]] = {  # validators by strategy
    "plain": {"negative_entropy": -0.1, "diversity": 0.3, "information_maximisation": 0.2},
    "dan": {"negative_entropy": -0.2, "diversity": 0.2},
    "dann": {"negative_entropy": -0.3, "diversity": 0.6, "information_maximisation": 0.3},
}


def a_run(folder: Path, *, values: Any = VALUES) -> Run:
    """Validation says the same as the test split; seeds differ a little in what validators say."""
    configs = [
        Scored(
            right=np.random.default_rng(seed).random((3, 60)) < share, axes={"strategy": strategy}
        )
        for seed, (strategy, share) in enumerate(REACHED.items())
    ]
    run = scored_run(folder, configs, data={"target_tested": True} if values else None)
    store = RunStore(folder)
    for row in run.trials.to_dict("records") if values else []:
        part = store.read_part(str(row["trial"]))
        own = {k: v + 0.01 * int(row["seed"]) for k, v in values[row["strategy"]].items()}
        told = {LABEL_FREE: json.dumps({"samples": 40, "values": own})}
        store.write_part({**part.trial_row, **told}, part.curves, part.predictions)
    store.consolidate(list(run.trials["trial"]))
    return read_run(folder)


def choices(run: Run) -> LabelFreeChoices:
    found = label_free_choices(run, read_grid(run.trials, run.metric))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return a_run(tmp_path_factory.mktemp("run") / "r")


def of(run: Run, config: str) -> str:
    return str(run.trials.loc[run.trials["config"] == config, "strategy"].iloc[0])


def test_each_judge_chooses_by_its_own_means_and_the_oracle_by_the_target(run: Run) -> None:
    found = choices(run)
    assert found.oracle is not None
    assert of(run, found.oracle) == "dann"
    chosen = {judge.name: of(run, judge.chosen) for judge in found.judges}
    assert chosen == {
        "validation": "dann",
        "negative_entropy": "plain",
        "diversity": "dann",
        "information_maximisation": "dann",  # what is not known is the least
    }
    assert (found.samples, found.seeds) == (40, (0, 1, 2))
    by_name = {judge.name: judge for judge in found.judges}
    merits = {of(run, c): v for c, v in by_name["diversity"].merits.items()}
    assert merits == pytest.approx({"plain": 0.31, "dan": 0.21, "dann": 0.61})


def test_correlations_are_those_of_scipy(run: Run) -> None:
    found = choices(run)
    reached = run.trials.groupby("strategy")["test_accuracy"].mean()
    assert found.figures is not None
    assert {of(run, c): v for c, v in found.figures.items()} == pytest.approx(dict(reached))
    for judge in found.judges[1:3]:
        said = [VALUES[name][judge.name] for name in REACHED]
        known = weightedtau(said, [reached[name] for name in REACHED]).statistic
        assert judge.correlation == pytest.approx(float(known))


def test_regret_is_the_oracle_against_the_chosen_config_by_the_test_of_claims(run: Run) -> None:
    found = choices(run)
    (judge,) = [each for each in found.judges if each.name == "negative_entropy"]
    scored = trial_scores(run.judged, run.metric)
    assert scored is not None
    scores = {
        strategy: {"": scored.of({int(s): (str(t),) for s, t in zip(own.seed, own.trial)})}  # noqa: B905
        for strategy, own in run.trials.groupby("strategy", sort=False)
    }
    assert judge.regret is not None
    reached = run.trials.groupby("strategy")["test_accuracy"].mean()
    assert judge.regret.lead == pytest.approx(reached["dann"] - reached["plain"])
    pair = ("dann", "plain", scores["dann"], scores["plain"])
    (known,) = compare_pairs([pair], higher_is_better=True)
    assert judge.regret.lead_interval == pytest.approx(known.lead_interval)
    assert [each.regret for each in found.judges if of(run, each.chosen) == "dann"] == [None] * 3


def test_a_run_without_unlabelled_data_has_nothing_to_tell(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r", values=None)
    assert label_free_choices(run, read_grid(run.trials, run.metric)) is None
