"""The p values that are compared: that of the package, and two others for contrast."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from bench.results.analysis.crossed import CrossedTables, crossed_p
from benchmarks.validity.squares import Numbers

TABLES_AT_ONCE = 4_000
"""Tables that are judged together: more no longer fit the processor's cache."""

MOST_FLIPS = 2_000_000


def p_values(tables: CrossedTables, strategies: int) -> Numbers:
    """Those of the package's test, of `[runs, pairs]` tables of all pairs of strategies."""
    at_once = max(1, TABLES_AT_ONCE // tables.effect.shape[-1])
    return np.concatenate(
        [
            crossed_p(some(tables, slice(start, start + at_once)), independent=strategies - 1)
            for start in range(0, len(tables.effect), at_once)
        ]
    )


def excludes(tables: CrossedTables, strategies: int, truth: Numbers) -> Numbers:
    """The largest share whose intervals leave the truth out: p of "the difference is the truth"."""
    return p_values(replace(tables, effect=tables.effect - truth), strategies)


def as_good(tables: CrossedTables, strategies: int, margin: float, alpha: float) -> Numbers:
    """Whether the interval that leaves out `alpha` lies within the margin."""
    nearest = margin - np.abs(tables.effect)
    return (p_values(replace(tables, effect=nearest), strategies) < alpha) & (nearest > 0)


def hillis_p(tables: CrossedTables) -> Numbers:
    """Student's t with the degrees of freedom of Hillis (2007); 1 where nothing varies."""
    from scipy.special import stdtr

    sums = tables.ms_seeds + np.maximum(tables.ms_samples - tables.ms_rest, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = sums**2 / (tables.ms_seeds**2 / (tables.seeds - 1))
        t = np.abs(tables.effect) / np.sqrt(sums / (tables.seeds * tables.samples))
    known = np.isfinite(freedom) & np.isfinite(t)
    p = 2 * stdtr(np.where(known, freedom, 1e9), -np.where(known | (sums > 0), t, 0))
    return np.where(sums > 0, p, np.where(tables.effect == 0, 1.0, 0.0))


def sign_flip_p(by_seed: Numbers) -> Numbers:
    """Exact two-sided p of "symmetric about 0" over seeds, of differences `[..., seeds]`."""
    seeds = by_seed.shape[-1]
    # The other half of the flips are these with all signs turned.
    signs = 1.0 - 2 * (np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds) & 1)
    flat = by_seed.reshape(-1, seeds)
    found = np.empty(len(flat))
    at_once = max(1, MOST_FLIPS // len(signs))
    for start in range(0, len(flat), at_once):
        sums = np.abs(flat[start : start + at_once] @ signs.T)
        found[start : start + at_once] = (sums >= sums[:, :1] - 1e-9).mean(axis=1)
    return found.reshape(by_seed.shape[:-1])


def some(tables: CrossedTables, which: slice) -> CrossedTables:
    """The tables of some runs."""
    return CrossedTables(
        **{each.name: getattr(tables, each.name)[which] for each in fields(tables)}
    )
