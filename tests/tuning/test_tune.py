"""`bench tune` as users have it: real trainings of a tiny network."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import bench
from bench.errors import BenchError, SuiteError
from bench.results.folder import Run, Tuning, read_tuning
from bench.runs.catalogue import catalogue
from bench.runs.reporter import SilentReporter
from bench.suite import expand, load_suite
from bench.tuning import tune
from tests.execution.executors.test_executors import ONE_CLUSTER
from tests.tiny import SMOKE_SUITE

SECTION = """\
tune:
  space: {lr: {low: 1e-4, high: 0.05, log: true}, weight_decay: [0.0, 0.01]}
  trials: 5
  batch: 2
"""
SUITE = SMOKE_SUITE.replace("epochs: 2", "epochs: 4") + SECTION
VOLATILE = ["started", "finished", "seconds"]

pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("tune")]
"""In one process: one search is what most of them are compared with."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def tuned(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run.write_report", lambda *_: None)
        return tune(suite, out=tmp_path_factory.mktemp("out"), workers=1)


def _tuning(run: Run) -> Tuning:
    found = read_tuning(run.folder)
    assert found is not None
    return found


def _numbers(run: Run) -> pd.DataFrame:
    return _tuning(run).trials.drop(columns=VOLATILE)


def test_every_cell_has_a_study_of_its_own_with_the_same_budget(tuned: Run) -> None:
    trials = _tuning(tuned).trials
    assert trials.groupby("study").size().to_dict() == {"from_scratch": 5, "linear_probe": 5}
    assert set(trials["state"]) == {"complete"}
    assert trials.groupby("study")["images"].sum().to_dict() == {
        "from_scratch": 5 * 2 * 4 * 16, "linear_probe": 5 * 2 * 4 * 16,
    }  # fmt: skip
    own = trials[trials["origin"] == "suite"]
    assert own["number"].tolist() == [0, 0]
    assert own["param_lr"].tolist() == [0.01, 0.01]


def test_the_tuned_suite_is_plain_and_was_run_on_the_suite_s_seeds(tuned: Run) -> None:
    place = tuned.folder / "tuned.yaml"
    written = yaml.safe_load(place.read_text())
    assert "tune" not in written
    assert written["name"] == "tiny_tuned"
    assert len(tuned.trials) == 4
    assert set(tuned.trials["seed"]) == {0, 1}
    assert set(tuned.trials["status"]) == {"complete"}
    tuning = _tuning(tuned)
    for study, facts in tuning.description["studies"].items():
        own = tuning.trials[tuning.trials["study"] == study]
        best = own[own["number"] == facts["best"]].iloc[0]
        assert best["val_accuracy"] == own["val_accuracy"].max()
        rows = tuned.trials[tuned.trials["config"] == facts["tuned_config"]]
        assert rows["strategy"].unique().tolist() == [study]
        assert rows["lr"].unique().tolist() == [best["param_lr"]]
        before = tuning.untuned[tuning.untuned["config"] == facts["untuned_config"]]
        assert before["lr"].unique().tolist() == [0.01]
        assert set(before["seed"]) == {0, 1}
    kept = tuning.untuned_predictions
    assert kept is not None
    assert set(kept["trial"]) == set(tuning.untuned["trial"])
    assert set(kept["sample"]) == set(tuned.predictions["sample"])
    again = bench.run(place, out=tuned.folder.parent, workers=1)
    pd.testing.assert_frame_equal(again.trials, tuned.trials)
    assert "### Tuning" in (tuned.folder / "report.md").read_text()


@pytest.mark.usefixtures("no_report")
def test_a_trial_of_the_search_is_a_trial_of_a_run(tuned: Run, suite: Path, tmp_path: Path) -> None:
    """Its validation figures are those of `bench run` with its values and the tuning seeds."""
    row = _tuning(tuned).trials.query("study == 'from_scratch' and number == 3").iloc[0]
    settings = [
        f"lr={float(row['param_lr'])!r}",
        f"weight_decay={float(row['param_weight_decay'])!r}",
        "seed=[1000, 1001]",
    ]
    single = tmp_path / "single.yaml"
    single.write_text(suite.read_text().partition("tune:")[0])
    run = bench.run(single, out=tmp_path, workers=1, overrides=settings, reuse=False)
    own = run.trials[run.trials["strategy"] == "from_scratch"]
    assert own["val_accuracy"].mean() == pytest.approx(row["val_accuracy"], abs=1e-12)
    assert own["val_loss"].mean() == pytest.approx(row["val_loss"], abs=1e-12)


@pytest.mark.usefixtures("no_report")
def test_the_test_split_is_not_read_while_searching(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bench.execution.engine
    from bench.tuning.search import Search

    searching, tested = [False], [0, 0]
    outcome, search = bench.execution.engine.outcome, Search.run

    def counted(*args: Any) -> Any:
        tested[searching[0]] += 1
        return outcome(*args)

    def watched(self: Search) -> None:
        searching[0] = True
        search(self)
        searching[0] = False

    monkeypatch.setattr(bench.execution.engine, "outcome", counted)
    monkeypatch.setattr(Search, "run", watched)
    tune(suite, out=tmp_path, workers=1, overrides=["tune.trials=2", "strategy=linear_probe"])
    assert tested == [4, 0]  # two seeds untuned, two tuned


class _Interrupts(SilentReporter):
    def __init__(self, after: int) -> None:
        self._left = after

    def note(self, message: str) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("no_report")
def test_an_interrupted_search_goes_on_and_ends_as_if_left_alone(
    tuned: Run, suite: Path, tmp_path: Path
) -> None:
    for after in (1, 6):
        with pytest.raises(KeyboardInterrupt):
            tune(suite, out=tmp_path, workers=1, reporter=_Interrupts(after))
    run = tune(suite, out=tmp_path, workers=1)
    pd.testing.assert_frame_equal(_numbers(run), _numbers(tuned))


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    "executor", ["processes", pytest.param("ray", marks=[*ONE_CLUSTER, pytest.mark.campaign])]
)
def test_where_and_with_how_many_workers_changes_nothing(
    tuned: Run, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))  # without states to begin with
    run = tune(suite, out=tmp_path, workers=2, executor=executor)
    if executor == "ray":
        sys.modules["ray"].shutdown()
    pd.testing.assert_frame_equal(_numbers(run), _numbers(tuned))


@pytest.mark.usefixtures("no_report")
def test_more_trials_are_added_to_those_that_are_there(
    tuned: Run, suite: Path, tmp_path: Path
) -> None:
    tune(suite, out=tmp_path, workers=1, trials=2)
    run = tune(suite, out=tmp_path, workers=1, trials=5)
    pd.testing.assert_frame_equal(_numbers(run), _numbers(tuned))


@pytest.mark.usefixtures("no_report")
def test_a_pruned_search_equals_whole_trainings_up_to_where_it_was_cut(
    suite: Path, tmp_path: Path
) -> None:
    options = [
        "tune.pruner=halving",
        "tune.trials=8",
        "tune.objective=val_loss",
        "strategy=from_scratch",
    ]
    run = tune(suite, out=tmp_path / "cut", workers=1, overrides=options)
    whole = tune(
        suite,
        out=tmp_path / "whole",
        workers=1,
        overrides=["tune.trials=1", "strategy=from_scratch"],
    )
    trials = _tuning(run).trials
    assert set(trials["state"]) == {"complete", "pruned"}
    assert set(trials.loc[trials["state"] == "pruned", "epochs"]) <= {1, 3}
    first, alone = trials.iloc[0], _tuning(whole).trials.iloc[0]
    assert first["state"] == "complete"
    assert (first["val_accuracy"], first["val_loss"]) == (alone["val_accuracy"], alone["val_loss"])


@pytest.mark.usefixtures("no_report")
def test_a_diverging_trial_is_recorded_and_the_study_continues(suite: Path, tmp_path: Path) -> None:
    options = [
        "tune.space={lr: [0.01, 1e30]}", "tune.sampler=grid", "tune.widen=0",
        "strategy=from_scratch",
    ]  # fmt: skip
    run = tune(suite, out=tmp_path, workers=1, overrides=options)
    trials = _tuning(run).trials
    assert sorted(trials["state"]) == ["complete", "failed"]
    (error,) = trials.loc[trials["state"] == "failed", "error"]
    assert "loss is nan in epoch 1" in error
    assert run.trials["lr"].unique().tolist() == [0.01]


@pytest.mark.usefixtures("no_report")
def test_values_that_do_not_fit_the_backbone_fail_alone(suite: Path, tmp_path: Path) -> None:
    """`top` must be below the number of the backbone's layer groups."""
    options = [
        "tune.space={strategy: {partial_finetune: {top: [1, 2, 50]}}}", "tune.sampler=grid",
        "tune.batch=1", "tune.widen=0", "strategy=partial_finetune", "epochs=1",
    ]  # fmt: skip
    run = tune(suite, out=tmp_path, workers=1, overrides=options)
    trials = _tuning(run).trials
    assert sorted(trials["state"]) == ["complete", "complete", "failed"]
    failed = trials[trials["state"] == "failed"].iloc[0]
    assert failed["param_strategy.top"] == 50
    assert "partial_finetune: top must be below the backbone's" in failed["error"]


class _Notes(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.usefixtures("no_report")
def test_a_range_that_is_too_narrow_is_widened_and_that_is_told(
    suite: Path, tmp_path: Path
) -> None:
    notes = _Notes()
    options = [
        "tune.space={lr: {low: 1e-6, high: 1e-4, log: true}}", "strategy=linear_probe",
        "tune.trials=8", "tune.objective=val_loss", "lr=1e-4",
    ]  # fmt: skip
    run = tune(suite, out=tmp_path, workers=1, reporter=notes, overrides=options)
    tuning = _tuning(run)
    space = tuning.description["studies"]["linear_probe"]["space"]["lr"]
    assert space["high"] == 1e-2
    assert space["asked"] == {"low": 1e-6, "high": 1e-4, "log": True}
    assert len(tuning.trials) == 8
    assert tuning.trials.query("origin == 'edge'")["param_lr"].tolist() == [1e-3, 1e-2]
    assert run.trials["lr"].unique().tolist() == [1e-2]
    edge = "best lr, 0.0001, is at the upper end of 1e-06 to 0.0001 (log) after 4 trials"
    assert f"linear_probe: {edge}: lr 0.001 is tried too" in notes.said
    (told,) = (said for said in notes.said if "equally tuned" in said)
    assert told == (
        "not equally tuned: linear_probe, whose best lr, 0.01, is at the upper end of 1e-06 to "
        "0.01 (log) after 8 trials"
    )


@pytest.mark.usefixtures("no_report")
def test_a_search_starts_with_what_an_earlier_run_found(
    tuned: Run, suite: Path, tmp_path: Path
) -> None:
    notes = _Notes()
    options = [
        f"tune.from={tuned.folder}", "tune.trials=2", "tune.batch=2", "epochs=1",
        "strategy=[linear_probe, full_finetune]",
    ]  # fmt: skip
    run = tune(suite, out=tmp_path, workers=1, reporter=notes, overrides=options)
    own = tuned.trials.query("strategy == 'linear_probe'")
    trials = _tuning(run).trials
    found = trials.query("origin == 'earlier'")
    assert found["study"].tolist() == ["linear_probe"], notes.said
    assert found["param_lr"].tolist() == own["lr"].unique().tolist()
    assert found["number"].tolist() == [1]
    started = [said for said in notes.said if said.startswith("linear_probe starts with lr ")]
    assert len(started) == 1
    assert f"best of 1 config in {tuned.folder}" in started[0]
    missing = f"{tuned.folder} has no finished trial of full_finetune on shufflenet_v2_x0_5"
    assert f"{missing}: no effect on full_finetune" in notes.said
    again = _Notes()
    tune(suite, out=tmp_path, workers=1, reporter=again, overrides=options)
    assert not [said for said in again.said if "starts with" in said or "tune.from" in said]
    with pytest.raises(BenchError, match=r"tune\.from must name folders of finished"):
        tune(suite, out=tmp_path, overrides=[f"tune.from={tmp_path / 'nothing'}"])


@pytest.mark.usefixtures("no_report")
def test_a_database_serves_as_well(suite: Path, tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path / 'studies.db'}"
    options = ["tune.trials=2", "strategy=linear_probe"]
    tune(suite, out=tmp_path, workers=1, storage=url, overrides=options)
    (study,) = optuna.get_all_study_summaries(url)
    assert study.n_trials == 2
    with pytest.raises(BenchError, match="--storage must be a URL that Optuna can open"):
        tune(suite, out=tmp_path, workers=1, storage="nonsense://x", overrides=options)
    with pytest.raises(BenchError) as refused:
        tune(suite, out=tmp_path, workers=1, storage="nonsense://me:hunter2@x", overrides=options)
    assert "hunter2" not in str(refused.value)


def test_refusals(tmp_path: Path, suite: Path) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text(SMOKE_SUITE)
    with pytest.raises(BenchError, match="has no section 'tune'; give it one like"):
        tune(plain, out=tmp_path)
    with pytest.raises(BenchError, match="--trials must be at least 1, got 0"):
        tune(suite, out=tmp_path, trials=0)
    with pytest.raises(SuiteError, match=r"tune\.seeds must differ"):
        tune(suite, out=tmp_path, overrides=["tune.seeds=[1]"])


# Several processes ----------------------------------------------------------------------------


def _start(suite: Path, out: Path) -> subprocess.Popen[str]:
    code = (
        "import bench.runs.run as r; r.write_report = print; "
        "from bench.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "tune", str(suite), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.campaign
def test_two_processes_share_a_study_without_losing_or_doubling_a_trial(
    suite: Path, tmp_path: Path
) -> None:
    both = [_start(suite, tmp_path) for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    # Each of the two grids of 4 trials counts its own.
    counts = re.findall(r"^(\d)/4 ", "\n".join(printed), flags=re.MULTILINE)
    assert sorted(counts) == sorted("1234" * 2)
    found = read_tuning(tmp_path / "tiny_tuned")
    assert found is not None
    for _, own in found.trials.groupby("study"):
        assert own["number"].tolist() == list(range(5))
        assert set(own["state"]) == {"complete"}


@pytest.mark.usefixtures("no_report")
def test_a_killed_search_loses_nothing(tuned: Run, suite: Path, tmp_path: Path) -> None:
    journal = tmp_path / "tiny_tuned" / "tuning.journal"
    process = _start(suite, tmp_path)
    while process.poll() is None and not (journal.is_file() and journal.stat().st_size > 5_000):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    run = tune(suite, out=tmp_path, workers=1)
    pd.testing.assert_frame_equal(_numbers(run), _numbers(tuned))


def test_the_written_suite_s_grid(tuned: Run) -> None:
    trials = expand(load_suite(tuned.folder / "tuned.yaml", catalogue()), catalogue())
    assert {trial.config for trial in trials} == set(tuned.trials["config"])


@pytest.mark.usefixtures("no_report")
def test_validation_chooses_which_group_surgery_trains(tmp_path: Path) -> None:
    """As the option says: all groups in one line of the suite; results are called by the choice."""
    path = tmp_path / "tiny.yaml"
    changes = {"strategy: [from_scratch, linear_probe]": "strategy: surgical", "[0, 1]": "0"}
    text = SMOKE_SUITE.replace("epochs: 2", "epochs: 1")
    for before, after in changes.items():
        text = text.replace(before, after)
    path.write_text(
        f"{text}tune: {{space: {{strategy: {{surgical: {{group: [1, 3, 5]}}}}}}, sampler: grid}}\n"
    )
    run = tune(path, out=tmp_path, workers=1)
    tried = _tuning(run).trials
    assert sorted(tried["param_strategy.group"]) == [1, 3, 5]
    best = tried.loc[tried["val_accuracy"] == tried["val_accuracy"].max(), "param_strategy.group"]
    assert run.trials["strategy"].item() in {f"surgical(group={group:.0f})" for group in best}
