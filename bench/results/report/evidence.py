"""What a run found, as blocks: comparisons, rankings, how training went, figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bench.errors import counted
from bench.results.analysis import (
    COSTS,
    Comparison,
    LabelCurves,
    Verdict,
    natural_target,
    pareto_front,
    reached_target,
    read_label_curves,
    read_verdict,
    sample_of,
    trial_measures,
    variance_shares,
    wilson_interval,
)
from bench.results.analysis.by_class import share_interval
from bench.results.analysis.crossed import LEAST_GROUPS, LEAST_SEEDS
from bench.results.analysis.folds import fold_variances
from bench.results.analysis.label_free import LabelFreeChoices, label_free_choices
from bench.results.analysis.label_sizes import sizes_of
from bench.results.analysis.test_sets import TestSets, read_test_sets
from bench.results.folder import Run, Tuning, read_tuning
from bench.results.grid import (
    UNKNOWN,
    ConfigResult,
    Grid,
    complete_trials,
    is_missing,
    rank_configs,
    read_grid,
    spread,
)
from bench.results.metric import ACCURACY, LOSS, Metric
from bench.results.plots import INPUTS, LABEL_CURVES, MAX_TRIAL_FIGURES, TRIAL_PREFIX, caption
from bench.results.report.answer import Line, amount, answer, named, verdict_json
from bench.results.report.blocks import (
    Block,
    Bullets,
    Details,
    Heading,
    Link,
    Picture,
    Table,
    paragraph,
)
from bench.results.report.children import children_section
from bench.results.report.doubts import doubts
from bench.results.report.label_curves import label_curves_section
from bench.results.report.label_free import label_free_json, label_free_section
from bench.results.report.over_fitting import over_fitting_section
from bench.results.report.predictions import predictions_sections
from bench.results.report.selection_bias import selection_bias_section
from bench.results.report.split_check import split_check_section
from bench.results.report.test_sets import test_sets_json, test_sets_section
from bench.results.report.transfer_scores import transfer_scores_section
from bench.results.report.tuning import tuning_json, tuning_section
from bench.results.report.wording import (
    claim,
    difference,
    difference_interval,
    ends,
    mean,
    mean_sd,
    number,
    or_unknown,
    verdict_word,
)
from bench.results.sample_words import SampleWords, words_of

LEAST_SHARE = 0.005
MAX_PAIRS = 45
MAX_RANKED = 100


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A run with what is computed from it once for all forms of report."""

    run: Run

    @cached_property
    def grid(self) -> Grid:
        return read_grid(self.run.trials, self.run.metric)

    @cached_property
    def results(self) -> Sequence[ConfigResult]:
        return rank_configs(self.run.trials, self.grid)

    @cached_property
    def verdict(self) -> Verdict:
        return read_verdict(self.run)

    @cached_property
    def label_curves(self) -> LabelCurves | None:
        """Figures by the number of training images; None of a run that does not vary it."""
        return read_label_curves(self.run) if sizes_of(self.grid) else None

    @cached_property
    def test_sets(self) -> TestSets | None:
        """Figures on each of several test sets; None of a run with one test split."""
        return read_test_sets(self.run)

    @cached_property
    def label_free(self) -> LabelFreeChoices | None:
        """What is said without labels; None of a run without target data."""
        return label_free_choices(self.run, self.grid)

    @cached_property
    def lines(self) -> list[Line]:
        """The verdict in words."""
        found = answer(
            self.verdict,
            self.grid,
            doubts=doubts(self.run, self.verdict, self.tuning, self.test_sets),
        )
        return [replace(line, text=self.words(line.text)) for line in found]

    @cached_property
    def words(self) -> SampleWords:
        """What its samples are called."""
        return words_of(self.run)

    @cached_property
    def verdict_json(self) -> dict[str, Any]:
        """The content of `verdict.json`."""
        found = verdict_json(self.verdict, self.lines)
        if self.test_sets is not None:
            found["test_sets"] = test_sets_json(self.test_sets)
        if self.label_free is not None:
            found["label_free"] = label_free_json(self.label_free, self.grid)
        if self.tuning is not None:
            found["tuning"] = tuning_json(self.tuning)
        return found

    @cached_property
    def tuning(self) -> Tuning | None:
        """The search for the settings of the run; None if they were not searched."""
        return read_tuning(self.run.folder)


def evidence(found: Findings, targets: Mapping[str, str]) -> Iterator[Block]:
    """The blocks below "Evidence"; `targets` are the figures' files by name."""
    metric = found.run.metric
    captions = {name: caption(name, metric) for name in targets}
    pictures = [Picture(name, about, targets[name]) for name, about in captions.items() if about]
    yield from (picture for picture in pictures if picture.name == metric.test)
    if found.verdict.comparisons:
        yield from _pairs(found.verdict)
    if found.verdict.folds:
        yield from _folds(found)
    if found.test_sets is not None:
        yield from test_sets_section(found.test_sets, found.verdict)
    if found.label_curves is not None:
        own = next((picture for picture in pictures if picture.name == LABEL_CURVES), None)
        yield from label_curves_section(found.label_curves, own)
    if found.tuning is not None:
        yield from tuning_section(
            found.tuning,
            found.run.trials,
            metric,
            predictions=found.run.judged,
            margin=found.verdict.margin,
        )
    yield from children_section(found.run, found.grid, found.verdict)
    if found.results:
        yield from _ranking(found)
        yield from _metrics(found)
    yield from predictions_sections(found.run, found.grid, found.verdict)
    yield from _training(found)
    yield from over_fitting_section(found.run, found.grid)
    yield from selection_bias_section(found.run, found.grid, found.verdict)
    yield from split_check_section(found.run)
    if found.label_free is not None:
        yield from label_free_section(found.label_free, found.grid)
    yield from transfer_scores_section(found.run)
    yield from _shares(found)
    yield from _fronts(found)
    placed = (metric.test, INPUTS, LABEL_CURVES)
    shown = [picture for picture in pictures if picture.name not in placed]
    if shown:
        yield Heading("Figures", 3)
        yield from shown
    yield from _single_trials(found, targets)


def _pairs(found: Verdict) -> Iterator[Block]:
    shown = list(found.comparisons)
    if len(shown) > MAX_PAIRS and found.recommended is not None:
        shown = list(found.rivals.values())
    metric = found.metric
    yield Heading("Each against each", 3)
    yield paragraph(
        f"Differences of test {metric.label}{' in points' if metric.percent else ''}, first minus "
        f"second{'' if metric.higher_is_better else ' (less is better)'}, on the same seeds and "
        f"test images. {_test_in_words(found)}"
    )
    choice = _choice_in_words(found)
    if choice:
        yield paragraph(choice)
    header = ("first", "second", "difference", "interval", "p", "corrected", "ahead", "seeds")
    yield Table(
        "pairs",
        (*header, "claim"),
        tuple(_pair(found, comparison) for comparison in shown),
        tuple(range(2, len(header))),
        terms=(
            _interval_term(found),
            (
                "p",
                "how often two equal ones would differ as much by chance, for one pair and one "
                "look",
            ),
            (
                "corrected",
                "the same, corrected for all pairs and looks: a difference is claimed below 0.05",
            ),
            ("ahead", "the share of seeds in which the first is ahead"),
        ),
    )
    if len(shown) < len(found.comparisons):
        yield paragraph(f"Only pairs with {found.recommended} are shown.")


def _test_in_words(found: Verdict) -> str:
    number = counted(len(found.comparisons), "pair")
    if found.size is not None:
        number += ", with half of the error for this size and half for all others"
    looks = f", and over {found.look} looks at this run" if found.look > 1 else ""
    of = "groups of images" if found.groups else "images"
    crossed = (
        f"The test is that of seeds × {of} (many readers, many cases: Dorfman, Berbaum and Metz, "
        "1992), with the luck of training judged from all pairs together; corrected after "
        f"Bonferroni over {number}{looks}.{_groups_in_words(found)}"
    )
    if found.folds:
        return (
            "The test is the corrected resampled t test over folds (Nadeau and Bengio, 2003); "
            f"corrected after Bonferroni over {number}{looks}."
        )
    if all(c.of_models for c in found.comparisons):
        return (
            f"With fewer than {LEAST_SEEDS} seeds only the trained models are compared, on their "
            f"test images (with one seed by McNemar's exact test); corrected over {number}{looks}."
            if not found.groups
            else f"groups of test images (Student's t); corrected over {number}{looks}."
            f"{_groups_in_words(found)}"
        )
    return crossed


def _groups_in_words(found: Verdict) -> str:
    """What counts as a sample, where images come in groups."""
    if not found.groups:
        return ""
    text = (
        f" Each of {counted(found.groups, 'group')} of test images counts as one sample, as the "
        "images of a group are not independent."
    )
    if any(each.few_groups for each in found.comparisons):
        text += (
            f" From fewer than {LEAST_GROUPS}, or if one has more than half of the images, nothing "
            "is claimed about others."
        )
    return text


def _pair(found: Verdict, comparison: Comparison) -> tuple[str, ...]:
    """A row of the table."""
    metric = found.metric
    return (
        comparison.first,
        comparison.second,
        difference(comparison.difference, metric),
        difference_interval(comparison.interval, metric),
        f"{comparison.p:.2g}",
        f"{comparison.corrected:.2g}",
        f"{100 * comparison.improvement:.0f} %" if comparison.seeds else UNKNOWN,
        str(len(comparison.seeds)),
        claim(comparison),
    )


def _choice_in_words(found: Verdict) -> str:
    """By which of its configs a value counts, and how far the seeds agree on one."""
    several = [
        (each.name, choice)
        for each in found.contenders
        for choice in each.choices.values()
        if choice.candidates > 1 and len(choice.configs) > 1
    ]
    if not several:
        return ""
    differing: dict[str, list[int]] = {}
    for name, choice in several:
        if choice.agreeing < len(choice.configs):
            counts = differing.setdefault(name, [0, 0])
            counts[0] += len(choice.configs) - choice.agreeing
            counts[1] += len(choice.configs)
    where = named([f"{few} of {all_} of {name}" for name, (few, all_) in differing.items()])
    agreed = f"except in these seeds: {where}" if differing else "in every seed"
    return (
        f"If a {found.axis} has several configs, each seed counts with the config that the other "
        f"seeds choose on validation, so that its own luck does not choose. That is the config "
        f"that all seeds together choose {agreed}."
    )


def _folds(found: Findings) -> Iterator[Block]:
    """What drawing the folds and trainings anew moves, apart from what the folds of a seed do."""
    verdict, metric = found.verdict, found.run.metric
    figures = found.run.trials.set_index("trial")[metric.test]
    rows = []
    for each in verdict.contenders:
        for block, choice in each.choices.items():
            values = np.array([figures.loc[list(trials)] for trials in choice.trials.values()])
            variances = fold_variances(values)
            spreads = (math.sqrt(variances.seeds), math.sqrt(variances.folds))
            where = f"{each.name} · {block}" if block else each.name
            rows.append((where, *(number(sd, metric) for sd in spreads)))
    yield Heading("Seeds and folds", 3)
    yield paragraph(
        f"Standard deviations of test {metric.label}{' in points' if metric.percent else ''}. "
        "Between seeds: of the mean over all images, when folds, head and order are drawn again. "
        "Between folds: of the folds of one seed, each tested on its own few images. The folds of "
        "a seed share most of their training images and all seeds share all images, so neither "
        "says how far other images would move the figure; the test does."
    )
    yield Table("folds", (verdict.axis, "between seeds", "between folds"), tuple(rows), (1, 2))


def standing(found: Verdict) -> Iterator[Block]:
    """The one table of the answer: every value of the leading axis against the recommended one."""
    metric = found.metric
    if not found.contenders:
        return
    rivals = found.rivals
    name = found.recommended
    versus = (f"minus {name}", "interval", "verdict") if rivals else ()
    header = (found.axis, metric.axis_label, "95 %", *versus, "val", *_COSTS.values())
    rows = []
    for each in found.contenders:
        own = rivals.get(each.name)
        cells: tuple[str, ...] = ()
        if rivals and own is None:
            cells = ("", "", "recommended" if each.name == name else "")
        elif own is not None:
            seen = own.turned()
            cells = (
                difference(seen.difference, metric),
                difference_interval(seen.interval, metric),
                verdict_word(seen),
            )
        rows.append(
            (
                each.name,
                number(each.figure, metric),
                ends(each.interval, metric),
                *cells,
                number(each.val, metric),
                *(_cost_text(each.costs.get(cost, math.nan)) for cost in _COSTS),
            )
        )
    terms = [("95 %", f"where the {metric.label} lies for {_others(found)}, in 95 of 100 runs")]
    if rivals:
        within = amount(found.margin, metric)
        terms += [
            _interval_term(found),
            (
                "verdict",
                "better or worse: the interval leaves out 0; as good: it lies within "
                f"± {within}; open: neither is shown",
            ),
        ]
    terms += [
        ("val", "on the validation split, which chooses"),
        ("time (s)", "of one training and its validations"),
        ("parameters", "those that train"),
        ("memory (MiB)", "its peak in one training"),
    ]
    places = {index for index in range(1, len(header)) if header[index] != "verdict"}
    yield Table("standing", header, tuple(rows), tuple(sorted(places)), terms=tuple(terms))


def _others(found: Verdict) -> str:
    """For what else figures hold: with few seeds they are those of the trained models."""
    images = "groups of images" if found.groups else "images"
    return f"other {images}" if _of_models(found) else f"other seeds and {images}"


def _interval_term(found: Verdict) -> tuple[str, str]:
    whose = "of these models " if _of_models(found) else ""
    return (
        "interval",
        f"where the difference {whose}lies for {_others(found)}, in 95 of 100 runs for all pairs "
        "at once",
    )


def _of_models(found: Verdict) -> bool:
    few = (len(each.seeds) < LEAST_SEEDS for each in found.contenders)
    return not found.folds and any(few)


_COSTS = {
    "train_seconds": "time (s)",
    "trainable_params": "parameters",
    "peak_memory_mib": "memory (MiB)",
}


def _cost_text(value: float) -> str:
    if is_missing(value):
        return UNKNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ranking(found: Findings) -> Iterator[Block]:
    axes, metric = found.grid.varying, found.run.metric
    fixed = [f"{axis} {v[0]}" for axis, v in found.grid.axes.items() if len(v) == 1]
    yield Heading("Ranking", 3)
    yield paragraph(f"The same for all: {', '.join(fixed)}.")
    figures_of = "Accuracies" if metric.is_accuracy else metric.capital
    single = ""
    if metric.is_accuracy:
        by = "groups of test images" if found.verdict.groups else "test images (Wilson)"
        single = f", of a single seed by its {by}"
    yield paragraph(
        f"{figures_of}{' in percent' if metric.percent else ''}, mean ± standard deviation over "
        f"seeds; test {metric.label} at the epoch that validation chose (best epoch), last: after "
        f"the last epoch. 95 %: interval of the mean over seeds (Student's t){single}. IQM: "
        "interquartile mean. time (s): mean of a training, in seconds."
    )
    figures = ("seeds", "test", "95 %", "median", "IQM", "val", "best epoch", "last", "time (s)")
    header = ("rank", *axes, *figures)
    rows = tuple(
        (
            UNKNOWN if result.rank is None else str(result.rank),
            *(result.cell[axis] for axis in axes),
            str(result.test.n),
            mean_sd(result.test, metric),
            *_centres(found, result),
            mean(result.val, metric),
            _epochs(result.best_epochs),
            mean(result.last_test, metric),
            or_unknown(result.train_seconds.mean, "{:.1f}"),
        )
        for result in found.results[:MAX_RANKED]
    )
    yield Table("ranking", header, rows, (0, *range(len(axes) + 1, len(header))))
    if len(found.results) > MAX_RANKED:
        yield paragraph(
            f"{counted(len(found.results) - MAX_RANKED, 'more config')} in trials.parquet."
        )


def _centres(found: Findings, result: ConfigResult) -> tuple[str, str, str]:
    """The interval, median and interquartile mean of the test figures."""
    complete, metric = complete_trials(found.run.trials), found.run.metric
    sample = sample_of(complete.loc[complete["config"] == result.config, metric.test])
    interval = sample.interval
    images = found.run.images("test")
    if sample.n == 1 and images and metric.is_accuracy:
        rows = found.run.judged
        if "group" in rows:
            of_config = complete.loc[complete["config"] == result.config, "trial"]
            rows = rows[rows["trial"].isin(of_config)]
            hits = (rows["label"] == rows["predicted"]).to_numpy(bool)
            interval = share_interval(rows, hits, np.ones_like(hits))
        else:
            interval = wilson_interval(round(sample.mean * images), images)
    return (
        ends(interval, metric),
        number(sample.median, metric),
        number(sample.interquartile_mean, metric),
    )


def _metrics(found: Findings) -> Iterator[Block]:
    """All that was measured on the test split, beside the metric that configs rank by."""
    metrics, axes = found.run.metrics, found.grid.varying
    if len(metrics) < 2:
        return
    chosen = metrics[0]
    yield Heading("All metrics", 3)
    yield paragraph(
        "On the test split, mean ± standard deviation over seeds. Every trial stands at the epoch "
        f"with the {chosen.best} validation {chosen.label}, by which the configs rank. "
        f"Less is better: "
        f"{', '.join(each.label for each in metrics if not each.higher_is_better) or 'of none'}."
    )
    columns = {
        metric: complete_trials(found.run.trials).groupby("config")[metric.test]
        for metric in metrics
    }
    by_config = {metric: dict(list(groups)) for metric, groups in columns.items()}
    rows = tuple(
        (
            *(result.cell[axis] for axis in axes),
            *(mean_sd(spread(by_config[each][result.config]), each) for each in metrics),
        )
        for result in found.results[:MAX_RANKED]
    )
    header = (*axes, *(metric.axis_label for metric in metrics))
    yield Table("metrics", header, rows, tuple(range(len(axes), len(header))))


def _training(found: Findings) -> Iterator[Block]:
    """How fast the configs learned and what they lost on the way."""
    run, axes, metric = found.run, found.grid.varying, found.run.metric
    target = natural_target(run.trials, metric)
    if is_missing(target) or run.curves.empty:
        return
    goal = f"{100 * target:.3g} %" if metric.percent else f"{target:.3g}"
    units = " In percent and points." if metric.percent else ""
    yield Heading("How they trained", 3)
    yield paragraph(
        f"To {goal}: in how many trials validation {metric.label} reached it, and after how many "
        "epochs, training images and seconds (medians; a trial that never reached it counts as "
        f"longest, so – where half of them did not). The rest are means over seeds. Mean val: "
        f"validation {metric.label} averaged over all epochs. Gap: {_gap_words(metric)}. Late: "
        f"test {metric.label} at the chosen epoch minus after the last one.{units}"
    )
    measures = trial_measures(run, target=target)
    means, reached = measures.groupby("config").mean(), reached_target(measures)
    figures = (f"to {goal}", "epochs", "images", "s", "mean val", "gap", "late")
    rows = tuple(
        (
            *(result.cell[axis] for axis in axes),
            "{reached} of {trials}".format(**reached.loc[result.config, ["reached", "trials"]]),
            _until(reached["epochs"][result.config], "{:.0f}"),
            _until(reached["images"][result.config], "{:,.0f}"),
            _until(reached["seconds"][result.config], "{:.1f}"),
            number(means["area"][result.config], metric),
            difference(
                means["overfitting"][result.config], ACCURACY if metric.of_classes else LOSS
            ),
            difference(means["late_loss"][result.config], metric),
        )
        for result in found.results[:MAX_RANKED]
    )
    numbers = tuple(range(len(axes), len(axes) + len(figures)))
    yield Table("training", (*axes, *figures), rows, numbers)


def _gap_words(metric: Metric) -> str:
    if not metric.of_classes:
        return "validation minus training loss after the last epoch"
    points = "" if metric.is_accuracy else ", in points"
    return f"training minus validation accuracy after the last epoch{points}"


def _until(value: float, form: str) -> str:
    return UNKNOWN if math.isinf(value) else or_unknown(value, form)


def _shares(found: Findings) -> Iterator[Block]:
    effects = [e for e in variance_shares(found.run.trials, found.grid) if e.share >= LEAST_SHARE]
    if not effects or not found.grid.keys:
        return
    yield Heading(f"What moves test {found.run.metric.label}", 3)
    yield paragraph("Share of the variance over all trials that an axis explains, or two together.")
    rows = tuple(
        (" × ".join(e.axes), *(f"{100 * share:z.1f}" for share in (e.share, e.seen, e.chance)))
        for e in effects
    )
    yield Table(
        "variance",
        ("axis", "percent", "as seen", "by chance"),
        rows,
        (1, 2, 3),
        terms=(
            ("percent", "what is beyond noise (ω²)"),
            ("as seen", "with what noise adds (η²)"),
            ("by chance", "what noise alone is expected to give"),
        ),
    )


def _fronts(found: Findings) -> Iterator[Block]:
    """What nothing else beats at lower cost."""
    known = [result for result in found.results if result.rank is not None]
    metric, sign = found.run.metric, found.run.metric.sign
    means = complete_trials(found.run.trials).groupby("config")[list(COSTS)].mean()
    items = []
    for column, name in COSTS.items():
        costs = {
            result.config: float(means[column][result.config])
            for result in known
            if not is_missing(means[column][result.config])
        }
        if len(set(costs.values())) < 2:
            continue
        priced = [result for result in known if result.config in costs]
        front = pareto_front([sign * r.test.mean for r in priced], list(costs.values()))
        best = [r.label for r, kept in zip(priced, front, strict=True) if kept]
        unknown = [result.label for result in known if result.config not in costs]
        left_out = f" (left out, since it is not known: {named(unknown)})" if unknown else ""
        items.append((f"for {name}: {named(best)}{left_out}",))
    if items:
        better = "more accurate" if metric.is_accuracy else f"{metric.ahead} in {metric.label}"
        yield paragraph(f"No other config is both {better} (by its mean) and cheaper:")
        yield Bullets(tuple(items))


def _single_trials(found: Findings, targets: Mapping[str, str]) -> Iterator[Block]:
    complete = complete_trials(found.run.trials)
    if complete.empty:
        return
    metric = found.run.metric
    rows: list[tuple[str | Link, ...]] = []
    for row in complete.head(MAX_TRIAL_FIGURES).to_dict("records"):
        name = str(row["trial"])
        target = targets.get(TRIAL_PREFIX + name)
        rows.append(
            (
                found.grid.labels[str(row["config"])],
                str(row["seed"]),
                number(row[metric.test], metric),
                number(row[metric.val], metric),
                UNKNOWN if is_missing(row["best_epoch"]) else str(row["best_epoch"]),
                name if target is None else Link(name, target),
            )
        )
    header = ("config", "seed", "test", "val", "best epoch", "curves")
    blocks: list[Block] = [Table("trials", header, tuple(rows), (1, 2, 3, 4))]
    if len(complete) > MAX_TRIAL_FIGURES:
        blocks.append(paragraph(f"trials.parquet has {len(complete) - MAX_TRIAL_FIGURES} more."))
    yield Details(f"Single trials ({len(complete)} complete)", tuple(blocks))


def _epochs(epochs: Sequence[int]) -> str:
    if not epochs:
        return UNKNOWN
    return str(epochs[0]) if epochs[0] == epochs[-1] else f"{epochs[0]}–{epochs[-1]}"
