"""The entry point of the command `bench`: it listens for signals before it imports anything."""

from __future__ import annotations

from bench.cli.interrupts import end_at_once_when_told


def main() -> None:
    """Run the command line; a signal that comes while it loads ends the process at once."""
    end_at_once_when_told()
    from bench.cli.main import main as run_command

    run_command()
