"""Where the command line prints, and where it logs."""

from __future__ import annotations

import logging

from bench.errors import without_secrets
from bench.runs.progress import PlainConsole

out_console = PlainConsole()
error_console = PlainConsole(stderr=True)


class ErrorConsoleHandler(logging.Handler):
    """Prints what is logged on standard error, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message after the name of its module."""
        text = f"{record.name}: {without_secrets(record.getMessage())}"
        error_console.print(text, markup=False, highlight=False)
