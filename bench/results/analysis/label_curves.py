"""How much labelling pays: figures by the number of training images, and where curves cross.

A run that varies `shots` trains every config with several sizes of one nested set of images. Each
size has a verdict of its own, and the comparisons of all sizes are one family.

Where one curve overtakes another is told by these comparisons, not by the spread of an estimate.
Where two curves are nearly parallel, the size at which they meet is a ratio with a denominator near
0, and has no useful standard error (Fieller, 1954); and where they meet between two sizes is seen
through straight lines alone, which no curve has to follow. So a crossing is shown where one of the
two is shown to be ahead at some size and the other at a larger one, and these two sizes are its
interval. It is wrong only where a comparison claims the wrong sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from bench.results.analysis.choice import choices
from bench.results.analysis.comparison import Comparison
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


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """`second`, behind with few training images, overtakes `first` with more.

    In images of a class: `low` is the largest size at which `first` is shown to be ahead before,
    `high` the least at which `second` is shown to be ahead after, None where there is none.
    `estimate` is where straight lines between the measured figures meet, over the logarithm.
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

    `images` maps each size at which something is complete to that number, ascending; `verdicts` are
    those of these sizes. `crossings` are of the measured curves, those first that are shown;
    `forecasts` are by name.
    """

    metric: Metric
    axis: str
    images: Mapping[str, float]
    verdicts: Mapping[str, Verdict]
    crossings: tuple[Crossing, ...]
    forecasts: Mapping[str, Forecast | NoForecast]

    @property
    def names(self) -> tuple[str, ...]:
        """The values of the leading axis, best first with the most images."""
        of_sizes = [each.contenders for each in self.verdicts.values()][::-1]
        return tuple(dict.fromkeys(each.name for own in of_sizes for each in own))

    @property
    def of_models(self) -> bool:
        """Whether nothing can be claimed but of the trained models, because of few seeds."""
        every = [each for own in self.verdicts.values() for each in own.comparisons]
        return all(each.of_models for each in every)


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
    verdicts, scores = {}, []
    for size, number in images.items():
        train = round(number * len(run.data.get("classes", ())))
        own_folds = None if folds is None else replace(folds, train=train)
        verdict = reach_verdict(
            trials,
            grid,
            run.judged,
            looks=looks,
            margin=claims.margin,
            cost=claims.cost,
            train_samples=train or None,
            folds=own_folds,
            size=size,
        )
        if verdict.contenders:
            own = at_size(trials, grid, size)
            verdicts[size] = verdict
            chosen = choices(own, grid)
            scores.append(scores_of(chosen, own, run.judged, run.metric, own_folds))
    if len(verdicts) < 2:
        return None
    known = {size: images[size] for size in verdicts}
    names = [name for name in grid.axes[grid.lead] if any(name in own for own in scores)]
    return LabelCurves(
        metric=run.metric,
        axis=grid.lead,
        images=known,
        verdicts=verdicts,
        crossings=tuple(
            crossings(known, {size: own.comparisons for size, own in verdicts.items()}, names)
        ),
        forecasts={
            name: forecast(list(known.values()), [own.get(name) for own in scores], run.metric)
            for name in names
        },
    )


def crossings(
    images: Mapping[str, float],
    comparisons: Mapping[str, Sequence[Comparison]],
    names: Sequence[str],
) -> list[Crossing]:
    """Where the curves of each two of the names cross, those first that are shown."""
    by_size = {size: _by_pair(own) for size, own in comparisons.items()}
    found = []
    for first, second in combinations(names, 2):
        line = [
            (images[size], own[first, second])
            for size, own in by_size.items()
            if (first, second) in own and not math.isnan(own[first, second].difference)
        ]
        found += list(_crossings(line))
    return sorted(found, key=lambda each: not each.shown)


def _by_pair(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], Comparison]:
    """The comparisons of a size, each from both sides."""
    sides = (side for each in comparisons for side in (each, each.turned()))
    return {(side.first, side.second): side for side in sides}


def _crossings(line: Sequence[tuple[float, Comparison]]) -> Iterator[Crossing]:
    """Of one pair, from its comparisons by size: all that are shown, else the last one measured."""
    claimed = [
        (images, 1 if each.verdict == "better" else -1, each)
        for images, each in line
        if each.verdict in ("better", "worse")
    ]
    turns = [(before, after) for before, after in pairwise(claimed) if before[1] != after[1]]
    meetings = list(_meetings(line))
    for (low, sign, each), (high, _, _) in turns:
        place = [place for place, _ in meetings if low <= place <= high][-1]
        yield _crossing(each, sign, place, low, high)
    if turns or not meetings:
        return
    place, sign = meetings[-1]
    before = [images for images, own, _ in claimed if own == sign and images < place]
    after = [images for images, own, _ in claimed if own != sign and images > place]
    each = line[0][1]
    yield _crossing(each, sign, place, max(before, default=None), min(after, default=None))


def _meetings(line: Sequence[tuple[float, Comparison]]) -> Iterator[tuple[float, int]]:
    """Where the lines between measured figures meet, and 1 if the first of the pair leads before.

    Over sizes at which both are equal, in the middle.
    """
    apart = [(images, each.lead) for images, each in line if each.lead]
    for (low, before), (high, after) in pairwise(apart):
        if before * after < 0:
            equal = [images for images, each in line if low < images < high]
            if equal:
                place = math.sqrt(equal[0] * equal[-1])
            else:
                place = low * (high / low) ** (before / (before - after))
            yield place, 1 if before > 0 else -1


def _crossing(
    of: Comparison, sign: int, estimate: float, low: float | None, high: float | None
) -> Crossing:
    first, second = (of.first, of.second) if sign > 0 else (of.second, of.first)
    return Crossing(first=first, second=second, estimate=estimate, low=low, high=high)
