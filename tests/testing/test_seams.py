"""One file outside the package, and vectors instead of images, through every seam of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import bench
from bench.data import Preprocessing
from bench.errors import PluginError
from bench.execution.work import count_work
from bench.models.tensor_files import read_tensor_file
from bench.results.folder import read_tuning
from bench.runs.prepare import counted_trials
from bench.runs.resolve import resolve_run
from bench.runs.time_estimate import estimate
from bench.suite.plugins import load_plugin, loaded_plugins, unload_plugin
from tests.outside import BESIDE, PLUGIN, REUSE, START

pytestmark = pytest.mark.xdist_group("seams")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The plugin, loaded, and the suites beside starting weights that a first run has trained."""
    folder = tmp_path_factory.mktemp("seams")
    (folder / "outside.py").write_text(PLUGIN)
    (folder / "outside_numbers.py").write_text(BESIDE)
    before = {plugin.place for plugin in loaded_plugins()}
    load_plugin("bench.testing.vectors")
    load_plugin(folder / "outside.py")
    (folder / "start.yaml").write_text(START)
    (folder / "reuse.yaml").write_text(REUSE)
    start = bench.run(folder / "start.yaml", out=folder / "out", device="cpu", workers=1)
    (checkpoint,) = (start.folder / "checkpoints").iterdir()
    (folder / "start.safetensors").write_bytes(checkpoint.read_bytes())
    yield folder
    for plugin in loaded_plugins():
        if plugin.place not in before:
            unload_plugin(plugin.place)


@pytest.fixture(scope="module")
def run(place: Path) -> bench.Run:
    """The suite on two processes."""
    return bench.run(place / "reuse.yaml", out=place / "two", device="cpu", workers=2)


def _numbers(run: bench.Run) -> pd.DataFrame:
    trials = run.trials.set_index("trial").sort_index()
    assert (trials["status"] == "complete").all(), list(trials["error"].dropna())
    return trials[["val_loss", "test_loss", "val_accuracy", "test_accuracy", "best_epoch"]]


def test_two_processes_give_the_numbers_of_one_that_shares_nothing(
    place: Path, run: bench.Run
) -> None:
    alone = bench.run(
        place / "reuse.yaml", out=place / "alone", device="cpu", workers=1, reuse=False
    )
    pd.testing.assert_frame_equal(_numbers(run), _numbers(alone))
    assert len(run.trials) == 16
    assert (run.folder / "report.html").is_file()


def test_heads_stack_and_first_epochs_are_shared(place: Path) -> None:
    # At a rate of its own: other tests have left states.
    resolved = resolve_run(
        place / "reuse.yaml", out=place / "plan", device="cpu", overrides=["lr=0.04", "seed=5"]
    )
    work = count_work(counted_trials(resolved), reuse=True)
    # Under each schedule head_then_norms trains its first epoch as linear_probe does.
    assert (work.asked, work.tree, work.earlier) == (24, 2, 0)
    assert work.features == 12
    assert estimate(resolved, work, workers=2).seconds > 0


@pytest.mark.campaign
def test_an_interrupted_run_goes_on(place: Path, run: bench.Run) -> None:
    only = ["strategy=linear_probe"]
    first = bench.run(place / "reuse.yaml", out=place / "some", only=only, workers=1)
    assert set(first.trials["status"]) == {"complete", "skipped"}
    rest = bench.run(place / "reuse.yaml", out=place / "some", workers=1)
    pd.testing.assert_frame_equal(_numbers(rest), _numbers(run))


def test_the_named_metric_chooses_the_epoch(run: bench.Run) -> None:
    settings = run.trials["settings"].map(json.loads)
    assert {each["metric"] for each in settings} == {"worst_class"}
    environment = json.loads((run.folder / "environment.json").read_text())
    assert "outside" in [plugin["name"] for plugin in environment["plugins"]]
    data = json.loads((run.folder / "data.json").read_text())
    assert data["metrics"][0]["name"] == "worst_class"
    val = run.curves[run.curves["split"] == "val"].set_index(["trial", "epoch"])["worst_class"]
    for trial in run.trials.to_dict("records"):
        own = val[trial["trial"]]
        assert own[trial["best_epoch"]] == own.max() == trial["val_worst_class"]


def test_checkpoints_say_what_their_network_takes(run: bench.Run) -> None:
    checkpoint = next((run.folder / "checkpoints").iterdir())
    _, metadata = read_tensor_file(checkpoint)
    assert Preprocessing.from_json(metadata["preprocessing"]) == Preprocessing(
        kind="vector", size=2, classes=("inner", "outer")
    )


def test_a_changed_plugin_changes_the_ids_of_the_trials_that_use_it_alone(place: Path) -> None:
    def ids(suite: str) -> dict[str, str]:
        path = place / "ids.yaml"
        path.write_text(suite)
        resolved = resolve_run(path, out=place / "ids", device="cpu")
        return {each.trial.label: each.id for each in resolved.trials}

    suite = (
        REUSE.replace("{name: rings, per_class: 12}", "{name: vectors, classes: 2, length: 2}")
        .replace("metric: worst_class\n", "")
        .replace("seed: [0, 1]", "seed: 0")
    )
    before = ids(suite)
    file = place / "outside.py"
    try:
        file.write_text(PLUGIN.replace("lr=0.5", "lr=0.25"))
        load_plugin(file)
        after = ids(suite)
    finally:
        file.write_text(PLUGIN)
        load_plugin(file)
    changed = {label for label, own in before.items() if after[label] != own}
    uses = {label for label in before if any(n in label for n in ("head_then", "power", "l1_sp"))}
    assert changed == uses
    assert ids(suite) == before


def test_an_error_in_a_plugin_ends_its_trial_with_file_and_line(place: Path) -> None:
    file = place / "failing.py"
    file.write_text(
        "from bench.methods.penalties import PENALTIES\n\n"
        "@PENALTIES.register('failing')\n"
        "def failing(parameters, start, *, weight: float = 1.0):\n"
        "    'Fails.'\n"
        "    return parameters['no such address']\n"
    )
    plugin = load_plugin(file)
    try:
        suite = place / "failing.yaml"
        suite.write_text(
            START.replace("from_scratch", "{name: from_scratch, penalty: {failing: 1}}")
        )
        run = bench.run(suite, out=place / "failing", device="cpu", workers=1)
    finally:
        unload_plugin(plugin.place)
    (error,) = run.trials["error"]
    assert error.startswith("KeyError: 'no such address'")
    assert f"{file}:6" in error


def test_an_error_of_a_plugin_before_training_is_one_message(place: Path) -> None:
    file = place / "refusing.py"
    file.write_text(
        "from bench.methods.strategies import STRATEGIES\n\n"
        "@STRATEGIES.register('refusing', weights='ignored')\n"
        "def refusing(groups, epochs):\n"
        "    'Fails.'\n"
        "    return groups['head']\n"
    )
    plugin = load_plugin(file)
    try:
        suite = place / "refusing.yaml"
        suite.write_text(START.replace("from_scratch", "refusing"))
        with pytest.raises(PluginError, match=rf"TypeError: .*\({file}:6\)"):
            bench.run(suite, out=place / "refusing", device="cpu", workers=1)
    finally:
        unload_plugin(plugin.place)


@pytest.mark.campaign
def test_learning_rates_are_searched(place: Path) -> None:
    suite = place / "tuned.yaml"
    head = REUSE.replace("reuse", "tuned").split("strategy:")[0]
    suite.write_text(
        f"{head}strategy: linear_probe\naugmentation: none\nepochs: 2\nbatch_size: 8\n"
        "precision: fp32\nseed: 0\nmetric: brier\n"
        "tune: {space: {lr: {low: 0.001, high: 0.1, log: true}}, trials: 3}\n"
    )
    tuned = bench.tune(suite, out=place / "tuned", device="cpu", workers=1)
    assert (tuned.trials["status"] == "complete").all()
    search = read_tuning(tuned.folder)
    assert search is not None
    assert search.description["objectives"] == [{"name": "val_metric", "direction": "minimize"}]
    (study,) = search.description["studies"].values()
    assert len(search.trials) == 3
    best = search.trials.set_index("number")["val_metric"]
    assert best[study["best"]] == best.min() < best.max()


@pytest.mark.campaign
def test_other_nodes_are_sent_the_source(place: Path, run: bench.Run) -> None:
    pytest.importorskip("ray")
    there = bench.run(
        place / "reuse.yaml", out=place / "ray", device="cpu", workers=2, executor="ray"
    )
    pd.testing.assert_frame_equal(_numbers(there), _numbers(run))


def test_the_report_has_every_metric_and_says_which_chose(run: bench.Run) -> None:
    report = (run.folder / "report.md").read_text()
    assert "the epoch with the highest validation worst class, by which the configs rank" in report
    header = next(line for line in report.splitlines() if "macro F1 (%)" in line)
    assert "worst class (%)" in header
    assert "log loss" in header
    (mean,) = {f"{own:.3f}" for own in [run.trials.groupby("config")["test_brier"].mean().iloc[0]]}
    assert mean in report
