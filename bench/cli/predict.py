"""`bench predict`: classify images or texts with a trained trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from bench.cli.console import error_console, out_console
from bench.cli.options import Plugins, RunArgument, load_plugins
from bench.cli.outcome import interruptible
from bench.errors import counted
from bench.system.visible_text import visible

if TYPE_CHECKING:
    from bench.prediction.classify import Predictions
    from bench.prediction.samples import Predicted

MAX_ROWS = 100
MAX_NAMED = 10
MAX_NAME = 50
TOLD_EVERY = 16
MAX_TARGETS = 8
"""Columns of targets; files have all."""
MAX_CLASSES = 12
"""Classes of which a confusion table is shown."""


def predict(
    run: RunArgument,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH…",
            help="Images, folders, zip archives, CSV files with a column of paths; - reads paths "
            "from standard input. Of a trial of texts: a text, a file with a text a line (.txt), a "
            "table (.csv, .tsv, .jsonl, .parquet), a folder of .txt files; - reads a text a line.",
        ),
    ],
    trial: Annotated[
        str | None,
        typer.Option(
            metavar="TRIAL", help="First characters of a trial's id. Default: the recommended one."
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of a table that has the texts."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all rows to a .csv, .parquet or .jsonl file."),
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, help="Show this many of the most probable classes.")
    ] = 1,
    min_confidence: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Show `unsure` if the most probable class is less probable than this.",
        ),
    ] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    plugin: Plugins = None,
) -> None:
    """Classify images or texts with a trained trial: by default the one of the verdict.

    A trial of another task says numbers, or all labels of a sample.
    """
    load_plugins(plugin)
    from bench.prediction.classify import check_out, classify
    from bench.prediction.load import load

    def tell(done: int) -> None:
        if done % TOLD_EVERY == 0:
            status.update(f"{done:,} classified")

    with interruptible("interrupted; no file was left in part"):
        if out is not None:
            check_out(out, run, paths)
        model = load(run, trial, device=device)
        model.outputs.check_confidence("--min-confidence", min_confidence)
        model.outputs.check_top("--top", top)
        error_console.print(f"{escape(str(model.chosen))}", highlight=False)
        with error_console.status("") as status:
            found = classify(
                model,
                model.samples(paths, column=column),
                out=out,
                min_confidence=min_confidence,
                progress=tell,
            )
    _show(found, top)
    if found.cut:
        most = model.preprocessing.size
        error_console.print(
            f"of {found.cut:,} of {counted(found.count, 'text')} the network does not see the end: "
            f"it takes {most:,} tokens",
            highlight=False,
        )
    if found.failures:
        raise typer.Exit(1)


def _show(found: Predictions, top: int) -> None:
    if found.out is None:
        _show_rows(found, top)
    elif found.count > 1 and found.by_class:
        _show_counts(found)
    if found.labelled:
        _show_labelled(found)
    if found.out is not None:
        out_console.print(f"{found.count:,} rows: {escape(str(found.out))}", highlight=False)
    if found.failures:
        named = [f"{each.name}: {each.failure}" for each in found.failed[:MAX_NAMED]]
        for line in named:
            error_console.print(f"[red]not read[/] {escape(line)}", highlight=False)
        if found.failures > len(named):
            error_console.print(f"… and {found.failures - len(named):,} more", highlight=False)


def _show_rows(found: Predictions, top: int) -> None:
    """The first samples that could be read, as what is predicted asks for."""
    shown = [each for each in found.first if each.failure is None][:MAX_ROWS]
    if shown:
        table = {
            "classification": _table_of_classes,
            "regression": _table_of_values,
            "multi_label": _table_of_labels,
        }[found.outputs.task.name](found, shown, top)
        out_console.print(table, highlight=False)
    rest = found.count - found.failures - len(shown)
    if rest:
        out_console.print(f"… and {rest:,} more; --out FILE keeps all of them", highlight=False)


def _table_of_classes(found: Predictions, shown: Sequence[Predicted], top: int) -> Table:
    from bench.prediction.classify import ranked
    from bench.prediction.outputs import UNSURE

    table = Table(box=None, pad_edge=False)
    for name in (_what(shown), "class", "confidence"):
        table.add_column(name, justify="right" if name == "confidence" else "left")
    for each in shown:
        best = ranked(each, found.classes, top)
        for number, (name, probability) in enumerate(best):
            unsure = number == 0 and probability < found.min_confidence
            text = f"{UNSURE} ({name}?)" if unsure else name
            first = _shortened(each) if number == 0 else ""
            table.add_row(escape(first), escape(text), f"{100 * probability:.1f} %")
    return table


def _table_of_values(found: Predictions, shown: Sequence[Predicted], top: int) -> Table:
    """A column for each target."""
    table = Table(box=None, pad_edge=False)
    table.add_column(_what(shown))
    for name in found.outputs.names[:MAX_TARGETS]:
        table.add_column(escape(name), justify="right")
    for each in shown:
        values = () if each.probabilities is None else each.probabilities[:MAX_TARGETS]
        table.add_row(escape(_shortened(each)), *(f"{value:.5g}" for value in values))
    return table


def _table_of_labels(found: Predictions, shown: Sequence[Predicted], top: int) -> Table:
    """The labels that each gets, and with `--top` the most probable ones, given or not."""
    from bench.prediction.classify import ranked

    table = Table(box=None, pad_edge=False)
    table.add_column(_what(shown))
    table.add_column("labels")
    if top > 1:
        table.add_column("most probable")
    for each in shown:
        assert each.probabilities is not None
        given = ", ".join(found.outputs.labels(each.probabilities)) or "–"
        best = ", ".join(
            f"{name} {100 * probability:.1f} %"
            for name, probability in ranked(each, found.classes, top)
        )
        cells = (_shortened(each), given, *([best] if top > 1 else ()))
        table.add_row(*map(escape, cells))
    return table


def _what(shown: Sequence[Predicted]) -> str:
    return "file" if shown[0].text is None else "text"


def _shortened(each: Predicted) -> str:
    """The end of a long path, which tells it apart from others; of a text its beginning."""
    if each.text is not None:
        start = visible(" ".join(each.text[: 4 * MAX_NAME].split()))
        return start if len(start) <= MAX_NAME else f"{start[: MAX_NAME - 1]}…"
    name = each.name
    return name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}"


def _show_counts(found: Predictions) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column(found.outputs.task.output)
    table.add_column(f"{_what(found.first)}s", justify="right")
    for name, number in found.by_class.most_common():
        table.add_row(escape(name), f"{number:,}")
    out_console.print(table, highlight=False)


def _show_labelled(found: Predictions) -> None:
    """Where folders are named like classes: how often they are right."""
    assert found.accuracy is not None
    assert found.interval is not None
    low, high = found.interval
    total = found.labelled.total()
    out_console.print(
        f"{total:,} files lie in folders named like classes: {100 * found.accuracy:.1f} % of them "
        f"get the class of their folder (95 % interval: {100 * low:.1f} to {100 * high:.1f})",
        highlight=False,
    )
    labels = [name for name in found.classes if any(name == label for label, _ in found.labelled)]
    columns = [name for name in (*found.classes, "unsure") if found.by_class[name]]
    if len(labels) > MAX_CLASSES or len(columns) > MAX_CLASSES:
        return
    table = Table(box=None, pad_edge=False, title="folder ↓, predicted →", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(escape(name), justify="right")
    for label in labels:
        counts = (found.labelled[label, name] for name in columns)
        table.add_row(escape(label), *(f"{number:,}" for number in counts))
    out_console.print(table, highlight=False)
