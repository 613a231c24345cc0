"""Which figures a folder has already, and what each of them was drawn from.

A figure whose data, code, packages and fonts are the same would be the same again. What each was
drawn from is kept in the cache and not in the run folder, which may come from others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.keys import content_hash, file_digest
from bench.results.analysis import read_verdict
from bench.results.metric import Metric
from bench.system.cache import atomic_file, cache_root

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from bench.results.folder import Run

_PACKAGES = ("matplotlib", "numpy", "pandas", "pillow", "scipy")
_READ = (".parquet", ".json", ".yaml")
"""Figures read files of these kinds, of those in the run folder itself."""

_WRITTEN = "verdict.json"
"""Is written with the figures."""

_DIGITS = 32


class KeptFigures:
    """The figures of a folder, each with a key of what it was drawn from.

    A cache that cannot be read or written to costs time only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, list[str]] = {}
        with suppress(OSError, ValueError, AttributeError, RecursionError):
            self._known = dict(json.loads(self._file().read_text(encoding="utf-8")).items())

    def has(self, path: Path, key: str) -> bool:
        """Whether the file is the figure that this key names, as it was written."""
        with suppress(OSError):
            return self._known.get(self._name(path)) == [key, file_digest(path)]
        return False

    def write(self, keys: Mapping[Path, str]) -> None:
        """Remember these figures, which have just been drawn or were found, and no others."""
        known = {}
        with suppress(OSError):
            known = {self._name(path): [key, file_digest(path)] for path, key in keys.items()}
            if known != self._known:
                with atomic_file(self._file()) as temporary:
                    temporary.write_text(json.dumps(known), encoding="utf-8")
        self._known = known

    def _file(self) -> Path:
        return cache_root() / "figures" / f"{content_hash(str(self._folder.absolute()))}.json"

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


class FigureKeys:
    """Keys of what the figures of a run are drawn from; `numbers` stand in for names."""

    def __init__(self, run: Run, numbers: Mapping[str, str]) -> None:
        import numpy as np
        from pandas.util import hash_pandas_object

        def rows(frame: pd.DataFrame) -> np.ndarray:
            """A number for each row."""
            return np.asarray(hash_pandas_object(frame, index=False), dtype=np.uint64)

        self._rows: Callable[[pd.DataFrame], np.ndarray] = rows
        self._drawing = content_hash(
            {
                "code": _code(),
                "packages": [version(name) for name in _PACKAGES],
                "numbers": dict(numbers),
                "fonts": _fonts(run),
                "metrics": [asdict(metric) for metric in run.metrics],
            },
            digits=_DIGITS,
        )
        self._curves = rows(run.curves)
        self._places = run.curves.groupby("trial", sort=False).indices

    def of_run(self, run: Run) -> str:
        """For the figures that show all of the run."""
        with suppress(BenchError):
            read_verdict(run)  # a look, which is noted in a file that figures read
        frames = (run.trials, run.curves, run.predictions, run.val_predictions)
        return content_hash(
            {
                "drawing": self._drawing,
                "tables": [[*map(str, frame), _digest(self._rows(frame))] for frame in frames],
                "described": [run.suite, run.data, run.environment, run.num_trials],
                "files": {path.name: file_digest(path) for path in _files_read(run.folder)},
            },
            digits=_DIGITS,
        )

    def of_trial(self, trial: Mapping[str, Any], metric: Metric, *shown: str) -> str:
        """For the curves of one trial: its row, its curves, and what else is `shown`."""
        curves = self._curves[self._places.get(trial["trial"], [])]
        row = {name: str(value) for name, value in trial.items()}
        return content_hash(
            {
                "drawing": self._drawing,
                "trial": row,
                "curves": _digest(curves),
                "metric": metric.name,
                "shown": shown,
            },
            digits=_DIGITS,
        )


def _digest(numbers: np.ndarray) -> str:
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def _files_read(folder: Path) -> Iterable[Path]:
    return (
        path
        for path in sorted(folder.iterdir())
        if path.suffix in _READ and path.name != _WRITTEN and path.is_file()
    )


def _code() -> str:
    package = Path(__file__).parents[2]
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    return content_hash({name: file_digest(files[name]) for name in sorted(files)})


def _fonts(run: Run) -> list[str]:
    """The fonts of this machine, if any word of the run may need more than matplotlib's own."""
    words = [run.suite, run.data, [metric.label for metric in run.metrics]]
    columns = run.trials.select_dtypes(exclude=["number", "bool", "datetimetz"])
    words += [columns[name].dropna().astype(str).unique().tolist() for name in columns]
    words.append(run.predictions["sample"].astype(str).unique().tolist())
    if json.dumps(words, ensure_ascii=False, default=str).isascii():
        return []
    from matplotlib.font_manager import findSystemFonts

    return sorted(findSystemFonts())
