"""Whatever a disk or a kill does to the journal, the search goes on from what can be read."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from bench.tuning.journal import open_journal
from tests.damage import DAMAGES, damage, flip

STUDY = "study"


def search(path: Path, trials: int) -> list[str]:
    """Add finished trials to the study in the journal; what was noted."""
    notes: list[str] = []
    study = optuna.create_study(
        study_name=STUDY, storage=open_journal(path, notes.append), load_if_exists=True
    )
    for _ in range(trials):
        trial = study.ask()
        trial.suggest_float("lr", 0, 1)
        study.tell(trial, 0.5)
    return notes


def finished(path: Path) -> int:
    """How many trials are finished, by Optuna alone."""
    storage = JournalStorage(JournalFileBackend(str(path)))
    return len(optuna.load_study(study_name=STUDY, storage=storage).get_trials())


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "tuning.journal"
    assert search(path, 3) == []
    return path


def test_optuna_reads_it_and_every_entry_has_a_checksum(journal: Path) -> None:
    assert finished(journal) == 3
    assert all("crc32" in json.loads(line) for line in journal.read_text().splitlines())
    assert [path.name for path in journal.parent.glob("[!.]*")] == ["tuning.journal"]


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_last_entry_that_was_cut_short_goes(journal: Path, cut: int) -> None:
    journal.write_bytes(journal.read_bytes()[:-cut])
    (note,) = search(journal, 1)
    assert note.endswith(
        "was cut short and is removed: the search continues from the entries before it"
    )
    assert finished(journal) == 4
    assert search(journal, 0) == []
    assert [path.name for path in journal.parent.glob("[!.]*")] == ["tuning.journal"]


def test_nothing_is_written_behind_what_another_process_left(journal: Path) -> None:
    study = optuna.load_study(study_name=STUDY, storage=open_journal(journal, pytest.fail))
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    study.set_user_attr("name", "value")
    assert search(journal, 0) == []


@pytest.mark.parametrize("how", DAMAGES)
def test_it_is_mended_whatever_has_become_of_it(journal: Path, how: str) -> None:
    damage(journal, how)
    notes = search(journal, 2)
    assert len(notes) == (0 if how == "empty" else 1)
    assert finished(journal) >= 2
    assert search(journal, 0) == []


def test_a_flipped_bit_in_the_middle_keeps_what_stands_before_it(journal: Path) -> None:
    content = journal.read_bytes()
    flip(journal, content.rindex(b'"values":[0.5]') + 11)  # a number becomes another
    damaged = journal.read_bytes()
    (note,) = search(journal, 0)
    assert "is damaged in entry" in note
    assert "kept as tuning.journal.damaged" in note
    assert journal.with_name("tuning.journal.damaged").read_bytes() == damaged
    *kept, _ = journal.read_bytes().splitlines(keepends=True)  # the last one is new
    assert content.startswith(b"".join(kept))
    assert finished(journal) == 3


def test_a_folder_in_its_place_and_nothing_at_all(journal: Path) -> None:
    journal.unlink()
    journal.mkdir()
    (note,) = search(journal, 1)
    assert "was a folder" in note
    assert finished(journal) == 1
    journal.unlink()
    assert search(journal, 1) == []
    assert finished(journal) == 1


def test_entries_of_earlier_versions_are_read_and_need_not_make_sense(tmp_path: Path) -> None:
    path = tmp_path / "tuning.journal"
    storage = JournalStorage(JournalFileBackend(str(path)))
    optuna.create_study(study_name=STUDY, storage=storage).enqueue_trial({"lr": 0.1})
    assert search(path, 1) == []
    path.write_text('{"nonsense":1}\n')
    (note,) = search(path, 1)
    assert "cannot be replayed" in note
    assert finished(path) == 1
