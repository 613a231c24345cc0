from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from bench.results.analysis import LrCell, Mistake, Ranking, pareto_front, read_verdict, reliability
from bench.results.folder import read_run
from bench.results.grid import read_grid
from bench.results.plots import (
    TRIAL_PREFIX,
    against_cost,
    captions,
    confusion_matrices,
    contact_sheet,
    critical_differences,
    draw_figures,
    heat_map,
    learning_rates,
    looks,
    lr_range_panels,
    mean_curves,
    ranked_configs,
    reliability_diagram,
    strategy_panels,
    trial_curves,
    win_matrix,
    write_lr_range_panels,
    write_plots,
)
from bench.results.plots.style import percent, shortened, wrapped
from tests.made_up_run import BRIER, made_up_run, mirror

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from bench.results.folder import Run

TWELVE = [
    "from_scratch",
    "full_finetune",
    "freeze_backbone",
    "gradual_unfreeze(every=2)",
    "discriminative_lr(decay=2.6)",
    "linear_probe_then_finetune(probe_epochs=4)",
    "bias_only",
    "norm_only",
    "pretrained_head",
    "last_blocks(n=2)",
    "chain_thaw",
    "a_name(that=goes, on=and, on=for, longer=than, any=figure, has=$room, for=words_with_no_gap)",
]


def _diverge(row: dict[str, Any], curves: dict[str, Any]) -> None:
    if row["strategy"] == "full_finetune":
        curves["loss"] = [float("nan")] * len(curves["loss"])
        row["val_loss"] = row["test_loss"] = float("nan")
    if row["strategy"] == "from_scratch" and row["seed"] == 1:
        curves["loss"][1] = 1e9
        curves["loss"][2] = float("inf")


def _fail_some(row: dict[str, Any], _: dict[str, Any]) -> None:
    if row["seed"] == 2 or row["strategy"] == "full_finetune":
        row.update(status="failed", error="boom", test_accuracy=None, precision=None)


EDGES: dict[str, dict[str, Any]] = {
    "twelve strategies": {"strategies": TWELVE, "schedules": ["cosine"], "seeds": 2},
    "many panels": {"schedules": list("abcd"), "augmentations": ["x", "y"], "seeds": 1},
    "many columns": {
        "schedules": [f"schedule_with_a_name({i}=0.125)" for i in range(9)],
        "seeds": 1,
    },
    "long values": {"schedules": ["b" * 90, TWELVE[-1]], "augmentations": ["c" * 90], "seeds": 2},
    "one seed": {"seeds": 1},
    "one epoch": {"epochs": 1},
    "one config": {"strategies": ["full_finetune"], "schedules": ["cosine"], "seeds": 1},
    "nothing trained": {"strategies": ["pretrained_head"], "schedules": ["cosine"]},
    "something not trained": {"strategies": ["pretrained_head", "full_finetune"]},
    "one strategy": {"strategies": ["full_finetune"], "schedules": ["cosine", "step", "linear"]},
    "diverged": {"change": _diverge},
    "some failed": {"change": _fail_some},
    "another metric": {
        "strategies": ["full_finetune", "bitfit"],
        "change": mirror,
        "data": {"metrics": [BRIER]},
        "seeds": 2,
    },
}


def _figures(run: Run) -> dict[str, Figure]:
    drawn = dict(draw_figures(run))
    trial = run.trials[run.trials["status"] == "complete"].iloc[-1].to_dict()
    grid = read_grid(run.trials)
    drawn["trial"] = trial_curves(
        trial,
        run.curves[run.curves["trial"] == trial["trial"]],
        run.metric,
        label=f"{grid.labels[trial['config']]} · seed {trial['seed']}",
        look=looks(grid.axes[grid.lead])[grid.cells[trial["config"]][grid.lead]],
    )
    return drawn


def _written(run: Run, folder: Path) -> dict[str, Path]:
    drawn = write_plots(run, folder)
    assert drawn.failed == {}
    return dict(drawn.files)


def _title(figure: Figure) -> str:
    title = figure.get_suptitle()
    return title.replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


def _touches_the_edge(figure: Figure) -> bool:
    """Whether anything is drawn on the outermost pixels, as a text that is cut off would be."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ink = np.asarray(canvas.buffer_rgba())[..., :3].min(axis=2) < 250
    return bool(ink[[0, -1]].any() or ink[:, [0, -1]].any())


RARE = ("many panels", "one seed", "one epoch", "one strategy", "something not trained",
        "some failed", "long values", "many columns", "diverged", "another metric")  # fmt: skip
"""Edges that a campaign is for: others in the line are wider, or have as little to draw."""


@pytest.mark.parametrize(
    "edge",
    [pytest.param(e, marks=pytest.mark.campaign if e in RARE else ()) for e in EDGES],
)
def test_every_figure_is_drawn_and_nothing_is_cut_off(tmp_path: Path, edge: str) -> None:
    run = made_up_run(tmp_path, **{"epochs": 4, **EDGES[edge]})
    figures = _figures(run)
    assert {run.metric.test, "curves", "trial"} <= set(figures)
    assert [name for name, figure in figures.items() if _touches_the_edge(figure)] == []


def test_files_are_pictures_of_the_right_size(tmp_path: Path) -> None:
    strategies = ["full_finetune", "gradual_unfreeze(every=2)"]
    run = made_up_run(
        tmp_path, strategies=strategies, augmentations=["flip", "mix"], seeds=1, epochs=3
    )
    files = _written(run, tmp_path / "plots")
    # One data set, strategies that cost the same memory, no pictures of test images, no tuning,
    # one number of training images.
    other = {"ranks", "accuracy_against_memory", "mistakes", "inputs", "label_curves"}
    names = [name for name in captions() if name not in other and not name.startswith("tuning_")]
    after = names.index("curves") + 1
    names[after:after] = ["heat_map_schedule", "heat_map_augmentation"]
    assert list(files) == [*names, *(TRIAL_PREFIX + trial for trial in run.trials["trial"])]
    assert sorted((tmp_path / "plots").rglob("*.png")) == sorted(files.values())
    for path in files.values():
        with Image.open(path) as picture:
            assert picture.width == 1200
            assert picture.height > 300
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    trial = run.trials.query("strategy == 'gradual_unfreeze(every=2)'").iloc[0]
    name = files[TRIAL_PREFIX + trial["trial"]].name
    assert name == "gradual_unfreeze-every-2__cosine__flip__seed-0.png"


@pytest.mark.campaign
def test_figures_that_no_longer_apply_are_removed(tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    strategies = ["full_finetune", "bitfit"]
    before = _written(made_up_run(tmp_path, strategies=strategies, seeds=1, epochs=2), plots)
    (plots / "mine.png").write_bytes(b"not ours")
    after = _written(
        made_up_run(tmp_path, strategies=["bitfit"], schedules=["cosine"], seeds=1, epochs=2), plots
    )
    assert "heat_map_schedule" in before
    assert not set(after) & {"heat_map_schedule", "accuracy_against_time"}
    (plots / "test_brier.png").write_bytes(b"of another metric")
    after = _written(read_run(tmp_path), plots)
    assert set(plots.rglob("*.png")) == {*after.values(), plots / "mine.png"}


def test_names_that_differ_in_case_only_keep_files_of_their_own(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["BitFit", "bitfit"], schedules=["a"], seeds=1, epochs=2)
    files = _written(run, tmp_path / "plots")
    assert len({str(path).lower() for path in files.values()}) == len(files)
    assert sum(name.startswith(TRIAL_PREFIX) for name in files) == 2


def test_without_complete_trials_there_is_no_figure(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, change=lambda row, _: row.update(status="failed"))
    assert _written(run, tmp_path / "plots") == {}


def test_titles_state_figures_of_the_tables(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, schedules=["cosine"])
    of_strategy = run.trials.groupby("strategy")
    test = 100 * of_strategy["test_accuracy"].mean()
    last = 100 * of_strategy["last_val_accuracy"].mean()
    seconds = of_strategy["train_seconds"].mean()
    figures = {name: _title(figure) for name, figure in _figures(run).items()}
    best, worst, fastest = test.idxmax(), test.idxmin(), seconds.idxmin()
    assert figures["test_accuracy"] == (
        f"{best} reaches {test.max():.1f} % test accuracy, {worst} {test.min():.1f} %"
    )
    assert figures["curves"] == (
        f"{last.idxmax()} ends at {last.max():.1f} % validation accuracy on average, "
        f"{last.idxmin()} at {last.min():.1f} %"
    )
    assert figures["accuracy_against_time"] == (
        f"{best} reaches {test.max():.1f} % with {seconds[best]:.3g} s; with the least training "
        f"time, {fastest} reaches {test[fastest]:.1f} % with {seconds[fastest]:.3g} s"
    )


def test_heat_map_shows_means_and_deviations_over_seeds(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, augmentations=["flip", "mix"], epochs=2)
    figure = heat_map(run.trials, "schedule")
    assert figure is not None
    ax = figure.axes[0]
    cells = {
        (round(text.get_position()[1]), round(text.get_position()[0])): text.get_text()
        for text in ax.texts
    }
    rows, columns = (list(dict.fromkeys(run.trials[axis])) for axis in ("strategy", "schedule"))
    assert len(cells) == len(rows) * len(columns)
    for (row, column), shown in cells.items():
        mine = run.trials["strategy"].eq(rows[row]) & run.trials["schedule"].eq(columns[column])
        chosen = run.trials[mine]
        seeds = [100 * chosen[chosen["seed"] == s]["test_accuracy"].mean() for s in range(3)]
        assert shown == f"{np.mean(seeds):.1f}\n± {np.std(seeds, ddof=1):.1f}"


def test_heat_map_of_any_two_axes(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, augmentations=["flip", "mix"], epochs=2)
    figure = heat_map(run.trials, "schedule", by="augmentation")
    assert figure is not None
    ax = figure.axes[0]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("augmentation", "schedule")
    per_seed = run.trials.groupby(["augmentation", "schedule", "seed"])["test_accuracy"].mean()
    means = 100 * per_seed.groupby(["augmentation", "schedule"]).mean()
    assert ax.texts[1].get_text().split("\n")[0] == f"{means.iloc[1]:.1f}"
    assert heat_map(run.trials, "schedule", by="optimizer") is None


def test_curves_are_means_over_seeds_as_far_as_all_seeds_went(tmp_path: Path) -> None:
    def stop_early(row: dict[str, Any], curves: dict[str, Any]) -> None:
        if row["seed"] == 1:
            kept = [i for i, epoch in enumerate(curves["epoch"]) if epoch <= 4]
            for name, values in curves.items():
                curves[name] = [values[i] for i in kept]

    run = made_up_run(
        tmp_path, strategies=["full_finetune"], schedules=["cosine"], epochs=6, change=stop_early
    )
    figure = mean_curves(run.trials, run.curves)
    assert figure is not None
    lines = {line.get_linestyle(): line for line in figure.axes[1].get_lines()}
    for split, style in (("train", "--"), ("val", "-")):
        chosen = run.curves[(run.curves["split"] == split) & (run.curves["epoch"] <= 4)]
        expected = [chosen[chosen["epoch"] == e]["accuracy"].to_numpy().mean() for e in range(1, 5)]
        np.testing.assert_allclose(lines[style].get_ydata(), expected)
        np.testing.assert_array_equal(lines[style].get_xdata(), [1, 2, 3, 4])


def test_what_trains_nothing_is_a_level(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["pretrained_head", "full_finetune"], seeds=2)
    figure = mean_curves(run.trials, run.curves)
    assert figure is not None
    head = run.trials.query("strategy == 'pretrained_head' and schedule == 'cosine'")
    levels = [line.get_ydata() for line in figure.axes[1].get_lines() if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(levels, [[head["val_accuracy"].mean()] * 2])


def test_a_strategy_has_one_colour_in_every_figure(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, schedules=["cosine"], change=_fail_some)
    look = looks(read_grid(run.trials).axes["strategy"])
    figures = _figures(run)
    for name in ("curves", "accuracy_against_time"):
        legend = figures[name].legends[0]
        shown = {
            text.get_text(): handle.get_color()
            for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
        }
        strategies = [value for value in look if value in shown]
        assert len(strategies) == 3  # all trials of one have failed
        assert {value: shown[value] for value in strategies} == {
            value: look[value].colour for value in strategies
        }


def test_colours_are_those_of_the_names(tmp_path: Path) -> None:
    """Whatever the order, the options, or what else is compared."""
    usual = ["full_finetune", "linear_probe", "from_scratch", "lp_ft", "gradual_unfreeze",
             "layerwise_decay", "two_rates"]  # fmt: skip
    every = looks(usual)
    assert len({look.colour for look in every.values()}) == 7
    assert looks(reversed(usual)) == every
    assert looks([*usual[:3], *usual[5:]]) == {
        name: every[name] for name in usual if name not in usual[3:5]
    }
    assert looks(["lp_ft(probe_epochs=2)"]).popitem()[1] == every["lp_ft"]
    assert looks(TWELVE) == {name: looks(sorted(TWELVE))[name] for name in TWELVE}


def test_twelve_values_are_told_apart() -> None:
    assert len({(look.colour, look.marker) for look in looks(TWELVE).values()}) == 12


def test_of_many_configs_validation_chooses_those_that_are_ranked(tmp_path: Path) -> None:
    schedules = [f"s{i}" for i in range(7)]
    run = made_up_run(tmp_path, schedules=schedules, seeds=2, epochs=2)
    figure = ranked_configs(run.trials)
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    means = run.trials.groupby(["strategy", "schedule"])["val_accuracy"].mean()
    best = {means[strategy].idxmax() for strategy in means.index.levels[0]}
    assert len(labels) == 4
    assert {label.split("·")[1].strip() for label in labels} == best


def test_settings_of_matplotlib_are_left_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    _figures(made_up_run(tmp_path, seeds=1, epochs=2))
    assert dict(mpl.rcParams) == before


def test_importing_the_products_is_light() -> None:
    heavy = "{'torch', 'pandas', 'pyarrow', 'matplotlib', 'PIL', 'scipy'}"
    code = (
        "import sys, bench.results.folder, bench.results.grid\n"
        "import bench.results.plots, bench.results.report\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_shortening_keeps_both_ends() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 6) == "abc…ij"
    assert all(len(line) <= 5 for line in wrapped("one two threefourfive", 5).split("\n"))
    assert not re.search(r"\s$", wrapped("one two", 4))


def test_a_long_label_breaks_before_its_options() -> None:
    assert wrapped("two_rates(backbone_multiplier=0)", 28) == "two_rates\n(backbone_multiplier=0)"
    assert wrapped("step(step_size=7)", 28) == "step(step_size=7)"


def test_wins_are_those_of_the_comparisons(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, schedules=["cosine"], seeds=8)
    comparisons = read_verdict(run).comparisons
    figure = win_matrix(comparisons)
    assert figure is not None
    ax = figure.axes[0]
    names = [label.get_text().replace("\n", "") for label in ax.get_yticklabels()]
    shown = {
        (names[round(t.get_position()[1])], names[round(t.get_position()[0])]): t.get_text()
        for t in ax.texts
    }
    assert len(shown) == 12
    for c in comparisons:
        assert shown[c.first, c.second] == f"{100 * c.improvement:.0f}"
        assert shown[c.second, c.first] == f"{100 * (1 - c.improvement):.0f}"
    claimed = sum(c.verdict in ("better", "worse") for c in comparisons)
    assert claimed > 0
    assert len(ax.patches) == claimed
    assert _title(figure) == f"{claimed} of 6 pairs shown to differ"


@pytest.mark.parametrize("names", [3, 12])
def test_ranks_over_blocks_are_drawn_where_they_are(names: int) -> None:
    ranks = {f"strategy_{i}": 1.0 + i * (names - 1) / (names - 1) for i in range(names)}
    cliques = (("strategy_0", "strategy_1"), ("strategy_1", "strategy_2"))
    figure = critical_differences(
        Ranking(blocks=tuple("abcdefgh"), ranks=ranks, p=0.01, cliques=cliques)
    )
    assert figure is not None
    assert not _touches_the_edge(figure)
    ax = figure.axes[0]
    marks = [line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 3]
    assert marks == list(ranks.values())
    bars = [line.get_xdata() for line in ax.get_lines() if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(bars, [[0.97, 2.03], [1.97, 3.03]])
    assert {text.get_text().split()[0] for text in ax.texts} == set(ranks)


def test_confusions_are_counted_over_seeds(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["a", "b"], schedules=["s"], classes=["x", "y", "z"])
    trials_of = {name: list(g["trial"]) for name, g in run.trials.groupby("strategy")}
    figure = confusion_matrices(run.predictions, trials_of)
    assert figure is not None
    for ax, trials in zip(figure.axes, trials_of.values(), strict=False):
        own = run.predictions[run.predictions["trial"].isin(trials)]
        expected = pd.crosstab(own["label"], own["predicted"], normalize="index")
        for text in ax.texts:
            column, row = (round(value) for value in text.get_position())
            assert text.get_text() == f"{100 * expected.iloc[row, column]:.1f}"


MANY = [f"n{index:08}_a_class_with_a_long_name" for index in range(300)]


def test_of_many_classes_the_pairs_that_are_confused_are_listed(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["a"], schedules=["s"], classes=MANY, seeds=2, epochs=1)
    figure = confusion_matrices(run.predictions, {"a": list(run.trials["trial"])})
    assert figure is not None
    assert not _touches_the_edge(figure)
    wrong = run.predictions[run.predictions["label"] != run.predictions["predicted"]]
    pairs = wrong.groupby(["label", "predicted"]).size().sort_values(ascending=False)
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(shown) == 15
    counts = [int(text.get_text().split("(")[1].split()[0]) for text in figure.axes[0].texts]
    assert counts == list(pairs.head(15))
    assert not _overlaps(figure.axes[0].get_yticklabels())


@pytest.mark.parametrize("number", [12, 20])
def test_names_of_classes_do_not_collide(tmp_path: Path, number: int) -> None:
    run = made_up_run(
        tmp_path,
        strategies=["a", "b", "c"],
        schedules=["s"],
        classes=MANY[:number],
        seeds=1,
        epochs=1,
    )
    trials_of = {name: list(g["trial"]) for name, g in run.trials.groupby("strategy")}
    figure = confusion_matrices(run.predictions, trials_of)
    assert figure is not None
    assert not _touches_the_edge(figure)
    for ax in (ax for ax in figure.axes if ax.get_visible()):
        assert not _overlaps(ax.get_yticklabels())
        assert not _overlaps(ax.get_xticklabels())


@pytest.mark.parametrize("number", [12, pytest.param(45, marks=pytest.mark.campaign)])
def test_names_of_a_wide_heat_map_do_not_collide(tmp_path: Path, number: int) -> None:
    schedules = [f"step(step_size={i})" for i in range(number)]
    run = made_up_run(
        tmp_path,
        strategies=["a", "b"],
        schedules=schedules,
        seeds=2 if number < 60 else 1,
        epochs=1,
    )
    figure = heat_map(run.trials, "schedule")
    assert figure is not None
    assert not _touches_the_edge(figure)
    ax = figure.axes[0]
    assert not _overlaps(ax.texts)
    if number > 12:  # the bounding boxes of slanting texts overlap, the texts do not
        assert not _overlaps(ax.get_xticklabels())


def _overlaps(texts: Sequence[Text]) -> bool:
    """Whether two of the texts, drawn before, lie over each other."""
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    return any(one.overlaps(two) for one, two in combinations(boxes, 2))


@pytest.mark.parametrize("number", [1, 15])
def test_names_in_the_contact_sheet_are_whole(number: int) -> None:
    names = "Great_Crested_Flycatcher", "Black_footed_Albatross"
    mistakes = [
        Mistake(sample=f"{i}.jpg", label=names[0], predicted=names[1], confidence=0.99, wrong=8,
                trials=8)
        for i in range(number)
    ]  # fmt: skip
    picture = np.zeros((96, 128, 3), dtype="uint8")
    figure = contact_sheet(mistakes, {f"{i}.jpg": picture for i in range(number)}, name="a")
    assert figure is not None
    assert not _touches_the_edge(figure)
    titles = [ax.title for ax in figure.axes[:number]]
    assert not _overlaps([*titles, *figure.texts])
    shown = titles[0].get_text().replace("\n", "")
    assert shown.replace("\N{NO-BREAK SPACE}", " ") == f"{names[0]}→ {names[1]}99.0 %, 8 of 8 seeds"


def test_bins_of_calibration_have_intervals(tmp_path: Path) -> None:
    """Wilson's, over test images: other seeds add none."""
    run = made_up_run(tmp_path, strategies=["a"], schedules=["s"], seeds=3, epochs=1)
    trials = list(run.trials["trial"])
    figure = reliability_diagram(run.predictions, {"a": trials}, looks(["a"]))
    assert figure is not None
    (bars,) = figure.axes[0].containers
    columns = ["probability_ants", "probability_bees"]
    labels = (run.predictions["label"] == "bees").to_numpy(int)
    found = reliability(run.predictions[columns].to_numpy(), labels)
    segments = bars.lines[2][0].get_segments()
    assert len(segments) == len(found.counts)
    for segment, share, count in zip(segments, found.accuracy, found.counts, strict=True):
        (_, low), (_, high) = segment
        images = count / 3
        z = 1.959964
        middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
        np.testing.assert_allclose((low + high) / 2, middle, atol=1e-6)


def test_calibration_errors_are_in_the_legend(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["a", "b"], schedules=["s"])
    trials_of = {name: list(g["trial"]) for name, g in run.trials.groupby("strategy")}
    figure = reliability_diagram(run.predictions, trials_of, looks(trials_of))
    assert figure is not None
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    for line, (name, trials) in zip(legend, trials_of.items(), strict=True):
        own = run.predictions[run.predictions["trial"].isin(trials)]
        probabilities = own[["probability_ants", "probability_bees"]].to_numpy()
        labels = (own["label"] == "bees").to_numpy(int)
        error = reliability(probabilities, labels).expected_calibration_error
        assert line == f"{name}: error {percent(error)}"


def test_panels_show_every_seed_and_the_mean(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["a", "b"], schedules=["s"], epochs=5)
    configs = {name: g["config"].iloc[0] for name, g in run.trials.groupby("strategy")}
    figure = strategy_panels(run.trials, run.curves, configs)
    assert figure is not None
    for ax, name in zip(figure.axes, configs, strict=False):
        trials = run.trials.loc[run.trials["strategy"] == name, "trial"]
        own = run.curves[run.curves["trial"].isin(trials)]
        drawn = [line.get_ydata() for line in ax.get_lines()]
        for trial in trials:
            mine = (own["trial"] == trial) & (own["split"] == "val")
            seed = own.loc[mine, "accuracy"].to_numpy()
            assert any(np.array_equal(line, seed) for line in drawn)
        for split in ("train", "val"):
            mean = own[own["split"] == split].groupby("epoch")["accuracy"].mean()
            assert any(np.allclose(line, mean) for line in drawn)


def test_learning_rates_are_drawn_once(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, epochs=5)
    figure = learning_rates(run.trials, run.curves)
    assert figure is not None
    assert [ax.get_title("left").replace("\n", " ") for ax in figure.axes] == [
        "cosine",
        "step(step_size=7)",
    ]
    for ax in figure.axes:
        assert len(ax.get_lines()) == 2  # of the four strategies, two share each rate
    first = run.curves.query("split == 'train' and trial == @run.trials['trial'].iloc[0]")
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_ydata(), first["lr"])


def test_curves_of_one_strategy_are_told_apart(tmp_path: Path) -> None:
    """Two learning rates of one strategy share its colour, not its line and its label."""

    def shrink(row: dict[str, Any], curves: dict[str, Any]) -> None:
        if row["augmentation"] == "mix":
            row["lr"] /= 2
            curves["lr"] = [lr / 2 for lr in curves["lr"]]

    run = made_up_run(
        tmp_path, strategies=["full_finetune", "freeze"], schedules=["s"],
        augmentations=["flip", "mix"], epochs=3, change=shrink,
    )  # fmt: skip
    figure = learning_rates(run.trials, run.curves)
    assert figure is not None
    lines = figure.axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines) == 4
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == 4
    assert sum("flip" in label for label in legend) == sum("mix" in label for label in legend) == 2


def test_schedules_of_one_strategy_are_told_apart(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["full_finetune", "linear_probe"], epochs=3)
    figure = against_cost(run.trials, "train_seconds")
    assert figure is not None
    means = [line for line in figure.axes[0].get_lines() if line.get_markersize() == 10]
    looks_ = {(line.get_color(), line.get_markerfacecolor()) for line in means}
    assert len(looks_) == len(means) == 4
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["full_finetune", "linear_probe", "cosine", "step(step_size=7)"]


def test_the_front_is_drawn_through_what_nothing_beats(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, schedules=["cosine"])
    figure = against_cost(run.trials, "train_seconds")
    assert figure is not None
    means = run.trials.groupby("strategy")[["train_seconds", "test_accuracy"]].mean()
    front = pareto_front(list(means["test_accuracy"]), list(means["train_seconds"]))
    expected = means[front].sort_values("train_seconds")
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_linestyle() == ":")
    np.testing.assert_allclose(line.get_ydata(), expected["test_accuracy"])
    np.testing.assert_allclose(line.get_xdata(), expected["train_seconds"])


def test_configs_without_a_known_cost_are_said_to_be_left_out(tmp_path: Path) -> None:
    trials = made_up_run(tmp_path, schedules=["cosine"]).trials
    trials["peak_memory_mib"] = trials["train_seconds"]
    known = trials[trials["strategy"] != trials["strategy"].iloc[0]]
    trials.loc[trials.index.difference(known.index), "peak_memory_mib"] = np.nan
    figure = against_cost(trials, "peak_memory_mib")
    assert figure is not None
    (line,) = (line for line in figure.axes[0].get_lines() if line.get_linestyle() == ":")
    costs = known.groupby("strategy")["peak_memory_mib"].mean()
    assert all(np.isclose(costs, cost).any() for cost in line.get_xdata())
    texts = " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))
    assert f"Left out: 1 of {len(costs) + 1} configs whose peak memory is not known." in texts


def _lr_cell(label: str, *, seed: int = 0, suite_lr: float = 0.01, **changes: Any) -> LrCell:
    lrs = np.geomspace(1e-6, 10, 60)
    noise = np.random.default_rng(seed).normal(0, 0.05, 60)
    smoothed = np.linspace(0.7, 0.2, 60)
    values: dict[str, Any] = {
        "label": label,
        "lead": label.partition(" ")[0],
        "lrs": lrs,
        "losses": smoothed + noise,
        "smoothed": smoothed,
        "suite_lrs": (suite_lr, suite_lr),
        "steepest": lrs[30],
        "valley": lrs[40],
    }
    return LrCell(**{**values, **changes})


BROKEN = np.array([0.7, 0.9, np.nan])
LR_CELLS: dict[str, list[LrCell]] = {
    "one": [_lr_cell("full_finetune")],
    "far": [_lr_cell("linear_probe", suite_lr=30.0)],
    "flat": [_lr_cell("bitfit", valley=None, steepest=None)],
    "broken": [
        _lr_cell(
            "a", lrs=np.array([1e-6, 1e-3, 1.0]), losses=BROKEN, smoothed=BROKEN,
            valley=None, steepest=None,
        )
    ],
    "exploded": [
        _lr_cell("a", losses=np.append(np.full(59, 0.5), 1e30),
                 smoothed=np.append(np.full(59, 0.5), 1e29))
    ],
    "alike": [_lr_cell("a · cosine"), _lr_cell("a · step"), _lr_cell("b", seed=1)],
    "many": [_lr_cell(name, seed=seed) for seed, name in enumerate([*TWELVE, "one", "two"])],
}  # fmt: skip


@pytest.mark.parametrize("case", LR_CELLS)
def test_lr_ranges_are_drawn_and_nothing_is_cut_off(case: str) -> None:
    figure = lr_range_panels(LR_CELLS[case])
    assert figure is not None
    assert not _touches_the_edge(figure)


def test_lr_ranges_say_how_far_the_suite_is_from_the_valley() -> None:
    titles = {
        case: _title(figure) for case in LR_CELLS if (figure := lr_range_panels(LR_CELLS[case]))
    }
    distance = float(f"{30 / np.geomspace(1e-6, 10, 60)[40]:.2g}")
    assert titles["far"] == (
        f"linear_probe: the suite's learning rate lies {distance:g} × above the valley"
    )
    assert titles["one"] == "The suite's learning rate lies within 10 × of the valley"
    assert titles["flat"] == "The loss falls by more than its scatter at no learning rate"
    assert titles["many"].endswith("in all of 14 cells")


def test_equal_lr_ranges_share_a_panel_and_exploded_losses_are_cut_off() -> None:
    figure = lr_range_panels(LR_CELLS["alike"])
    assert figure is not None
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a · cosine and 1 alike", "b"]
    figure = lr_range_panels(LR_CELLS["exploded"])
    assert figure is not None
    assert figure.axes[0].get_ylim()[1] < 2


def test_an_earlier_lr_figure_does_not_outlive_its_cells(tmp_path: Path) -> None:
    assert write_lr_range_panels(LR_CELLS["one"], tmp_path) == tmp_path / "lr_find.png"
    assert write_lr_range_panels([], tmp_path) is None
    assert not list(tmp_path.iterdir())
