"""The figures of a run: data frames in, matplotlib figures out, PNG files on disk.

Colours stand for strategies, or for whichever axis leads where the strategy does not vary, and
are the same in every figure of a run. Titles state what the figure shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.plots.comparison import accuracy_against_time, heat_map, ranked_accuracy
from bench.plots.curves import mean_curves, trial_curves
from bench.plots.style import Look, looks
from bench.summary import SEPARATOR, complete_trials, read_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.store import Run

__all__ = [
    "CAPTIONS",
    "MAX_TRIAL_FIGURES",
    "TRIAL_PREFIX",
    "Look",
    "accuracy_against_time",
    "heat_map",
    "looks",
    "mean_curves",
    "ranked_accuracy",
    "trial_curves",
    "write_plots",
]

CAPTIONS: Mapping[str, str] = {
    "test_accuracy": "Test accuracy at the epoch that validation chose, ranked.",
    "curves": "Loss and accuracy by epoch, averaged over seeds: training dashed, validation solid.",
    "heat_map_schedule": "Mean test accuracy with each schedule.",
    "heat_map_augmentation": "Mean test accuracy with each augmentation.",
    "accuracy_against_time": "Test accuracy against the training time of a trial.",
}
"""The figures of a run by name, in the order in which to show them, and what each shows."""

TRIAL_PREFIX = "trials/"
"""The curves of a single trial are named this and the trial's id."""

MAX_TRIAL_FIGURES = 200
"""Of more complete trials, the first ones are drawn: each figure takes a fraction of a second."""


def write_plots(run: Run, folder: Path) -> dict[str, Path]:
    """Draw the figures of `run` into `folder`; returns name → file of those that could be drawn.

    Figures that an earlier call left and that do not apply any more are removed.
    """
    _remove_figures(folder)
    trials, curves = run.trials, run.curves
    draw: Mapping[str, Callable[[], Figure | None]] = {
        "test_accuracy": lambda: ranked_accuracy(trials),
        "curves": lambda: mean_curves(trials, curves),
        "heat_map_schedule": lambda: heat_map(trials, "schedule"),
        "heat_map_augmentation": lambda: heat_map(trials, "augmentation"),
        "accuracy_against_time": lambda: accuracy_against_time(trials),
    }
    files = {}
    for name in CAPTIONS:
        figure = draw[name]()
        if figure is not None:
            files[name] = folder / f"{name}.png"
            figure.savefig(files[name])
    return files | _write_trial_curves(run, folder / "trials")


def _write_trial_curves(run: Run, folder: Path) -> dict[str, Path]:
    grid = read_grid(run.trials)
    look = looks(grid.axes[grid.lead]) if grid.cells else {}
    of_trial = {str(trial): rows for trial, rows in run.curves.groupby("trial", sort=False)}
    files: dict[str, Path] = {}
    for trial in complete_trials(run.trials).head(MAX_TRIAL_FIGURES).to_dict("records"):
        name, config = str(trial["trial"]), str(trial["config"])
        label = f"{grid.labels[config]}{SEPARATOR}seed {trial['seed']}"
        figure = trial_curves(
            {str(key): value for key, value in trial.items()},
            of_trial.get(name, run.curves.iloc[:0]),
            label=label,
            look=look[grid.cells[config][grid.lead]],
        )
        path = folder / f"{_file_stem(label)}.png"
        if path in files.values():
            path = path.with_stem(f"{path.stem}-{name[:12]}")
        figure.savefig(path)
        files[TRIAL_PREFIX + name] = path
    return files


def _file_stem(label: str) -> str:
    """`label` as a file name that every file system and every link takes."""
    words = (re.sub(r"[^a-z0-9._]+", "-", word.lower()) for word in label.split(SEPARATOR))
    return "__".join(word.strip("-.") for word in words)[:120]


def _remove_figures(folder: Path) -> None:
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    for path in [*(folder / "trials").glob("*.png"), *(folder / f"{n}.png" for n in CAPTIONS)]:
        path.unlink(missing_ok=True)
