"""What was predicted on the test split: confusions, and what the probabilities are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.results.analysis import BINS, Mistake, reliability
from bench.results.folder import PROBABILITY_PREFIX
from bench.results.plots.style import (
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
PICTURES_A_ROW = 5
MAX_PICTURES = 15
MAX_CLASSES = 20
MAX_NUMBERED = 10
LEAST_IN_BIN = 10
"""The accuracy of fewer samples says nothing of their probabilities."""


@styled
def confusion_matrices(
    predictions: pd.DataFrame, trials_of: Mapping[str, Sequence[str]]
) -> Figure | None:
    """For each name, which class was taken for which over its trials; shares of the true class.

    `None` without predictions or of more than `MAX_CLASSES` classes.
    """
    classes = class_names(predictions)
    shown = list(trials_of)[:MAX_PANELS]
    if predictions.empty or not shown or len(classes) > MAX_CLASSES:
        return None
    matrices = {name: _shares(predictions, trials_of[name], classes) for name in shown}
    figure, panels = new_panels(
        len(shown),
        rest=0.9,
        each=2.5,
        title=_confusion_message(matrices, classes),
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
    more = f" {hidden} more are not shown." if hidden else ""
    note = f"Percent of the test images of a true class, over all seeds.{more}"
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
    for name, trials in trials_of.items():
        own = predictions[predictions["trial"].isin(trials)]
        labels = _indices(own["label"], classes)
        found[name] = reliability(own[columns].to_numpy(float), labels)
    errors = {name: each.expected_calibration_error for name, each in found.items()}
    figure = new_figure(4.2, title=_calibration_message(errors))
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.3)
    for name, each in found.items():
        look = looks[name]
        shown = each.counts >= min(LEAST_IN_BIN, each.counts.max())
        points = each.confidence[shown], each.accuracy[shown]
        ax.plot(*points, color=look.colour, marker=look.marker, alpha=0.9)
        sizes = 20 + 380 * each.counts[shown] / each.counts.sum()
        ax.scatter(*points, s=sizes, color=look.colour, alpha=0.25)
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
    note = (
        f"Expected calibration error over {BINS} bins; those of fewer than {LEAST_IN_BIN} images "
        "are not drawn. Disc: share of the images. On the dotted line probabilities are what they "
        "say; below it they promise too much."
    )
    key_below(figure, handles, note=note)
    return figure


@styled
def contact_sheet(
    mistakes: Sequence[Mistake], pictures: Mapping[str, np.ndarray], *, name: str
) -> Figure | None:
    """The test images that the trials of `name` are most confidently wrong about.

    `pictures` are small copies `[height, width, 3]` by sample; `None` if none of them is there.
    """
    shown = [mistake for mistake in mistakes if mistake.sample in pictures][:MAX_PICTURES]
    if not shown:
        return None
    rows = -(-len(shown) // PICTURES_A_ROW)
    first = shown[0]
    title = (
        f"{shortened(name, 40)} takes {shortened(first.sample, 40)} for "
        f"{shortened(first.predicted, 24)}, {percent(first.confidence)} sure"
    )
    figure = new_figure(0.8 + 2.0 * rows, title=title)
    panels = figure.subplots(rows, PICTURES_A_ROW, squeeze=False)
    for index, ax in enumerate(panels.flat):
        ax.axis("off")
        if index >= len(shown):
            continue
        mistake = shown[index]
        ax.imshow(pictures[mistake.sample])
        seeds = f"{mistake.wrong} of {mistake.trials} seeds" if mistake.trials > 1 else ""
        lines = [
            f"{shortened(mistake.label, 12)} → {shortened(mistake.predicted, 12)}",
            f"{percent(mistake.confidence)} {seeds}".strip(),
        ]
        ax.set_title("\n".join(lines), fontsize=9.5, color=GREY)
    note = "True class → predicted class, the probability of the latter, and in how many seeds."
    key_below(figure, note=note)
    return figure


def class_names(predictions: pd.DataFrame) -> list[str]:
    """The classes of the table, in the order of their indices."""
    found = [name for name in predictions.columns if name.startswith(PROBABILITY_PREFIX)]
    return [name.removeprefix(PROBABILITY_PREFIX) for name in found]


def _indices(names: pd.Series[str], classes: Sequence[str]) -> np.ndarray:
    """The class indices of a column of class names."""
    index = {name: position for position, name in enumerate(classes)}
    return names.map(index).to_numpy(np.int64)


def _shares(predictions: pd.DataFrame, trials: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """`[true class, predicted class]`, each row adding up to 1."""
    own = predictions[predictions["trial"].isin(trials)]
    counts = np.zeros((len(classes), len(classes)))
    pairs = (_indices(own["label"], classes), _indices(own["predicted"], classes))
    np.add.at(counts, pairs, 1)
    shares: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _matrix(ax: Axes, shares: np.ndarray, classes: Sequence[str]) -> None:
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.grid(visible=False)
    names = [shortened(name, 14) for name in classes]
    ax.set_xticks(range(len(names)), names, rotation=35 if len(names) > 2 else 0, ha="center")
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    if len(classes) > MAX_NUMBERED:
        return
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else "black"
        text = f"{100 * share:.1f}"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)


def _confusion_message(matrices: Mapping[str, np.ndarray], classes: Sequence[str]) -> str:
    name, shares = next(iter(matrices.items()))
    wrong = shares - np.diag(np.diag(shares))
    row, column = divmod(int(wrong.argmax()), len(classes))
    if not wrong[row, column]:
        return f"{shortened(name, 40)} takes no test image for another class"
    return (
        f"{shortened(name, 40)} takes {percent(float(wrong[row, column]))} of "
        f"{shortened(classes[row], 24)} for {shortened(classes[column], 24)}"
    )


def _calibration_message(errors: Mapping[str, float]) -> str:
    best = min(errors, key=lambda name: errors[name])
    message = f"Probabilities of {shortened(best, 40)} are off by {percent(errors[best])}"
    if len(errors) == 1:
        return message
    worst = max(errors, key=lambda name: errors[name])
    return f"{message} on average, those of {shortened(worst, 40)} by {percent(errors[worst])}"
