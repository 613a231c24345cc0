"""The report's sections on what was predicted of the test split, of what the verdict names.

Of classes these are "By class" and "Calibration"; of numbers "By target" and the images that are
predicted worst; of several labels a sample "By label".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.errors import counted
from bench.results.analysis.by_class import ClassFigures, class_figures
from bench.results.analysis.by_output import (
    LabelFigures,
    label_figures,
    largest_residuals,
    shown_of,
    target_figures,
)
from bench.results.analysis.choice import Choice, preferred
from bench.results.analysis.crossed import LEAST_SEEDS
from bench.results.analysis.intervals import Estimate
from bench.results.analysis.scores import Folds, folds_of
from bench.results.analysis.temperatures import After, Calibration, Judged, calibration
from bench.results.analysis.verdict import Verdict
from bench.results.folder import Run
from bench.results.grid import UNKNOWN, Grid
from bench.results.metric import ACCURACY, LOSS, Metric
from bench.results.report.blocks import Block, Heading, Table, paragraph
from bench.results.report.texts import texts_sections
from bench.results.report.wording import (
    difference,
    difference_interval,
    ends,
    number,
    or_unknown,
    verdict_word,
)

MAX_CLASSES = 40
MAX_WORST = 10


def predictions_sections(run: Run, grid: Grid, verdict: Verdict) -> Iterator[Block]:
    """The sections of what is recommended, else of the leader on validation."""
    name = verdict.recommended or verdict.leader
    if name is None or run.predictions.empty:
        return
    choice = preferred(verdict.contender(name).choices, grid)
    trials = _whose(name, choice, grid)
    match run.target_task:
        case "classification":
            yield from _by_class(run, choice, trials)
            yield from texts_sections(run, grid, choice, trials)
            yield from _calibration(run, choice, trials, verdict.look)
        case "regression":
            yield from _by_target(run, choice, trials)
            yield from _worst(run, choice, trials)
        case "multi_label":
            yield from _by_label(run, choice, trials)


def _whose(name: str, choice: Choice, grid: Grid) -> str:
    """The name, its backbone where these vary, and how many trainings stand for it."""
    varies = "backbone" in grid.varying and grid.lead != "backbone"
    on = f" on {grid.cells[choice.config]['backbone']}" if varies else ""
    return f"{name}{on} ({counted(len(choice.all_trials), 'training')})"


# Classes --------------------------------------------------------------------------------------


def _by_class(run: Run, choice: Choice, whose: str) -> Iterator[Block]:
    folds = folds_of(run) is not None
    found = class_figures(run.judged, choice.trials, of_models=folds)
    if not any(each.images for each in found):
        return
    yield Heading("By class", 3)
    few = folds or len(choice.trials) < LEAST_SEEDS
    others = "these models on other images" if few else "other seeds and images"
    yield paragraph(
        f"Of {whose}, on the test split, in percent. Recall: the share of the images of a class "
        f"that are predicted as the class. Precision: the share of the images predicted as a "
        f"class that belong to it. 95 %: the interval of each figure alone, for {others}; all "
        f"seeds see the same images, so {_counts_once(run)}, however many seeds there are."
    )
    shown = found
    if len(found) > MAX_CLASSES:
        shown = sorted(found, key=lambda each: (not each.images, each.recall.value))[:MAX_CLASSES]
        yield paragraph(f"The {MAX_CLASSES} with the lowest recall of {len(found)} classes:")
    header = ("class", "images", "recall", "95 %", "precision", "95 %", "predicted", "mistaken for")
    yield Table(
        "by_class",
        header,
        tuple(map(_class_row, shown)),
        (1, 2, 3, 4, 5, 6),
        terms=(
            ("images", "of the class in the test split"),
            ("predicted", "images that are predicted as the class, mean over seeds"),
            ("mistaken for", "the other class that is predicted most often for its images"),
        ),
    )


def _counts_once(run: Run) -> str:
    if "group" in run.judged:
        return "an image counts once, and the images of a group as one sample"
    return "an image counts once"


def _class_row(each: ClassFigures) -> tuple[str, ...]:
    taken = UNKNOWN
    if each.mistaken_for is not None:
        taken = f"{each.mistaken_for} ({ACCURACY.text(each.mistaken)})"
    shares = (cell for share in (each.recall, each.precision) for cell in _share(share))
    return (each.name, f"{each.images:,}", *shares, f"{round(each.predicted, 1):,.10g}", taken)


def _share(share: Estimate) -> tuple[str, str]:
    return number(share.value, ACCURACY), ends(share.interval, ACCURACY)


# Targets --------------------------------------------------------------------------------------


def _by_target(run: Run, choice: Choice, whose: str) -> Iterator[Block]:
    folds = folds_of(run)
    short = shown_of(run.target_task)
    metrics = [each for each in run.metrics if each.name in short]
    found = target_figures(run.predictions, choice.trials, metrics, folds=folds)
    if not found:
        return
    yield Heading("By target", 3)
    units = [short[each.name] for each in metrics if each.in_target_units]
    in_units = f" {' and '.join(units)} are in the units of the target." if units else ""
    yield paragraph(
        f"Of {whose}, on the test split. sd: the standard deviation of the target there, which is "
        f"about the RMSE of always predicting its mean.{in_units} {_interval_words(choice, folds)}"
    )
    yield Table(
        "by_target",
        ("target", "sd", *_headers(short[each.name] for each in metrics)),
        tuple(
            (each.name, LOSS.number(each.sd), *_cells(each.figures)) for each in found[:MAX_CLASSES]
        ),
        tuple(range(1, 2 + 2 * len(metrics))),
    )
    if len(found) > MAX_CLASSES:
        yield paragraph(f"{counted(len(found) - MAX_CLASSES, 'more target')}.")


def _worst(run: Run, choice: Choice, whose: str) -> Iterator[Block]:
    found = largest_residuals(run.predictions, choice.all_trials, count=MAX_WORST)
    if not found:
        return
    yield Heading("Predicted worst", 3)
    yield paragraph(
        f"The test images that are furthest off, of {whose}; means over the trainings that were "
        "tested on them. Look whether the image or its value is wrong before anything else."
    )
    yield Table(
        "predicted_worst",
        ("image", "target", "true", "predicted", "off by (sd)"),
        tuple(
            (
                each.sample,
                each.target,
                LOSS.number(each.true),
                LOSS.number(each.predicted),
                f"{each.size:.2f}",
            )
            for each in found
        ),
        (2, 3, 4),
        terms=(("off by (sd)", "the mean distance, in standard deviations of the target"),),
    )


# Labels ---------------------------------------------------------------------------------------


def _by_label(run: Run, choice: Choice, whose: str) -> Iterator[Block]:
    folds = folds_of(run)
    short = shown_of(run.target_task)
    metrics = [each for each in run.metrics if each.name in short]
    found = label_figures(run.predictions, run.trials, choice.trials, metrics, folds=folds)
    if not found:
        return
    shown = [short[each.name] for each in metrics]
    yield Heading("By label", 3)
    yield paragraph(
        f"Of {whose}, on the test split, in percent. A label is given where its probability "
        "reaches its threshold, which each training chose on its own validation split. "
        f"{_interval_words(choice, folds)}"
    )
    listed = found
    if len(found) > MAX_CLASSES:
        first = next(iter(found[0].figures))
        listed = sorted(found, key=lambda each: (not each.images, each.figures[first].value))
        listed = listed[:MAX_CLASSES]
        yield paragraph(f"The {MAX_CLASSES} with the lowest {shown[0]} of {len(found)} labels:")
    header = ("label", "images", "share", "threshold", *_headers(shown), "found", "missed", "wrong")
    yield Table(
        "by_label",
        header,
        tuple(map(_label_row, listed)),
        tuple(range(1, len(header))),
        terms=(
            ("images", "with the label in the test split"),
            ("share", "of the images that have the label: what guessing reaches as AP"),
            ("found", "images that have the label and get it, mean over seeds"),
            ("missed", "images that have the label and do not get it"),
            ("wrong", "images that get the label and do not have it"),
        ),
    )


def _label_row(each: LabelFigures) -> tuple[str, ...]:
    return (
        each.name,
        f"{each.images:,}",
        number(each.images / max(1, each.all_images), ACCURACY),
        _range(each.thresholds) if each.thresholds else UNKNOWN,
        *_cells(each.figures),
        *(f"{round(count, 1):,.10g}" for count in (each.found, each.missed, each.wrong)),
    )


def _interval_words(choice: Choice, folds: Folds | None) -> str:
    few = folds is None and len(choice.trials) < LEAST_SEEDS
    others = "these models on other images" if few else "other seeds and images"
    return f"95 %: the interval of each figure alone, for {others}."


def _headers(metrics: Iterable[str]) -> Iterator[str]:
    for metric in metrics:
        yield metric
        yield "95 %"


def _cells(figures: Mapping[Metric, Estimate]) -> tuple[str, ...]:
    return tuple(cell for metric, own in figures.items() for cell in _figure(own, metric))


# Probabilities --------------------------------------------------------------------------------


def _calibration(run: Run, choice: Choice, whose: str, look: int) -> Iterator[Block]:
    found = calibration(
        run.judged, run.val_predictions, choice.trials, folds=folds_of(run), look=look
    )
    if found is None:
        return
    yield Heading("Calibration", 3)
    yield paragraph(f"How well the probabilities of {whose} match the results on the test split.")
    exact = (
        f"Exact probabilities would show a calibration error of {_percent(found.exact)} on this "
        "many images."
    )
    if not found.temperatures:
        yield paragraph(f"{exact} {_why_no_temperature(run)}")
        yield Table(
            "calibration",
            ("metric", "test", "95 %"),
            tuple(_plain_row(each) for each in found.judged),
            (1, 2),
        )
        return
    yield paragraph(
        "After: with a temperature T (softmax(log p / T), which changes no predicted class) "
        f"that lowers the log loss on each training's own validation split: {_fitted(found)}. "
        f"{exact} For all three less is better."
    )
    header = ("metric", "before", "95 %", "after", "95 %", "change", "interval", "verdict")
    yield Table(
        "calibration",
        header,
        tuple(_row(each, each.after) for each in found.judged if each.after is not None),
        (1, 2, 3, 4, 5, 6),
        terms=(
            ("change", "after minus before"),
            (
                "interval",
                "where the change lies for others, in 95 of 100 runs for all three at once",
            ),
        ),
    )


def _why_no_temperature(run: Run) -> str:
    if not run.images("val"):
        return "Without a validation split no temperature can be fitted."
    return (
        "No temperature can be fitted: the run has no predictions of these trials on the "
        "validation split, as an earlier version of bench made it."
    )


def _fitted(found: Calibration) -> str:
    text = f"T = {_range(found.temperatures)}"
    if min(found.temperatures) > 1:
        return f"{text}, so they were overconfident"
    return f"{text}, so they were underconfident" if max(found.temperatures) < 1 else text


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def _percent(value: float) -> str:
    return or_unknown(100 * value, "{:.1f} %")


def _plain_row(each: Judged) -> tuple[str, ...]:
    return (each.metric.axis_label, *_figure(each.before, each.metric))


def _row(each: Judged, after: After) -> tuple[str, ...]:
    return (
        *_plain_row(each),
        *_figure(after.figure, each.metric),
        difference(after.change.difference, each.metric),
        difference_interval(after.change.interval, each.metric),
        verdict_word(after.change),
    )


def _figure(figure: Estimate, metric: Metric) -> tuple[str, str]:
    return number(figure.value, metric), ends(figure.interval, metric)
