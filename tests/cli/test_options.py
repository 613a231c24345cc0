"""Options that commands share are written once."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

import bench
from bench.cli.options import OPTIONS, takes_options
from bench.runs.options import ProcessKeywords, RunKeywords, RunOptions, SelectionKeywords

COMMANDS = {
    "run": RunKeywords,
    "tune": ProcessKeywords,
    "plan": RunKeywords,
    "advise": SelectionKeywords,
    "lr_find": SelectionKeywords,
    "audit": ProcessKeywords,
}
TAKEN_AS = {Sequence[str]: list[str], str | Path: str}


def test_a_command_gets_the_options_as_the_call_takes_them() -> None:
    seen: list[Any] = []

    @takes_options(RunKeywords)
    def command(word: str, times: int = 1, **options: Unpack[RunKeywords]) -> None:
        """Say what was given."""
        seen.extend([word, times, RunOptions(**options)])

    app = typer.Typer()
    app.command()(command)
    arguments = ["hello", "--out", "there", "--set", "a=1", "--set", "b=2", "--no-reuse"]
    result = CliRunner().invoke(app, [*arguments, "--times", "3"])
    assert result.exit_code == 0, result.output
    assert seen == [
        "hello",
        3,
        RunOptions(out="there", overrides=["a=1", "b=2"], only=[], reuse=False),
    ]
    seen.clear()
    assert CliRunner().invoke(app, ["hello"]).exit_code == 0
    assert seen == ["hello", 1, RunOptions(overrides=[], only=[])]


def test_the_help_is_that_of_the_command() -> None:
    from bench.cli.run import run

    assert run.__name__ == "run"
    assert run.__doc__ == (
        "Train the trials that are not complete, then write tables, plots and a report."
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_what_the_call_takes(name: str) -> None:
    """The same options, of the same types and with the same defaults."""
    command = inspect.signature(getattr(importlib.import_module(f"bench.cli.{name}"), name))
    call = inspect.signature(getattr(bench, name))
    hints = get_type_hints(COMMANDS[name])
    assert set(command.parameters) - {"plugins"} == set(call.parameters) - {"reporter"}
    for option, kind in hints.items():
        taken, default = command.parameters[option], call.parameters[option].default
        assert get_args(taken.annotation)[0] == TAKEN_AS.get(kind, kind)
        assert call.parameters[option].annotation == kind
        assert taken.default == ([] if default == () else default)


def test_keywords_and_data_class_say_the_same() -> None:
    hints = get_type_hints(RunOptions)
    assert get_type_hints(RunKeywords) == hints
    assert list(OPTIONS) == [field.name for field in fields(RunOptions)]
