"""The report's section "Transfer scores": what was told of the backbones before any training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from bench.errors import counted
from bench.methods.transfer_scores import TRANSFER_SCORES
from bench.results.analysis.transfer_scores import BackboneScores, RunScores, run_scores
from bench.results.folder import Run
from bench.results.folder.transfer_scores import FILE
from bench.results.grid import UNKNOWN
from bench.results.metric import Metric
from bench.results.report.answer import named
from bench.results.report.blocks import Block, Bold, Bullets, Heading, Table, paragraph
from bench.results.report.wording import number

MAX_ROWS = 200
MAX_REASONS = 20


def transfer_scores_section(run: Run) -> Iterator[Block]:
    """The blocks of a run whose backbones have scores; of others nothing."""
    found = run_scores(run)
    if found is None:
        return
    yield Heading("Transfer scores", 3)
    most = max(each.samples for each in found.backbones)
    if most:
        yield paragraph(
            "How well each backbone may suit the data, from one pass of "
            f"{counted(most, 'training image')} through its frozen weights: the larger, the "
            "better. Scores rank backbones and predict no figure. No score is better than another "
            "in general, and a ranking by the size of the backbones is often as good. Of what "
            "flows into the head, and of the classifier of the weights:"
        )
        yield _by_backbone(found, run)
        yield from _by_group(found)
    yield from _reasons(found)
    yield from _correlations(found, run)


def _by_backbone(found: RunScores, run: Run) -> Table:
    """The scores that backbones are ranked by, beside their results where these are known."""
    metric = run.metric
    shown = [n for n in TRANSFER_SCORES if any(e.final(n) is not None for e in found.backbones)]
    known = any(each.result is not None for each in found.backbones)
    rows = tuple(
        (
            each.name,
            *(_number(each.final(name)) for name in shown),
            *((_result(each, metric),) if known else ()),
        )
        for each in found.backbones
    )
    reached = f"test {metric.axis_label}"
    header = ("backbone", *_titles(shown), *((reached,) if known else ()))
    of_result = (reached, "of its best config on validation, mean over seeds")
    terms = (*_terms(shown), *((of_result,) if known else ()))
    return Table("transfer_scores", header, rows[:MAX_ROWS], tuple(range(1, len(header))), terms)


def _by_group(found: RunScores) -> Iterator[Block]:
    """Scores of what flows out of each layer group; they compare within a column."""
    of_features = [name for name, own in TRANSFER_SCORES.items() if own.of == "features"]
    shown = [name for name in of_features if any(each.has(name) for each in found.backbones)]
    rows = tuple(
        (each.name, group, *(_number(own.get(name)) for name in shown))
        for each in found.backbones
        for group, own in each.values.items()
        if any(name in own for name in shown)
    )
    if len(rows) <= len(found.backbones):
        return
    yield paragraph(
        "Of what flows out of each layer group, from input to output; scores compare within a "
        "column only:"
    )
    yield Table(
        "transfer_scores_by_group",
        ("backbone", "layer group", *_titles(shown)),
        rows[:MAX_ROWS],
        tuple(range(2, 2 + len(shown))),
        _terms([n for n in shown if all(e.final(n) is None for e in found.backbones)]),
    )
    if len(rows) > MAX_ROWS:
        yield paragraph(f"{counted(len(rows) - MAX_ROWS, 'more row')} in {FILE}.")


def _titles(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(TRANSFER_SCORES[name].title for name in names)


def _terms(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((TRANSFER_SCORES[name].title, TRANSFER_SCORES[name].meaning) for name in names)


def _result(each: BackboneScores, metric: Metric) -> str:
    return UNKNOWN if each.result is None else number(each.result, metric)


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4g}"


def _reasons(found: RunScores) -> Iterator[Block]:
    """Why scores are missing, each reason once."""
    missing: dict[tuple[str, str], list[str]] = {}
    for each in found.backbones:
        for (score, reason), groups in each.reasons.items():
            where = f" ({', '.join(groups)})" if each.has(score) else ""
            missing.setdefault((TRANSFER_SCORES[score].title, reason), []).append(
                f"{each.name}{where}"
            )
    if not missing:
        return
    yield paragraph("What has no score:")
    items = ((Bold(f"{title}, {named(own)}:"), why) for (title, why), own in missing.items())
    yield Bullets(tuple(islice(items, MAX_REASONS)))


def _correlations(found: RunScores, run: Run) -> Iterator[Block]:
    if not found.correlations:
        return
    ordered = sorted(found.correlations.items(), key=lambda item: -item[1])
    told = [f"{TRANSFER_SCORES[name].title} {tau:+.2f}" for name, tau in ordered]
    yield paragraph(
        f"Whether they ranked the {found.ranked} backbones of this run as their results do (test "
        f"{run.metric.label} of each one's best config on validation; scores of what flows into "
        f"the head): weighted Kendall τ of {', '.join(told)}. 1 is the same order, −1 the reverse, "
        "and a disagreement about the best ones weighs most. With so few backbones this is no "
        "evidence for or against a score."
    )
