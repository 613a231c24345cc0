"""New processes that train: on Linux forked from one that has imported what they need already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

PRELOADED = ("bench.engine", "torchvision.models")
"""Importing these takes seconds, mostly in torch."""

_FORKS = sys.platform.startswith("linux")


def import_early() -> None:
    """Begin to import what workers on the CPU need, beside what this process does meanwhile."""
    if _FORKS:
        from multiprocessing.forkserver import ensure_running

        with _as_workers_start():
            _forkserver()
            ensure_running()


def start_process(target: Callable[..., None], *arguments: Any, device: str) -> BaseProcess:
    """A daemon that runs `target(*arguments)`, with the environment that this process has now.

    It ignores Ctrl-C, which is for the caller. Its idle OpenMP threads sleep: spinning ones would
    take the others' cores. On Linux and the CPU it is forked from a process that has imported
    torch and never computed anything; CUDA does not survive a fork, so elsewhere it is spawned.
    """
    context = _forkserver() if _FORKS and device == "cpu" else multiprocessing.get_context("spawn")
    process: BaseProcess = context.Process(  # type: ignore[attr-defined]
        target=_run, args=(dict(os.environ), target, arguments), daemon=True
    )
    with _as_workers_start():
        process.start()
    return process


def _forkserver() -> BaseContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _run(
    environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()  # a forked process has that of the time when its parent was started
    os.environ.update(environment)
    target(*arguments)


@contextmanager
def _as_workers_start() -> Iterator[None]:
    with _passive_threads(), _without_main_module(), _interrupts_ignored():
        yield


@contextmanager
def _passive_threads() -> Iterator[None]:
    before = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_WAIT_POLICY"]


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """New processes leave Ctrl-C to the caller from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """New processes do not import the caller's script again: it need not be guarded."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
