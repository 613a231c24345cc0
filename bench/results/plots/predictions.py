"""What was predicted on the test split: confusions, what probabilities are worth, how far off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import counted
from bench.results.analysis import BINS, Mistake, Reliability, Residual, reliability
from bench.results.analysis.intervals import Z, wilson_of_share
from bench.results.analysis.predicted import answers_of
from bench.results.folder import PROBABILITY_PREFIX, class_names, output_names
from bench.results.folder.columns import PREDICTED_PREFIX, TARGET_PREFIX
from bench.results.metric import ACCURACY, LOSS
from bench.results.plots.fonts import cells
from bench.results.plots.pictures import LETTERS, broken, picture_rows
from bench.results.plots.style import (
    COLOURS,
    GREY,
    Look,
    key_below,
    line_handle,
    new_figure,
    new_panels,
    percent,
    percent_axis,
    shortened,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 6
MAX_PICTURES = 15
MAX_LABELS = 12
"""Labels with a panel each; of more, those with the most mistakes."""
MAX_CLASSES = 20
"""Classes in a matrix; of more, the pairs that are taken for each other are listed."""
MAX_PAIRS = 15
MAX_NUMBERED = 10
MATRIX_LETTERS = 30
"""Letters below a matrix that stand side by side."""
MAX_SMALL = 12
"""Names beside a matrix in small letters; of more they are smaller."""
MAX_LINES = 7
"""Lines in one reliability diagram: as many as there are colours."""
LEAST_IN_BIN = 10
"""The accuracy of fewer samples says nothing of their probabilities."""

_SMALL = 9.0


@styled
def confusion_matrices(
    predictions: pd.DataFrame, trials_of: Mapping[str, Sequence[str]]
) -> Figure | None:
    """For each name, which class was taken for which over its trials; shares of the true class.

    Of more than `MAX_CLASSES` classes, the pairs of classes that the first name confuses most.
    `None` without predictions.
    """
    classes = class_names(predictions)
    shown = list(trials_of)[:MAX_PANELS]
    if predictions.empty or not shown:
        return None
    if len(classes) > MAX_CLASSES:
        return _confused_pairs(predictions, shown[0], trials_of[shown[0]], classes)
    counts = {name: _counts(predictions, trials_of[name], classes) for name in shown}
    matrices = {name: _shares(each) for name, each in counts.items()}
    many = len(classes) > MAX_NUMBERED
    figure, panels = new_panels(
        len(shown),
        rest=0.9 + _names_height(classes),
        each=2.5 if not many else 0.7 + 0.2 * len(classes),
        title=_confusion_message(matrices, classes),
        most=2 if many else 3,
        sharex=True,
        sharey=True,
    )
    for panel, (name, shares) in zip(panels, matrices.items(), strict=True):
        _matrix(panel.ax, shares, classes)
        panel.ax.set_title(wrapped(shortened(name, 60), 30), loc="left", color=GREY)
        if panel.left:
            panel.ax.set_ylabel("true class")
        if panel.bottom:
            panel.ax.set_xlabel("predicted class")
    hidden = len(trials_of) - len(shown)
    more = f" Not shown: {hidden} more." if hidden else ""
    note = f"Percent of the test images of a true class, over all seeds.{more}"
    key_below(figure, note=note)
    return figure


def _confused_pairs(
    predictions: pd.DataFrame, name: str, trials: Sequence[str], classes: Sequence[str]
) -> Figure | None:
    """The pairs of a true class and another one with the most test images taken for it."""
    counts = _counts(predictions, trials, classes)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [divmod(int(index), len(classes)) for index in order if wrong.flat[index]]
    title = _confusion_message({name: _shares(counts)}, classes, pairs)
    figure = new_figure(1.3 + 0.3 * max(1, len(pairs)), title=title)
    ax = figure.subplots()
    for position, (row, column) in enumerate(pairs):
        share = float(wrong[row, column] / counts[row].sum())
        ax.barh(position, share, color=COLOURS[0], height=0.7)
        text = f"{ACCURACY.number(share)} ({wrong[row, column]:.0f} of {counts[row].sum():.0f})"
        ax.annotate(
            text, (share, position), (4, 0), textcoords="offset points", va="center", size=9
        )
    names = [f"{shortened(classes[r], 24)} → {shortened(classes[c], 24)}" for r, c in pairs]
    ax.set_yticks(range(len(pairs)), names, fontsize=9)
    ax.set_ylim(max(1, len(pairs)) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.25)
    ax.set_xlim(left=0)
    percent_axis(ax.xaxis, "share of the test images of the true class")
    note = (
        f"{len(classes)} classes are too many for a matrix: the pairs (true class → predicted "
        f"class) with the most wrong predictions of {shortened(name, 40)}, over all seeds."
    )
    key_below(figure, note=note)
    return figure


@styled
def reliability_diagram(
    predictions: pd.DataFrame, trials_of: Mapping[str, Sequence[str]], looks: Mapping[str, Look]
) -> Figure | None:
    """Accuracy against confidence over the test images of all seeds, a line for each name.

    `None` without predictions.
    """
    classes = class_names(predictions)
    if predictions.empty or not trials_of:
        return None
    columns = [PROBABILITY_PREFIX + name for name in classes]
    found = {}
    for name, trials in list(trials_of.items())[:MAX_LINES]:
        own = predictions[predictions["trial"].isin(trials)]
        labels = _indices(own["label"], classes)
        found[name] = reliability(own[columns].to_numpy(float), labels)
    errors = {name: each.expected_calibration_error for name, each in found.items()}
    figure = new_figure(4.2, title=_calibration_message(errors))
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.3)
    for name, each in found.items():
        _draw_reliability(ax, each, looks[name], seeds=max(1, len(trials_of[name])))
    percent_axis(ax.xaxis, "probability of the predicted class")
    percent_axis(ax.yaxis, "how often it was right")
    lowest = min(float(each.confidence.min()) for each in found.values())
    ax.set_xlim(max(0.0, lowest - 0.05), 1.02)
    handles = [
        line_handle(
            f"{shortened(name, 26)}: error {percent(errors[name])}",
            color=looks[name].colour,
            marker=looks[name].marker,
        )
        for name in found
    ]
    hidden = len(trials_of) - len(found)
    more = f" Not drawn: {hidden} with lower test figures." if hidden else ""
    note = (
        f"Expected calibration error over {BINS} bins; those of fewer than {LEAST_IN_BIN} images "
        "are not drawn. Bar: 95 % interval for other test images (Wilson). Disc: share of the "
        "images. On the dotted line probabilities match how often predictions are right; below it "
        f"they are too high.{more}"
    )
    key_below(figure, handles, note=note)
    return figure


def _draw_reliability(ax: Axes, found: Reliability, look: Look, *, seeds: int) -> None:
    """A line through the bins with an interval for each; the seeds share their test images."""
    shown = found.counts >= min(LEAST_IN_BIN, found.counts.max())
    counts, x, y = found.counts[shown], found.confidence[shown], found.accuracy[shown]
    ax.plot(x, y, color=look.colour, marker=look.marker, alpha=0.9)
    ends = [_share_interval(float(share), n / seeds) for share, n in zip(y, counts, strict=True)]
    low, high = np.array(ends).T
    reach = np.maximum(0, [y - low, high - y])
    ax.errorbar(x, y, yerr=reach, fmt="none", ecolor=look.colour, alpha=0.6, elinewidth=1.1)
    ax.scatter(x, y, s=20 + 380 * counts / found.counts.sum(), color=look.colour, alpha=0.25)


def _share_interval(share: float, images: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of so many images; seeds may make these no whole number."""
    half = Z * math.sqrt(share * (1 - share) / images)
    return wilson_of_share(share, half, max(1, round(images)))


@styled
def contact_sheet(
    mistakes: Sequence[Mistake],
    pictures: Mapping[str, np.ndarray],
    *,
    name: str,
    what: str = "class",
) -> Figure | None:
    """The test images that the trials of `name` are most confidently wrong about.

    `pictures` are small copies `[height, width, 3]` by sample; `None` if none of them is there.
    `what` they are taken for is a class, or a label beside others.
    """
    shown = [mistake for mistake in mistakes if mistake.sample in pictures][:MAX_PICTURES]
    if not shown:
        return None
    first = shown[0]
    title = (
        f"{shortened(name, 40)} takes {shortened(first.sample, 40)} for "
        f"{shortened(first.predicted, 24)}, {percent(first.confidence)} sure"
    )
    return picture_rows(
        [pictures[mistake.sample] for mistake in shown],
        [_mistake_text(mistake) for mistake in shown],
        title=title,
        note=f"True {what} → predicted {what}, the probability of the latter, and in how many "
        "seeds.",
    )


def _mistake_text(mistake: Mistake) -> str:
    """Both classes on lines of their own, as wide as a picture."""
    seeds = f", {mistake.wrong} of {mistake.trials} seeds" if mistake.trials > 1 else ""
    taken = f"→ {broken(mistake.predicted, LETTERS - 2)}"
    return f"{broken(mistake.label)}\n{taken}\n{percent(mistake.confidence)}{seeds}"


def _indices(names: pd.Series[str], classes: Sequence[str]) -> np.ndarray:
    """The class indices of a column of class names."""
    index = {name: position for position, name in enumerate(classes)}
    return names.map(index).to_numpy(np.int64)


def _counts(predictions: pd.DataFrame, trials: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Predictions `[true class, predicted class]`."""
    own = predictions[predictions["trial"].isin(trials)]
    counts = np.zeros((len(classes), len(classes)))
    pairs = (_indices(own["label"], classes), _indices(own["predicted"], classes))
    np.add.at(counts, pairs, 1)
    return counts


def _shares(counts: np.ndarray) -> np.ndarray:
    """The counts as shares of the true class: each row adds up to 1."""
    shares: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _class_labels(classes: Sequence[str]) -> list[str]:
    return [shortened(name, 18) for name in classes]


def _stand_upright(names: Sequence[str]) -> bool:
    """Whether the names are wider than the matrix that they stand below."""
    return len(names) * max(map(cells, names)) > MATRIX_LETTERS


def _names_height(classes: Sequence[str]) -> float:
    """The inches that the names of the classes take below a matrix beyond those of one line."""
    names = _class_labels(classes)
    return 0.08 * max(map(cells, names)) if _stand_upright(names) else 0.0


def _matrix(ax: Axes, shares: np.ndarray, classes: Sequence[str]) -> None:
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.grid(visible=False)
    names = _class_labels(classes)
    size = None if len(names) <= MAX_NUMBERED else _SMALL if len(names) <= MAX_SMALL else 7
    ax.set_xticks(
        range(len(names)), names, rotation=90 if _stand_upright(names) else 0, fontsize=size
    )
    ax.set_yticks(range(len(names)), names, fontsize=size)
    ax.tick_params(length=0)
    if len(classes) > MAX_NUMBERED:
        return
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else "black"
        size = 10 if len(classes) <= 6 else 8
        text = ACCURACY.number(float(share))
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _confusion_message(
    matrices: Mapping[str, np.ndarray],
    classes: Sequence[str],
    pairs: Sequence[tuple[int, int]] = (),
) -> str:
    """What the first name takes for what; the first of `pairs` if they are listed."""
    name, shares = next(iter(matrices.items()))
    wrong = shares - np.diag(np.diag(shares))
    row, column = pairs[0] if pairs else divmod(int(wrong.argmax()), len(classes))
    if not wrong[row, column]:
        return f"{shortened(name, 40)} classifies every test image correctly"
    return (
        f"{shortened(name, 40)} mistakes {percent(float(wrong[row, column]))} of "
        f"{shortened(classes[row], 22)} for {shortened(classes[column], 22)}"
    )


def _calibration_message(errors: Mapping[str, float]) -> str:
    best = min(errors, key=lambda name: errors[name])
    message = f"Probabilities of {shortened(best, 40)} are off by {percent(errors[best])}"
    if len(errors) == 1:
        return message
    worst = max(errors, key=lambda name: errors[name])
    return f"{message} on average, those of {shortened(worst, 40)} by {percent(errors[worst])}"


# Numbers, and several labels a sample -----------------------------------------------------------


@styled
def predicted_against_true(
    predictions: pd.DataFrame, name: str, trials: Sequence[str], look: Look
) -> Figure | None:
    """What the trials of `name` predicted against what is true, a panel for each target.

    `None` without predictions.
    """
    targets = output_names(predictions)
    own = predictions[predictions["trial"].isin(trials)]
    if own.empty or not targets:
        return None
    shown = targets[:MAX_PANELS]
    figure, panels = new_panels(
        len(shown), rest=1.1, each=4.2 if len(shown) == 1 else 2.9, title=_regressed(own, name)
    )
    for panel, target in zip(panels, shown, strict=True):
        true, found = (
            own[prefix + target].to_numpy(float) for prefix in (TARGET_PREFIX, PREDICTED_PREFIX)
        )
        _scattered(panel.ax, true, found, look)
        if len(targets) > 1:
            panel.ax.set_title(wrapped(shortened(target, 60), 30), loc="left", color=GREY)
        panel.ax.set_xlabel("true" if len(targets) > 1 else f"true {shortened(target, 40)}")
        if panel.left:
            panel.ax.set_ylabel("predicted")
    hidden = len(targets) - len(shown)
    more = f" Not shown: {counted(hidden, 'more target')}." if hidden else ""
    tested = "each test image once a training" if len(trials) > 1 else "a point for each test image"
    key_below(
        figure, note=f"{tested.capitalize()}; on the dotted line predictions are exact.{more}"
    )
    return figure


def _scattered(ax: Axes, true: np.ndarray, found: np.ndarray, look: Look) -> None:
    known = np.isfinite(found)
    ends = np.array([true.min(), true.max()])
    ax.plot(ends, ends, color=GREY, linestyle=":", linewidth=1.3)
    alpha = float(np.clip(400 / max(1, len(true)), 0.15, 0.7))
    ax.scatter(
        true[known],
        found[known],
        s=16,
        color=look.colour,
        marker=look.marker,
        alpha=alpha,
        linewidths=0,
        rasterized=True,
    )
    # One prediction far out would leave nothing to see of the others.
    low, high = np.quantile(np.concatenate([true, found[known]]), (0.001, 0.999))
    reach = max(high - low, np.ptp(ends), 1e-12)
    ax.set_ylim(min(low, ends[0]) - 0.04 * reach, max(high, ends[1]) + 0.04 * reach)


def _regressed(own: pd.DataFrame, name: str) -> str:
    """How far off predictions are, in units of the target where there is one, else in sd."""
    answers = answers_of(own)
    errors = np.abs(answers.outputs - answers.truth)
    if errors.shape[1] == 1:
        figure = LOSS.text(float(np.nanmean(errors)))
        target = shortened(output_names(own)[0], 30)
        return f"{shortened(name, 40)} is off by {figure} in {target} on average"
    spread = answers.truth.std(axis=0)
    share = float(np.nanmean(errors / np.where(spread > 0, spread, 1.0)))
    return f"{shortened(name, 40)} is off by {share:.2f} standard deviations on average"


@styled
def residual_sheet(
    residuals: Sequence[Residual], pictures: Mapping[str, np.ndarray], *, name: str
) -> Figure | None:
    """The test images that the trials of `name` predict worst; `None` without pictures of them."""
    shown = [each for each in residuals if each.sample in pictures][:MAX_PICTURES]
    if not shown:
        return None
    first = shown[0]
    title = (
        f"{shortened(name, 40)} is furthest off for {shortened(first.sample, 40)}: "
        f"{LOSS.number(first.predicted)} for {LOSS.number(first.true)}"
    )
    several = len({each.target for each in shown}) > 1
    return picture_rows(
        [pictures[each.sample] for each in shown],
        [_residual_text(each, several) for each in shown],
        title=title,
        note="True value → predicted one (mean over seeds), and how far apart they are, in "
        "standard deviations of the target.",
    )


def _residual_text(residual: Residual, several: bool) -> str:
    target = [broken(residual.target)] if several else []
    values = f"{LOSS.number(residual.true)} → {LOSS.number(residual.predicted)}"
    return "\n".join([*target, values, f"off by {residual.size:.1f} sd"])


@styled
def label_matrices(predictions: pd.DataFrame, name: str, trials: Sequence[str]) -> Figure | None:
    """For each label, how often images that have it, and that lack it, get it of `trials`.

    Of more than `MAX_LABELS` labels, those that are missed or wrongly given most often. `None`
    without predictions.
    """
    labels = output_names(predictions)
    own = predictions[predictions["trial"].isin(trials)]
    if own.empty or not labels:
        return None
    answers = answers_of(own)
    truth = answers.truth > 0
    wrong = (truth != answers.decided).mean(axis=0)
    order = np.argsort(-wrong, kind="stable")[:MAX_LABELS]
    shown = sorted(map(int, order)) if len(labels) <= MAX_LABELS else list(map(int, order))
    worst = int(order[0])
    figure, panels = new_panels(
        len(shown),
        rest=0.9,
        each=1.9,
        most=4,
        title=f"{shortened(name, 40)} decides {shortened(labels[worst], 30)} wrongly for "
        f"{percent(float(wrong[worst]))} of the test images",
        sharex=True,
        sharey=True,
    )
    for panel, index in zip(panels, shown, strict=True):
        has, given = truth[:, index], answers.decided[:, index]
        counts = np.array(
            [[np.sum(side & decided) for decided in (given, ~given)] for side in (has, ~has)]
        )
        _two_by_two(panel.ax, counts)
        panel.ax.set_title(wrapped(shortened(labels[index], 40), 22), loc="left", color=GREY)
        if panel.left:
            panel.ax.set_ylabel("image")
    hidden = len(labels) - len(shown)
    more = f" Not shown: {counted(hidden, 'more label')} with fewer mistakes." if hidden else ""
    note = (
        "Percent of the images that have a label, and of those that lack it, with the number of "
        f"images and seeds together; by the thresholds that validation chose.{more}"
    )
    key_below(figure, note=note)
    return figure


def _two_by_two(ax: Axes, counts: np.ndarray) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.grid(visible=False)
    ax.set_xticks(range(2), ["given", "not given"])
    ax.set_yticks(range(2), ["has it", "lacks it"])
    ax.tick_params(length=0)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else "black"
        text = f"{ACCURACY.number(float(share))}\n{counts[row, column]:,}"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
