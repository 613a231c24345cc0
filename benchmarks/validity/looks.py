"""Looking again after each further seed: what all looks together claim, by several rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.results.analysis.crossed import CrossedTables, crossed_p
from benchmarks.validity.cells import ALPHA, Cell, portions
from benchmarks.validity.models import MODELS, Probit
from benchmarks.validity.squares import Numbers, made_tables, nested_tables, pairs_of

LEAST, MOST = 3, 12
LOOKS = MOST - LEAST + 1
NUMBERS_AT_ONCE = 4_000_000


def _shares(first: float, rest: float) -> Callable[[int], float]:
    """`first` at look 1; of the later ones the k-th has `rest` × 6 / (π² (k − 1)²)."""
    return lambda look: first if look == 1 else rest * 6 / (np.pi * (look - 1)) ** 2


RULES: dict[str, Callable[[int], float]] = {
    "each-0.05": lambda look: ALPHA,
    "squares": lambda look: ALPHA * 6 / (np.pi * look) ** 2,
    "0.04-first": _shares(0.04, 0.01),
    "0.035-first": _shares(0.035, 0.015),
    "halves": lambda look: ALPHA / 2**look,
    "slow": lambda look: ALPHA / (look * (look + 1)),
    "0.04-over-k": lambda look: 0.04 / look,
}
"""What look k, from 1 on, may spend. All looks together spend 0.05, but for the first rule and the
last, which has no such bound: looks at the same images go together."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """Strategies with these accuracies; those that are claimed worse than another one stop."""

    name: str
    model: Probit
    accuracies: tuple[float, ...]
    samples: int


KINDS = {
    "equal": (0.9, 0.9, 0.9, 0.9),
    "two-lead-5": (0.9, 0.9, 0.85, 0.85),
    "two-lead-2": (0.9, 0.9, 0.88, 0.88),
}
HARDEST = ("rising", "one-wild", "lucky")
"""Where a single look at two strategies and 2,000 images claims most falsely."""


def look_cells(rng: np.random.Generator, runs: int) -> Iterator[Cell]:
    """Seeds are added one by one from the third on, with a look after each."""
    for name in ("probit-90", "stored-90", "heavy", "lucky", "one-wild"):
        for samples in (150, 400):
            for kind, accuracies in KINDS.items():
                yield from _raced(rng, runs, _race(name, kind, accuracies, samples))
    for name in HARDEST:
        yield from _raced(rng, runs, _race(name, "equal-two", (0.9, 0.9), 2000))


def _race(name: str, kind: str, accuracies: tuple[float, ...], samples: int) -> Race:
    model = MODELS[name]
    assert isinstance(model, Probit)
    return Race(name=f"looks/{name}/{kind}", model=model, accuracies=accuracies, samples=samples)


def _raced(rng: np.random.Generator, runs: int, race: Race) -> Iterator[Cell]:
    accuracies = np.array(race.accuracies)
    strategies = len(accuracies)
    one, other = pairs_of(strategies)
    truth = np.round(accuracies[one] - accuracies[other], 9)
    cells = {rule: Cell(f"{race.name}/{rule}", strategies, MOST, race.samples) for rule in RULES}
    shape = (strategies, MOST, race.samples)
    for part in portions(runs, max(1, NUMBERS_AT_ONCE // int(np.prod(shape)))):
        right = race.model.drawn(rng, (part, *shape), accuracies)
        seeds = range(LEAST, MOST + 1)
        tables = [
            found for _, found, _ in nested_tables(right, [strategies], list(seeds), [race.samples])
        ]
        for rule, level in RULES.items():
            claims = race_on(tables, strategies, [level(look + 1) for look in range(LOOKS)])
            wrong = claims & (np.sign(truth) != claims)
            counts = cells[rule].counts
            counts["false"].add((wrong != 0).any(axis=(0, 2)))
            # The pair of the first and the third, by the look.
            if strategies > 2 and truth[1]:
                for look in (1, 3, 6, LOOKS):
                    found_by = (claims[:look, :, 1] > 0).any(axis=0)
                    counts[f"power_by_look_{look}"].add(found_by)
    yield from cells.values()


def race_on(
    tables: Sequence[CrossedTables], strategies: int, levels: Sequence[float]
) -> npt.NDArray[np.int8]:
    """Claims `[looks, runs, pairs]` (1 the first better, −1 worse), from the tables of each look.

    A strategy that is claimed worse than another stops, and its pairs stay at the seeds it has. A
    pair spends on every look at which either of the two has a new training. It is judged at all
    others too, at the level it had: what the rest shows of the seeds' variance has changed.
    """
    one, other = pairs_of(strategies)
    runs, pairs = tables[0].effect.shape
    stacked = {
        name: np.stack([getattr(table, name) for table in tables])
        for name in ("effect", "ms_seeds", "ms_samples", "ms_rest")
    }
    last = np.full((runs, strategies), len(tables) - 1)
    times = np.zeros((runs, pairs), dtype=np.intp)
    claims = np.zeros((len(tables), runs, pairs), dtype=np.int8)
    for look in range(len(tables)):
        at = np.minimum(look, np.minimum(last[:, one], last[:, other]))
        now = {name: _at(values, at) for name, values in stacked.items()}
        effect = now.pop("effect")
        family = made_tables(effect, now, at + LEAST, int(tables[0].samples.flat[0]))
        p = crossed_p(family, independent=strategies - 1)
        times += np.maximum(last[:, one], last[:, other]) >= look
        claims[look] = np.where(pairs * p < np.array(levels)[times - 1], np.sign(effect), 0)
        for index in range(pairs):
            claimed = np.flatnonzero(claims[look, :, index])
            beaten = np.where(claims[look, claimed, index] > 0, other[index], one[index])
            last[claimed, beaten] = np.minimum(last[claimed, beaten], look)
    return claims


def _at(values: Numbers, at: npt.NDArray[np.intp]) -> Numbers:
    return np.asarray(np.take_along_axis(values, at[None], axis=0)[0])
