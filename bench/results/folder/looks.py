"""How often a run's results were looked at: every look at new trials spends some of the error.

`looks.json` lists, for each look, the trials that were complete then and at no look before. So a
run that is extended, by `--decide` or by hand, pays for having been looked at in between.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.results.folder.checks import read_json
from bench.results.folder.run import write_checked_json

FILE = "looks.json"
MAX_LOOKS = 10_000
_MEND = (
    "it tells how often the results were looked at. Restore it from a copy of the folder, or "
    "delete it: then looks are counted from zero, and the intervals are too narrow"
)

Looks = tuple[tuple[str, ...], ...]


def read_looks(folder: Path) -> Looks:
    """The trials that were new at each look so far; nothing where none is recorded."""
    path = folder / FILE
    if not path.exists():
        return ()
    try:
        content = read_json(path)
    except BenchError as error:
        raise BenchError(f"{error}; {_MEND}") from None
    if not _is_looks(content):
        raise BenchError(f"{path} is damaged: it must hold lists of trials' ids; {_MEND}")
    return tuple(map(tuple, content["looks"]))


def with_look(looks: Sequence[Sequence[str]], complete: Collection[str]) -> Looks:
    """The looks with one more if there is a trial that no look has seen."""
    seen = {trial for look in looks for trial in look}
    new = tuple(sorted(set(complete) - seen))
    known = tuple(map(tuple, looks))
    return (*known, new) if new else known


def look_at(folder: Path, complete: Collection[str]) -> Looks:
    """Count a look at the complete trials of a run folder and write it down; all looks so far.

    Where nothing can be written the look counts, but is not kept.
    """
    before = read_looks(folder)
    looks = with_look(before, complete)
    if len(looks) > len(before):
        with suppress(OSError):
            write_checked_json(folder / FILE, {"looks": [list(look) for look in looks]})
    return looks


def _is_looks(content: Any) -> bool:
    looks = content.get("looks") if isinstance(content, dict) else None
    return (
        isinstance(looks, list)
        and len(looks) <= MAX_LOOKS
        and all(isinstance(look, list) for look in looks)
        and all(isinstance(trial, str) for look in looks for trial in look)
    )
