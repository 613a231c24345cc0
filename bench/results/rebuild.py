"""`bench report`: plots and report anew, from the files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import known_names
from bench.results.folder import damaged_checkpoints, push_run, read_run
from bench.results.report import FORMATS, write_report
from bench.results.trackers import known_trackers, track


@dataclass(frozen=True, kw_only=True)
class RebuiltReport:
    """What can be opened: `files` of the report, and where each tracker has the run.

    `damaged` are checkpoints, by trial, with what is wrong with them.
    """

    files: tuple[Path, ...]
    tracked: tuple[str, ...]
    damaged: Mapping[str, str] = field(default_factory=dict)


def rebuild_report(
    place: str | Path, *, formats: str | Sequence[str], trackers: str | Sequence[str]
) -> RebuiltReport:
    """Write the report of the run at `place`, and hand the run to the trackers.

    Raises `BenchError` for unknown names, and as `read_run` does.
    """
    names = known_names("--format", formats, FORMATS)
    known_trackers(trackers)
    run = read_run(place)
    files = write_report(run, formats=[name for name in FORMATS if name in names])
    tracked = track(run, trackers)
    push_run(place)
    damaged = damaged_checkpoints(run.folder, run.trials["trial"])
    return RebuiltReport(files=tuple(files), tracked=tuple(tracked), damaged=damaged)
