"""What the section `after` of a suite says, done once the trials of a run are complete."""

from __future__ import annotations

from collections.abc import Callable

from bench.prediction.after.children import make_children
from bench.prediction.after.finished import Finished, TrialData
from bench.results.folder import Run
from bench.results.folder.children import read_children, write_children
from bench.runs.prepare import PreparedSets
from bench.runs.resolve import ResolvedRun
from bench.system.download import OnProgress


def after_training(
    resolved_run: ResolvedRun,
    run: Run,
    *,
    progress: OnProgress | None,
    status: Callable[[str], None],
    note: Callable[[str], None],
) -> None:
    """Make the children of a run's trials that are not there yet; without a section, none stay."""
    entries = resolved_run.loaded.suite.after
    if not entries:
        write_children(run.folder, (), run.predictions)
        return
    by_id = {resolved.id: resolved for resolved in resolved_run.trials}
    sets: list[PreparedSets] = []

    def data_of(trial: str) -> TrialData:
        if not sets:  # only what needs networks needs data
            sets.append(PreparedSets(resolved_run, progress))
        resolved = by_id[trial]
        return TrialData(data=sets[0].data(resolved), splits=sets[0].splits(resolved))

    make_children(Finished(run, data_of, device=resolved_run.device), entries, status=status)
    children = read_children(run.folder)
    skipped = children[children["status"] == "skipped"]
    for (name, reason), own in skipped.groupby(["name", "error"], sort=False):
        note(f"note: {name} of {own['of'].iloc[0]} cannot be made: {reason}")
