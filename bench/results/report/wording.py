"""How figures and claims read in every section of a report. Nothing here is escaped."""

from __future__ import annotations

import math

from bench.results.analysis import Comparison
from bench.results.analysis.intervals import Interval
from bench.results.grid import UNKNOWN, Spread, is_missing


def counted(n: int, one: str, many: str | None = None) -> str:
    """`3 trials`, `1 class`."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def claim(comparison: Comparison) -> str:
    """What may be said of the two."""
    verdict, more = comparison.verdict, comparison.more_seeds
    if verdict == "better":
        return f"{comparison.first} beats {comparison.second}"
    if verdict == "worse":
        return f"{comparison.second} beats {comparison.first}"
    needed = f"; about {more} more seeds needed" if more else ""
    return ("undecided" if verdict == "undecided" else "too few seeds to say") + needed


def points(fraction: float) -> str:
    """A difference of accuracies in points, `+1.2`."""
    return UNKNOWN if math.isnan(fraction) else f"{100 * fraction:+.1f}"


def point_interval(interval: Interval) -> str:
    """An interval of such a difference, `+0.3 to +2.1`."""
    low, high = interval
    return UNKNOWN if is_missing(low) else f"{points(low)} to {points(high)}"


def or_unknown(value: float, form: str) -> str:
    """`value` in a format, or that it is not known."""
    return UNKNOWN if is_missing(value) else form.format(value)


def mean_sd(accuracy: Spread) -> str:
    """Mean ± standard deviation in percent; of one seed its accuracy."""
    sd = f" ± {100 * accuracy.sd:.1f}" if accuracy.n > 1 else ""
    return f"{mean(accuracy, 100)}{sd}"


def mean(figure: Spread, factor: float = 1) -> str:
    """The mean, times `factor`."""
    return f"{factor * figure.mean:.1f}" if figure.n else UNKNOWN
