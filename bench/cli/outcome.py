"""How a command that trains ends: the ranking, the verdict, where the report is, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from bench.cli.console import error_console, out_console
from bench.cli.interrupts import INTERRUPTED
from bench.errors import bounded, counted, without_secrets
from bench.system.object_store import is_url

if TYPE_CHECKING:
    from bench.results.folder import Run

MAX_REASON = 300
"""Letters of a reason why trials failed: the report has all of it."""


@contextmanager
def interruptible(
    told: str = "interrupted; run the same command again to continue from what is finished",
) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        error_console.print(told)
        raise typer.Exit(INTERRUPTED) from None


def show_result(result: Run, out: str | Path) -> None:
    from bench.results.report.terminal import show_verdict

    _show_ranking(result)
    for line in show_verdict(result):
        out_console.print(line, highlight=False)
    for name in ("report.md", "report.html"):
        out_console.print(f"report: {escape(str(result.folder / name))}")
    if is_url(out):
        stored = f"{str(out).rstrip('/')}/{result.folder.name}"
        out_console.print(f"stored: {escape(without_secrets(stored))}")


def exit_with_failures(result: Run, again: str) -> None:
    """Exit with 1 if trials have failed; `again` is the command that tries them once more."""
    failed = result.trials[result.trials["status"] == "failed"]
    if failed.empty:
        return
    text = f"[red]{counted(len(failed), 'trial')} failed[/]; their errors are in the report"
    tried = int(failed["started"].notna().sum())
    if tried:
        command = escape(without_secrets(again))
        text += f"; the next run skips {tried} of them, {command} runs them again"
    error_console.print(text, highlight=False)
    shared = _shared_reason(failed["error"].tolist())
    if shared is not None:
        error_console.print(shared, markup=False, highlight=False)
    raise typer.Exit(1)


def _shared_reason(errors: Sequence[str]) -> str | None:
    """What most of the failed trials have failed for, in one line; None if no reason is so."""
    reason, count = Counter(errors).most_common(1)[0]
    if 2 * count <= len(errors):
        return None
    those = "all of them" if count == len(errors) else f"{count} of them"
    line = bounded(" ".join(without_secrets(reason).split()), MAX_REASON)
    return f"{those}: {line}" if len(errors) > 1 else line


def _show_ranking(result: Run) -> None:
    from bench.results.grid import rank_configs, read_grid

    metric = result.metric
    test = f"test {escape(metric.label)}"
    table = Table("", "cell", test, "± sd", "seeds", box=None, pad_edge=False)
    for config in rank_configs(result.trials, read_grid(result.trials, metric)):
        figure = config.test
        table.add_row(
            str(config.rank),
            escape(config.label),
            metric.compact(figure.mean),
            metric.compact(figure.sd) if figure.n > 1 else "",
            str(figure.n),
        )
    if table.row_count:
        out_console.print(table)
