"""Matplotlib with the settings that it ships with, whatever those of the surroundings are.

A notebook's kernel sets `MPLBACKEND`, a working folder may hold a `matplotlibrc`, a locale or a
style may change how numbers read: the figures of a run are the same everywhere.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from matplotlib.figure import Figure

_VARIABLES = ("MPLBACKEND", "MATPLOTLIBRC")


@contextmanager
def library_settings(changes: Mapping[str, Any]) -> Iterator[None]:
    """Draw with matplotlib's own settings and these `changes`; those of the user come back after.

    Not to be used by two threads at once, as matplotlib's settings are those of the process.
    """
    matplotlib = _matplotlib()
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)  # a font without a bold face is no news to the user
    try:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(changes)
            yield
    finally:
        fonts.setLevel(level)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without a window system; of a failure no file is left."""
    try:
        with library_settings({"text.parse_math": False}):
            figure.savefig(path, format="png", backend="agg")
    except Exception:
        path.unlink(missing_ok=True)
        raise


def _matplotlib() -> ModuleType:
    """Matplotlib; settings that keep it from being imported are left out.

    An unknown `MPLBACKEND` and a `matplotlibrc` that is no text are errors of its import.
    """
    try:
        import matplotlib
    except (ValueError, OSError):
        return _matplotlib_without_settings()
    return matplotlib


def _matplotlib_without_settings() -> ModuleType:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # what the first attempt left belongs to no package any more
    hidden = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    try:
        with tempfile.TemporaryDirectory() as empty, chdir(empty):
            import matplotlib
    finally:
        os.environ.update(hidden)
    return matplotlib
