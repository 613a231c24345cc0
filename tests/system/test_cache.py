"""The cache: everything in it appears whole or not at all."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.system.cache import STALE_SECONDS, atomic_file, atomic_folder, cache_root


def test_cache_root_is_the_folder_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "a" / "b"))
    assert cache_root() == tmp_path / "a" / "b"
    assert cache_root().is_dir()


def test_relative_cache_root_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", "cache")
    assert cache_root() == tmp_path / "cache"


@pytest.mark.skipif(os.name != "posix", reason="the variable is that of Linux")
def test_cache_root_defaults_to_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root().is_relative_to(tmp_path)
    assert cache_root().name == "bench"


def test_atomic_file_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "file.txt"
    for content in ("one", "two"):
        with atomic_file(final) as temporary:
            temporary.write_text(content)
        assert final.read_text() == content
    assert [path.name for path in final.parent.iterdir()] == ["file.txt"]


def test_failed_atomic_file_keeps_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "file.txt"
    final.write_text("old")

    def fail() -> None:
        with atomic_file(final) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_finished_files_have_the_permissions_of_ordinary_ones(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    (tmp_path / "ordinary-folder").mkdir()
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "ordinary-folder").stat().st_mode


def test_atomic_folder_appears_on_success_only(tmp_path: Path) -> None:
    final = tmp_path / "folder"

    def fail() -> None:
        with atomic_folder(final) as temporary:
            (temporary / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(final) as temporary:
        (temporary / "file").write_text("x")
        assert not final.exists()
    assert (final / "file").read_text() == "x"
    assert list(tmp_path.iterdir()) == [final]


def test_the_faster_process_wins(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    with atomic_folder(final) as slow:
        with atomic_folder(final) as fast:
            (fast / "who").write_text("fast")
        (slow / "who").write_text("slow")
    assert (final / "who").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_not_worth_keeping_is_replaced(tmp_path: Path) -> None:
    final = tmp_path / "folder"
    final.mkdir()
    (final / "who").write_text("damaged")
    with atomic_folder(final, keep=lambda there: (there / "who").read_text() == "good") as new:
        (new / "who").write_text("good")
    assert (final / "who").read_text() == "good"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are two steps")
def test_a_folder_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who looks, or is killed, ever finds neither the old one nor the new one."""
    final, ended = tmp_path / "folder", threading.Event()
    final.mkdir()
    missing = []

    def look() -> None:
        while not ended.is_set():
            missing.append(not final.is_dir())

    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(100):
        with atomic_folder(final, keep=lambda _: False) as new:
            (new / "who").write_text(str(number))
    ended.set()
    watcher.join()
    assert not any(missing)
    assert (final / "who").read_text() == "99"
    assert list(tmp_path.iterdir()) == [final]
    # A system that cannot do so takes two steps.
    monkeypatch.setattr(sys, "platform", "other")
    with atomic_folder(final, keep=lambda _: False) as new:
        (new / "who").write_text("last")
    assert (final / "who").read_text() == "last"
    assert list(tmp_path.iterdir()) == [final]


def test_many_writers_of_one_folder_leave_one_whole_folder(tmp_path: Path) -> None:
    final = tmp_path / "folder"

    def write(who: int) -> None:
        with atomic_folder(final, keep=lambda there: len(list(there.iterdir())) == 5) as new:
            for index in range(5):
                (new / str(index)).write_text(str(who))

    final.mkdir()
    threads = [threading.Thread(target=write, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(final / str(index)).read_text() for index in range(5)}) == 1
    assert list(tmp_path.iterdir()) == [final]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    final = tmp_path / "images[1]"
    old = tmp_path / f".{final.name}.partial-{'0' * 32}"
    young = tmp_path / f".{final.name}.partial-{'1' * 32}"
    somebodys = tmp_path / ".thesis.partial-backup of May"
    for leftover in (old, young, somebodys):
        leftover.mkdir()
        (leftover / "part").write_text("")
    for leftover in (old, somebodys):
        os.utime(leftover, (time.time() - STALE_SECONDS - 60,) * 2)
    with atomic_folder(final):
        pass
    assert young.exists()
    assert somebodys.exists()
    assert not old.exists()


def test_a_folder_in_the_place_of_a_file_goes_in_the_cache_and_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    for place in (tmp_path / "cache" / "x.json", tmp_path / "out" / "x.json"):
        for number in (1, 2):
            (place / "inside").mkdir(parents=True)
            with atomic_file(place) as temporary:
                temporary.write_text(str(number))
            assert place.read_text() == str(number)
            place.unlink()
    assert list((tmp_path / "cache").iterdir()) == []
    kept = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert kept == ["x.json.aside", "x.json.aside-2"]


def test_a_folder_that_somebody_has_named_stays(tmp_path: Path) -> None:
    (tmp_path / "mine" / "inside").mkdir(parents=True)
    with (
        pytest.raises(IsADirectoryError) as caught,
        atomic_file(tmp_path / "mine", ours=False) as temporary,
    ):
        temporary.write_text("x")
    assert caught.value.filename == str(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_in_the_place_of_a_folder_of_the_cache_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    (tmp_path / "weights").write_text("a file")
    with atomic_file(tmp_path / "weights" / "fractals" / "x") as temporary:
        temporary.write_text("x")
    with atomic_folder(tmp_path / "weights" / "fractals" / "x") as folder:
        (folder / "y").write_text("y")
    assert (tmp_path / "weights" / "fractals" / "x" / "y").read_text() == "y"
