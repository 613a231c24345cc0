"""The group penalty, against a truth that is known by construction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bench.data import open_dataset
from bench.results.analysis.intervals import Estimate
from bench.results.analysis.scores import Scores, in_groups
from bench.results.analysis.split_check import flattered
from bench.results.analysis.verdict import figure_interval
from bench.results.metric import metric_called

ACCURACY = metric_called("accuracy")
SITES, TESTED = 24, 10
SEEDS = 3


def _knows(
    rng: np.random.Generator,
    labels: npt.NDArray[np.int64],
    sites: npt.NDArray[np.int64],
    test: npt.NDArray[np.bool_],
) -> Estimate:
    """A learner that answers a known site's commonest class, and of new sites whatever it may."""
    pool, tested = np.flatnonzero(~test), np.flatnonzero(test)
    rows, guesses = [], rng.integers(0, 2, SITES)  # all trainings guess alike
    for _ in range(SEEDS):
        train = rng.permutation(pool)[: int(0.8 * len(pool))]
        counts = np.zeros((SITES, 2))
        np.add.at(counts, (sites[train], labels[train]), 1)
        answers = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), guesses)
        rows.append((answers[sites[tested]] == labels[tested]).astype(float))
    scores = Scores(
        seeds=tuple(range(SEEDS)), samples=tuple(map(str, tested)), values=np.array(rows)
    )
    grouped = in_groups(scores, [str(site) for site in sites[tested]])
    return Estimate(value=float(scores.values.mean()), interval=figure_interval(grouped, ACCURACY))


@pytest.mark.campaign
def test_the_interval_holds_what_sites_are_made_to_flatter() -> None:
    """Known sites give 0.8 away, new ones nothing: 30 points, for a learner that sees sites."""
    held, values = [], []
    for family in range(200):
        dataset = open_dataset(
            "fractal_sites",
            {"sites": SITES, "images_per_class": 400, "site_only": True, "family_seed": family},
        )
        assert dataset.groups is not None
        sites = np.array([int(name.removeprefix("site-")) for name in dataset.groups])
        rng = np.random.default_rng(family)
        whole = np.isin(sites, rng.permutation(SITES)[:TESTED])
        random = rng.random(len(sites)) < TESTED / SITES
        sides = [_knows(rng, dataset.labels, sites, test) for test in (whole, random)]
        found = flattered(*sides, ACCURACY)
        low, high = found.interval
        held.append(low <= 0.3 <= high)
        values.append(found.value)
    assert np.mean(values) == pytest.approx(0.3, abs=0.03)
    assert np.mean(held) >= 0.9
