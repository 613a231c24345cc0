"""New processes that train: on Linux forked from one that has imported what they need already."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker, util
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from bench.system.cache import folder_label

GRACE_SECONDS = 5.0
"""A process that was told to end is killed after so long."""

_TOLD_TO_END = (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM))
_HINTS = {
    "SIGKILL": ", often because memory ran out",
    "SIGABRT": ", often because memory ran out",
    "SIGBUS": ": a file that it was reading was cut short",
}

_FORKS = sys.platform.startswith("linux")


def import_early(*modules: str) -> None:
    """Begin to import what workers on the CPU need, beside what this process does meanwhile."""
    if _FORKS:
        _start_forkserver(modules)


def start_process(
    target: Callable[..., None],
    *arguments: Any,
    device: str,
    environment: Mapping[str, str] | None = None,
    preload: Sequence[str] = (),
) -> BaseProcess:
    """A daemon that runs `target(*arguments)`, with the environment that this process has now,
    changed by `environment`.

    It ignores Ctrl-C, which is for the caller. Its idle OpenMP threads sleep: spinning ones would
    take the others' cores. On Linux and the CPU it is forked from a process that has imported the
    modules `preload` and never computed anything; CUDA does not survive a fork, so elsewhere it is
    spawned.
    """
    forked = _FORKS and device == "cpu"
    context = _start_forkserver(preload) if forked else multiprocessing.get_context("spawn")
    process: BaseProcess = context.Process(  # type: ignore[attr-defined]
        target=_run,
        args=({**os.environ, **(environment or {})}, target, arguments),
        daemon=True,
    )
    # A fork waits until everything is imported: a Ctrl-C in these seconds must not be lost.
    interrupts = _interrupts_heard_later() if forked else _interrupts_left_to_the_caller()
    with _passive_threads(), _without_main_module(), interrupts:
        process.start()
    return process


def end_process(process: BaseProcess) -> None:
    """End it, if it has not ended yet."""
    if process.is_alive():
        process.terminate()
    process.join(GRACE_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def exit_cause(exitcode: int | None) -> str:
    """What a process died of, in words."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"signal {name}{_HINTS.get(name, '')}"
    return f"exit code {exitcode}"


def was_told_to_end(exitcode: int | None) -> bool:
    """By a signal that somebody sends on purpose: what it was doing then is not at fault."""
    return exitcode is not None and -exitcode in _TOLD_TO_END


def temporary_folder(purpose: str) -> Path:
    """A new folder among the system's temporary ones; those that killed processes left behind go.

    Whoever takes it removes it at its end.
    """
    host = folder_label(platform.node()).replace("-", "_") or "here"
    mine = f"bench-{purpose}-{host}-"
    for left in Path(tempfile.gettempdir()).glob(f"{mine}*"):
        owner = left.name.removeprefix(mine).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)) and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)  # it may be another user's
    return Path(tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}-"))


def _keep_sockets_together() -> None:
    """Have the sockets of new processes in a folder that the next command knows to be left over.

    multiprocessing removes its own at a regular end only, and nobody knows whose it was.
    """
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is None:
        folder = temporary_folder("processes")
        config["tempdir"] = str(folder)
        util.Finalize(None, shutil.rmtree, args=[folder, True], exitpriority=-100)


def _start_forkserver(modules: Sequence[str]) -> BaseContext:
    """The context whose processes are forked; the one that they are forked from runs then.

    It imports `modules` if it has not been started yet.
    """
    from multiprocessing.forkserver import ensure_running

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    _keep_sockets_together()
    with _passive_threads(), _without_main_module(), _interrupts_left_to_the_caller():
        ensure_running()
    return context


def _run(
    environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It ends with the one that started it, and may start processes itself, which a daemon may not.
    multiprocessing.current_process().daemon = False
    os.environ.clear()  # a forked process has that of the time when its parent was started
    os.environ.update(environment)
    target(*arguments)


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
def _interrupts_left_to_the_caller() -> Iterator[None]:
    """New processes never hear of Ctrl-C, and the caller hears of it when the block ends."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    with _interrupts_heard_later():
        if not hasattr(signal, "pthread_sigmask"):
            yield  # Windows: what is started hears of it, and ignores it from its first line on
            return
        # What is started inherits the mask. A handler would be gone in it, and to ignore the
        # signal meanwhile would lose it here. The tracker's start lifts the mask: it comes first.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _interrupts_heard_later() -> Iterator[None]:
    """A Ctrl-C during the block acts when it ends."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or before is None:
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """New processes do not import the caller's script again: it need not be guarded."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
