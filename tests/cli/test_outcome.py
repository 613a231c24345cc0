"""What the terminal says of trials that failed."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import typer

from bench.cli.outcome import MAX_REASON, exit_with_failures

OFFLINE = "the weights cannot be downloaded from https://x.y/z: no network"


def told(errors: Sequence[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines for trials that failed with these errors, beside a complete one."""
    rows = [{"status": "failed", "error": error, "started": None} for error in errors]
    trials = pd.DataFrame([{"status": "complete", "error": None, "started": None}, *rows])
    result: Any = SimpleNamespace(trials=trials)
    with pytest.raises(typer.Exit) as caught:
        exit_with_failures(result, "again")
    assert caught.value.exit_code == 1
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([OFFLINE] * 6, [f"all of them: {OFFLINE}"]),
        ([OFFLINE, "diverged", OFFLINE], [f"2 of them: {OFFLINE}"]),
        ([OFFLINE, "diverged"], []),
        ([OFFLINE], [OFFLINE]),
        (["two\n  lines [red]"] * 2, ["all of them: two lines [red]"]),
    ],
)
def test_a_reason_of_most_trials_is_told_once(
    errors: list[str], reason: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, *rest = told(errors, capsys)
    count = "1 trial" if len(errors) == 1 else f"{len(errors)} trials"
    assert first == f"{count} failed; their errors are in the report"
    assert rest == reason


def test_a_long_reason_is_one_short_line_without_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = "https://me:secret@x.y/z"
    _, line = told([f"{secret} " + "long " * 1000 + "do this"] * 2, capsys)
    assert len(line) <= MAX_REASON + len("all of them: ")
    assert "secret@" not in line
    assert line.endswith("do this")
