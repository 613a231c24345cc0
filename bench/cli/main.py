"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import io
import logging
import sys
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from typer.core import TyperGroup

from bench.cli.advise import advise
from bench.cli.audit import audit
from bench.cli.cache import cache
from bench.cli.compare import compare
from bench.cli.console import ErrorConsoleHandler, error_console
from bench.cli.doctor import doctor
from bench.cli.export import export
from bench.cli.init import init
from bench.cli.interrupts import interrupts_heard
from bench.cli.list import list_catalogue
from bench.cli.lr_find import lr_find
from bench.cli.plan import plan
from bench.cli.predict import predict
from bench.cli.report import report
from bench.cli.run import run
from bench.cli.schema import schema
from bench.cli.serve import serve
from bench.cli.show import show
from bench.cli.tune import tune
from bench.cli.why import why
from bench.errors import BenchError, MachineError, SuiteError


class _Commands(TyperGroup):
    """An `EOFError` is a mistake of ours like any other: click would but print "Aborted."."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise RuntimeError(f"a file ended where more was expected: {error}") from error


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Benchmark transfer-learning strategies: one suite file in, curves and a report out.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bench {version('bench')}")
        raise typer.Exit()


@app.callback()
def _before_all(
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Log decisions and their reasons to standard error."),
    ] = False,
) -> None:
    logger = logging.getLogger("bench")
    logger.handlers = [ErrorConsoleHandler()] if verbose else []
    logger.setLevel(logging.INFO if verbose else logging.NOTSET)


for command in (run, tune, plan, advise):
    app.command()(command)
app.command("lr-find")(lr_find)
for command in (report, show, why, compare, audit):
    app.command()(command)
for command in (predict, export, serve):
    app.command()(command)
app.command("list")(list_catalogue)
app.command()(schema)
for command in (doctor, cache, init):
    app.command()(command)


def _fail(error: BenchError, *, code: int = 2) -> NoReturn:
    if isinstance(error, SuiteError):
        for problem in error.problems:
            error_console.print(f"[red]error[/] {escape(str(problem))}", highlight=False)
    else:
        error_console.print(f"[red]error[/] {escape(str(error))}", highlight=False)
    sys.exit(code)


def main() -> None:
    """Entry point: user errors are messages with exit code 2, an interrupt is 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding does not have is no reason to end.
            stream.reconfigure(errors="backslashreplace")
    with interrupts_heard():
        try:
            app()
        except MachineError as error:
            _fail(error, code=1)
        except BenchError as error:
            _fail(error)
        except OSError as error:
            _fail(MachineError(error), code=1)
        except Exception as error:
            from bench.suite.plugins import plugin_failure

            failure = plugin_failure(error)
            if failure is None:
                raise
            _fail(failure)
