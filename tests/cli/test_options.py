"""Options that commands share are written once."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from bench.cli.options import ProcessOptions, SuiteOptions, TrialOptions, takes_options

COMMANDS = ("run", "tune", "plan", "lr_find")


def test_a_data_class_stands_for_its_fields() -> None:
    seen: list[Any] = []

    def command(word: str, place: SuiteOptions, trials: TrialOptions, times: int = 1) -> None:
        """Say what was given."""
        seen.extend([word, place, trials, times])

    app = typer.Typer()
    app.command()(takes_options(command))
    arguments = ["hello", "--out", "there", "--set", "a=1", "--set", "b=2", "--no-reuse"]
    result = CliRunner().invoke(app, [*arguments, "--times", "3"])
    assert result.exit_code == 0, result.output
    assert seen == [
        "hello",
        SuiteOptions(out="there", overrides=["a=1", "b=2"]),
        TrialOptions(no_reuse=True),
        3,
    ]
    assert seen[1].arguments() == {"out": "there", "device": "auto", "overrides": ["a=1", "b=2"]}
    assert seen[2].arguments() == {"only": (), "reuse": False, "retry": None}


def test_the_help_is_that_of_the_command() -> None:
    from bench.cli.run import run

    assert run.__name__ == "run"
    assert run.__doc__ == "Train what is not complete, then write tables, plots and a report."


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_take_the_same_options_of_the_same_name(name: str) -> None:
    """A shared option has one help text and one default, whichever command takes it."""
    import importlib

    command = getattr(importlib.import_module(f"bench.cli.{name}"), name)
    shared = {
        field.name: (
            _spelled(get_type_hints(group, include_extras=True)[field.name]),
            field.default,
        )
        for group in (SuiteOptions, ProcessOptions, TrialOptions)
        for field in fields(group)
    }
    taken = inspect.signature(command).parameters
    assert {"suite", "out", "device", "overrides"} <= set(taken)
    for option in set(taken) & set(shared):
        assert (_spelled(taken[option].annotation), taken[option].default) == shared[option]


def _spelled(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """The type, and all that typer shows."""
    kind, option = get_args(annotation)
    return kind, vars(option)
