"""The report's sections on texts: accuracy by length, and what is most confidently wrong."""

from __future__ import annotations

from collections.abc import Iterator

from bench.errors import counted
from bench.results.analysis import confident_mistakes
from bench.results.analysis.by_length import LengthFigures, length_figures
from bench.results.analysis.choice import Choice
from bench.results.analysis.crossed import LEAST_SEEDS
from bench.results.analysis.scores import folds_of
from bench.results.folder import Run
from bench.results.folder.inputs import SEPARATOR, read_inputs
from bench.results.folder.texts import LeftOut, ShownText, TestTexts, read_texts
from bench.results.grid import Grid
from bench.results.metric import ACCURACY
from bench.results.report.blocks import (
    Block,
    Bold,
    Bullets,
    Heading,
    Inline,
    Quote,
    Table,
    paragraph,
)
from bench.results.report.wording import ends, number


def texts_sections(run: Run, grid: Grid, choice: Choice, whose: str) -> Iterator[Block]:
    """The blocks on texts, of the trials of a choice; nothing of a run of anything else."""
    texts = read_texts(run.folder)
    if texts is None:
        return
    yield from _by_length(run, texts, choice, whose)
    yield from _wrong(run, grid, texts)


def _by_length(run: Run, texts: TestTexts, choice: Choice, whose: str) -> Iterator[Block]:
    folds = folds_of(run) is not None
    found = length_figures(
        run.judged, choice.trials, texts.tokens, frozenset(texts.cut), of_models=folds
    )
    if not found:
        return
    few = folds or len(choice.trials) < LEAST_SEEDS
    others = "these models on other texts" if few else "other seeds and texts"
    unit = _unit(run, texts.trial)
    cut = (
        f" Of {counted(len(texts.cut), 'text')} it sees only the first {texts.most:,} "
        f"{unit}; max_length sees more."
        if texts.cut
        else ""
    )
    yield Heading("By length", 3)
    yield paragraph(
        f"Of {whose}, on the test split, in percent; texts are parted at the quartiles of their "
        f"lengths, in {unit} as the network gets them.{cut} 95 %: the interval of each figure "
        f"alone, for {others}."
    )
    rows = tuple(map(_length_row, found))
    yield Table("by_length", (unit, "texts", "accuracy", "95 %"), rows, (1, 2, 3))


def _unit(run: Run, trial: str) -> str:
    """What the trial reads texts in."""
    backbone = run.trials.loc[run.trials["trial"] == trial, "backbone"].iloc[0]
    users = f"{backbone}{SEPARATOR}"
    of_trial = (rule for rule in read_inputs(run) if any(u.startswith(users) for u in rule.used_by))
    return next((rule.unit for rule in of_trial), "tokens")


def _length_row(each: LengthFigures) -> tuple[str, ...]:
    alike = each.shortest == each.longest
    span = f"{each.shortest:,}" if alike else f"{each.shortest:,} to {each.longest:,}"
    return (
        f"more than {each.longest:,}" if each.cut else span,
        f"{each.texts:,}",
        number(each.accuracy.value, ACCURACY),
        ends(each.accuracy.interval, ACCURACY),
    )


def _wrong(run: Run, grid: Grid, texts: TestTexts) -> Iterator[Block]:
    """The texts that the trial which wrote them is most confidently wrong about."""
    own = run.trials[run.trials["trial"] == texts.trial]
    count = len(texts.tokens)
    mistakes = {
        each.sample: each for each in confident_mistakes(run.judged, [texts.trial], count=count)
    }
    shown = [each for each in texts.shown if each.sample in mistakes]
    if not shown or own.empty:
        return
    label = grid.trial_label({str(k): v for k, v in own.iloc[0].to_dict().items()})
    yield Heading("Most confidently wrong", 3)
    counts = (
        " Behind each stands what counts most: by how many points the probability of the predicted "
        "class falls where a word is left out (with a minus: by how many it rises). Where a text "
        "has many words, several are left out together."
        if any(each.parts for each in shown)
        else ""
    )
    yield paragraph(
        f"The test texts that {label} is most confidently wrong about, of "
        f"{counted(len(mistakes), 'mistake')}.{counts} Look whether the text or its "
        "label is wrong before anything else."
    )
    items: list[tuple[Inline, ...]] = []
    for each in shown:
        own_mistake = mistakes[each.sample]
        sure = f"{ACCURACY.number(own_mistake.confidence)} %"
        about = f"{own_mistake.label}, taken for {own_mistake.predicted} ({sure}):"
        quoted = (Quote(f"“{each.text}”"), *_counting(each), Quote(f"({each.sample})"))
        items.append((Bold(about), *quoted))
    yield Bullets(tuple(items))


def _counting(each: ShownText) -> Iterator[Inline]:
    if each.parts:
        yield Quote(f"[{'; '.join(map(_part, each.parts))}]")


def _part(each: LeftOut) -> str:
    return f"{each.part} {100 * each.falls:+.2g}"
