"""How figures and claims read in every section of a report. Nothing here is escaped."""

from __future__ import annotations

import math

from bench.errors import counted
from bench.results.analysis import Comparison
from bench.results.analysis.intervals import Interval
from bench.results.grid import ALL, UNKNOWN, Spread, is_missing
from bench.results.metric import Metric


def claim(comparison: Comparison) -> str:
    """What may be said of the two."""
    match comparison.verdict:
        case "better":
            return f"{comparison.first} is better"
        case "worse":
            return f"{comparison.second} is better"
        case "as_good":
            return "as good"
    if comparison.models_verdict in ("better", "worse"):
        ahead = comparison.first if comparison.models_verdict == "better" else comparison.second
        return f"open; of these models {ahead} is better"
    return "open"


def verdict_word(comparison: Comparison) -> str:
    """The verdict in a word; of models alone it is open, and what is seen of them stands beside."""
    if comparison.models_verdict in ("better", "worse"):
        return f"open; these models: {comparison.models_verdict}"
    return comparison.verdict.replace("_", " ")


def ends(interval: Interval, metric: Metric) -> str:
    """The ends of the interval of a figure: `92.1–97.6`."""
    low, high = interval
    return UNKNOWN if is_missing(low) else f"{metric.number(low)}–{metric.number(high)}"


def difference(value: float, metric: Metric) -> str:
    """A difference of figures, of fractions in points: `+1.2`."""
    return UNKNOWN if math.isnan(value) else metric.difference(value)


def difference_interval(interval: Interval, metric: Metric) -> str:
    """An interval of such a difference, `+0.3 to +2.1`."""
    if is_missing(interval[0]):
        return UNKNOWN
    low, high = metric.ends(*interval, sign="+")
    return f"{low} to {high}"


def seeds_text(n: int) -> str:
    """`one seed`, `3 seeds`."""
    return "one seed" if n == 1 else counted(n, "seed")


def at_size_text(size: str) -> str:
    """With how many training images: `with all training images`, `with 5 training images a class`.

    `size` is a value of `shots`, as a grid has it.
    """
    images = "all training images" if size == ALL else f"{size} training images a class"
    return f"with {images}"


def rounded_up(n: int) -> int:
    """To two digits: how many more it takes is not known better."""
    step = 10 ** max(0, len(str(n)) - 2)
    return int(-(-n // step) * step)


def or_unknown(value: float, form: str) -> str:
    """`value` in a format, or that it is not known."""
    return UNKNOWN if is_missing(value) else form.format(value)


def as_json(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def mean_sd(figure: Spread, metric: Metric) -> str:
    """Mean ± standard deviation, of fractions in percent; of one seed its figure."""
    sd = f" ± {metric.number(figure.sd)}" if figure.n > 1 else ""
    return f"{mean(figure, metric)}{sd}"


def mean(figure: Spread, metric: Metric) -> str:
    """The mean, of fractions in percent."""
    return number(figure.mean if figure.n else math.nan, metric)


def number(value: float, metric: Metric) -> str:
    """A figure, of fractions in percent, or that it is not known."""
    return UNKNOWN if is_missing(value) else metric.number(value)
