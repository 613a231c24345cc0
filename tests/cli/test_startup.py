"""Signals at moments of the start of real commands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.startup_signals import COMMANDS, sweep


@pytest.mark.campaign
@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_every_signal_ends_the_command_that_it_is_sent_to(tmp_path: Path) -> None:
    found = sweep(2 * len(COMMANDS), seed=0, work=tmp_path)
    assert [moment for moment in found if moment.fault] == []
    assert {moment.phase for moment in found} & {"loading"}
