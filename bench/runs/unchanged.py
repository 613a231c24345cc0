"""A run that has ended well and finds everything as it left it has nothing to do.

That is seen before anything heavy is imported. What was told at the end is kept in the cache, under
a key of all that the run depended on, with the sizes and times of the files of its folder.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from glob import glob
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from bench.data import open_with_target
from bench.errors import BenchError
from bench.keys import content_hash
from bench.results.folder import run_folder
from bench.runs.check import CheckedSuite
from bench.runs.options import RunOptions
from bench.suite import dump_suite
from bench.suite.plugins import loaded_plugins
from bench.system.cache import atomic_file, cache_root
from bench.system.object_store import is_url


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run has ended: `lines` are what was told then."""

    folder: Path
    key: str
    lines: tuple[str, ...] = ()

    @property
    def _file(self) -> Path:
        name = content_hash({"folder": str(self.folder.absolute()), "key": self.key})
        return cache_root() / "endings" / f"{name}.json"

    def known(self) -> Ending | None:
        """The ending with its lines if nothing has changed since; else None."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            lines = tuple(map(str, kept["lines"]))
            if kept["files"] == _files(self.folder) and lines:
                return Ending(folder=self.folder, key=self.key, lines=lines)
        return None

    def keep(self, lines: Sequence[str]) -> None:
        """Remember it; a cache that cannot be written to costs time only."""
        kept = {"files": _files(self.folder), "lines": list(lines)}
        with suppress(OSError), atomic_file(self._file) as temporary:
            temporary.write_text(json.dumps(kept), encoding="utf-8")


def ending_of(checked: CheckedSuite, given: RunOptions) -> Ending | None:
    """How the run would end if there were nothing to do.

    None where more than the suite, its data and this machine has a say: for code from outside,
    object stores, seeds that a verdict asks for, and trials that are trained anew or again.
    """
    asked = given.decide or given.retry is not None or not given.reuse
    if asked or is_url(given.out) or loaded_plugins():
        return None
    suite = checked.loaded.suite
    folder, _ = run_folder(given.out, suite.name)
    if not (folder / "trials.parquet").is_file():
        return None
    try:
        dataset = open_with_target(suite.dataset.name, suite.dataset.options, limits=suite.limits)
    except BenchError:
        return None  # which is told in its place
    key = content_hash(
        {
            "suite": dump_suite(suite),
            "options": asdict(given),
            "data": dataset.fingerprint,
            "weights": [_facts(Path(path)) for path in _weights_files(checked)],
            "code": _files(Path(__file__).parents[1], pattern="*.py"),
            "packages": sorted(f"{each.name} {each.version}" for each in distributions()),
            "python": platform.python_version(),
            "machine": [platform.node(), platform.machine(), *sorted(glob("/dev/nvidia*"))],
            "environment": {
                name: value
                for name, value in os.environ.items()
                if name.startswith("BENCH_") or name == "CUDA_VISIBLE_DEVICES"
            },
        },
        digits=32,
    )
    return Ending(folder=folder, key=key)


def _weights_files(checked: CheckedSuite) -> list[str]:
    weights = (trial.settings.weights for trial in checked.trials)
    return sorted({each.options["path"] for each in weights if each.is_file})


def _files(folder: Path, pattern: str = "*") -> dict[str, Any]:
    """Size and time of every file below the folder, links not followed."""
    return {
        path.relative_to(folder).as_posix(): _facts(path)
        for path in folder.rglob(pattern)
        if path.is_symlink() or not path.is_dir()
    }


def _facts(path: Path) -> list[int] | None:
    try:
        facts = path.lstat()
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns]
