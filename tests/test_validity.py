"""The simulators of `benchmarks/validity`: their shortcuts give what the long way gives."""

from __future__ import annotations

from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest, ttest_1samp, ttest_rel

from bench.results.analysis.crossed import CrossedTables, crossed_p, crossed_table, half_widths
from benchmarks.validity.analysis import analyse, chosen_by_others
from benchmarks.validity.calibration import shares_of
from benchmarks.validity.campaign import kinds
from benchmarks.validity.cells import Cell, Count, judge, nested_cells
from benchmarks.validity.fabricate import fabricate_run
from benchmarks.validity.folds import plain_p, resampled_p
from benchmarks.validity.judges import as_good, excludes, hillis_p, p_values, sign_flip_p
from benchmarks.validity.looks import LEAST, race_on
from benchmarks.validity.models import MODELS, Blocks, Probit
from benchmarks.validity.squares import nested_tables, pairs_of, picked, tables_of
from benchmarks.validity.table import line, row


def _right(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(seed).random(shape) < 0.8).astype(np.float32)


def _by_hand(right: npt.NDArray[np.float32]) -> CrossedTables:
    one, other = pairs_of(right.shape[1])
    return crossed_table(right[:, one].astype(float) - right[:, other])


def test_products_of_strategies_give_the_tables_of_all_pairs() -> None:
    right = _right((3, 5, 6, 50))
    right[0, :, :, :20] = 1  # where all agree
    right[1] = right[1, :, :1]  # no luck of training
    seen = 0
    for size, tables, by_seed in nested_tables(right, [2, 3, 5], [3, 6], [10, 20, 50]):
        strategies, seeds, samples = size
        part = right[:, picked(strategies, 5), :seeds, :samples]
        wanted = _by_hand(part)
        for each in fields(CrossedTables):
            found = getattr(tables, each.name)
            assert found == pytest.approx(getattr(wanted, each.name), abs=1e-9), each.name
        one, other = pairs_of(strategies)
        assert by_seed == pytest.approx((part[:, one] - part[:, other]).mean(axis=-1), abs=1e-6)
        seen += 1
    assert seen == 18


def test_shares_of_images_go_through_as_well() -> None:
    right = np.random.default_rng(1).integers(0, 4, (2, 3, 3, 30)).astype(np.float32) / 3
    tables, _ = tables_of(right)
    assert tables.ms_rest == pytest.approx(_by_hand(right).ms_rest, rel=1e-4)


def test_truths_and_margins_are_judged_as_by_the_intervals() -> None:
    tables, _ = tables_of(_right((40, 4, 4, 60)))
    assert p_values(tables, 4) == pytest.approx(crossed_p(tables, independent=3))
    half = half_widths(tables, independent=3, alpha=0.05)
    truth = np.linspace(-0.2, 0.2, 6)
    outside = np.abs(tables.effect - truth) > half
    assert ((excludes(tables, 4, truth) < 0.05) == outside).all()
    assert outside.any()
    within = np.abs(tables.effect) + half < 0.15
    assert (as_good(tables, 4, 0.15, 0.05) == within).all()
    assert within.any()
    assert not within.all()


def test_signs_are_flipped_in_every_way() -> None:
    differences = np.random.default_rng(2).integers(-3, 4, (20, 5)).astype(float)
    signs = np.array(list(product([1, -1], repeat=5)))
    for each, p in zip(differences, sign_flip_p(differences), strict=True):
        assert p == pytest.approx((np.abs(signs @ each) >= abs(each.sum()) - 1e-9).mean())


def test_hillis_is_students_t_without_luck_of_samples() -> None:
    by_seed = np.random.default_rng(3).normal(size=(4, 5))
    tables = crossed_table(np.repeat(by_seed[..., None], 30, axis=-1))
    assert hillis_p(tables) == pytest.approx(ttest_1samp(by_seed, 0, axis=1).pvalue)
    assert hillis_p(crossed_table(np.zeros((3, 10)))) == 1


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_accuracies_that_they_promise(name: str) -> None:
    model, lead = MODELS[name], 0.01
    right = model.draw(np.random.default_rng(4), (150, 3, 3, 300), lead=lead)
    assert set(np.unique(right)) <= {0.0, 1.0}
    by_run = right.mean(axis=(2, 3), dtype=np.float64)
    promised = model.accuracy + np.array([lead / 2, -lead / 2, -lead / 2])
    error = by_run.std(axis=0, ddof=1) / np.sqrt(150)
    assert (np.abs(by_run.mean(axis=0) - promised) < 4 * error + 0.001).all()
    differences = by_run[:, 0] - by_run[:, 1]
    assert abs(differences.mean() - lead) < 4 * differences.std(ddof=1) / np.sqrt(150) + 0.001


def test_blocks_are_equal_on_average_only() -> None:
    blocks = Blocks(inner=Probit())
    right = blocks.draw(np.random.default_rng(5), (200, 2, 3, 200), lead=0.02)
    assert set(np.unique(np.round(3 * right))) <= {0, 1, 2, 3}
    means = right.mean(axis=(0, 2, 3))
    assert means[0] - means[1] == pytest.approx(0.02, abs=0.006)


def test_the_other_seeds_choose() -> None:
    val = np.random.default_rng(6).random((3, 2, 5, 4))
    chosen = chosen_by_others(val)
    for run, strategy, seed in np.ndindex(3, 2, 4):
        others = [number for number in range(4) if number != seed]
        wanted = val[run, strategy][:, others].mean(axis=1).argmax()
        assert chosen[run, strategy, seed] == wanted
    right = _right((3, 2, 5, 4, 30))
    tables, by_seed = analyse(right, val)
    one, other = (
        [right[0, strategy, chosen[0, strategy, seed], seed].mean() for seed in range(4)]
        for strategy in range(2)
    )
    assert by_seed[0, 0] == pytest.approx(np.array(one) - other, abs=1e-6)
    assert tables.effect.shape == (3, 1)


def test_a_beaten_strategy_stops_and_its_pairs_spend_no_more() -> None:
    right = (
        np.random.default_rng(7).random((50, 3, 6, 200)) < np.array([0.9, 0.9, 0.6])[:, None, None]
    )
    seeds = range(LEAST, 7)
    tables = [
        found for _, found, _ in nested_tables(right.astype(np.float32), [3], list(seeds), [200])
    ]
    claims = race_on(tables, 3, [0.05, 0.02, 0.01, 0.005])
    assert claims.shape == (4, 50, 3)
    assert (claims[0, :, 1] == 1).mean() > 0.9  # the first beats the third at once
    unstopped = crossed_p(tables[3], independent=2)
    assert not ((claims[3, :, 0] != 0) & (3 * unstopped[:, 0] > 0.05)).any()


def test_folds_are_corrected_by_the_sizes_of_their_splits() -> None:
    differences = np.random.default_rng(8).normal(0.3, 1, 15)
    plain = ttest_rel(differences, np.zeros(15))
    assert plain_p(differences) == pytest.approx(plain.pvalue)
    # Nadeau and Bengio: 1 / n + test / train in place of 1 / n, here 1 / 15 + 1 / 4.
    narrowed = plain.statistic * np.sqrt((1 / 15) / (1 / 15 + 1 / 4))
    from scipy.stats import t as student

    assert resampled_p(differences, 5) == pytest.approx(2 * student.sf(abs(narrowed), 14))
    assert resampled_p(np.zeros(10), 5) == 1


def test_a_cell_counts_what_is_claimed() -> None:
    right = _right((30, 3, 4, 100))
    right[:, 0] = 1
    cell = Cell("made-up", 3, 4, 100, lead=0.2)
    judge(cell, *tables_of(right))
    assert cell.counts["false"].of == 30
    assert cell.counts["power"].rate > 0.9
    assert cell.counts["coverage"].of == 90
    assert "3 strategies" in line(cell)
    assert row(cell)["power_of"] == 30


def test_upper_ends_are_those_of_clopper_and_pearson() -> None:
    count = Count(seen=7, of=200)
    wanted = binomtest(7, 200).proportion_ci(0.95, "exact").high
    assert count.upper == pytest.approx(wanted)
    assert Count(seen=3, of=3).upper == 1


def test_every_size_of_a_nested_cell_has_all_runs() -> None:
    cells = nested_cells(
        "made-up",
        Probit(),
        np.random.default_rng(9),
        runs=7,
        strategies=[2, 3],
        seeds=[3, 4],
        samples=[20, 40],
    )
    assert len(cells) == 8
    assert {cell.counts["false"].of for cell in cells} == {7}


def test_parts_are_found_again() -> None:
    model = Probit(accuracy=0.8, image=2.0, strategy_image=1.0, seed_image=0.5, luck=0.1, seed=0.0)
    right = model.draw(np.random.default_rng(10), (1, 4, 4, 20_000))[0].astype(bool)
    configs = [str(strategy) for strategy in range(4) for _ in range(4)]
    parts = shares_of(right.reshape(16, -1), configs, list(range(4)) * 4)
    whole = 1 + 4 + 1 + 0.25 + 0.01
    assert parts.image == pytest.approx(4 / whole, abs=0.02)
    assert parts.strategy_image == pytest.approx(1 / whole, abs=0.02)
    assert parts.seed_image == pytest.approx(0.25 / whole, abs=0.02)
    assert parts.luck == pytest.approx(1.1, abs=0.5)


def test_a_fabricated_run_is_read_back(tmp_path: Path) -> None:
    right = _right((2, 3, 4, 40))
    val = np.random.default_rng(11).random((2, 3, 4)).round(2)
    run = fabricate_run(tmp_path / "made_up", right, val, ["linear_probe", "full_finetune"])
    assert len(run.trials) == 24
    assert run.trials["config"].nunique() == 6
    accuracies = run.trials["test_accuracy"].to_numpy().reshape(2, 3, 4)
    assert accuracies == pytest.approx(right.mean(axis=-1))
    correct = run.predictions["label"] == run.predictions["predicted"]
    by_trial = correct.groupby(run.predictions["trial"]).mean()
    assert by_trial.loc[run.trials["trial"]].to_numpy() == pytest.approx(
        run.trials["test_accuracy"].to_numpy()
    )


@pytest.mark.parametrize("name", ["equal/heavy", "lead-5/mixture", "groups", "pool", "looks"])
def test_kinds_run(name: str) -> None:
    simulate, _ = kinds(quick=True)[name]
    cells = list(simulate(np.random.default_rng(12), 2))
    assert cells
    assert all(cell.counts["false"].of >= 2 for cell in cells)
