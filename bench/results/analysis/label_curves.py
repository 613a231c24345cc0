"""How much labelling pays: figures by the number of training images, and where curves cross.

A run that varies `shots` trains every config with several sizes of one nested set of images. Each
size has a verdict of its own, and the comparisons of all sizes are one family.

Where one curve overtakes another is found with the test of `crossed` as well, and not from the
spread of an estimate: where two curves are nearly parallel, the size at which they meet is a ratio
with a denominator near 0, and has no useful standard error (Fieller, 1954). The curves of two
strategies are joined by straight lines over the logarithm of the size, so their difference at any
size is a mean of two tables of differences, and is tested as those are, by seeds and images. The
sizes at which neither is shown to be ahead, between some at which one is and some at which the
other is, are the interval of their crossing. It leaves out the true one only where a test claims
the wrong sign, and so in one of 20 runs at most, for all pairs at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

from bench.results.analysis.choice import choices
from bench.results.analysis.comparison import BlockScores, common, look_level
from bench.results.analysis.crossed import (
    LEAST_SEEDS,
    CrossedTables,
    Numbers,
    crossed_p,
    crossed_table,
)
from bench.results.analysis.label_forecasts import Forecast, NoForecast, forecast
from bench.results.analysis.label_sizes import at_size, images_a_class, sizes_of
from bench.results.analysis.scores import folds_of
from bench.results.analysis.verdict import Verdict, reach_verdict, scores_of
from bench.results.folder.looks import look_at
from bench.results.grid import complete_trials, read_grid
from bench.suite.claims import read_claims

if TYPE_CHECKING:
    from bench.results.folder import Run
    from bench.results.metric import Metric

STEPS = 24
"""Places between two sizes at which a difference is tested."""

CurveScores = Mapping[str, Mapping[str, BlockScores]]
"""Size → name → what it scored in each block."""


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """`second`, behind with few training images, overtakes `first` with more.

    In images of a class: `first` is shown to be ahead with `low`, `second` with `high`, None where
    it is not shown; `estimate` is where the lines between the measured means meet last.
    """

    first: str
    second: str
    estimate: float
    low: float | None
    high: float | None

    @property
    def shown(self) -> bool:
        """Whether it is shown that they cross."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True, kw_only=True)
class LabelCurves:
    """Figures by the number of training images of a class.

    `images` maps each size at which something is complete to that number, ascending. `crossings`
    are those of the means of two curves; where they are not `tested`, because of few seeds or of
    folds, none is shown. `forecasts` are by name.
    """

    metric: Metric
    axis: str
    images: Mapping[str, float]
    verdicts: Mapping[str, Verdict]
    crossings: tuple[Crossing, ...]
    tested: bool
    folded: bool
    forecasts: Mapping[str, Forecast | NoForecast]

    @property
    def names(self) -> tuple[str, ...]:
        """The values of the leading axis, best first with the most images."""
        of_sizes = [each.contenders for each in self.verdicts.values()][::-1]
        return tuple(dict.fromkeys(each.name for own in of_sizes for each in own))


@lru_cache(maxsize=2)
def read_label_curves(run: Run) -> LabelCurves | None:
    """Those of a run folder; None of one with fewer than two sizes of known numbers of images.

    It counts as the look that the verdict counts as.
    """
    grid = read_grid(run.trials, run.metric)
    images = {size: images_a_class(run, size) for size in sizes_of(grid)}
    images = dict(sorted(((s, n) for s, n in images.items() if n), key=lambda pair: pair[1]))
    trials, claims, folds = run.trials, read_claims(run.suite), folds_of(run)
    looks = look_at(run.folder, list(complete_trials(trials)["trial"]))
    verdicts, scores = {}, {}
    for size, number in images.items():
        own = at_size(trials, grid, size)
        train = round(number * len(run.data.get("classes", ())))
        own_folds = None if folds is None else replace(folds, train=train)
        verdict = reach_verdict(
            own,
            grid,
            run.predictions,
            looks=looks,
            margin=claims.margin,
            cost=claims.cost,
            train_samples=train or None,
            folds=own_folds,
            families=len(images),
        )
        if verdict.contenders:
            verdicts[size] = verdict
            scores[size] = scores_of(
                choices(own, grid), own, run.predictions, run.metric, own_folds
            )
    if len(verdicts) < 2:
        return None
    known = {size: images[size] for size in verdicts}
    times = {size: verdict.looks for size, verdict in verdicts.items()}
    tested = folds is None and any(
        len(each.seeds) >= LEAST_SEEDS for own in verdicts.values() for each in own.contenders
    )
    return LabelCurves(
        metric=run.metric,
        axis=grid.lead,
        images=known,
        verdicts=verdicts,
        crossings=tuple(crossings(known, scores, run.metric, families=len(images), looks=times)),
        tested=tested,
        folded=folds is not None,
        forecasts={
            name: forecast(
                list(known.values()), [own.get(name) for own in scores.values()], run.metric
            )
            for name in grid.axes[grid.lead]
            if any(name in own for own in scores.values())
        },
    )


def crossings(
    images: Mapping[str, float],
    scores: CurveScores,
    metric: Metric,
    *,
    families: int,
    looks: Mapping[str, Mapping[frozenset[str], int]] | None = None,
) -> Iterator[Crossing]:
    """Where the curves of each two things cross, those that are shown to first.

    A sign is claimed at the level of the comparisons at each size: that of all pairs, and so many
    `families`. With fewer than three common seeds, one sample, or folds nothing is shown.
    """
    names = list(dict.fromkeys(name for own in scores.values() for name in own))
    pairs = list(combinations(names, 2))
    lines = {
        pair: line
        for pair in pairs
        if (line := _difference(pair, images, scores, metric)) is not None
    }
    seen = _times_looked(looks or {})
    levels = {
        pair: look_level(seen.get(frozenset(pair), 1)) / (len(pairs) * families) for pair in pairs
    }
    signs = _signs(lines, levels, independent=max(1, len(names) - 1))
    found = [
        crossing
        for pair, line in lines.items()
        for crossing in _crossings(pair, line, signs.get(pair, {}))
    ]
    yield from sorted(found, key=lambda each: not each.shown)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Difference:
    """How far the first of a pair is ahead: a table `[seeds, samples]` at each size.

    `images` are those of a class. `grain` is as for `crossed_table`. Where it is not `testable`,
    nothing can be claimed of it.
    """

    sizes: tuple[str, ...]
    images: tuple[float, ...]
    tables: tuple[Numbers, ...]
    grain: float | None
    testable: bool

    def images_at(self, place: float) -> float:
        """The images of a class at a place along the curve: 0 is the first size, 1 the second."""
        places = np.arange(len(self.images))
        return float(np.exp(np.interp(place, places, np.log(self.images))))


def _difference(
    pair: tuple[str, str], images: Mapping[str, float], scores: CurveScores, metric: Metric
) -> _Difference | None:
    """Of the sizes, blocks, seeds and samples that both have; None of fewer than two sizes."""
    first, second = pair
    sizes = tuple(size for size in images if {first, second} <= scores.get(size, {}).keys())
    pairs = [(scores[size][first], scores[size][second]) for size in sizes]
    blocks = common([tuple(side) for both in pairs for side in both])
    every = [side[block] for both in pairs for side in both for block in blocks]
    seeds = common([own.seeds for own in every])
    samples = common([own.samples for own in every])
    if len(sizes) < 2 or not blocks or not seeds or not samples:
        return None
    means = [
        np.mean([one[b].at(seeds, samples) - other[b].at(seeds, samples) for b in blocks], axis=0)
        for one, other in pairs
    ]
    folded = any(own.folds is not None for own in every)
    return _Difference(
        sizes=sizes,
        images=tuple(images[size] for size in sizes),
        tables=tuple(metric.sign * mean for mean in means),
        grain=None if all(own.counts for own in every) else 0.0,
        testable=not folded and len(seeds) >= LEAST_SEEDS and len(samples) > 1,
    )


def _signs(
    lines: Mapping[tuple[str, str], _Difference],
    levels: Mapping[tuple[str, str], float],
    *,
    independent: int,
) -> dict[tuple[str, str], dict[float, int]]:
    """Pair → place along its curve → 1 where its first is shown to be ahead, −1 where its second.

    At a place all pairs that have the same two sizes around it are judged together, as at a size.
    """
    found: dict[tuple[str, str], dict[float, int]] = {}
    segments: dict[tuple[str, str], list[tuple[tuple[str, str], int]]] = {}
    for pair, line in lines.items():
        if line.testable:
            for place, ends in enumerate(pairwise(line.sizes)):
                segments.setdefault(ends, []).append((pair, place))
    shares = np.linspace(0, 1, STEPS + 1)
    for members in segments.values():
        tables = _between([(lines[pair], place) for pair, place in members], shares)
        ps = crossed_p(tables, independent=min(len(members), independent))
        for column, (pair, place) in enumerate(members):
            claimed = ps[:, column] < levels[pair]
            signs = np.where(claimed, np.sign(tables.effect[:, column]), 0)
            found.setdefault(pair, {}).update(zip((place + shares).tolist(), signs, strict=True))
    return found


def _between(members: Sequence[tuple[_Difference, int]], shares: Numbers) -> CrossedTables:
    """The tables `[shares, members]` at these shares of the way from a size to the next.

    Mean squares are quadratic in a table, so those of three give all that are between two.
    """
    ends = [(line.tables[place], line.tables[place + 1], line.grain) for line, place in members]
    lows, highs, sums = (
        [crossed_table(table, grain=grain) for table, grain in own]
        for own in (
            [(low, grain) for low, _, grain in ends],
            [(high, grain) for _, high, grain in ends],
            [(low + high, grain) for low, high, grain in ends],
        )
    )
    share = shares[:, None]
    low_share = 1 - share

    def column(tables: Sequence[CrossedTables], name: str) -> Numbers:
        return np.array([float(getattr(table, name)) for table in tables])

    def squares(name: str) -> Numbers:
        low, high, both = (column(tables, name) for tables in (lows, highs, sums))
        mixed = both - low - high
        return np.maximum(0.0, low_share**2 * low + low_share * share * mixed + share**2 * high)

    def same(name: str) -> Numbers:
        return np.broadcast_to(column(lows, name), (len(shares), len(members)))

    return CrossedTables(
        effect=np.round(low_share * column(lows, "effect") + share * column(highs, "effect"), 12),
        ms_seeds=squares("ms_seeds"),
        ms_samples=squares("ms_samples"),
        ms_rest=squares("ms_rest"),
        seeds=same("seeds"),
        samples=same("samples"),
        grain=same("grain"),
    )


def _crossings(
    pair: tuple[str, str], line: _Difference, signs: Mapping[float, int]
) -> Iterator[Crossing]:
    """Every crossing that is shown; of a pair without one, the last of the means."""
    places = sorted(signs)
    claimed = [(place, signs[place]) for place in places if signs[place]]
    turns = [(old, new) for old, new in pairwise(claimed) if old[1] != new[1]]
    if turns:
        for (low, sign), (high, _) in turns:
            meeting = [place for place, _ in _meetings(line) if low <= place <= high]
            yield _crossing(pair, line, sign, meeting[-1], low, high)
        return
    meetings = list(_meetings(line))
    if not meetings:
        return
    place, sign = meetings[-1]
    before = [at for at, own in claimed if own == sign]
    after = [at for at, own in claimed if own == -sign]
    yield _crossing(pair, line, sign, place, max(before, default=None), min(after, default=None))


def _meetings(line: _Difference) -> Iterator[tuple[float, int]]:
    """Where the lines between means meet, and 1 if the first of the pair is ahead before."""
    means = [round(float(table.mean()), 12) for table in line.tables]
    known = [(place, mean) for place, mean in enumerate(means) if mean]
    for (low, before), (high, after) in pairwise(known):
        if before * after < 0:
            # Over a size at which both are equal there is nothing to interpolate.
            share = before / (before - after) if high - low == 1 else 0.5
            yield low + share * (high - low), 1 if before > 0 else -1


def _crossing(
    pair: tuple[str, str],
    line: _Difference,
    sign: int,
    place: float,
    low: float | None,
    high: float | None,
) -> Crossing:
    first, second = pair if sign > 0 else pair[::-1]
    return Crossing(
        first=first,
        second=second,
        estimate=line.images_at(place),
        low=None if low is None else line.images_at(low),
        high=None if high is None else line.images_at(high),
    )


def _times_looked(
    looks: Mapping[str, Mapping[frozenset[str], int]],
) -> dict[frozenset[str], int]:
    """The largest number of looks at a pair at any size."""
    found: dict[frozenset[str], int] = {}
    for own in looks.values():
        for pair, times in own.items():
            found[pair] = max(times, found.get(pair, 1))
    return found
