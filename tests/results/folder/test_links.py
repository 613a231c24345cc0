"""A stranger's run folder changes nothing outside of it, whatever links lie in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.results.folder import RunLock, RunStore, refuse_links
from bench.results.report import write_report
from tests.made_up_run import made_up_run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")

FOLDERS = ("parts", "checkpoints", "logs", "plots", "plots/trials", "tables", "tensorboard")
CHANGED = (".lock", ".tuning.lock", ".grid.lock", "tuning.journal", "plots/curves.png")
REPLACED = (".lock.json", "environment.json", "trials.parquet", "report.html", "verdict.json")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "file").write_text("mine")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def put_link(run: Path, name: str, target: Path) -> Path:
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("there", [True, False])
def test_a_linked_folder_is_refused_by_name(run: Path, mine: Path, name: str, there: bool) -> None:
    link = put_link(run, name, mine if there else mine / "nothing")
    with pytest.raises(
        BenchError, match="is a link, and a run must not write through links"
    ) as caught:
        RunLock(run).acquire()
    assert str(link) in str(caught.value)
    assert [path.name for path in mine.iterdir()] == ["file"]
    assert not (run / ".lock").exists()


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("hard", [True, False])
def test_a_linked_file_that_would_be_changed_is_refused(
    run: Path, mine: Path, name: str, hard: bool
) -> None:
    if hard and name == "tuning.journal":
        pytest.skip("it is copied before it is opened")
    if hard:
        (run / name).parent.mkdir(parents=True)
        os.link(mine / "file", run / name)
    else:
        put_link(run, name, mine / "file")
    with pytest.raises(BenchError, match="is a link"):
        RunLock(run).acquire()
    assert (mine / "file").read_text() == "mine"


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.campaign
def test_a_linked_file_that_is_written_as_a_whole_is_replaced(
    tmp_path: Path, mine: Path, name: str
) -> None:
    made = made_up_run(tmp_path / "run", schedules=("cosine",), seeds=1)
    (made.folder / name).unlink(missing_ok=True)
    put_link(made.folder, name, mine / "file")
    refuse_links(made.folder)
    lock = RunLock(made.folder)
    lock.acquire()
    RunStore(made.folder).consolidate(made.trials["trial"].tolist())
    write_report(made, figures={})
    lock.release()
    assert (mine / "file").read_text() == "mine"


def test_the_run_folder_itself_may_be_a_link(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "run").symlink_to(mine)
    refuse_links(tmp_path / "run")


def test_a_linked_journal_is_not_continued(run: Path, mine: Path) -> None:
    from bench.tuning.journal import open_journal

    run.mkdir()
    (mine / "file").write_text("")
    os.link(mine / "file", run / "tuning.journal")
    open_journal(run / "tuning.journal", pytest.fail).create_new_study([])
    assert (mine / "file").read_text() == ""
    assert (run / "tuning.journal").read_text()
