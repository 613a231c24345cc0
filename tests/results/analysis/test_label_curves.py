"""Figures by the number of training images: verdicts of sizes, and where curves cross."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from bench.results.analysis import read_label_curves, read_verdict
from bench.results.analysis.comparison import Comparison, compare
from bench.results.analysis.label_curves import Crossing, crossings
from bench.results.folder import Run
from tests.results.label_models import (
    Curve,
    Right,
    drawn,
    exponential,
    sigmoid,
    sized_run,
)

SIZES = (2.0, 5.0, 10.0, 20.0, 40.0, 96.0)


def right(share: float, *, seeds: int = 3, samples: int = 200, seed: int = 0) -> Right:
    """The same samples for all shares, but for a few by seed: those above a threshold."""
    rng = np.random.default_rng(seed)
    hard = np.linspace(0, 1, samples) + 0.04 * rng.normal(size=(seeds, samples))
    return hard < share


def crossing_run(folder: Path, *, seeds: int = 3) -> Run:
    shares = {"early": (0.70, 0.72, 0.74, 0.75), "late": (0.50, 0.60, 0.75, 0.92)}
    return sized_run(
        folder,
        {
            (name, size): right(share, seeds=seeds, seed=place)
            for place, (name, own) in enumerate(shares.items())
            for size, share in zip((2, 5, 20, None), own, strict=True)
        },
    )


def test_each_size_has_the_verdict_of_its_trials(tmp_path: Path) -> None:
    run = crossing_run(tmp_path)
    found = read_label_curves(run)
    assert found is not None
    assert found.images == {"2": 2, "5": 5, "20": 20, "all": 96}
    assert found.verdicts["all"].comparisons == read_verdict(run).comparisons
    for size, verdict in found.verdicts.items():
        shots = [json.loads(text)["shots"] for text in run.trials["settings"]]
        of_size = run.trials[[size == str(each or "all") for each in shots]]
        means = of_size.groupby("strategy")["test_accuracy"].mean().to_dict()
        assert {each.name: each.figure for each in verdict.contenders} == pytest.approx(means)
        (compared,) = verdict.comparisons
        assert compared.level == pytest.approx(0.05 * 6 / np.pi**2 / (2 if size == "all" else 6))


def test_a_crossing_lies_between_the_sizes_that_show_both_signs(tmp_path: Path) -> None:
    found = read_label_curves(crossing_run(tmp_path))
    assert found is not None
    (crossing,) = found.crossings
    assert (crossing.first, crossing.second) == ("early", "late")
    assert crossing.shown
    assert (crossing.low, crossing.high) == (5, 96)
    assert 5 < crossing.estimate < 96


def test_with_two_seeds_nothing_is_claimed(tmp_path: Path) -> None:
    found = read_label_curves(crossing_run(tmp_path, seeds=2))
    assert found is not None
    assert found.of_models
    (crossing,) = found.crossings
    assert (crossing.low, crossing.high, crossing.shown) == (None, None, False)


def test_a_run_of_one_size_has_no_curves(tmp_path: Path) -> None:
    assert (
        read_label_curves(sized_run(tmp_path, {("a", 5): right(0.6), ("b", 5): right(0.7)})) is None
    )


def _line(
    differences: Sequence[float], half: float = 0.05, **changes: object
) -> dict[str, list[Comparison]]:
    return {
        str(place): [
            Comparison(
                first="a", second="b", seeds=(0, 1, 2), by_seed=(each,) * 3, samples=100,
                blocks=("",), difference=each, interval=(each - half, each + half), p=0.5,
                corrected=0.5, comparisons=1, level=0.05, **changes,
            )
        ]
        for place, each in enumerate(differences)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("differences", "wanted"),
    [
        # (overtaken, low, high, estimate)
        ((0.1, 0.0, -0.1), [("a", 1, 4, 2)]),
        ((0.1, 0.02, -0.02, -0.1), [("a", 1, 8, 2 * 2**0.5)]),
        ((-0.1, 0.1, -0.1), [("b", 1, 2, 2**0.5), ("a", 2, 4, 2 * 2**0.5)]),
        ((0.1, 0.03, -0.01), [("a", 1, None, 2 * 2**0.75)]),
        ((0.01, -0.01, -0.1), [("a", None, 4, 2**0.5)]),
        ((0.01, -0.01), [("a", None, None, 2**0.5)]),
        ((0.1, 0.0, 0.0, -0.1), [("a", 1, 8, 8**0.5)]),
        ((0.1, 0.0, 0.1), []),
        ((0.0, 0.1), []),
        ((0.0, 0.0), []),
    ],
)
def test_crossings_of_a_line(
    differences: Sequence[float], wanted: Sequence[tuple[str, float, float, float]]
) -> None:
    images = {str(place): 2.0**place for place in range(len(differences))}
    found = crossings(images, _line(differences), ["a", "b"])
    assert [(each.first, each.low, each.high) for each in found] == [own[:3] for own in wanted]
    assert [each.estimate for each in found] == pytest.approx([own[3] for own in wanted])
    turned = crossings(images, _line([-each for each in differences]), ["a", "b"])
    assert [each.second for each in turned] == [each.first for each in found]
    # Of a metric of which less is better, all is the other way round.
    less = crossings(images, _line(differences, higher_is_better=False), ["a", "b"])
    assert less == turned


def test_a_size_that_one_of_them_lacks_is_passed_over() -> None:
    images = {"0": 1.0, "1": 2.0, "2": 4.0}
    line = _line((0.1, 0.1, -0.1))
    del line["1"][0]
    (crossing,) = crossings(images, line, ["a", "b"])
    assert (crossing.low, crossing.high, crossing.estimate) == (1, 4, pytest.approx(2))


def _true_crossings(one: Curve, other: Curve) -> list[float]:
    """Where the accuracies of the population meet, by root finding on a fine grid."""

    def apart(images: float) -> float:
        return float(one(np.array(images)) - other(np.array(images)))

    grid = np.geomspace(SIZES[0], SIZES[-1], 400)
    signs = [np.sign(apart(each)) for each in grid]
    turns = [i for i in range(len(grid) - 1) if signs[i] * signs[i + 1] < 0]
    return [float(brentq(apart, grid[i], grid[i + 1])) for i in turns]


def _flat(images: np.ndarray) -> np.ndarray:
    return np.full_like(images, 0.75)


CURVES: Mapping[str, Mapping[str, Curve]] = {
    "smooth": {
        "a": exponential(0.6, 0.82, 4),
        "b": sigmoid(0.5, 0.93, 18, 1.4),
        "c": exponential(0.55, 0.85, 12),
    },
    "steep": {"a": _flat, "b": sigmoid(0.5, 0.97, 12, 6)},
    "meet at the end": {
        "a": exponential(0.6, 0.9, 4),
        "b": sigmoid(0.5, 0.9, 10, 2),
        "c": exponential(0.5, 0.9, 8),
    },
    "equal": dict.fromkeys("abc", exponential(0.6, 0.9, 6)),
}


@pytest.mark.campaign
@pytest.mark.parametrize("curves", CURVES.values(), ids=CURVES)
def test_a_crossing_that_is_shown_is_where_the_curves_cross(curves: Mapping[str, Curve]) -> None:
    """Of 100 runs of each kind at most 5 may miss one; 11 are far beyond chance (0.01)."""
    wrong = shown = 0
    for seeds, samples in ((3, 150), (5, 1500)):
        for run in range(50):
            rng = np.random.default_rng([run, seeds, samples])
            scores = drawn(curves, SIZES, seeds=seeds, samples=samples, rng=rng)
            names = list(scores)
            images = dict(zip(names, SIZES, strict=True))
            compared = {
                size: compare(own, families=2 if size == names[-1] else 2 * (len(names) - 1))
                for size, own in scores.items()
            }
            found = [each for each in crossings(images, compared, list(curves)) if each.shown]
            shown += len(found)
            wrong += any(not _covers(each, curves) for each in found)
    assert wrong <= 10
    if curves is CURVES["steep"]:
        assert shown >= 55  # of 100; nearly all of those with many images


def _covers(each: Crossing, curves: Mapping[str, Curve]) -> bool:
    assert each.low is not None
    assert each.high is not None
    true = _true_crossings(curves[each.first], curves[each.second])
    return any(each.low <= place <= each.high for place in true)
