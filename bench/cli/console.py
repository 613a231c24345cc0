"""Where the command line prints."""

from __future__ import annotations

from bench.runs.progress import PlainConsole

out_console = PlainConsole()
error_console = PlainConsole(stderr=True)
