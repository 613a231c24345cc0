"""How a range of numbers is widened where the best value lies at its end."""

from __future__ import annotations

from bench.results.analysis.studies import Setting, is_number
from bench.suite import MAX_WIDEN, Choices, Limit, Number, Range, Searched

DECADE = 10
"""One widening of a range that is searched on a log scale: times, or divided by this."""

DIGITS = 12
"""Significant digits of a new end, so that 0.1 × 3 is 0.3."""


def is_range(item: Searched, values: Range | Choices, sampler: str) -> bool:
    """Whether it is a range of numbers. A list is one to the sampler that walks a grid only.

    To the others a list has no order and no end. A list of whole numbers of an option, such as
    which layer group trains, says all that there is.
    """
    if isinstance(values, Range):
        return True
    named = item.option and item.whole
    return sampler == "grid" and not named and all(map(is_number, values.values))


def ends_of(values: Range | Choices) -> tuple[Number, Number]:
    """The smallest and the largest number of a range or a list of numbers."""
    if isinstance(values, Range):
        return values.low, values.high
    return min(_numbers(values)), max(_numbers(values))


def widened(
    item: Searched, values: Range | Choices, ends: tuple[Number, Number]
) -> Range | Choices:
    """`values` as far as `ends`, which are its own or some that `wider_ends` gives."""
    if isinstance(values, Range):
        return values.model_copy(update={"low": ends[0], "high": ends[1]})
    low, high = ends
    more = [
        *(end for end in wider_ends(item, values, lower=True) if end >= low),
        *(end for end in wider_ends(item, values, lower=False) if end <= high),
    ]
    return Choices(values=tuple(sorted([*_numbers(values), *more]))) if more else values


def wider_ends(
    item: Searched, values: Range | Choices, *, lower: bool, times: int = MAX_WIDEN
) -> list[Number]:
    """The ends of one side after one widening, after two …, as far as the setting allows.

    A log range grows by a decade, another one by half its width, a list by the ratio of its last
    two numbers, or by their difference where one of them is not above 0. A limit of the setting is
    the last end; one that the setting cannot reach is approached by half of what is left.
    """
    limit = item.lowest if lower else item.highest
    ends = [ends_of(values)[0 if lower else 1]]
    for _ in range(times):
        then = _moved(values, ends[-1], lower)
        if limit is not None and _is_beyond(then, limit, lower):
            then = _towards(limit, values, ends[-1])
        then = round(then) if item.whole else _tidy(then)
        if then == ends[-1] or (limit is not None and _is_beyond(then, limit, lower)):
            break
        ends.append(then)
    return ends[1:]


def setting_of(item: Searched, values: Range | Choices, asked: Range | Choices) -> Setting:
    """What was searched, as the report sees it, where the suite has asked for `asked`."""
    before = None if values == asked else setting_of(item, asked, asked).range_text
    if isinstance(values, Choices) and not all(map(is_number, values.values)):
        return Setting(name=item.name, choices=values.values)
    low, high = map(float, ends_of(values))
    limits = (_is_at(low, item.lowest), _is_at(high, item.highest))
    if isinstance(values, Choices):
        return Setting(name=item.name, choices=values.values, limits=limits, asked=before)
    return Setting(name=item.name, low=low, high=high, log=values.log, limits=limits, asked=before)


def _tidy(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _numbers(values: Choices) -> list[Number]:
    return [value for value in values.values if isinstance(value, int | float)]


def _moved(values: Range | Choices, end: Number, lower: bool) -> Number:
    """The end after one widening, whatever the setting allows."""
    if isinstance(values, Range):
        if values.log:
            return end / DECADE if lower else end * DECADE
        half = _tidy((values.high - values.low) / 2)
        if values.step is not None:
            half = max(1, round(half / values.step)) * values.step
        return end - half if lower else end + half
    numbers = sorted(_numbers(values))
    last, before = numbers[:2] if lower else numbers[:-3:-1]
    if min(last, before) > 0:
        return end * last / before
    return end + last - before


def _towards(limit: Limit, values: Range | Choices, end: Number) -> Number:
    """Between the end and a limit that the next widening would pass."""
    if isinstance(values, Range) and values.step is not None:
        return end + int((limit.value - end) / values.step) * values.step
    return limit.value if limit.included else (end + limit.value) / 2


def _is_beyond(value: Number, limit: Limit, lower: bool) -> bool:
    outside = value < limit.value if lower else value > limit.value
    return outside or (value == limit.value and not limit.included)


def _is_at(end: Number, limit: Limit | None) -> bool:
    return limit is not None and end == limit.value
