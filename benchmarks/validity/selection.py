"""Strategies with several configs, of which validation chooses one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.validity.analysis import chosen_by_all, chosen_by_others
from benchmarks.validity.cells import ALPHA, Cell, judge, portions
from benchmarks.validity.judges import excludes
from benchmarks.validity.squares import Numbers, Right, pairs_of, tables_of

STRATEGIES = 4
ACCURACY = 0.9
IMAGE, CONFIG_IMAGE, SEED_IMAGE, LUCK = 1.5, 0.5, 0.25, 0.06
"""As in the probit model. The luck of a training holds for validation and test alike."""

SPREAD = math.sqrt(1 + IMAGE**2 + CONFIG_IMAGE**2 + SEED_IMAGE**2 + LUCK**2)

Chosen = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Contest:
    """How many configs a strategy has, how many images validate, and whether seeds share them.

    Configs of a strategy spread by `apart` (of the probit's sum; 0.06 are half a point of
    accuracy), in each strategy alike, so that strategies are equal.
    """

    configs: int
    validation: int = 100
    shared: bool = False
    apart: float = 0.0

    @property
    def name(self) -> str:
        """What it is, in short."""
        unequal = "-unequal" if self.apart else ""
        return f"{self.configs}{unequal}-val{self.validation}{'-shared' if self.shared else ''}"

    @property
    def offsets(self) -> Numbers:
        """By how much each config is better than the middle one."""
        from scipy.stats import norm

        return self.apart * norm.ppf((np.arange(self.configs) + 0.5) / self.configs)


CONTESTS = (
    Contest(configs=1),
    *(
        Contest(configs=configs, validation=validation, shared=shared, apart=apart)
        for configs, apart in ((8, 0.0), (30, 0.0), (30, 0.06))
        for validation, shared in ((100, False), (100, True), (400, True))
    ),
)
WAYS: dict[str, Callable[[Numbers], Chosen]] = {
    "by-others": chosen_by_others,
    "by-all": chosen_by_all,
}
SIZES = ((3, 400), (5, 150), (8, 400))
NUMBERS_AT_ONCE = 4_000_000


def selection_cells(rng: np.random.Generator, runs: int) -> Iterator[Cell]:
    """Chosen by the other seeds; for contrast by all seeds, the own luck included.

    The bias is that of what is reported over what the chosen configs score in the population.
    Where configs differ, a claim may be false of the strategies, which have the same configs, and
    true of those that were chosen; what is false of these is counted too.
    """
    for contest in CONTESTS:
        for seeds, samples in SIZES:
            yield from _cells(rng, runs, contest, seeds, samples)


def _cells(
    rng: np.random.Generator, runs: int, contest: Contest, seeds: int, samples: int
) -> Iterator[Cell]:
    from scipy.stats import norm

    cells = {
        way: Cell(f"selection/{contest.name}/{way}", STRATEGIES, seeds, samples) for way in WAYS
    }
    one, other = pairs_of(STRATEGIES)
    truths = norm.cdf(norm.ppf(ACCURACY) + contest.offsets / SPREAD)
    biases: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    size = STRATEGIES * contest.configs * seeds * contest.validation
    for part in portions(runs, max(1, NUMBERS_AT_ONCE // size)):
        luck = LUCK * rng.standard_normal((part, STRATEGIES, contest.configs, seeds))
        luck += contest.offsets[:, None] + norm.ppf(ACCURACY) * SPREAD
        val = _validated(rng, luck, contest)
        for way, choose in WAYS.items():
            chosen = choose(val)
            right = _tested(rng, luck, chosen, samples)
            tables, by_seed = tables_of(right)
            judge(cells[way], tables, by_seed)
            standing = truths[chosen].mean(axis=-1)
            truth = standing[:, one] - standing[:, other]
            missed = len(one) * excludes(tables, STRATEGIES, truth) < ALPHA
            cells[way].counts["missed_of_chosen"].add(missed.any(axis=-1))
            reported = np.take_along_axis(val, chosen[:, :, None], axis=2)
            biases[way].append(
                (
                    float((reported[:, :, 0] - truths[chosen]).mean()),
                    float((right.mean(axis=-1) - truths[chosen]).mean()),
                )
            )
    for way, cell in cells.items():
        of_val, of_test = 100 * np.mean(biases[way], axis=0)
        cell.figures |= {"val_bias_points": float(of_val), "test_bias_points": float(of_test)}
        yield cell


def _validated(rng: np.random.Generator, luck: Numbers, contest: Contest) -> Numbers:
    """Validation scores `[runs, strategies, configs, seeds]`."""
    runs, strategies, configs, seeds = luck.shape
    draws = 1 if contest.shared else seeds
    sums = _normal(rng, (*luck.shape, contest.validation))
    sums += CONFIG_IMAGE * _normal(rng, (runs, strategies, configs, draws, contest.validation))
    sums += IMAGE * _normal(rng, (runs, 1, 1, draws, contest.validation))
    sums += SEED_IMAGE * _normal(rng, (runs, 1, 1, seeds, contest.validation))
    sums += luck[..., None].astype(np.float32)
    return np.asarray((sums > 0).mean(axis=-1))


def _tested(rng: np.random.Generator, luck: Numbers, chosen: Chosen, samples: int) -> Right:
    """What the chosen configs get right on one test split."""
    runs, strategies, configs, seeds = luck.shape
    of_configs = CONFIG_IMAGE * _normal(rng, (runs, strategies, configs, samples))
    sums = _normal(rng, (runs, strategies, seeds, samples))
    sums += np.take_along_axis(of_configs, chosen[..., None], axis=2)
    sums += IMAGE * _normal(rng, (runs, 1, 1, samples))
    sums += SEED_IMAGE * _normal(rng, (runs, 1, seeds, samples))
    sums += np.take_along_axis(luck, chosen[:, :, None], axis=2)[:, :, 0, :, None]
    return (sums > 0).astype(np.float32)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Right:
    return rng.standard_normal(shape, dtype=np.float32)
