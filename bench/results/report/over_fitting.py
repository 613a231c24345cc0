"""The report's section "Where training and validation part"."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.errors import counted
from bench.results.analysis.over_fitting import LEAST_RISE, Fit, WayOut, fits, ways_out
from bench.results.folder import Run
from bench.results.grid import Grid
from bench.results.metric import ACCURACY, Metric
from bench.results.report.blocks import Block, Bold, Bullets, Heading, Table, paragraph
from bench.results.report.wording import difference

MAX_ROWS = 20
MAX_EXPLAINED = 3
MAX_WAYS_OUT = 4


def over_fitting_section(run: Run, grid: Grid) -> Iterator[Block]:
    """Configs that over-fit, the best on validation first; nothing of a run without curves."""
    known = [fit for fit in fits(run, grid) if fit.epochs > 1]
    if not known:
        return
    yield Heading("Where training and validation part", 3)
    yield paragraph(
        "A config over-fits where its mean validation loss is lowest before the last epoch, ends "
        f"{100 * LEAST_RISE:.0f} % or more above that (in three of four seeds above it), and its "
        "training loss goes on falling. Training figures are of images as augmentation varies "
        "them, while the network still learns, and may be too modest."
    )
    parted = sorted((fit for fit in known if fit.over_fits), key=lambda fit: _order(fit, grid))
    if not parted:
        yield paragraph("No config of this run does.")
        return
    whole = "the only config" if len(known) == 1 else f"{len(parted)} of {len(known)} configs"
    yield paragraph(f"Here it is {whole}.")
    yield _table(parted[:MAX_ROWS], grid)
    if len(parted) > MAX_ROWS:
        yield paragraph(f"{counted(len(parted) - MAX_ROWS, 'more config')} in curves.parquet.")
    yield Bullets(
        tuple(
            (Bold(f"{grid.labels[fit.config]}:"), _explained(fit, known, grid))
            for fit in parted[:MAX_EXPLAINED]
        )
    )


def _order(fit: Fit, grid: Grid) -> float:
    """The best on validation first, the unknown last."""
    return math.inf if math.isnan(fit.val) else -grid.metric.sign * fit.val


def _table(parted: Sequence[Fit], grid: Grid) -> Table:
    axes = grid.varying
    figures = ("lowest after", "of epochs", "val loss", "at the end", "train loss", "then", "gap")
    rows = tuple(
        (
            *(grid.cells[fit.config][axis] for axis in axes),
            str(fit.lowest),
            str(fit.epochs),
            *(f"{loss:.3f}" for loss in (*fit.val_loss, *fit.train_loss)),
            difference(fit.gap, ACCURACY),
        )
        for fit in parted
    )
    return Table(
        "over_fitting",
        (*axes, *figures),
        rows,
        tuple(range(len(axes), len(axes) + len(figures))),
        terms=(
            ("lowest after", "the epoch after which the mean validation loss is lowest"),
            ("val loss", "after that epoch, as the training loss beside it"),
            ("then", "the training loss at the end"),
            ("gap", "training minus validation accuracy at the end, in points"),
        ),
    )


def _explained(fit: Fit, known: Sequence[Fit], grid: Grid) -> str:
    text = (
        f"after epoch {fit.lowest} of {fit.epochs} training makes its own loss smaller and that "
        f"of validation larger, from {fit.val_loss[0]:.3f} to {fit.val_loss[1]:.3f}"
    )
    if fit.chosen:
        low, high = fit.chosen[0], fit.chosen[-1]
        text += f"; the chosen epoch is {low}" if low == high else f"; chosen are {low} to {high}"
    ways = ways_out(fit, known, grid)[:MAX_WAYS_OUT]
    if not ways:
        return f"{text}. Nothing that this grid varies has a smaller gap."
    gap = difference(fit.gap, ACCURACY)
    shown = "; ".join(_way_out(way, grid.metric) for way in ways)
    return f"{text}. Its gap is {gap} points. Smaller ones in this grid: {shown}."


def _way_out(way: WayOut, metric: Metric) -> str:
    figure = metric.points(difference(way.val_difference, metric))
    return (
        f"{way.axis} {way.value} {difference(way.gap, ACCURACY)} points (validation "
        f"{metric.label} {figure})"
    )
