"""The report's section "How much labelling pays": figures by the number of training images."""

from __future__ import annotations

from collections.abc import Iterator

from bench.errors import counted
from bench.results.analysis import Crossing, Forecast, LabelCurves, NoForecast, Verdict
from bench.results.analysis.crossed import LEAST_SEEDS
from bench.results.grid import ALL, UNKNOWN
from bench.results.metric import Metric
from bench.results.report.answer import amount, named
from bench.results.report.blocks import Block, Bullets, Heading, Picture, Table, paragraph
from bench.results.report.wording import ends, number

MAX_CROSSINGS = 45


def label_curves_section(found: LabelCurves, picture: Picture | None) -> Iterator[Block]:
    """The blocks below "How much labelling pays"."""
    yield Heading("How much labelling pays", 3)
    yield paragraph(
        f"Test {found.metric.label} by the number of training images of a class. For one seed, the "
        "images of a smaller size are among those of a larger one; validation and test images are "
        "the same at all sizes."
    )
    if picture is not None:
        yield picture
    yield _sizes(found)
    yield _figures(found)
    yield from _crossings(found)
    yield from _forecasts(found)


def _sizes(found: LabelCurves) -> Table:
    """What to use at each size, and what is worse there."""
    metric = found.metric
    rows = tuple(
        (_size(size, found), *_used(verdict, metric)) for size, verdict in found.verdicts.items()
    )
    return Table(
        "label_sizes",
        ("images a class", "use", metric.axis_label, "95 %", "worse", "open"),
        rows,
        (0, 2, 3),
        terms=(
            ("use", "what a run of this size alone would recommend: validation chooses"),
            (
                "worse",
                "shown to be worse than that; all pairs at all sizes are corrected as one family",
            ),
            ("open", "neither told apart from it nor shown to be as good"),
        ),
    )


def _used(verdict: Verdict, metric: Metric) -> tuple[str, ...]:
    if verdict.recommended is None:
        return "none", UNKNOWN, UNKNOWN, "every one is worse than another", ""
    best = verdict.contender(verdict.recommended)
    worse = [name for name, each in verdict.rivals.items() if each.verdict == "better"]
    return (
        best.name,
        number(best.figure, metric),
        ends(best.interval, metric),
        named(worse),
        named(verdict.open),
    )


def _figures(found: LabelCurves) -> Table:
    """Every curve: a row each, its figure and interval at every size."""
    metric = found.metric
    by_size = [
        {each.name: each for each in verdict.contenders} for verdict in found.verdicts.values()
    ]
    rows = tuple(
        (
            name,
            *(
                f"{number(own[name].figure, metric)} ({ends(own[name].interval, metric)})"
                if name in own
                else UNKNOWN
                for own in by_size
            ),
        )
        for name in found.names
    )
    header = (found.axis, *(_size(size, found) for size in found.images))
    return Table("label_curves", header, rows, tuple(range(1, len(header))))


def _crossings(found: LabelCurves) -> Iterator[Block]:
    if len(found.names) < 2:
        return
    if not found.crossings:
        yield paragraph("No two of these curves cross.")
        return
    if found.of_models:
        yield paragraph(
            "Where the measured curves cross. Nothing can be claimed of it: the luck of training "
            f"can be measured from {LEAST_SEEDS} seeds on."
        )
    else:
        yield paragraph(
            "Where the measured curves cross. 95 %: with so few images the one that is overtaken "
            "is shown to be ahead, with so many the other one, by the test of the verdict, with "
            "all pairs at all sizes as one family; without an end, that side is not shown. Where "
            "curves meet between two sizes is read off straight lines over the logarithm of the "
            "number of images, and only a guide."
        )
    shown = found.crossings[:MAX_CROSSINGS]
    yield Table(
        "label_crossings",
        ("overtakes", "is overtaken", "at images a class", "95 %", "claim"),
        tuple(_crossing(each) for each in shown),
        (2, 3),
    )
    if len(found.crossings) > len(shown):
        rest = counted(len(found.crossings) - len(shown), "more crossing")
        yield paragraph(f"{rest} of measured curves.")


def _crossing(each: Crossing) -> tuple[str, ...]:
    first, second = each.first, each.second
    low = UNKNOWN if each.low is None else _near(each.low)
    high = UNKNOWN if each.high is None else _near(each.high)
    if each.shown:
        interval = f"{low} to {high}"
        claim = f"{first} is better with {low}, {second} with {high}"
    elif each.low is not None:
        interval, claim = f"above {low}", f"{first} is better with {low}; with more, open"
    elif each.high is not None:
        interval, claim = f"below {high}", f"{second} is better with {high}; with fewer, open"
    else:
        interval, claim = "any", "open"
    return second, first, f"about {_near(each.estimate)}", interval, claim


def _forecasts(found: LabelCurves) -> Iterator[Block]:
    known = {name: own for name, own in found.forecasts.items() if isinstance(own, Forecast)}
    others = {name: own for name, own in found.forecasts.items() if isinstance(own, NoForecast)}
    metric = found.metric
    if known:
        ahead = max(own.images for own in known.values())
        yield paragraph(
            f"What more images are likely to bring, for about {_near(ahead)} of a class. A power "
            "law, error = a · n^(−b) + c, is fitted to the figures of all sizes. It is shown "
            "only where, fitted to the smaller sizes, it missed the next by at most half as much "
            "as the last value did, and no further on than was tried so. 95 %: other "
            "seeds and images, and as far off as the law was there."
        )
        yield Table(
            "label_forecasts",
            (found.axis, "images a class", "now", "likely", "95 %", "law", "off", "last value off"),
            tuple(_forecast(name, own, metric) for name, own in known.items()),
            (1, 2, 3, 4, 6, 7),
            terms=(
                ("now", "at the largest size"),
                ("off", "by how much the law missed the largest size, fitted to the others"),
                ("last value off", "by how much the size before it missed that"),
            ),
        )
    reasons = [f"{text}: {named(names)}." for text, names in _reasons(others, metric).items()]
    if reasons:
        yield paragraph(f"No forecast{' for others' if known else ''} of what more images bring:")
        yield Bullets(tuple((reason,) for reason in reasons))


def _forecast(name: str, own: Forecast, metric: Metric) -> tuple[str, ...]:
    law = own.law
    floor = f" + {law.floor:.3g}" if law.floor else ""
    return (
        name,
        _near(own.images),
        number(own.last, metric),
        number(own.figure, metric),
        ends(own.interval, metric),
        f"{law.scale:.3g} · n^(−{law.exponent:.2f}){floor}",
        amount(own.off_law, metric),
        amount(own.off_last, metric),
    )


def _reasons(others: dict[str, NoForecast], metric: Metric) -> dict[str, list[str]]:
    """Why there is none, and for which."""
    found: dict[str, list[str]] = {}
    for name, own in others.items():
        match own.why:
            case "sizes":
                text = "a power law can be tried from four sizes on"
            case "error":
                text = f"its test {metric.label} leaves no error above 0 to fit at every size"
            case "last":
                text = (
                    "fitted to smaller sizes, a power law did not miss the next by at most half as "
                    "much as the last value did, at the largest size and on average"
                )
        off = (
            f" (off by {amount(own.off_law, metric)} at the largest size, the last value by "
            f"{amount(own.off_last, metric)})"
            if own.why == "last"
            else ""
        )
        found.setdefault(text, []).append(f"{name}{off}")
    return found


def _size(size: str, found: LabelCurves) -> str:
    return f"{ALL} ({_near(found.images[size])})" if size == ALL else size


def _near(images: float) -> str:
    return f"{images:,.0f}" if images >= 10 else f"{images:.2g}"
