"""Which trial of a run is used, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.results.analysis.choice import choices, chosen_config
from bench.results.folder import Run, read_json
from bench.results.grid import complete_trials, is_missing, rank_configs, read_grid
from bench.results.report.reasons import find_trial

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.grid import Grid


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A complete trial: its row of the table, its label, and a sentence that says why it is it."""

    row: Mapping[str, Any]
    label: str
    why: str

    @property
    def id(self) -> str:
        """The trial's id."""
        return str(self.row["trial"])

    def __str__(self) -> str:
        return f"{self.label} ({self.id}). {self.why}"


def chosen_trial(run: Run, name: str | None = None) -> Chosen:
    """The trial called `name` as `bench why` has it, else the one to use.

    That is of the config that the verdict recommends the seed that is best on validation; without
    a recommendation, of the config that is best there. The test split has no say.

    Raises `BenchError` if there is no such trial, or it is not complete.
    """
    grid = read_grid(run.trials, run.metric)
    if name is not None:
        row = find_trial(run, name)
        if row["status"] != "complete":
            raise BenchError(
                f"the trial {row['trial']} is {row['status']}, so it has no trained network; "
                f"bench why {run.folder} {row['trial']} says more"
            )
        return Chosen(row=row, label=_label(grid, row), why="You chose it.")
    complete = complete_trials(run.trials)
    if complete.empty:
        raise BenchError(f"no trial of {run.folder} is complete, so there is nothing to use")
    config, of_config = _config(run, grid)
    own = complete[complete["config"] == config]
    row = _best_seed(own, run)
    val = row[run.metric.val]
    of_seed = "" if len(own) == 1 else f", the best of its {len(own)} trainings"
    figure = "" if is_missing(val) else f" ({run.metric.text(val)} on validation{of_seed})"
    return Chosen(row=row, label=_label(grid, row), why=f"{of_config}{figure}.")


def _label(grid: Grid, row: Mapping[str, Any]) -> str:
    """The trial's label, with its backbone where all trials have the same one."""
    label = grid.trial_label(dict(row))
    return label if len(grid.axes["backbone"]) > 1 else f"{row['backbone']} · {label}"


def _config(run: Run, grid: Grid) -> tuple[str, str]:
    """The config to use, and why in words."""
    found = choices(run.trials, grid)
    recommended = _recommended(run)
    if recommended in found:
        return chosen_config(found[recommended], grid), f"The verdict recommends {recommended}"
    ranked = [
        result for result in rank_configs(run.trials, grid) if not is_missing(result.val.mean)
    ]
    if ranked:
        best = max(ranked, key=lambda result: run.metric.sign * result.val.mean)
        return best.config, "It is the best config on validation"
    first = complete_trials(run.trials)["config"].iloc[0]
    return str(first), "It is the first complete config; there is no validation result to choose by"


def _recommended(run: Run) -> str | None:
    try:
        name = read_json(run.folder / "verdict.json")["recommended"]
    except (BenchError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


def _best_seed(own: pd.DataFrame, run: Run) -> dict[str, Any]:
    merit = run.metric.sign * own[run.metric.val].astype(float)
    at = int(merit.to_numpy().argmax()) if merit.notna().all() else 0
    return {str(name): value for name, value in own.iloc[at].to_dict().items()}
