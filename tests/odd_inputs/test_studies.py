"""What another library keeps for a search: `tuning.journal` and databases, and how they break."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bench
from bench.errors import BenchError
from tests.odd_inputs.conftest import suite_of
from tests.odd_inputs.test_suites import FRACTALS

SEARCH = {"space": {"lr": [0.01, 0.03, 0.1]}, "trials": 2, "batch": 1, "seeds": [1000]}
JOURNAL = "tuning.journal"

pytestmark = pytest.mark.xdist_group("searched")  # one search for all


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The results of a search that has come to its end."""
    out = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run.write_report", lambda *_, **__: None)
        search(out)
        yield out


def search(out: Path | str, **options: Any) -> bench.Run:
    return bench.tune(suite_of(FRACTALS, tune=SEARCH), out=out, device="cpu", workers=1, **options)


@pytest.fixture
def out(searched: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of them, as most people name it: `results` below the current folder."""
    monkeypatch.setattr("bench.runs.run.write_report", lambda *_, **__: None)
    shutil.copytree(searched, "results")
    return "results"


def journal(out: str) -> Path:
    (found,) = Path(out).rglob(JOURNAL)
    return found


def goes_on_or_is_refused_by_name(out: str) -> None:
    """Twice: what was mended stays so, and what was refused for good would be a dead end."""
    for _ in range(2):
        refusal = None
        try:
            assert set(search(out).trials["status"]) == {"complete"}
        except BenchError as error:
            refusal = str(error)
        if refusal is not None:
            assert JOURNAL in refusal
            assert re.search("remove|delete|move|rename", refusal)


def test_a_whole_journal_is_gone_on_with(out: str) -> None:
    before = journal(out).read_bytes()
    assert set(search(out).trials["status"]) == {"complete"}
    assert journal(out).read_bytes().startswith(before)


def test_a_line_in_the_middle_that_is_no_json_any_more(out: str) -> None:
    lines = journal(out).read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    lines[middle] = b"\x7f" + lines[middle][1:]
    journal(out).write_bytes(b"".join(lines))
    goes_on_or_is_refused_by_name(out)


def test_a_power_cut_leaves_a_torn_line_and_zeros(out: str) -> None:
    content = journal(out).read_bytes()
    journal(out).write_bytes(content[:-20] + bytes(4096))
    for _ in range(2):
        assert set(search(out).trials["status"]) == {"complete"}


def test_line_ends_of_windows(out: str) -> None:
    journal(out).write_bytes(journal(out).read_bytes().replace(b"\n", b"\r\n"))
    assert set(search(out).trials["status"]) == {"complete"}


def test_a_database_that_is_none(out: str) -> None:
    Path("study.db").write_bytes(b"no database at all " * 400)
    with pytest.raises(BenchError, match=r"study\.db"):
        search(out, storage="sqlite:///study.db")


def test_the_lock_of_a_process_that_was_killed(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Optuna makes it: a link to the path of the journal, which leads nowhere from there."""
    path = journal(out)
    path.with_name(f"{JOURNAL}.lock").symlink_to(path)
    clock = _FastClock()
    monkeypatch.setattr("optuna.storages.journal._file.time", clock.module, raising=False)
    more = suite_of(FRACTALS, tune={**SEARCH, "trials": 3})
    found = bench.tune(more, out=out, device="cpu", workers=1)
    assert set(found.trials["status"]) == {"complete"}


class _FastClock:
    """Time that passes when somebody looks at it, so that nobody waits; it ends after an hour."""

    def __init__(self) -> None:
        self.now = 0.0
        self.module = SimpleNamespace(monotonic=self.look, time=self.look, sleep=self.sleep)

    def look(self) -> float:
        self.sleep(0.1)
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 3600, "it waits for a lock that nobody holds"
