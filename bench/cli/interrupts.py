"""How a signal ends a command: at once while it loads, and then as Ctrl-C ends a Python program.

A `KeyboardInterrupt` that is raised inside an import may be swallowed there, and leaves modules
half imported. So it never is: the process ends at once, or, where trials are trained whose tables
are still to be written, the signal waits until the import is done.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
"""The exit code of a command that a signal has ended."""
AGAIN_SECONDS = 0.05

_WORK = ("bench.runs.run", "bench.runs.race")
_BEFORE = {*((module, "<module>") for module in _WORK), ("bench.runs.run", "run")}
"""What of these modules also runs before the folder is open, or when all is written."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once_when_told() -> None:
    """Until `interrupts_heard` is entered, a signal ends the process with exit code 130."""
    _handle(lambda *_: end_interrupted())


@contextmanager
def interrupts_heard() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what is finished is written first."""
    _handle(_interrupt)
    unraisable_before = sys.unraisablehook

    def hear_again(unraisable: sys.UnraisableHookArgs) -> None:
        # In a destructor or a callback Python drops the KeyboardInterrupt, and goes on.
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            _interrupt_later()
        else:
            unraisable_before(unraisable)

    sys.unraisablehook = hear_again
    try:
        yield
    except KeyboardInterrupt:
        end_interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            end_interrupted()
        raise
    finally:
        sys.unraisablehook = unraisable_before
        # All is written. A KeyboardInterrupt while Python itself ends would but leave a traceback.
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


def end_interrupted() -> NoReturn:
    """At once: what an interrupt left half done, such as an import, can crash Python's own end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # it is being written to, or nobody reads it
            stream.flush()
    os._exit(INTERRUPTED)


def _handle(handler: signal._HANDLER) -> None:
    for number in _SIGNALS:
        # What a shell starts in the background ignores Ctrl-C.
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(_: int, frame: FrameType | None) -> None:
    importing, working = _doing(frame)
    if not importing:
        raise KeyboardInterrupt
    if not working:
        end_interrupted()
    _interrupt_later()


def _doing(frame: FrameType | None) -> tuple[bool, bool]:
    """Whether an import runs, and whether one that trains has asked for the outermost one."""
    importing = working = False
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            importing, working = True, False
        else:
            working = working or _is_work(frame)
        frame = frame.f_back
    return importing, working


def _is_work(frame: FrameType) -> bool:
    """Whether it is at work on a run folder that it has opened."""
    names = (frame.f_globals.get("__name__"), frame.f_code.co_qualname)
    return names[0] in _WORK and names not in _BEFORE


def _interrupt_later() -> None:
    threading.Timer(AGAIN_SECONDS, _interrupt_again).start()


def _interrupt_again() -> None:
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGTERM)  # wakes the main thread if it waits
    else:
        _thread.interrupt_main()
