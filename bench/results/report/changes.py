"""`bench compare`: later runs against a first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import counted
from bench.results.analysis import Change, RunComparison, compare_runs
from bench.results.analysis.crossed import LEAST_SEEDS
from bench.results.folder import read_run
from bench.results.grid import UNKNOWN
from bench.results.metric import Metric
from bench.results.report.answer import amount
from bench.results.report.blocks import Block, Bullets, Heading, Table, paragraph
from bench.results.report.notebook import html
from bench.results.report.wording import (
    difference,
    difference_interval,
    number,
    verdict_word,
)

MAX_DIFFERING = 4


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Each of the runs `after` against the run `before`; a notebook shows them."""

    before: str
    after: tuple[str, ...]
    comparisons: tuple[RunComparison, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The configs that got worse by more than chance, of all comparisons."""
        return tuple(change for each in self.comparisons for change in each.regressions)

    def _repr_html_(self) -> str:
        return html(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        for after, comparison in zip(self.after, self.comparisons, strict=True):
            yield Heading(f"{self.before} → {after}", 3)
            yield paragraph(*about(comparison))
            if comparison.changes:
                metric = comparison.metric
                rows = tuple(_row(change, metric) for change in comparison.changes)
                unit = " %" if metric.percent else ""
                header = ("config", "seeds", f"before{unit}", f"after{unit}", "change", "interval")
                yield Table("changes", (*header, "p", "verdict"), rows, tuple(range(1, 7)))
            left = left_out(comparison)
            if left:
                yield Bullets(tuple((text,) for text in left))
            for what in ("environment", "suite"):
                differences = getattr(comparison, what)
                if differences:
                    cells = tuple((d.name, d.before, d.after) for d in differences)
                    yield Table(what, (f"{what} differs in", "before", "after"), cells)


def compare(before: str | Path, others: Sequence[str | Path]) -> Changes:
    """Compare the run folders; raises `BenchError` if one of them is no run or damaged."""
    first = read_run(before)
    return Changes(
        before=str(before),
        after=tuple(map(str, others)),
        comparisons=tuple(compare_runs(first, read_run(other)) for other in others),
    )


def about(comparison: RunComparison) -> list[str]:
    """What was compared, on what, and what the verdicts mean, in sentences."""
    return list(map(comparison.words, _about(comparison)))


def _about(comparison: RunComparison) -> list[str]:
    metric, known = comparison.metric, comparison.compared
    sentences = []
    if len({each.name for each in comparison.chosen_by}) > 1:
        before, after = (each.label for each in comparison.chosen_by)
        sentences.append(
            f"The first run chose its epochs by {before}, the second by {after}: both are "
            f"compared by {metric.label}."
        )
    sentences += _of_samples(comparison)
    if not comparison.changes:
        return [*sentences, "The runs have no config in common."]
    if not known:
        return [*sentences, f"Nothing can be claimed: {why_nothing(comparison)}."]
    less = "" if metric.higher_is_better else " (less is better)"
    sentences.append(
        f"Test {metric.label}{less}, on the same seeds and test images. Interval and p are "
        f"corrected over {counted(len(comparison.changes), 'config')}."
    )
    compared = (each.comparison for each in known)
    number = max((c.samples for c in compared if c is not None and c.grouped), default=0)
    if number:
        sentences.append(f"Each of {counted(number, 'group')} of test images counts as one sample.")
    if comparison.of_models:
        sentences.append(
            f"With fewer than {LEAST_SEEDS} common seeds only the trained models are compared: of "
            "the configs nothing can be claimed, so no regression either."
        )
        return sentences
    sentences.append(
        "Better or worse: the interval leaves out 0; as good: it lies within "
        f"± {amount(comparison.margin, metric)}; open: neither is shown; same: not one test image "
        "was scored differently."
    )
    return sentences


def _of_samples(comparison: RunComparison) -> Iterator[str]:
    samples = comparison.scores
    if not (samples.before and samples.after):
        return
    if not samples.common:
        yield (
            "The runs have no test image in common, so what they reached cannot be compared: each "
            "figure holds for its own test images."
        )
        return
    if comparison.same_data is False:
        yield (
            "The data of the two runs are not the same (the fingerprints in data.json differ). "
            "Test images count as the same if their names and labels are equal."
        )
    if not samples.common == samples.before == samples.after:
        other = f"; {samples.relabelled} with another label are left out"
        yield (
            f"The first run has {samples.before} test images, the second {samples.after}: the "
            f"{samples.common} that both have are compared"
            f"{other if samples.relabelled else ''}."
        )


def why_nothing(comparison: RunComparison) -> str:
    """The reasons why no config of the runs can be compared."""
    reasons = dict.fromkeys(change.reason for change in comparison.changes if change.reason)
    return "; ".join(reasons) or "they have no config in common"


def left_out(comparison: RunComparison) -> list[str]:
    """The configs that were not joined."""
    found = [
        f"not joined, as it is not clear which belongs to which: {'; '.join(before)} (first), "
        f"{'; '.join(after)} (second)"
        for before, after in comparison.ambiguous
    ]
    for name, labels in (
        ("only in the first", comparison.only_before),
        ("only in the second", comparison.only_after),
    ):
        if labels:
            found.append(f"{name}: {'; '.join(labels)}")
    return found


def config_text(change: Change) -> str:
    """A config with what differs of it: `full_finetune (lr 0.01 → 0.001)`."""
    if not change.differs:
        return change.label
    listed = [f"{each.name} {each.before} → {each.after}" for each in change.differs]
    more = len(listed) - MAX_DIFFERING
    text = ", ".join(listed[:MAX_DIFFERING]) + (f", and {more} more" if more > 0 else "")
    return f"{change.label} ({text})"


def verdict_text(change: Change) -> str:
    """What may be claimed of a config, or why nothing can be."""
    comparison = change.comparison
    if comparison is None:
        return f"{change.judgement}: {change.reason}"
    return change.judgement if change.unchanged else verdict_word(comparison)


def _row(change: Change, metric: Metric) -> tuple[str, ...]:
    comparison = change.comparison
    return (
        config_text(change),
        str(len(change.seeds)),
        number(change.before, metric),
        number(change.after, metric),
        difference(change.after - change.before, metric),
        UNKNOWN if comparison is None else difference_interval(comparison.interval, metric),
        UNKNOWN if comparison is None else f"{comparison.corrected:.2g}",
        verdict_text(change),
    )
