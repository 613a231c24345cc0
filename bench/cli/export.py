"""`bench export`: a trained trial as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from bench.cli.console import error_console, out_console
from bench.cli.options import Plugins, RunArgument, load_plugins
from bench.cli.outcome import interruptible

if TYPE_CHECKING:
    from bench.prediction.export import Exported


def export(
    run: RunArgument,
    format: Annotated[str, typer.Option(help="safetensors, torch-export or onnx.")] = "onnx",
    trial: Annotated[
        str | None,
        typer.Option(
            metavar="TRIAL", help="First characters of a trial's id. Default: the recommended one."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Default: export/FORMAT in the run folder."),
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="inside: the file takes RGB images of any size; beside: it takes tensors as "
            "preprocessing.json says. Default: inside, if the format allows it."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="fp32 or fp16.")] = "fp32",
    plugin: Plugins = None,
) -> None:
    """Export a trained trial to a file for other programs, check it and write a model card."""
    load_plugins(plugin)
    import bench

    with interruptible("interrupted; no file was left in part"), error_console.status("exporting"):
        found = bench.export(
            run, trial, format=format, out=out, preprocessing=preprocessing, dtype=dtype
        )
    _show(found)


def _show(found: Exported) -> None:
    check = found.check
    error_console.print(escape(str(found.chosen)), highlight=False)
    if check.missing is not None:
        error_console.print(
            f"[yellow]checked on generated samples[/]: {escape(check.missing)}", highlight=False
        )
    out_console.print(_figures(found), highlight=False)
    for path in (found.model, found.preprocessing, found.card):
        if path is not None:
            out_console.print(escape(str(path)), highlight=False)


def _figures(found: Exported) -> Table:
    check = found.check
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column()
    rows = {
        "checked": f"{check.runtime}, {check.samples:,} samples, {found.dtype}",
        "largest difference": f"{check.logit_difference:.2g} (logits), "
        f"{check.probability_difference:.2g} (probabilities)",
    }
    if check.changed_labels is None:
        rows["largest difference"] = f"{check.logit_difference:.2g} standard deviations"
    else:
        rows["labels that change"] = f"{check.changed_labels:,}"
    if check.accuracy is not None and check.trial_accuracy is not None:
        rows["accuracy"] = (
            f"{100 * check.accuracy:.1f} % (the trial in fp32: {100 * check.trial_accuracy:.1f} %)"
        )
    if check.figure is not None and check.trial_figure is not None:
        rows[str(check.metric)] = (
            f"{check.figure:.4g} (the trial in fp32: {check.trial_figure:.4g})"
        )
    if check.resized is not None and check.changed_labels is None:
        rows["with its own resize"] = (
            f"{check.resized.logit_difference:.2g} standard deviations, of "
            f"{check.resized.images:,} images"
        )
    elif check.resized is not None:
        rows["with its own resize"] = (
            f"{check.resized.logit_difference:.2g} (logits), {check.resized.changed_labels:,} "
            f"labels change, of {check.resized.images:,} images"
        )
    rows["size"] = f"{found.bytes / 2**20:.1f} MiB"
    rows["milliseconds a sample"] = (
        f"{check.milliseconds:.2f} in batches of 64, {check.milliseconds_alone:.2f} alone "
        f"(the trial itself: {check.trial_milliseconds:.2f})"
    )
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table
