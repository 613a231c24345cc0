"""The sized cache keeps its limit, its order of use, and its peace with other processes."""

from __future__ import annotations

import mmap
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.system import lru_folder as sized_cache
from bench.system.cache import STALE_SECONDS
from bench.system.lru_folder import LruFolder, cache_limit


def _add(cache: LruFolder, key: str, size: int = 10) -> None:
    with cache.adding(key) as path:
        path.write_bytes(b"x" * size)


def _keys(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_entry_is_found_once_it_is_complete(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path / "deep" / "cache", 100)
    assert cache.find("a") is None
    with cache.adding("a") as path:
        path.write_text("content")
        assert cache.find("a") is None
    found = cache.find("a")
    assert found == tmp_path / "deep" / "cache" / "a"
    assert found.read_text() == "content"


def test_retired_entries_go_first_in_the_order_of_their_use(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 30)
    for key in "abc":
        _add(cache, key)
    for key in ("b", "c", "b", "nowhere"):  # twice is no earlier
        cache.retire(key)
    _add(cache, "d")
    assert _keys(tmp_path) == set("acd")
    _add(cache, "e")
    assert _keys(tmp_path) == set("ade")


def test_a_retired_entry_that_is_used_again_is_as_any_other(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 30)
    for key in "abc":
        _add(cache, key)
    cache.retire("c")
    assert cache.find("c") is not None
    _add(cache, "d")
    assert _keys(tmp_path) == set("bcd")


def test_an_entry_can_be_replaced(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 100)
    _add(cache, "a", 10)
    _add(cache, "a", 20)
    assert (tmp_path / "a").stat().st_size == 20


def test_the_limit_is_kept_and_the_oldest_go_first(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 30)
    for key in "abc":
        _add(cache, key)
    assert _keys(tmp_path) == {"a", "b", "c"}
    _add(cache, "d")
    assert _keys(tmp_path) == {"b", "c", "d"}
    _add(cache, "e", 15)
    assert _keys(tmp_path) == {"d", "e"}


def test_what_was_found_counts_as_used(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 30)
    for key in "abc":
        _add(cache, key)
    assert cache.find("a") is not None
    _add(cache, "d", 20)
    assert _keys(tmp_path) == {"a", "d"}


def test_the_newest_survives_even_above_the_limit(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 30)
    _add(cache, "a")
    _add(cache, "big", 100)
    assert _keys(tmp_path) == {"big"}
    LruFolder(tmp_path, 30).evict()
    assert _keys(tmp_path) == set()


def test_the_copy_of_an_old_file_is_new(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path / "cache", 20)
    old = tmp_path / "old"
    old.write_bytes(b"x" * 10)
    os.utime(old, (1, 1))
    _add(cache, "a")
    with cache.adding("copy") as path:
        shutil.copy2(old, path)
    _add(cache, "b")
    assert _keys(tmp_path / "cache") == {"copy", "b"}


def test_eviction_follows_a_lower_limit(tmp_path: Path) -> None:
    for key in "abc":
        _add(LruFolder(tmp_path, 30), key)
    LruFolder(tmp_path, 10).evict()
    assert _keys(tmp_path) == {"c"}
    LruFolder(tmp_path / "missing", 10).evict()


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 30)

    def fail() -> None:
        with cache.adding("a") as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert cache.find("a") is None
    assert _keys(tmp_path) == set()


def test_failure_keeps_the_older_entry_of_that_name(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 30)
    _add(cache, "a")

    def fail() -> None:
        with cache.adding("a"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert _keys(tmp_path) == {"a"}


def test_what_killed_processes_left_goes_after_a_day(tmp_path: Path) -> None:
    old, young = (tmp_path / f".gone.partial-{digit * 32}" for digit in "12")
    for leftover in (old, young):
        leftover.write_bytes(b"x" * 100)
    os.utime(old, (time.time() - STALE_SECONDS - 60,) * 2)
    _add(LruFolder(tmp_path, 30), "a")
    assert _keys(tmp_path) == {young.name, "a"}


@pytest.mark.parametrize("moment", ["stat", "unlink"])
def test_entries_that_another_process_removes_are_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    for key in "abc":
        _add(LruFolder(tmp_path, 30), key)
    if moment == "stat":
        monkeypatch.setattr(os, "scandir", _then(os.scandir, (tmp_path / "a").unlink))
    else:
        removal = _then(sized_cache._entries, (tmp_path / "a").unlink)
        monkeypatch.setattr(sized_cache, "_entries", removal)
    LruFolder(tmp_path, 20 if moment == "unlink" else 10).evict()
    monkeypatch.undo()  # to list a folder is to scan it since Python 3.13
    assert _keys(tmp_path) == ({"b", "c"} if moment == "unlink" else {"c"})


def _then(listing: Callable[..., object], event: Callable[[], None]) -> Callable[[Path], object]:
    """`listing`, with `event` between the listing and its use."""

    class Listed(list[object]):
        def __enter__(self) -> Listed:
            return self

        def __exit__(self, *error: object) -> None:
            return

    def listed(folder: Path) -> object:
        found = Listed(listing(folder))  # type: ignore[call-overload]
        event()
        return found

    return listed


@pytest.mark.skipif(os.name != "posix", reason="POSIX keeps what is mapped")
def test_a_mapped_entry_outlives_its_eviction(tmp_path: Path) -> None:
    cache = LruFolder(tmp_path, 10)
    _add(cache, "a")
    with (
        (tmp_path / "a").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        _add(cache, "b")
        assert cache.find("a") is None
        assert mapped[:] == b"x" * 10


def test_many_writers_keep_the_limit(tmp_path: Path) -> None:
    def write(who: int) -> None:
        cache = LruFolder(tmp_path, 50)
        for index in range(20):
            _add(cache, f"{who}-{index}")
            cache.find(f"{(who + 1) % 4}-{index}")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    failures: list[object] = []
    hook, threading.excepthook = threading.excepthook, failures.append
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = hook
    assert failures == []
    LruFolder(tmp_path, 50).evict()
    assert 1 <= len(_keys(tmp_path)) <= 5


@pytest.mark.parametrize("key", ["", ".hidden", "a/b", ".."])
def test_keys_are_plain_names(tmp_path: Path, key: str) -> None:
    with pytest.raises(AssertionError):
        LruFolder(tmp_path, 10).find(key)


@pytest.mark.parametrize(
    ("value", "limit"), [(None, 10 << 30), ("", 10 << 30), ("0.5", 1 << 29), ("0", 0)]
)
def test_cache_limit(monkeypatch: pytest.MonkeyPatch, value: str | None, limit: int) -> None:
    monkeypatch.delenv("BENCH_CACHE_GIB", raising=False)
    if value is not None:
        monkeypatch.setenv("BENCH_CACHE_GIB", value)
    assert cache_limit() == limit


@pytest.mark.parametrize("value", ["ten", "-1", "nan", "inf", "10GB"])
def test_nonsense_is_no_cache_limit(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BENCH_CACHE_GIB", value)
    with pytest.raises(BenchError, match=f"BENCH_CACHE_GIB must be a number.*{value!r}"):
        cache_limit()


def test_entries_from_the_future_are_found_and_go_like_others(tmp_path: Path) -> None:
    """The clock was set back: what seemed to be used last is, until it is used again."""
    cache = LruFolder(tmp_path, 30)
    for key in "abc":
        _add(cache, key)
    tomorrow = time.time() + 24 * 3600
    os.utime(tmp_path / "a", (tomorrow, tomorrow))
    _add(cache, "d")
    assert _keys(tmp_path) == {"a", "c", "d"}
    assert cache.find("a") is not None
    assert (tmp_path / "a").stat().st_mtime < tomorrow - 3600
    for key in "ef":
        _add(cache, key)
    assert _keys(tmp_path) == {"a", "e", "f"}
    _add(cache, "g")
    assert _keys(tmp_path) == {"e", "f", "g"}
