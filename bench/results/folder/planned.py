"""`planned.json`: the trials that a run is to have, so that it can be read while it goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.results.folder.checks import TRIAL_ID, read_json
from bench.system.cache import atomic_file

FILE = "planned.json"


def write_planned(folder: Path, trials: Sequence[str]) -> None:
    """Say which trials the run has, in the order of its tables."""
    with atomic_file(folder / FILE) as temporary:
        temporary.write_text(json.dumps({"trials": list(trials)}), encoding="ascii")


def read_planned(folder: Path) -> tuple[str, ...] | None:
    """The ids of the planned trials; None where they are not known."""
    try:
        content = read_json(folder / FILE)
    except BenchError:
        return None
    trials = content.get("trials") if isinstance(content, dict) else None
    if not isinstance(trials, list):
        return None
    known = [trial for trial in trials if isinstance(trial, str) and TRIAL_ID.fullmatch(trial)]
    return tuple(known) if len(known) == len(trials) else None
