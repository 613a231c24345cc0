"""Trials of a run folder that are no longer part of the suite: told, and kept readable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import counted
from bench.results.folder.earlier import complete_others, earlier_folder
from bench.results.grid import value_text

_SHOWN, _VALUES = 3, 4
_COMPARED = (
    "dataset", "backbone", "weights", "head", "strategy", "schedule", "augmentation", "seed",
    "fold", "epochs", "batch_size", "optimizer", "lr", "precision", "device",
)  # fmt: skip


def earlier_note(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """What a run with these rows of `trials` leaves out of its tables; None if nothing.

    `rows` are those of the suite's trials, whatever has become of them.
    """
    others = complete_others(folder, [str(row["trial"]) for row in rows])
    if not others:
        return None
    number = counted(len(others), "complete trial")
    are, them = ("is", "it") if len(others) == 1 else ("are", "them")
    return (
        f"{number} in {folder} {are} not part of this suite ({_changes(others, rows)}): the "
        f"tables and the report leave {them} out; the earlier tables and report are kept in "
        f"{earlier_folder(folder)}, where bench show and bench compare read them. To keep both "
        "runs apart, give another --out or --set name=NAME"
    )


def _changes(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str:
    """In which settings they differ: `image_size 64, now 48`."""
    old, new = _values(before), _values(now)
    # A setting that only earlier trials tell is another version's, which is said below.
    differing = [name for name in old if name in new and set(old[name]) - set(new[name])]
    texts = [
        f"{name} {_listed(old[name])}, now {_listed(new[name])}" for name in differing[:_SHOWN]
    ]
    if len(differing) > _SHOWN:
        texts.append(f"{len(differing) - _SHOWN} more")
    return "; ".join(texts) or "the data, the weights or the version of bench have changed"


def _values(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, None]]:
    """Setting → its values in words, in order."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        settings = json.loads(row.get("settings") or "{}")
        own = {name: row.get(name) for name in _COMPARED}
        for name, value in {**own, **settings}.items():
            found.setdefault(name, {})[value_text(value)] = None
    return found


def _listed(values: Iterable[str]) -> str:
    known = list(values)
    more = f" and {len(known) - _VALUES} more" if len(known) > _VALUES else ""
    return (" and ".join(known[:_VALUES]) if len(known) < 3 else ", ".join(known[:_VALUES])) + more
