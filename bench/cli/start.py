"""The entry point of the command `bench`: it listens for signals before it imports anything."""

from __future__ import annotations

import gc

from bench.cli.interrupts import end_at_once_when_told

_NEW_OBJECTS = 10_000


def main() -> None:
    """Run the command line; a signal that comes while it loads ends the process at once."""
    end_at_once_when_told()
    # Imports make many objects and leave none behind: to look for some takes a fifth of their time.
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    from bench.cli.main import main as run_command

    try:
        run_command()
    finally:
        gc.freeze()  # a last search while Python ends would take up to a second
