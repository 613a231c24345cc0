"""How often would the report claim what is not so, and how often does it miss what is?

Simulated runs: per seed a split of some difficulty shared by all strategies, per strategy and seed
a training luck of its own, and test accuracies counted in whole images. In A/A runs all strategies
are equally good; in A/B runs one is ahead by a known gap. For each, many runs are analysed as the
report does. Printed are the rate of runs with a false claim (a pair of equals told apart, or the
worse called better; at most 5 %) with its 95 % interval, and the power: the share of the true
differences that are claimed.

    python benchmarks/validity.py --runs 2000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.results.analysis import compare, wilson_interval

ACCURACY = 0.92
SEED_SD = 0.015
"""Standard deviation over seeds that all strategies share (the split, the order of batches)."""

LUCK_SD = 0.01
"""Standard deviation over seeds that a strategy has for itself."""

CLAIMS = ("better", "worse")


def simulate(
    rng: np.random.Generator, *, seeds: int, strategies: int, images: int, gap: float, skewed: bool
) -> pd.DataFrame:
    """Test accuracies `[seeds, strategies]`; the first strategy is ahead by `gap`."""
    shared = SEED_SD * rng.normal(size=(seeds, 1))
    luck = rng.normal(size=(seeds, strategies))
    if skewed:  # now and then a training goes wrong
        luck -= 4 * (rng.random((seeds, strategies)) < 0.1)
    ahead = np.zeros(strategies)
    ahead[0] = gap
    chance = np.clip(ACCURACY + ahead + shared + LUCK_SD * luck, 0, 1)
    return pd.DataFrame(rng.binomial(images, chance) / images)


def judged(figures: pd.DataFrame, *, gap: float) -> tuple[bool, float]:
    """Whether the analysis makes any false claim, and the share of true differences it claims."""
    false, found = False, []
    for comparison in compare(figures):
        differs = gap > 0 and comparison.first == "0"
        false |= comparison.verdict == "worse" if differs else comparison.verdict in CLAIMS
        if differs:
            found.append(comparison.verdict == "better")
    return false, float(np.mean(found)) if found else 0.0


def rate(found: list[bool]) -> str:
    """The share of runs, with its 95 % interval."""
    low, high = wilson_interval(sum(found), len(found))
    return f"{np.mean(found):6.1%} ({low:.1%} to {high:.1%})"


def _cells() -> Iterator[tuple[int, int, float, bool]]:
    for skewed in (False, True):
        for strategies in (2, 4):
            for seeds in (5, 6, 8, 10, 16):
                for gap in (0.0, 0.01, 0.02, 0.05):
                    yield seeds, strategies, gap, skewed


def main() -> None:
    """Print a line for each kind of run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000, help="simulated runs of each kind")
    parser.add_argument("--images", type=int, default=153, help="in the test split")
    given = parser.parse_args()
    for seeds, strategies, gap, skewed in _cells():
        rng = np.random.default_rng([seeds, strategies, round(1000 * gap), skewed])
        runs = [
            judged(
                simulate(
                    rng,
                    seeds=seeds,
                    strategies=strategies,
                    images=given.images,
                    gap=gap,
                    skewed=skewed,
                ),
                gap=gap,
            )
            for _ in range(given.runs)
        ]
        power = f"  power {np.mean([p for _, p in runs]):6.1%}" if gap else ""
        print(
            f"{strategies} strategies  {seeds:2} seeds  {'skewed' if skewed else 'normal'}  "
            f"gap {100 * gap:.0f} points  false claims {rate([false for false, _ in runs])}{power}",
            flush=True,
        )


if __name__ == "__main__":
    main()
