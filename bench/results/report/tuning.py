"""What a search for settings did to the comparison, what it spent, and how it was made.

As everywhere, a sentence claims no more than the analysis supports. Nothing here is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import counted
from bench.results.analysis import (
    LR,
    Budget,
    Comparison,
    Edge,
    Gain,
    Goal,
    Study,
    budgets,
    edges,
    even_studies,
    front,
    gains,
    image_gap,
    overtakings,
    read_goals,
    read_studies,
)
from bench.results.analysis.comparison import MARGIN
from bench.results.analysis.crossed import LEAST_SEEDS
from bench.results.grid import UNKNOWN, is_missing
from bench.results.metric import ACCURACY, Metric
from bench.results.report.answer import amount, named
from bench.results.report.blocks import Block, Bold, Bullets, Heading, Inline, Table, paragraph
from bench.results.report.wording import (
    claim,
    difference,
    difference_interval,
    mean_sd,
    number,
    or_unknown,
)

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Tuning

MAX_FRONT = 40
MAX_ORDERED = 8
UNEQUAL = 0.01
"""Budgets that differ by more than this share are not equal."""

OTHER_OBJECTIVES: Mapping[str, tuple[str, str]] = {
    "val_loss": ("validation loss (nats)", "{:.3g}"),
    "seconds": ("training time (s)", "{:.1f}"),
}
"""Objectives that are no metrics: what they are in words, and the format of a figure."""


def tuning_section(
    tuning: Tuning,
    trials: pd.DataFrame,
    metric: Metric,
    *,
    predictions: pd.DataFrame | None = None,
    margin: float = MARGIN,
) -> Iterator[Block]:
    """The blocks below "Tuning"; `trials` and `predictions` are those of the tuned run.

    `metric` compares them. Without predictions nothing is claimed.
    """
    studies, objectives = read_studies(tuning), read_goals(tuning)
    found = gains(tuning, studies, trials, metric, predictions=predictions, margin=margin)
    known = predictions is not None and tuning.untuned_predictions is not None
    yield Heading("Tuning", 3)
    first, *rest = _outcome(found, metric, margin, known=known)
    yield paragraph(Bold(first), *rest, *_order(found, trials, metric, predictions, margin))
    yield from _evenness(studies, edges(studies))
    yield from _effects(found, metric, margin)
    yield from _fronts(studies, objectives, metric)
    yield from _spent(budgets(studies))
    yield from _method(tuning, studies, objectives, trials, metric)


def tuning_json(tuning: Tuning) -> dict[str, Any]:
    """What `verdict.json` says of the search: the studies that are equally tuned, and why not."""
    studies = read_studies(tuning)
    found = edges(studies)
    return {
        "equally_tuned": _even(studies, found),
        "at_an_edge": [
            {"study": e.study, "setting": e.setting.name, "value": e.value, "side": e.side}
            for e in found
        ],
    }


def tuning_limits(tuning: Tuning) -> list[str]:
    """What the order may still depend on after the search."""
    studies = read_studies(tuning)
    ranges = _ranges(studies)
    if not ranges:
        return ["Settings are those of the suite: another learning rate could change the order."]
    listed = named([f"{name}: {text}" for name, text, _ in ranges])
    limits = [
        f"Settings are the best of a search on validation ({listed}): other ranges, a longer "
        "search or a setting that was not searched could change the order."
    ]
    fixed = [study.name for study in studies if LR not in study.searched]
    if fixed:
        limits.append(
            f"The learning rate was not searched for {named(fixed)}: another one could change "
            "the order."
        )
    return limits


def _outcome(found: Sequence[Gain], metric: Metric, margin: float, *, known: bool) -> Iterator[str]:
    """What tuning changed, and what of it may be claimed."""
    compared = _compared(found)
    if not compared:
        yield f"No study has a test {metric.label} both before and after tuning."
        return
    yield _moved(compared, metric)
    if known:
        yield from _claims(compared, metric, margin)
    elif not all(gain.study.unchanged for gain in compared):
        yield (
            "The folder has no test predictions of the untuned trials, as an earlier version of "
            "bench wrote it: no claim is made about the differences. Run bench tune again with the "
            "same arguments to have them; finished trials are kept."
        )


def _compared(found: Sequence[Gain]) -> list[Gain]:
    return [gain for gain in found if gain.before.n and gain.after.n]


def _moved(compared: Sequence[Gain], metric: Metric) -> str:
    kept = [gain for gain in compared if gain.study.unchanged]
    moved = [gain for gain in compared if not gain.study.unchanged]
    changes = [round(gain.after.mean - gain.before.mean, 12) for gain in moved]
    raised, lowered = sum(c > 0 for c in changes), sum(c < 0 for c in changes)
    up, down = ("raised", raised), ("lowered", lowered)
    (better, gained), (worse, lost) = (up, down) if metric.higher_is_better else (down, up)
    sentence = (
        f"Tuning {better} the mean test {metric.label} of {gained} of {_cells_of(compared)}"
        f"{f' and {worse} it of {lost}' if lost else ''}"
    )
    if kept:
        names = named([gain.study.name for gain in kept])
        sentence += f"; it found nothing better than the suite's own settings for {names}"
    return f"{sentence}."


def _cells_of(compared: Sequence[Gain]) -> str:
    """`4 strategies` where every study has a strategy of its own, else `4 studies`."""
    strategies = {name for gain in compared for name in gain.study.trials["strategy"].head(1)}
    own = len(strategies) == len(compared)
    return counted(len(compared), *(("strategy", "strategies") if own else ("study", "studies")))


def _claims(compared: Sequence[Gain], metric: Metric, margin: float) -> Iterator[str]:
    by_verdict: dict[str, list[str]] = {}
    for gain in compared:
        comparison = gain.comparison
        if gain.study.unchanged:
            continue
        if comparison is None:
            by_verdict.setdefault("nothing", []).append(gain.study.name)
            continue
        text = f"{gain.study.name} ({_evidence(comparison, metric)})"
        verdict = "of models" if comparison.of_models else comparison.verdict
        by_verdict.setdefault(verdict, []).append(text)
    for verdict, words in (
        ("better", "The found settings are better for"),
        ("worse", "The suite's settings are better for"),
        (
            "as_good",
            f"Found and suite's settings are as good, within {amount(margin, metric)}, for",
        ),
        ("open", "It is open which settings are better for"),
        (
            "of models",
            f"With fewer than {LEAST_SEEDS} common seeds nothing can be said about settings for",
        ),
        ("nothing", "There is no common seed with test predictions for"),
    ):
        if verdict in by_verdict:
            yield f"{words} {named(by_verdict[verdict])}."


def _evidence(comparison: Comparison, metric: Metric) -> str:
    effect = metric.points(difference(comparison.difference, metric))
    return f"{effect}, {difference_interval(comparison.interval, metric)}"


def _order(
    found: Sequence[Gain],
    trials: pd.DataFrame,
    metric: Metric,
    predictions: pd.DataFrame | None,
    margin: float,
) -> Iterator[str]:
    """Whether the ranking is another one, and what of that may be claimed."""
    compared = _compared(found)
    if len(compared) < 2:
        return
    before = _groups({gain.study.name: gain.rank_before for gain in compared})
    after = _groups({gain.study.name: gain.rank_after for gain in compared})
    if before == after:
        yield (
            f"The order by mean test {metric.label} is the same before and after: "
            f"{_ordered(after)}."
        )
        return
    yield (
        f"The order by mean test {metric.label} changed: before {_ordered(before)}; after "
        f"{_ordered(after)}."
    )
    swapped = overtakings(compared, trials, metric, predictions=predictions, margin=margin)
    if not swapped:
        return
    pairs = counted(len(swapped), "pair")
    shown = [c for c in swapped if c.verdict == "better"]
    if shown:
        names = [f"{c.first} is better than {c.second} ({_evidence(c, metric)})" for c in shown]
        yield f"Of {pairs} that changed places, after tuning {named(names)}."
    else:
        yield f"Of {pairs} that changed places, it is open after tuning who is better."


def _groups(ranks: Mapping[str, int | None]) -> list[list[str]]:
    """The names by rank, the best first; those that share a rank together."""
    known = sorted({rank for rank in ranks.values() if rank is not None})
    return [[name for name, own in ranks.items() if own == rank] for rank in known]


def _ordered(groups: Sequence[Sequence[str]]) -> str:
    """`a > b = c`."""
    shown = [" = ".join(group) for group in groups[:MAX_ORDERED]]
    return " > ".join([*shown, "…"] if len(groups) > MAX_ORDERED else shown)


def _even(studies: Sequence[Study], found: Sequence[Edge]) -> list[str]:
    """The studies with a best trial that lies at no edge."""
    return even_studies((each.name for each in studies if each.best is not None), found)


def _evenness(studies: Sequence[Study], found: Sequence[Edge]) -> Iterator[Block]:
    """Which studies are equally tuned, what is missing in the others, and what was widened."""
    even = _even(studies, found)
    if even:
        yield paragraph(
            Bold(f"Equally tuned: {named(even)}."),
            "Their best values lie inside of what was searched, with others tried on both sides.",
        )
    if found:
        yield paragraph(
            Bold("Not equally tuned:"),
            "better values may lie beyond what was tried. More trials (bench tune --trials N) "
            "continue the search.",
        )
        yield Bullets(tuple((Bold(edge.study), f"{edge.text}.") for edge in found))
    widened = [
        f"{setting.name} of {study.name} from {setting.asked} to {setting.range_text}"
        for study in studies
        for setting in study.space
        if setting.asked is not None
    ]
    if widened:
        yield paragraph(f"Widened by the search, within the same budget: {named(widened)}.")


def _effects(found: Sequence[Gain], metric: Metric, margin: float) -> Iterator[Block]:
    comparisons = sum(gain.comparison is not None for gain in found)
    yield paragraph(
        f"Test {metric.label}{' in percent' if metric.percent else ''}, mean ± standard deviation "
        "over evaluation seeds, with the suite's own settings and with the found ones. Difference: "
        f"tuned minus untuned{' in points' if metric.percent else ''}"
        f"{'' if metric.higher_is_better else ' (less is better)'}, on the same seeds and test "
        "images, by the test of seeds × images; interval and p are corrected over "
        f"{counted(comparisons, 'study', 'studies')}. As good: the interval lies within ± "
        f"{amount(margin, metric)}. Ranks are by mean test {metric.label} before and after."
    )
    header = ("study", "rank untuned", "rank tuned", "untuned", "tuned", "seeds", "difference")
    yield Table(
        "tuning",
        (*header, "interval", "corrected", "claim", "suite's settings", "found settings"),
        tuple(_effect(gain, metric) for gain in sorted(found, key=_tuned_first)),
        tuple(range(1, 9)),
    )


def _tuned_first(gain: Gain) -> tuple[bool, int]:
    return (gain.rank_after is None, gain.rank_after or 0)


def _effect(gain: Gain, metric: Metric) -> tuple[str, ...]:
    study, comparison = gain.study, gain.comparison
    if comparison is None:
        nothing = "the same settings" if study.unchanged else "nothing to compare"
        figures = (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, nothing)
    else:
        figures = (
            str(len(comparison.seeds)),
            difference(comparison.difference, metric),
            difference_interval(comparison.interval, metric),
            f"{comparison.corrected:.2g}",
            claim(comparison),
        )
    return (
        study.name,
        *(UNKNOWN if rank is None else str(rank) for rank in (gain.rank_before, gain.rank_after)),
        mean_sd(gain.before, metric),
        mean_sd(gain.after, metric),
        *figures,
        _values(study.values_of(study.suite)),
        _values(study.values_of(study.chosen)),
    )


def _values(texts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in texts.items()) or UNKNOWN


def _fronts(
    studies: Sequence[Study], objectives: Sequence[Goal], metric: Metric
) -> Iterator[Block]:
    """Of two objectives, what cannot be bettered in one without losing in the other."""
    if len(objectives) != 2:
        return
    rows: list[tuple[str, ...]] = []
    for study in studies:
        for row in front(study, objectives).to_dict("records"):
            cells = {str(name): value for name, value in row.items()}
            rows.append(
                (
                    study.name,
                    str(row["number"]),
                    *(_objective(each, row[each.name], metric) for each in objectives),
                    _values(study.values_of(cells)),
                    "chosen" if row["number"] == study.best else "",
                )
            )
    if not rows:
        return
    first, second = (_name(objective, metric) for objective in objectives)
    yield Heading("What tuning traded", 3)
    yield paragraph(
        f"The complete trials of each study that no other one beats in both {first} and {second}: "
        f"{'accuracies' if metric.is_accuracy else 'metrics'} and losses are means over tuning "
        "seeds, times their sums. The chosen ones went on to the test split."
    )
    header = ("study", "trial", first, second, "settings", "")
    yield Table("tuning_front", header, tuple(rows[:MAX_FRONT]), (1, 2, 3))
    if len(rows) > MAX_FRONT:
        yield paragraph(f"tuning.parquet has {len(rows) - MAX_FRONT} more.")


def _name(objective: Goal, metric: Metric) -> str:
    """An objective in words."""
    if objective.name in OTHER_OBJECTIVES:
        return OTHER_OBJECTIVES[objective.name][0]
    return f"validation {_measured(objective, metric).axis_label}"


def _objective(objective: Goal, value: float, metric: Metric) -> str:
    if objective.name in OTHER_OBJECTIVES:
        return or_unknown(value, OTHER_OBJECTIVES[objective.name][1])
    return number(value, _measured(objective, metric))


def _measured(objective: Goal, metric: Metric) -> Metric:
    """The metric of an objective that is one."""
    return ACCURACY if objective.name == "val_accuracy" else metric


def _spent(spent: Sequence[Budget]) -> Iterator[Block]:
    yield Heading("What tuning spent", 3)
    yield paragraph(*_equality(spent))
    failed = any(each.failed for each in spent)
    wasted = ("of failed trials",) if failed else ()
    header = ("study", "trials", "complete", "pruned", "failed", "training images", *wasted)
    rows = tuple(
        (
            each.study,
            *(str(n) for n in (each.trials, each.complete, each.pruned, each.failed)),
            f"{each.images:,}",
            *((f"{each.failed_images:,}",) if failed else ()),
            f"{each.seconds:.1f}",
        )
        for each in spent
    )
    yield Table("tuning_budget", (*header, "training s"), rows, tuple(range(1, len(header) + 1)))


def _equality(spent: Sequence[Budget]) -> Iterator[Inline]:
    """Whether the studies spent the same in the trials that count, and what failed."""
    gap = image_gap(spent)
    if len(spent) < 2:
        yield "One study was made."
    elif gap <= UNEQUAL:
        yield (
            "The studies had equal budgets: the training images of complete and pruned trials "
            f"differ by {100 * gap:.1f} %."
        )
    else:
        most = max(spent, key=lambda budget: budget.images)
        least = min(spent, key=lambda budget: budget.images)
        yield Bold(
            f"The studies did not spend the same: {most.study} processed {most.images:,} training "
            f"images in trials that did not fail, {least.study} {100 * gap:.1f} % fewer, so the "
            "search may favour the former."
        )
    failed = [budget for budget in spent if budget.failed]
    if failed:
        names = [f"{each.study} {each.failed} of {each.trials}" for each in failed]
        yield f"Failed trials gave the search no information: {named(names)}."


def _method(
    tuning: Tuning,
    studies: Sequence[Study],
    objectives: Sequence[Goal],
    trials: pd.DataFrame,
    metric: Metric,
) -> Iterator[Block]:
    about = tuning.description
    budget = ", ".join(f"{amount:,.10g} {unit}" for unit, amount in about["budget"].items())
    goals = [f"{'highest' if o.maximize else 'lowest'} {_name(o, metric)}" for o in objectives]
    items: list[tuple[Inline, ...]] = [
        (Bold("objective:"), f"{' and '.join(goals)}, over all tuning seeds"),
        (Bold("sampler:"), str(about["sampler"])),
        (Bold("pruner:"), str(about["pruner"])),
        (Bold("budget of each study:"), budget or UNKNOWN),
        *_widening(about.get("widen")),
        (Bold("tuning seeds:"), _seeds(about["seeds"], trials)),
        (Bold("test split:"), "it was not read while tuning, only by the trials compared above"),
    ]
    yield Heading("How it was tuned", 3)
    yield Bullets(tuple(items))
    rows = tuple(_ranges(studies))
    if rows:
        yield Table("tuning_space", ("setting", "searched", "studies"), rows)


def _widening(times: int | None) -> list[tuple[Inline, ...]]:
    """Nothing of folders of earlier versions, which did not widen."""
    if times is None:
        return []
    often = "once" if times == 1 else f"{times} times"
    told = f"an end of a range moved at most {often}" if times else "ranges stayed as they were"
    return [(Bold("widening:"), f"{told}, within the budget" if times else told)]


def _seeds(seeds: Sequence[int], trials: pd.DataFrame) -> str:
    listed = ", ".join(map(str, seeds)) or UNKNOWN
    both = sorted(set(seeds) & {int(seed) for seed in trials["seed"] if not is_missing(seed)})
    if both:
        shared = ", ".join(map(str, both))
        return f"{listed}; evaluated on too: {shared}, so the tuned figures are too good"
    return f"{listed}; none of them is evaluated on"


def _ranges(studies: Sequence[Study]) -> list[tuple[str, str, str]]:
    """Each setting with each range of it that was searched, and the studies that did."""
    found: dict[tuple[str, str], list[str]] = {}
    for study in studies:
        for setting in study.space:
            found.setdefault((setting.name, setting.range_text), []).append(study.name)
    return [
        (name, text, "all" if len(names) == len(studies) else "; ".join(names))
        for (name, text), names in found.items()
    ]
