"""The figures of a run: data frames in, matplotlib figures out, PNG files on disk.

Colours stand for strategies, or for whichever axis leads where the strategy does not vary, and
are the same in every figure of a run. Titles state what the figure shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, bounded
from bench.results.analysis import (
    Mistake,
    Residual,
    confident_label_mistakes,
    confident_mistakes,
    find_suspects,
    largest_residuals,
    rank_over_blocks,
    read_goals,
    read_label_curves,
    read_studies,
    read_verdict,
    representatives,
)
from bench.results.analysis.audit import to_picture
from bench.results.analysis.label_sizes import sizes_of
from bench.results.folder import output_names, read_input_views, read_thumbnails, read_tuning
from bench.results.folder.columns import METRICS, TASK_METRICS
from bench.results.grid import SEPARATOR, Grid, complete_trials, read_grid
from bench.results.metric import ACCURACY, Metric
from bench.results.plots.bands import reach
from bench.results.plots.canvas import save
from bench.results.plots.comparison import against_cost, heat_map, ranked_configs
from bench.results.plots.contest import critical_differences, win_matrix
from bench.results.plots.curves import mean_curves, trial_curves
from bench.results.plots.fonts import standing_in, undrawable
from bench.results.plots.inputs import input_views
from bench.results.plots.kept import FigureKeys, KeptFigures
from bench.results.plots.label_curves import label_curves
from bench.results.plots.lr_ranges import lr_range_panels, write_lr_range_panels
from bench.results.plots.panels import learning_rates, strategy_panels
from bench.results.plots.predictions import (
    MAX_PICTURES,
    confusion_matrices,
    contact_sheet,
    label_matrices,
    predicted_against_true,
    reliability_diagram,
    residual_sheet,
)
from bench.results.plots.settings import setting_importances, setting_lines
from bench.results.plots.style import Look, looks
from bench.results.plots.suspects import MAX_SUSPECTS, suspects_sheet
from bench.results.plots.tuning import (
    study_looks,
    tuned_learning_rates,
    tuning_curves,
    tuning_history,
)
from bench.results.sample_words import SampleWords, words_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bench.results.folder import Run

_COSTS: Mapping[str, tuple[str, str]] = {
    "time": ("train_seconds", "training time of a trial"),
    "parameters": ("trainable_params", "number of parameters that train"),
    "memory": ("peak_memory_mib", "peak memory of a trial"),
}
"""By what a figure is named: the column of costs, and the cost in words."""

INPUTS = "inputs"
"""The name of the figure that shows a few inputs."""

LABEL_CURVES = "label_curves"
"""The name of the figure that shows how much labelling pays."""

__all__ = [
    "INPUTS",
    "LABEL_CURVES",
    "MAX_SUSPECTS",
    "MAX_TRIAL_FIGURES",
    "TRIAL_PREFIX",
    "Drawn",
    "Look",
    "against_cost",
    "caption",
    "captions",
    "confusion_matrices",
    "contact_sheet",
    "critical_differences",
    "draw_figures",
    "heat_map",
    "label_curves",
    "label_matrices",
    "learning_rates",
    "looks",
    "lr_range_panels",
    "mean_curves",
    "numbered_names",
    "pictured_samples",
    "predicted_against_true",
    "ranked_configs",
    "reach",
    "reliability_diagram",
    "residual_sheet",
    "setting_importances",
    "setting_lines",
    "strategy_panels",
    "study_looks",
    "suspects_sheet",
    "trial_curves",
    "tuned_learning_rates",
    "tuning_curves",
    "tuning_history",
    "why_undrawn",
    "win_matrix",
    "write_lr_range_panels",
    "write_plots",
]


def captions(metric: Metric = ACCURACY) -> dict[str, str]:
    """The figures of a run by name, in the order in which to show them, and what each shows."""
    label = metric.label
    return {
        metric.test: f"Test {label} at the chosen epoch, ranked.",
        "wins": "How often each is ahead of each other one, seed by seed.",
        "ranks": "Average ranks over these data sets and backbones.",
        LABEL_CURVES: f"Test {label} by the number of training images of a class.",
        "tuning_curves": f"The best validation {label} that the search for settings has found, "
        "against the training images that it has spent.",
        "tuning_learning_rates": f"Validation {label} against the learning rate, for every trial "
        "of the search.",
        "tuning_history": "Every trial of the search for settings, and the best so far.",
        "tuning_importances": "Which settings tell the best trials of the search from the others.",
        "tuning_settings": f"All searched settings of every trial, and its validation {label}.",
        "strategies": f"{metric.capital} by epoch, a panel for each strategy with its seeds.",
        "curves": f"Loss and {label} by epoch, averaged over seeds: training dashed, "
        "validation solid.",
        **{
            _against(metric, cost): f"Test {label} against the {words}."
            for cost, (_, words) in _COSTS.items()
        },
        **_OF_PREDICTIONS.get(metric.task, {}),
        "learning_rates": "The learning rate of the head over time.",
        INPUTS: "A few training images as networks see them, for evaluation and for training.",
    }


_OF_PREDICTIONS: Mapping[str, Mapping[str, str]] = {
    "classification": {
        "confusion": "Which class was taken for which on the test split.",
        "mistakes": "The test images that the best strategy is most confidently wrong about.",
        "calibration": "Whether the predicted probabilities match how often predictions are right.",
    },
    "regression": {
        "predicted": "What the best strategy predicts of the test images, against what is true.",
        "residuals": "The test images that the best strategy predicts worst.",
    },
    "multi_label": {
        "labels": "How often the best strategy gives a label to test images that have or lack it.",
        "mistakes": "The test images that the best strategy is most confidently wrong about.",
    },
}
"""Figures of what was predicted, and what they show, by what a suite predicts."""


def _against(metric: Metric, cost: str) -> str:
    return f"{metric.name}_against_{cost}"


HEAT_MAP_PREFIX = "heat_map_"
"""The heat map of the leading axis and another one is named this and the axis."""

TRIAL_PREFIX = "trials/"
"""The curves of a single trial are named this and the trial's id."""

MAX_KEPT_PICTURES = 60

MAX_TRIAL_FIGURES = 24
"""Of more complete trials, the first ones are drawn; the page shows the curves of all."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What came of the figures of a run.

    `files` maps the names of those that were drawn to them, `failed` those that could not be drawn
    to the reason. `numbers` maps the names that no font of this machine has, to the numbers that
    the figures show in their place.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """One figure to draw: its name, its file, how it is drawn, and a key of what it shows."""

    name: str
    path: Path
    draw: Callable[[], Figure | None]
    key: str | None


def write_plots(run: Run, folder: Path) -> Drawn:
    """Draw the figures of `run` into `folder`, of those that apply to it.

    Those that `folder` has already of the same content stay. A figure that fails costs itself only.
    Figures that an earlier call left and that do not apply any more are removed.
    """
    try:
        numbers = numbered_names(run)
        keys = FigureKeys(run, numbers)
    except Exception:  # of fonts: every figure that needs them will say it, and none is kept
        numbers, keys = {}, None
    kept = KeptFigures(folder)
    figures = [*_run_figures(run, folder, keys), *_trial_figures(run, folder / "trials", keys)]
    drawn = {
        figure.path: figure.key
        for figure in figures
        if figure.key is not None and kept.has(figure.path, figure.key)
    }
    _remove_figures(folder, run.metric, but=drawn)
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    with standing_in(numbers):
        for figure in figures:
            try:
                if figure.path in drawn or _write(figure):
                    files[figure.name] = figure.path
                    if figure.key is not None:
                        drawn[figure.path] = figure.key
            except Exception as error:
                failed[figure.name] = why_undrawn(error)
    kept.write(drawn)
    return Drawn(files=files, failed=failed, numbers=numbers)


def _write(figure: _Figure) -> bool:
    """Whether the figure applies to the run, and so was drawn."""
    made = figure.draw()
    if made is not None:
        save(made, figure.path)
    return made is not None


def _run_figures(run: Run, folder: Path, keys: FigureKeys | None) -> Iterator[_Figure]:
    figures = _worded_figures(run)
    key = keys.of_run(run) if keys is not None and figures else None
    for name, draw in figures.items():
        yield _Figure(name=name, path=folder / f"{name}.png", draw=draw, key=key)


def why_undrawn(error: Exception) -> str:
    """Why a figure could not be drawn, in one line."""
    return bounded(" ".join(f"{type(error).__name__}: {error}".split()))


def draw_figures(run: Run) -> Iterator[tuple[str, Figure]]:
    """The figures of `run` by name, in the order of `captions`, of those that apply to it."""
    with standing_in(numbered_names(run)):
        drawn = [(name, draw()) for name, draw in _worded_figures(run).items()]
    yield from ((name, figure) for name, figure in drawn if figure is not None)


def _worded_figures(run: Run) -> dict[str, Callable[[], Figure | None]]:
    """How to draw each figure, whose words call samples what they are."""
    words = words_of(run)
    return {name: partial(_worded, draw, words) for name, draw in _figures(run).items()}


def _worded(draw: Callable[[], Figure | None], words: SampleWords) -> Figure | None:
    from matplotlib.text import Text

    figure = draw()
    if figure is not None and words.kind != "image":
        for text in figure.findobj(Text):
            text.set_text(words(text.get_text()))
    return figure


def _figures(run: Run) -> dict[str, Callable[[], Figure | None]]:
    """How to draw each figure, in the order of `captions`; `None` comes of one without data."""
    trials, curves, metric = run.trials, run.curves, run.metric
    complete = complete_trials(trials)
    if complete.empty:
        return {}
    grid = read_grid(trials, metric)
    chosen = representatives(trials, grid)
    trials_of = _trials_of(complete, chosen, metric)

    def ranks() -> Figure | None:
        ranking = rank_over_blocks(trials, grid)
        return critical_differences(ranking) if ranking else None

    draw: Mapping[str, Callable[[], Figure | None]] = {
        metric.test: lambda: ranked_configs(trials, metric),
        "wins": lambda: win_matrix(read_verdict(run).comparisons, metric),
        "ranks": ranks,
        LABEL_CURVES: lambda: label_curves(
            read_label_curves(run) if sizes_of(grid) else None, looks(grid.axes[grid.lead])
        ),
        **_tuning_figures(run, grid),
        "strategies": lambda: strategy_panels(trials, curves, chosen, metric),
        "curves": lambda: mean_curves(trials, curves, metric),
        **{
            _against(metric, cost): partial(against_cost, trials, column, metric)
            for cost, (column, _) in _COSTS.items()
        },
        **_predicted_figures(run, trials_of, looks(grid.axes[grid.lead])),
        "learning_rates": lambda: learning_rates(trials, curves),
        INPUTS: lambda: input_views(read_input_views(run.folder)),
    }
    ordered: dict[str, Callable[[], Figure | None]] = {}
    for name in captions(metric):
        if name in draw:
            ordered[name] = draw[name]
        if name == "curves":
            ordered |= {
                HEAT_MAP_PREFIX + axis: partial(heat_map, trials, axis, metric)
                for axis in grid.keys
            }
    return ordered


def _predicted_figures(
    run: Run, trials_of: Mapping[str, Sequence[str]], look: Mapping[str, Look]
) -> dict[str, Callable[[], Figure | None]]:
    """How to draw what was predicted of the test split; those of one name are of the best."""
    best, trials = next(iter(trials_of.items()), (None, ()))
    if run.target_task == "classification":
        return {
            "confusion": lambda: confusion_matrices(run.predictions, trials_of),
            "mistakes": lambda: _mistakes(run, trials_of),
            "calibration": lambda: reliability_diagram(run.predictions, trials_of, look),
        }
    if best is None:
        return {}
    if run.target_task == "multi_label":
        return {
            "labels": lambda: label_matrices(run.predictions, best, trials),
            "mistakes": lambda: _mistakes(run, trials_of),
        }
    return {
        "predicted": lambda: predicted_against_true(run.predictions, best, trials, look[best]),
        "residuals": lambda: residual_sheet(
            largest_residuals(run.predictions, trials, count=MAX_PICTURES),
            read_thumbnails(run.folder),
            name=best,
        ),
    }


def numbered_names(run: Run) -> dict[str, str]:
    """The names of the run that no font of this machine has, and the number of each.

    That of a class, target or label is its place among these; others follow them.
    """
    classes = output_names(run.predictions)
    grid = read_grid(run.trials, run.metric) if len(run.trials) else None
    values = grid.axes.values() if grid else ()
    missing = undrawable([*classes, *(value for axis in values for value in axis)])
    places = {name: index for index, name in enumerate(classes, 1)}
    rest = [name for name in missing if name not in places]
    places |= {name: index for index, name in enumerate(rest, len(classes) + 1)}
    return {name: f"#{places[name]}" for name in missing}


def _tuning_figures(run: Run, grid: Grid) -> dict[str, Callable[[], Figure | None]]:
    """How to draw the figures of the search for settings; nothing of a run without one."""
    tuning = read_tuning(run.folder)
    if tuning is None:
        return {}
    studies, objective, metric = read_studies(tuning), read_goals(tuning)[0], run.metric
    look = study_looks(studies, grid)
    seeds = len(tuning.description["seeds"])
    return {
        "tuning_curves": lambda: tuning_curves(studies, look, metric, seeds=seeds),
        "tuning_learning_rates": lambda: tuned_learning_rates(studies, look, metric),
        "tuning_history": lambda: tuning_history(studies, objective, look, metric),
        "tuning_importances": lambda: setting_importances(studies, objective),
        "tuning_settings": lambda: setting_lines(studies, metric),
    }


def caption(name: str, metric: Metric = ACCURACY) -> str | None:
    """What a figure of the run shows; None for the curves of a single trial."""
    if name.startswith(HEAT_MAP_PREFIX):
        return f"Mean test {metric.label} with each {name.removeprefix(HEAT_MAP_PREFIX)}."
    return captions(metric).get(name)


def _mistakes(run: Run, trials_of: Mapping[str, Sequence[str]]) -> Figure | None:
    if not trials_of:
        return None
    name, trials = next(iter(trials_of.items()))
    found = _found_mistakes(run, trials)
    what = "class" if run.target_task == "classification" else "label"
    return contact_sheet(found, read_thumbnails(run.folder), name=name, what=what)


def _found_mistakes(run: Run, trials: Sequence[str]) -> list[Mistake]:
    several = run.target_task == "multi_label"
    find = confident_label_mistakes if several else confident_mistakes
    return find(run.predictions, trials, count=MAX_PICTURES)


def _shown(run: Run, trials: Sequence[str]) -> Sequence[Mistake | Residual]:
    """What the report has pictures of, if these trials turn out the best."""
    if run.target_task == "regression":
        return largest_residuals(run.predictions, trials, count=MAX_PICTURES)
    return _found_mistakes(run, trials)


def pictured_samples(run: Run) -> list[str]:
    """The images that figures of `run` and of its audit show, whichever strategy will be best."""
    return list(dict.fromkeys([*_mistaken(run), *_suspected(run)]))


def _suspected(run: Run) -> list[str]:
    """Those that an audit names, of which there is a picture; none where it is not possible."""
    try:
        suspects = find_suspects(run).suspects
    except BenchError:
        return []
    return list(dict.fromkeys(each.sample for each in to_picture(suspects, MAX_SUSPECTS)))


def _mistaken(run: Run) -> list[str]:
    complete = complete_trials(run.trials)
    if complete.empty:
        return []
    grid = read_grid(run.trials, run.metric)
    trials_of = _trials_of(complete, representatives(run.trials, grid), run.metric)
    found = [mistake.sample for trials in trials_of.values() for mistake in _shown(run, trials)]
    return list(dict.fromkeys(found))[:MAX_KEPT_PICTURES]


def _trials_of(
    complete: pd.DataFrame, chosen: Mapping[str, str], metric: Metric
) -> dict[str, list[str]]:
    """The trials of each name's config, the best mean on the test split first."""
    means = metric.sign * complete.groupby("config")[metric.test].mean()
    return {
        name: list(complete.loc[complete["config"] == chosen[name], "trial"])
        for name in sorted(chosen, key=lambda name: -means[chosen[name]])
    }


def _trial_figures(run: Run, folder: Path, keys: FigureKeys | None) -> Iterator[_Figure]:
    """The curves of the first complete trials."""
    complete = complete_trials(run.trials).head(MAX_TRIAL_FIGURES)
    if complete.empty:
        return
    grid = read_grid(run.trials)
    look = looks(grid.axes[grid.lead])
    of_trial = {str(trial): rows for trial, rows in run.curves.groupby("trial", sort=False)}
    paths: set[Path] = set()
    for record in complete.to_dict("records"):
        trial = {str(key): value for key, value in record.items()}
        name, config = str(trial["trial"]), str(trial["config"])
        label, own = grid.trial_label(trial), look[grid.cells[config][grid.lead]]
        path = folder / f"{_file_stem(label)}.png"
        if path in paths:
            path = path.with_stem(f"{path.stem}-{name[:12]}")
        paths.add(path)
        yield _Figure(
            name=TRIAL_PREFIX + name,
            path=path,
            draw=partial(
                trial_curves,
                trial,
                of_trial.get(name, run.curves.iloc[:0]),
                run.metric,
                label=label,
                look=own,
            ),
            key=None if keys is None else keys.of_trial(trial, run.metric, label, str(own)),
        )


def _file_stem(label: str) -> str:
    """`label` as a file name that every file system and every link takes."""
    words = (re.sub(r"[^a-z0-9._]+", "-", word.lower()) for word in label.split(SEPARATOR))
    return "__".join(word.strip("-.") for word in words)[:120]


def _remove_figures(folder: Path, metric: Metric, *, but: Collection[Path]) -> None:
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    # An earlier run into this folder may have been by another metric.
    others = [replace(metric, name=name) for name in (*METRICS, *TASK_METRICS)]
    names = {name for each in (metric, *others) for name in captions(each)}
    names |= {name for own in _OF_PREDICTIONS.values() for name in own}
    figures = [*(folder / f"{name}.png" for name in names), *folder.glob("heat_map_*.png")]
    for path in [*(folder / "trials").glob("*.png"), *figures]:
        if path not in but:
            path.unlink(missing_ok=True)
