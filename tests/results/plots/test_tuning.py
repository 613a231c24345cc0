from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from bench.results.analysis import (
    Goal,
    Study,
    importances,
    incumbents,
    read_goals,
    read_studies,
)
from bench.results.folder import Run, read_tuning
from bench.results.grid import read_grid
from bench.results.plots import (
    caption,
    draw_figures,
    looks,
    setting_importances,
    setting_lines,
    study_looks,
    tuned_learning_rates,
    tuning_curves,
    tuning_history,
    write_plots,
)
from bench.results.plots.style import GREY
from tests.made_up_tuning import ACCURACY, SECONDS, SPACE, made_up_tuning
from tests.results.plots.test_plots import TWELVE, _title, _touches_the_edge

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.results.plots import Look

HIGHEST = Goal(name="val_accuracy", maximize=True)
FIGURES = (
    "tuning_curves",
    "tuning_learning_rates",
    "tuning_history",
    "tuning_importances",
    "tuning_settings",
)
WIDE: dict[str, Any] = {
    **SPACE,
    "strategy.backbone_multiplier": {"low": 0.01, "high": 1.0, "log": True},
    "head.dropout": {"low": 0.0, "high": 0.9, "log": False},
    "schedule.a_name_longer_than_any_column_is_wide": {"low": 1e-7, "high": 123456.0, "log": True},
    "weights": {"choices": ["imagenet", "a_choice_with_$a_very_long_name", None]},
    "batch_size": {"choices": [8, 16, 32, 64]},
    "momentum": {"low": 0.0, "high": 0.99, "log": False},
}


def _some(row: dict[str, Any]) -> None:
    if row["number"] in (2, 7):
        row.update(state="failed", val_accuracy=None, val_loss=None, val_accuracy_sd=None)
    if row["number"] in (3, 9):
        row["state"] = "pruned"
    if row["number"] == 9:
        row.update(val_accuracy=None, val_loss=None)


EDGES: dict[str, dict[str, Any]] = {
    "one study": {"strategies": ["full_finetune"]},
    "eight studies": {"schedules": ["cosine", "step(step_size=7)"], "change": _some},
    "long names": {
        "strategies": [TWELVE[-1], TWELVE[4]],
        "schedules": ["b" * 90, "c"],
        "spaces": dict.fromkeys((TWELVE[-1], TWELVE[4]), WIDE),
        "trials": 20,
    },
    "twelve strategies": {"strategies": TWELVE, "schedules": ["a", "b"], "trials": 8},
    "two trials": {"trials": 2, "strategies": ["full_finetune", "from_scratch"]},
    "two objectives": {"objectives": (SECONDS, ACCURACY)},
    "losses": {"objectives": ({"name": "val_loss", "direction": "minimize"},), "change": _some},
}

QUICK = ("one study", "long names")


def _read(run: Run) -> tuple[list[Study], dict[str, Look]]:
    tuning = read_tuning(run.folder)
    assert tuning is not None
    studies = read_studies(tuning)
    return studies, study_looks(studies, read_grid(run.trials))


def _figures(run: Run) -> dict[str, Figure]:
    """The figures of the search alone."""
    tuning = read_tuning(run.folder)
    assert tuning is not None
    studies, look = _read(run)
    objective = read_goals(tuning)[0]
    drawn = (
        tuning_curves(studies, look),
        tuned_learning_rates(studies, look),
        tuning_history(studies, objective, look),
        setting_importances(studies, objective),
        setting_lines(studies),
    )
    return {name: f for name, f in zip(FIGURES, drawn, strict=True) if f is not None}


@pytest.mark.parametrize(
    "edge",
    [
        pytest.param(
            edge, marks=() if edge in ("one study", "long names") else pytest.mark.campaign
        )
        for edge in EDGES
    ],
)
def test_every_figure_is_drawn_and_nothing_is_cut_off(tmp_path: Path, edge: str) -> None:
    run = made_up_tuning(tmp_path / "r", **{"seeds": 1, **EDGES[edge]})
    figures = _figures(run)
    assert tuple(figures) == tuple(
        name for name in FIGURES if edge != "two trials" or name != "tuning_importances"
    )
    assert [name for name, figure in figures.items() if _touches_the_edge(figure)] == []


def test_they_stand_among_the_figures_of_the_run(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1, epochs=1)
    names = [name for name, _ in draw_figures(run)]
    start = names.index("wins") + 1
    assert tuple(names[start : start + len(FIGURES)]) == FIGURES
    assert all(caption(name) for name in names)


@pytest.mark.campaign
def test_files_of_an_earlier_search_are_removed(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a"], seeds=1, epochs=1)
    files = write_plots(run, tmp_path / "plots").files
    assert set(FIGURES) < set(files)
    (run.folder / "tuning.parquet").unlink()
    assert not set(FIGURES) & set(write_plots(run, tmp_path / "plots").files)
    assert not list((tmp_path / "plots").glob("tuning_*"))


def test_studies_have_the_colours_of_their_strategies(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", schedules=["x", "y"], seeds=1)
    studies, look = _read(run)
    colours = looks(read_grid(run.trials).axes["strategy"])
    assert {study.name: look[study.name].colour for study in studies} == {
        study.name: colours[study.name.split(" · ")[0]].colour for study in studies
    }
    assert len(set(look.values())) == len(studies) == 8


def test_a_tuned_strategy_keeps_its_colour_under_its_new_name(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1)
    renamed = run.trials.assign(strategy=run.trials["strategy"] + "(found=0.5)")
    studies, _ = _read(run)
    colours = looks(read_grid(renamed).axes["strategy"])
    assert study_looks(studies, read_grid(renamed)) == {
        name: colours[f"{name}(found=0.5)"] for name in ("a", "b")
    }


def test_a_study_without_a_tuned_config_is_found_by_its_strategy(tmp_path: Path) -> None:
    def forget(about: dict[str, Any]) -> None:
        for study in about["studies"].values():
            study["tuned_config"] = None

    run = made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1, describe=forget)
    studies, look = _read(run)
    assert look == looks(["a", "b"])
    other = read_grid(run.trials.assign(strategy="c"))
    assert {each.colour for each in study_looks(studies, other).values()} == {GREY}


def test_histories_show_every_trial_and_the_best_so_far(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", seeds=1, change=_some)
    studies, look = _read(run)
    figure = tuning_history(studies, HIGHEST, look)
    assert figure is not None
    for ax, study in zip(figure.axes, studies, strict=True):
        lines = {line.get_drawstyle(): line for line in ax.get_lines()}
        best = incumbents(study, HIGHEST)["value"]
        np.testing.assert_allclose(lines["steps-post"].get_ydata(), best)
        dots = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
        drawn = [x for line in dots if line.get_markersize() == 5 for x in line.get_xdata()]
        assert sorted(drawn) == list(range(12))
        stars = [line for line in ax.get_lines() if line.get_marker() == "*"]
        assert [list(star.get_xdata()) for star in stars] == [[0]]
        (ring,) = (line for line in ax.get_lines() if line.get_markersize() == 12)
        assert list(ring.get_xdata()) == [study.best]
        crosses = [line for line in ax.get_lines() if line.get_marker() == "x"]
        assert [x for line in crosses for x in line.get_xdata()] == [2, 7]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        *("trial", "best so far", "the suite's own values", "chosen", "pruned", "failed")
    ]


def test_curves_are_cumulated_over_all_trials(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", seeds=1, change=_some)
    rows = pd.read_parquet(run.folder / "tuning.parquet")
    studies, look = _read(run)
    figure = tuning_curves(studies, look)
    assert figure is not None
    (ax,) = figure.axes
    for line, study in zip(ax.get_lines(), studies, strict=True):
        own = rows[rows["study"] == study.name]
        best = own["val_accuracy"].where(own["state"] == "complete").cummax().ffill()
        np.testing.assert_allclose(line.get_xdata(), own["images"].cumsum() / 1000)
        np.testing.assert_allclose(line.get_ydata(), best)
        assert line.get_color() == look[study.name].colour
    assert ax.get_xlabel() == "training images processed by the search (thousand)"
    ends = {study.name: incumbents(study, HIGHEST)["value"].iloc[-1] for study in studies}
    best_name, worst = max(ends, key=lambda n: ends[n]), min(ends, key=lambda n: ends[n])
    assert _title(figure) == (
        f"After 47 thousand training images, the best of {best_name} reaches "
        f"{100 * ends[best_name]:.1f} % in validation, of {worst} {100 * ends[worst]:.1f} %"
    )


def test_studies_of_one_colour_have_lines_of_their_own(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a", "b"], schedules=list("xyz"), seeds=1)
    figure = tuning_curves(*_read(run))
    assert figure is not None
    drawn = {(line.get_color(), repr(line._unscaled_dash_pattern)) for line in figure.axes[0].lines}
    assert len(drawn) == 6


def test_learning_rates_are_those_of_the_table(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", seeds=1, change=_some)
    rows = pd.read_parquet(run.folder / "tuning.parquet").dropna(subset=["val_accuracy"])
    studies, look = _read(run)
    figure = tuned_learning_rates(studies, look)
    assert figure is not None
    (ax,) = figure.axes
    assert ax.get_xscale() == "log"
    small = [line for line in ax.get_lines() if line.get_markersize() == 5]
    points = {(x, y) for line in small for x, y in zip(*line.get_data(), strict=True)}
    assert points == set(zip(rows["param_lr"], rows["val_accuracy"], strict=True))
    large = [line for line in ax.get_lines() if line.get_markersize() == 12]
    assert [(line.get_xdata()[0], to_hex(line.get_color()).upper()) for line in large] == [
        (study.trials["param_lr"][study.best], look[study.name].colour) for study in studies
    ]


def test_importances_are_those_of_the_analysis(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1, trials=25)
    studies, _ = _read(run)
    figure = setting_importances(studies, HIGHEST)
    assert figure is not None
    shown = {
        (round(text.get_position()[1]), round(text.get_position()[0])): text.get_text()
        for text in figure.axes[0].texts
    }
    expected = {
        (row, column): f"{100 * share:.0f}"
        for row, study in enumerate(studies)
        for column, share in enumerate(importances(study, HIGHEST).values())
    }
    assert shown == expected
    assert len(shown) == 6


def test_a_line_for_each_complete_trial_runs_through_its_settings(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1, change=_some)
    studies, _ = _read(run)
    figure = setting_lines(studies)
    assert figure is not None
    for ax, study in zip(figure.axes, studies, strict=True):
        lines = [line.get_ydata() for line in ax.get_lines() if len(line.get_xdata()) == 4]
        complete = study.complete
        assert len(lines) == len(complete)
        expected = complete.sort_values("val_accuracy")
        for line, row in zip(lines, expected.to_dict("records"), strict=True):
            assert line[0] == pytest.approx((np.log10(row["param_lr"]) + 5) / 5)
            assert line[1] == pytest.approx(row["param_weight_decay"] / 0.01)
            assert line[2] == ["sgd", "adamw"].index(row["param_optimizer"])
        heights = [line[3] for line in lines]
        assert heights == sorted(heights)


def test_what_does_not_apply_is_not_drawn(tmp_path: Path) -> None:
    one = {"head.dropout": {"low": 0.0, "high": 0.9, "log": False}}
    run = made_up_tuning(tmp_path / "r", strategies=["a"], spaces={"a": one}, seeds=1)
    assert set(_figures(run)) == {"tuning_curves", "tuning_history"}

    def fail(row: dict[str, Any]) -> None:
        row.update(state="failed", val_accuracy=None, val_loss=None, val_accuracy_sd=None, images=0)

    assert _figures(made_up_tuning(tmp_path / "s", strategies=["a"], seeds=1, change=fail)) == {}
    assert tuning_history([], HIGHEST, {}) is None
    assert tuning_curves([], {}) is None
    assert tuned_learning_rates([], {}) is None
    assert setting_importances([], HIGHEST) is None
    assert setting_lines([]) is None


def test_the_first_objective_is_drawn(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", seeds=1, objectives=(SECONDS, ACCURACY))
    tuning = read_tuning(run.folder)
    assert tuning is not None
    assert [o.name for o in read_goals(tuning)] == ["seconds", "val_accuracy"]
    figure = _figures(run)["tuning_history"]
    assert figure.axes[0].get_ylabel() == "training time (s)"
    assert " s in validation" not in _title(figure)
