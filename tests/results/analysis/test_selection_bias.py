"""What choosing by the test split, one seed or against untuned rivals would have claimed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.results.analysis import read_verdict
from bench.results.analysis.selection_bias import SelectionBias, selection_bias
from bench.results.folder import Run, RunStore, read_run
from bench.results.grid import read_grid
from bench.results.report.markdown import render_markdown
from bench.results.report.selection_bias import selection_bias_section
from tests.results.scored_run import Scored, scored_run

SAMPLES = 20
RIGHT = {  # (strategy, learning rate): right test samples by seed
    ("a", 0.1): (16, 17, 15),
    ("a", 0.01): (10, 11, 12),
    ("b", 0.1): (15, 18, 15),
}
CURVES = {  # and right at the best of the other epochs
    ("a", 0.1): (18, 16, 16),
    ("a", 0.01): (19, 11, 12),
    ("b", 0.1): (15, 14, 19),
    ("b", 0.01): (9, 9, 9),
}


def _right(counts: tuple[int, ...]) -> np.ndarray:
    return np.array([np.arange(SAMPLES) < count for count in counts])


def _with_test_curves(run: Run) -> Run:
    """Each trial with its own figure in the second of three epochs, and others around it."""
    store = RunStore(run.folder)
    for row in run.trials.to_dict("records"):
        trial = str(row["trial"])
        other = CURVES[row["strategy"], row["lr"]][int(row["seed"])] / SAMPLES
        part = store.read_part(trial)
        curves = [
            {"epoch": epoch, "split": "test", "loss": 1.0, "accuracy": accuracy, "lr": row["lr"]}
            for epoch, accuracy in ((1, 0.1), (2, row["test_accuracy"]), (3, other))
        ]
        store.write_part(part.trial_row, curves, part.predictions)
    store.consolidate(list(run.trials["trial"]))
    return read_run(run.folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    configs = [
        Scored(right=_right(counts), axes={"strategy": strategy, "lr": lr})
        for (strategy, lr), counts in RIGHT.items()
    ]
    return scored_run(tmp_path_factory.mktemp("run") / "r", configs)


@pytest.fixture(scope="module")
def found(run: Run) -> SelectionBias:
    run = _with_test_curves(run)
    grid = read_grid(run.trials, run.metric)
    bias = selection_bias(run, grid, read_verdict(run))
    assert bias is not None
    return bias


def test_a_run_without_test_curves_has_nothing_to_tell(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "r", [Scored(right=_right((3, 4)), axes={"strategy": "a"})])
    grid = read_grid(run.trials, run.metric)
    assert selection_bias(run, grid, read_verdict(run)) is None
    assert list(selection_bias_section(run, grid, read_verdict(run))) == []
    assert not (tmp_path / "r" / "test_curves.parquet").exists()


def test_the_best_test_epoch_and_config_are_those_of_a_table_by_hand(found: SelectionBias) -> None:
    by_name = {each.name: each for each in found.flattered}
    a, b = by_name["a"], by_name["b"]
    assert (a.configs, b.configs, a.epochs) == (2, 1, 3)
    assert a.figure == pytest.approx(np.mean([16, 17, 15]) / SAMPLES)
    assert a.best_epoch == pytest.approx(np.mean([18, 17, 16]) / SAMPLES)
    assert a.best == pytest.approx(np.mean([19, 17, 16]) / SAMPLES)
    assert b.best == b.best_epoch == pytest.approx(np.mean([15, 18, 19]) / SAMPLES)


def test_single_seeds_name_who_is_ahead_in_them(found: SelectionBias) -> None:
    told = [(each.seed, each.first, each.second, each.lead) for each in found.one_seed]
    assert told == [(0, "a", "b", 0.05), (1, "b", "a", 0.05), (2, "a", "b", 0.0)]
    assert [each.comparison.first for each in found.one_seed] == ["a", "b", "a"]


def test_a_rival_with_settings_that_nobody_chose_looks_worse(tmp_path: Path) -> None:
    counts = {("a", 0.1): (18, 19, 18), ("b", 0.1): (15, 18, 15), ("b", 0.01): (9, 8, 10)}
    configs = [
        Scored(right=_right(own), axes={"strategy": strategy, "lr": lr})
        for (strategy, lr), own in counts.items()
    ]
    run = _with_test_curves(scored_run(tmp_path / "r", configs))
    grid = read_grid(run.trials, run.metric)
    verdict = read_verdict(run)
    assert verdict.recommended == "a"
    bias = selection_bias(run, grid, verdict)
    assert bias is not None
    (rival,) = bias.untuned
    assert (rival.name, rival.worst, rival.configs) == ("b", "b · 0.01", 2)
    assert rival.lead == pytest.approx((55 - 48) / 60)
    assert rival.worst_lead == pytest.approx((55 - 27) / 60)


def test_curves_of_the_test_split_are_a_table_apart(run: Run) -> None:
    run = _with_test_curves(run)
    assert set(run.curves["split"]) <= {"train", "val"}
    assert set(run.test_curves["split"]) == {"test"}
    assert len(run.test_curves) == 3 * len(run.trials)
    assert run.test_curves.groupby("trial").size().to_dict() == dict.fromkeys(run.trials.trial, 3)


def test_the_section_reads_well(run: Run) -> None:
    run = _with_test_curves(run)
    grid = read_grid(run.trials, run.metric)
    text = render_markdown(list(selection_bias_section(run, grid, read_verdict(run))))
    assert "a would have been reported as the best, with 86.7 %: +6.7 points by choosing" in text
    assert "among 3 epochs and 2 configs" in text
    assert "| equal" in text
    assert "in 3 seeds 2 different ones." in text
