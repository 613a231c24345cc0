"""Mean squares of all pairs of strategies at once, for nested parts of the same simulated runs.

With `right[runs, strategies, seeds, samples]` the sums of squares of every difference of two
strategies follow from products of strategies summed over seeds and samples, so that 435 pairs cost
little more than one, and the first few seeds and samples of a run are another, smaller run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from bench.results.analysis.crossed import CrossedTables, crossed_table

Numbers = npt.NDArray[np.float64]
Right = npt.NDArray[np.float32]

Size = tuple[int, int, int]
"""Strategies, seeds, samples."""


def picked(strategies: int, of: int) -> npt.NDArray[np.intp]:
    """Which of the strategies stand for fewer of them: evenly spread, first and last included."""
    return np.round(np.linspace(0, of - 1, strategies)).astype(np.intp)


def pairs_of(strategies: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First and second of every pair, in the order of all tables here."""
    return np.triu_indices(strategies, 1)


def tables_of(right: Right) -> tuple[CrossedTables, Numbers]:
    """The tables `[runs, pairs]` of all pairs, and the mean differences by seed."""
    _, strategies, seeds, samples = right.shape
    return next(nested_tables(right, [strategies], [seeds], [samples]))[1:]


def nested_tables(
    right: Right, strategies: Sequence[int], seeds: Sequence[int], samples: Sequence[int]
) -> Iterator[tuple[Size, CrossedTables, Numbers]]:
    """For every size its tables `[runs, pairs]` and the differences by seed `[runs, pairs, seeds]`.

    Taken are the first seeds and samples and the `picked` strategies.
    """
    starts = [0, *samples[:-1]]
    parts = [right[..., low:high] for low, high in zip(starts, samples, strict=True)]
    sums = np.cumsum([part.sum(axis=-1, dtype=np.float64) for part in parts], axis=0)
    of_cells = _cumulated(part.transpose(0, 2, 1, 3) for part in parts)
    of_cells = np.cumsum(of_cells, axis=2)
    for seed_count in seeds:
        by_sample = right[:, :, :seed_count].sum(axis=2)
        of_samples = _cumulated(
            by_sample[..., low:high] for low, high in zip(starts, samples, strict=True)
        )
        for index, sample_count in enumerate(samples):
            for strategy_count in strategies:
                chosen = picked(strategy_count, right.shape[1])
                by_seed = sums[index][:, chosen, :seed_count] / sample_count
                tables = _tables(
                    by_seed,
                    _between(of_samples[index], chosen) / seed_count**2,
                    _between(of_cells[index][:, seed_count - 1], chosen),
                    sample_count,
                )
                one, other = pairs_of(strategy_count)
                size = (strategy_count, seed_count, sample_count)
                yield size, tables, by_seed[:, one] - by_seed[:, other]


def made_tables(
    effect: Numbers, ms: Mapping[str, Numbers], seeds: int | Numbers, samples: int
) -> CrossedTables:
    """`CrossedTables` from mean squares; whatever else a table has is as `crossed_table` says."""
    like = crossed_table(np.zeros((2, samples)))
    values = {each.name: np.full_like(effect, getattr(like, each.name)) for each in fields(like)}
    values |= {"effect": effect, "seeds": np.broadcast_to(np.asarray(seeds, float), effect.shape)}
    return CrossedTables(**values | dict(ms))


def joined_runs(parts: Sequence[CrossedTables]) -> CrossedTables:
    """Tables `[runs, pairs]` of some runs and of others in one."""
    names = [each.name for each in fields(CrossedTables)]
    return CrossedTables(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )


def _tables(
    by_seed: Numbers, of_samples: Numbers, of_cells: Numbers, samples: int
) -> CrossedTables:
    """From sums of squares of the differences of sample means and of single samples."""
    seeds = by_seed.shape[-1]
    one, other = pairs_of(by_seed.shape[1])
    differences = by_seed[:, one] - by_seed[:, other]
    effect = differences.mean(axis=-1)
    seed_squares = samples * np.square(differences - effect[..., None]).sum(axis=-1)
    sample_squares = seeds * (of_samples - samples * effect**2)
    rest = of_cells - seeds * samples * effect**2 - seed_squares - sample_squares
    ms = {
        "ms_seeds": seed_squares / (seeds - 1),
        "ms_samples": sample_squares / (samples - 1),
        "ms_rest": rest / ((seeds - 1) * (samples - 1)),
    }
    # What is left of a difference of equal sums is no variance.
    ms = {name: np.where(values > 1e-11, values, 0.0) for name, values in ms.items()}
    return made_tables(effect, ms, seeds, samples)


def _cumulated(parts: Iterator[Right]) -> Numbers:
    """Products of strategies `[..., strategies, samples]` summed over ever more samples."""
    products = [np.matmul(part, part.swapaxes(-1, -2)).astype(np.float64) for part in parts]
    return np.cumsum(products, axis=0)


def _between(products: Numbers, chosen: npt.NDArray[np.intp]) -> Numbers:
    """Squared distances of all pairs, from products of strategies."""
    one, other = (chosen[index] for index in pairs_of(len(chosen)))
    own = np.einsum("...kk->...k", products)
    return np.asarray(own[..., one] + own[..., other] - 2 * products[..., one, other])
