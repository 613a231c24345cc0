"""How a group of processes ends: simulated, since NCCL needs two GPUs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench.training.data_parallel import followers as module
from bench.training.data_parallel.followers import Followers


class Follower:
    """In place of a process: notes what is asked of it."""

    happened: list[str]
    alive = True
    busy = False
    failure = None

    def __init__(self, rank: int, *_: Any) -> None:
        self.rank = rank
        self.ended = threading.Event()

    @property
    def sentinel(self) -> threading.Event:
        return self.ended

    def receive(self) -> None:
        """It has started."""

    def leave(self) -> None:
        self.happened.append(f"{self.rank} leaves")

    def end(self) -> None:
        self.happened.append(f"{self.rank} ends")
        self.ended.set()


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    happened: list[str] = []

    @contextmanager
    def joined(*_: Any) -> Iterator[None]:
        yield
        happened.append("group ends")

    def wait(events: list[threading.Event]) -> None:
        events[0].wait()

    monkeypatch.setattr(Follower, "happened", happened, raising=False)
    monkeypatch.setattr(module, "_Follower", Follower)
    monkeypatch.setattr(module, "joined", joined)
    monkeypatch.setattr(module, "wait", wait)
    monkeypatch.setattr(module, "check_devices", lambda *_: None)
    monkeypatch.setattr(module, "device_of_rank", lambda device, rank: f"{device}:{rank}")
    answers = iter([False, True])  # before it is joined, and then
    monkeypatch.setattr(module.dist, "is_initialized", lambda: next(answers))
    monkeypatch.setattr(module, "_abort", lambda _: happened.append("group aborted"))
    return happened


def make() -> Callable[..., Any]:
    return lambda *_: None


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_group_ends_before_its_followers(happened: list[str], device: str) -> None:
    followers = Followers(3, device, make)
    followers.close()
    assert happened == ["1 leaves", "2 leaves", "group ends", "1 ends", "2 ends"]


@pytest.mark.parametrize(("device", "aborted"), [("cuda", ["group aborted"]), ("cpu", [])])
@pytest.mark.parametrize("what", ["busy", "dead"])
def test_a_group_in_the_middle_of_its_work_is_broken_off(
    happened: list[str], device: str, aborted: list[str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    followers = Followers(3, device, make)
    monkeypatch.setattr(Follower, "busy" if what == "busy" else "alive", what == "busy")
    followers.close()
    assert happened == [*aborted, "group ends", "1 ends", "2 ends"]


@pytest.mark.parametrize(("ending", "expected"), [(False, ["group aborted"]), (True, [])])
def test_a_follower_that_dies_breaks_the_group_off_unless_all_end(
    happened: list[str], ending: bool, expected: list[str]
) -> None:
    died, ends = threading.Event(), threading.Event()
    died.set()
    if ending:
        ends.set()
    module._abort_with_a_follower([died], None, ends)  # type: ignore[list-item]
    assert happened == expected
