"""States are needed as long as a trial that passes them is not finished."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.execution.jobs import JobResult
from bench.execution.states_in_use import StatesInUse
from bench.system.lru_folder import LruFolder
from tests.tiny import make_job, make_trial


def _result(trial: str, **values: Any) -> JobResult:
    now = datetime.now(UTC)
    return JobResult(trial_id=trial, started=now, finished=now, **values)


def _in_order_of_leaving(folder: Path) -> list[str]:
    paths = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return [path.name for path in paths]


def test_what_all_have_passed_leaves_first(tmp_path: Path) -> None:
    states = LruFolder(tmp_path, 10**6)
    for key in ("shared", "first", "second", "other"):
        with states.adding(key) as path:
            path.write_bytes(b"x")
    job = make_job(make_trial())
    first = replace(job, trial_id="1", keys=("start", "shared", "first"))
    second = replace(job, trial_id="2", keys=("start", "shared", "second"))
    in_use = StatesInUse([first, second], states)
    in_use.finished(first, _result("1", error="failed"))  # it may go on from its states
    in_use.finished(second, _result("2"))  # stopped on the way
    assert _in_order_of_leaving(tmp_path) == ["shared", "first", "second", "other"]
    outcome: Any = object()
    in_use.finished(second, _result("2", outcome=outcome))
    assert _in_order_of_leaving(tmp_path) == ["second", "shared", "first", "other"]
    in_use.finished(first, _result("1", outcome=outcome))
    assert _in_order_of_leaving(tmp_path)[-1] == "other"
