"""The entry point of the command `bench`: it listens for signals before it imports anything."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from bench.cli.interrupts import end_at_once_when_told

_NEW_OBJECTS = 10_000


def main() -> None:
    """Run the command line; a signal that comes while it loads ends the process at once."""
    end_at_once_when_told()
    with few_searches_for_garbage():
        from bench.cli.main import main as run_command

        run_command()


@contextmanager
def few_searches_for_garbage() -> Iterator[None]:
    """Look for circles of unused objects a seventh as often as usual, and not as Python ends.

    Imports make many objects and leave none behind: looking takes a sixth of their time, and up to
    a second in the end.
    """
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    try:
        yield
    finally:
        gc.freeze()
