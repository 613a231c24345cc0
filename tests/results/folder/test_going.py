"""Runs that are read while they go on, or after they were killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import BenchError
from bench.results.folder import Run, read_run
from bench.results.folder.lock import other_writer
from bench.results.folder.planned import read_planned, write_planned
from bench.results.report.shown import show
from tests.made_up_run import made_up_run

TABLES = ("trials", "curves", "predictions")


@pytest.fixture
def other_process() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield process.pid
    finally:
        process.communicate(b"\n")


def write_holder(folder: Path, pid: object, **changes: object) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"pid": pid, "host": socket.gethostname(), "since": now, **changes}
    (folder / ".lock.json").write_text(json.dumps(holder))


def begun(tmp_path: Path) -> Run:
    """A run whose parts are there, and none of its tables."""
    run = made_up_run(tmp_path / "mine", strategies=["full_finetune", "from_scratch"], seeds=2)
    for name in TABLES:
        (run.folder / f"{name}.parquet").unlink()
    return run


def test_a_run_that_goes_on_is_read_from_its_parts(tmp_path: Path, other_process: int) -> None:
    run = begun(tmp_path)
    ids = list(run.trials["trial"])
    write_planned(run.folder, [ids[3], "later", ids[1]])
    write_holder(run.folder, other_process)
    before = sorted(path.name for path in run.folder.iterdir())
    found = read_run(run.folder)
    assert found.going is not None
    assert f"process {other_process} on " in found.going
    assert list(found.trials["trial"]) == [ids[3], ids[1]]
    assert found.num_trials == 3
    assert set(found.curves["trial"]) == set(found.predictions["trial"]) == {ids[3], ids[1]}
    said = " ".join(str(show(run.folder)).split())
    assert "still going (process " in said
    assert "2 of 3 trials have ended; the verdict comes when it is done" in said
    assert "Use:" not in said
    assert sorted(path.name for path in run.folder.iterdir()) == before, "no look is spent"


def test_older_tables_are_not_shown_for_those_of_a_run_that_goes_on(
    tmp_path: Path, other_process: int
) -> None:
    run = made_up_run(tmp_path / "mine", strategies=["full_finetune"], seeds=2)
    ids = list(run.trials["trial"])
    write_planned(run.folder, ids[:1])
    assert len(read_run(run.folder).trials) == len(ids)
    write_holder(run.folder, other_process)
    assert list(read_run(run.folder).trials["trial"]) == ids[:1]


def test_a_run_that_was_killed_before_it_had_tables_is_read_from_its_parts(tmp_path: Path) -> None:
    run = begun(tmp_path)
    found = read_run(run.folder)
    assert (found.going, found.num_trials) == (None, len(run.trials))
    for name in TABLES:
        one, other = getattr(found, name), getattr(run, name)
        keys = [key for key in ("trial", "epoch", "split", "sample") if key in one]
        pd.testing.assert_frame_equal(
            one.sort_values(keys, ignore_index=True), other.sort_values(keys, ignore_index=True)
        )


def test_before_a_trial_has_ended_there_is_nothing_to_read(
    tmp_path: Path, other_process: int
) -> None:
    write_holder(tmp_path, other_process)
    with pytest.raises(
        BenchError, match=r"still going \(process .*no trial has ended yet; try again"
    ):
        read_run(tmp_path)
    (tmp_path / "parts").mkdir()
    with pytest.raises(BenchError, match="no trial has ended yet; try again later"):
        read_run(tmp_path)
    (tmp_path / ".lock.json").unlink()
    with pytest.raises(BenchError, match=r"no trial has ended yet in .*run the suite again"):
        read_run(tmp_path)


def test_who_writes_is_known_while_it_lives(tmp_path: Path, other_process: int) -> None:
    assert other_writer(tmp_path) is None
    write_holder(tmp_path, os.getpid())
    assert other_writer(tmp_path) is None, "this process is no other"
    write_holder(tmp_path, other_process)
    assert str(other_writer(tmp_path)).startswith(f"process {other_process} on ")
    write_holder(tmp_path, other_process, since="2020-01-01T00:00:00+00:00")
    assert other_writer(tmp_path) is None, "another process had the number then"
    write_holder(tmp_path, 2**22 + 1)
    assert other_writer(tmp_path) is None
    write_holder(tmp_path, 1, host="another-machine")
    assert "another-machine" in str(other_writer(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b"\xff", b'{"pid": "x", "host": 3, "since": []}', b"[" * 5000]
)
def test_what_says_nothing_names_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lock.json").write_bytes(content)
    said = other_writer(tmp_path)
    assert said is None or "on 3" in said


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"trials": 3}', '{"trials": [3]}', '{"trials": ["../x"]}']
)
def test_damaged_plans_are_not_known(tmp_path: Path, content: str) -> None:
    (tmp_path / "planned.json").write_text(content)
    assert read_planned(tmp_path) is None
    write_planned(tmp_path, ["a", "b"])
    assert read_planned(tmp_path) == ("a", "b")
