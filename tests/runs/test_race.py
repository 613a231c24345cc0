"""`--decide` on real trainings: rounds, looks, interrupts, and what stays as in a plain run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bench
from bench.errors import BenchError
from bench.execution.jobs import Job, JobResult
from bench.results.analysis import read_verdict
from bench.results.folder import Run, read_run
from bench.results.folder.looks import read_looks
from bench.runs import race
from bench.runs.reporter import SilentReporter
from bench.suite.plugins import load_plugin, loaded_plugins, unload_plugin

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.usefixtures("no_report"),
    pytest.mark.xdist_group("race"),
]

# One learning rate that learns nothing, and two that are hard to tell apart: the first stops.
SUITE = """\
name: vec
dataset: {name: vectors, train_per_class: 20, val_per_class: 20, test_per_class: 60, noise: 0.6}
backbone: tiny_mlp
weights: none
strategy: from_scratch
augmentation: none
epochs: 3
batch_size: 8
lr: [0.000001, 0.1, 0.3]
seed: [0, 1, 2]
"""
VOLATILE = ["started", "finished", "train_seconds", "peak_memory_mib"]
ROUNDS = {"workers": 1, "decide": True, "max_seeds": 8}
"""Rounds of 9 trainings, of 6 and of 4: with 3, 6 and 8 seeds."""


class Recorder(SilentReporter):
    def __init__(self, *, interrupt_after: int | None = None) -> None:
        self.trained: list[str] = []
        self.lines: list[str] = []
        self._interrupt_after = interrupt_after

    def finished(self, job: Job, result: JobResult) -> None:
        self.trained.append(job.trial_id)
        if len(self.trained) == self._interrupt_after:
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        if not message.startswith("note: validation has"):  # of the small data set that it is
            self.lines.append(message)


@pytest.fixture(scope="module", autouse=True)
def vectors() -> Iterator[None]:
    before = {plugin.place for plugin in loaded_plugins()}
    load_plugin("bench.testing.vectors")
    yield
    for plugin in loaded_plugins():
        if plugin.place not in before:
            unload_plugin(plugin.place)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a pair is hopeless is for the tests of the rule: here all goes on to the limit."""
    monkeypatch.setattr("bench.runs.decide.seeds_may_do", lambda *_: True)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "vec.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def raced(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished race, which no report has looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run.write_report", lambda *_: None)
        patch.setattr("bench.runs.decide.seeds_may_do", lambda *_: True)
        return bench.run(suite, out=tmp_path_factory.mktemp("out"), **ROUNDS)


def seeds(run: Run) -> dict[float, list[int]]:
    complete = run.trials[run.trials["status"] == "complete"]
    return {lr: list(map(int, own)) for lr, own in complete.groupby("lr")["seed"]}


def assert_equal(first: Run, second: Run) -> None:
    pd.testing.assert_frame_equal(
        first.trials.drop(columns=VOLATILE), second.trials.drop(columns=VOLATILE)
    )
    pd.testing.assert_frame_equal(
        first.curves.drop(columns="seconds"), second.curves.drop(columns="seconds")
    )
    pd.testing.assert_frame_equal(first.predictions, second.predictions)
    assert read_looks(first.folder) == read_looks(second.folder)


def test_only_those_in_the_contest_get_further_seeds(raced: Run) -> None:
    eight = list(range(8))
    assert seeds(raced) == {0.000001: [0, 1, 2], 0.1: eight, 0.3: eight}
    assert raced.num_trials == len(raced.trials) == 19
    assert [len(look) for look in read_looks(raced.folder)] == [9, 6, 4]
    assert raced.suite["seed"] == [0, 1, 2]
    assert raced.environment["decide"] == {"max_seeds": 8}
    accounts = json.loads((raced.folder / "accounts.json").read_text())
    assert accounts["sentence"].startswith("57 trial-epochs: 57 trained. ")


def test_a_pair_pays_for_looks_at_the_seeds_that_it_shares(raced: Run) -> None:
    found = read_verdict(raced)
    looks = {tuple(sorted(pair)): count for pair, count in found.looks.items()}
    assert looks == {("0.1", "0.3"): 3, ("0.1", "1e-06"): 1, ("0.3", "1e-06"): 1}
    assert {c.verdict for c in found.against("1e-06").values()} == {"worse"}
    assert len(read_looks(raced.folder)) == 3


def test_trials_have_the_bits_of_a_plain_run(suite: Path, raced: Run, tmp_path: Path) -> None:
    plain = bench.run(suite, out=tmp_path, workers=2, overrides=["seed=[0, 1, 2, 3, 4, 5, 6, 7]"])
    assert len(plain.trials) == 24
    own = set(raced.trials["trial"])

    def chosen(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["trial"].isin(own)].reset_index(drop=True)

    pd.testing.assert_frame_equal(
        chosen(plain.trials).drop(columns=VOLATILE), raced.trials.drop(columns=VOLATILE)
    )
    pd.testing.assert_frame_equal(
        chosen(plain.curves).drop(columns="seconds"), raced.curves.drop(columns="seconds")
    )
    pd.testing.assert_frame_equal(chosen(plain.predictions), raced.predictions)
    # The other way about: seeds that are there already are taken as they are.
    recorder = Recorder()
    shutil.rmtree(tmp_path / "vec" / "plots", ignore_errors=True)
    again = bench.run(suite, out=tmp_path, reporter=recorder, **ROUNDS)
    assert recorder.trained == []
    assert again.num_trials == 24
    assert len(read_looks(again.folder)) == 1


def test_the_same_command_finds_the_end_without_training_or_looking(
    suite: Path, raced: Run
) -> None:
    before = read_looks(raced.folder)
    recorder = Recorder()
    again = bench.run(suite, out=raced.folder.parent, reporter=recorder, **ROUNDS)
    assert recorder.trained == []
    assert read_looks(raced.folder) == before
    assert_equal(again, raced)
    assert recorder.lines[0].startswith("note: --decide: starts with 3 seeds, then adds seeds")
    assert "are open" not in recorder.lines[-1]
    assert recorder.lines[-1].startswith("look 3 of lr: not decided: 0.")
    assert recorder.lines[-1].endswith("19 trainings; 8 seeds for all would be 24.")
    assert len(recorder.lines) == 2
    # The suite that the folder keeps is the same run.
    recorder = Recorder()
    bench.run(raced.folder / "suite.yaml", out=raced.folder.parent, reporter=recorder, **ROUNDS)
    assert (recorder.trained, read_looks(raced.folder)) == ([], before)


@pytest.mark.parametrize("after", [4, 9, 11, 15, 17, 19])
def test_an_interrupted_race_goes_on_as_if_left_alone(
    suite: Path, raced: Run, tmp_path: Path, after: int
) -> None:
    """In each round, and at its end before the look."""
    with pytest.raises(KeyboardInterrupt):
        bench.run(suite, out=tmp_path, reporter=Recorder(interrupt_after=after), **ROUNDS)
    looks = len(read_looks(tmp_path / "vec"))
    assert looks == sum(after > done for done in (9, 15, 19))
    planned = 9 if after <= 9 else 15 if after <= 15 else 19
    assert read_run(tmp_path / "vec").num_trials == planned
    recorder = Recorder()
    again = bench.run(suite, out=tmp_path, reporter=recorder, **ROUNDS)
    assert len(recorder.trained) == 19 - after
    assert_equal(again, raced)


def test_an_interrupt_at_a_look_costs_no_look(
    suite: Path, raced: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written down or not: it is taken once."""
    for written, looks in ((False, 1), (True, 2)):
        out = tmp_path / str(written)
        seen: list[Run] = []

        def look(run: Run, written: bool = written, seen: list[Run] = seen) -> Any:
            seen.append(run)
            if len(seen) == 2 and not written:
                raise KeyboardInterrupt
            found = read_verdict(run)
            if len(seen) == 2:
                raise KeyboardInterrupt
            return found

        with monkeypatch.context() as patch:
            patch.setattr(race, "read_verdict", look)
            with pytest.raises(KeyboardInterrupt):
                bench.run(suite, out=out, **ROUNDS)
        assert len(read_looks(out / "vec")) == looks
        recorder = Recorder()
        assert_equal(bench.run(suite, out=out, reporter=recorder, **ROUNDS), raced)
        assert len(recorder.trained) == 4


def test_a_plain_run_trains_the_seeds_of_the_suite_and_no_others(
    suite: Path, raced: Run, tmp_path: Path
) -> None:
    shutil.copytree(raced.folder, tmp_path / "vec")
    recorder = Recorder()
    plain = bench.run(suite, out=tmp_path, workers=1, reporter=recorder)
    assert recorder.trained == []
    assert plain.num_trials == len(plain.trials) == 9
    # Nothing is lost: the race goes on from where it was.
    recorder = Recorder()
    assert_equal(bench.run(suite, out=tmp_path, reporter=recorder, **ROUNDS), raced)
    assert recorder.trained == []


def test_seeds_added_by_hand_pay_for_the_looks_of_the_race(
    suite: Path, raced: Run, tmp_path: Path
) -> None:
    shutil.copytree(raced.folder, tmp_path / "vec")
    more = [f"seed={list(range(9))}"]
    extended = bench.run(suite, out=tmp_path, workers=1, overrides=more)
    assert len(extended.trials) == 27
    found = read_verdict(extended)
    looks = {tuple(sorted(pair)): count for pair, count in found.looks.items()}
    assert looks == {("0.1", "0.3"): 4, ("0.1", "1e-06"): 2, ("0.3", "1e-06"): 2}
    assert found.look == len(read_looks(extended.folder)) == 4


def test_processes_give_the_same(suite: Path, raced: Run, tmp_path: Path) -> None:
    several = bench.run(suite, out=tmp_path, **{**ROUNDS, "workers": 2})
    assert_equal(several, raced)


@pytest.mark.campaign
def test_a_ray_cluster_gives_the_same(suite: Path, raced: Run, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert_equal(bench.run(suite, out=tmp_path, executor="ray", **ROUNDS), raced)


def test_a_suite_with_few_seeds_starts_with_three(suite: Path, raced: Run, tmp_path: Path) -> None:
    recorder = Recorder()
    few = bench.run(suite, out=tmp_path, overrides=["seed=0"], reporter=recorder, **ROUNDS)
    assert "(1, 2 added: the suite has one seed, and" in recorder.lines[0]
    assert few.suite["seed"] == 0
    assert set(few.trials["trial"]) == set(raced.trials["trial"])
    assert read_looks(few.folder) == read_looks(raced.folder)


def test_only_keeps_to_what_it_names(suite: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    options = {**ROUNDS, "max_seeds": 4, "reporter": recorder}
    run = bench.run(suite, out=tmp_path, only=["lr=0.3", "lr=0.000001"], **options)
    assert seeds(run) == {0.000001: [0, 1, 2], 0.3: [0, 1, 2]}
    assert recorder.lines[-1].startswith("look 1 of lr: decided: 0.3; 1e-06 (shown to be worse).")
    # Another one is there from before, and open: `--only` leaves it as it is.
    bench.run(suite, out=tmp_path, workers=1)
    recorder.trained.clear()
    bench.run(suite, out=tmp_path, only=["lr=0.3"], **options)
    assert recorder.trained == []
    assert "--only leaves no further seeds" in recorder.lines[-1]


def test_all_configs_of_what_is_in_the_contest_go_on(suite: Path, tmp_path: Path) -> None:
    """Schedules are compared, each with two learning rates."""
    overrides = ["lr=[0.03, 0.1]", "schedule=[constant, cosine]"]
    run = bench.run(suite, out=tmp_path, overrides=overrides, **{**ROUNDS, "max_seeds": 4})
    assert run.trials.groupby(["schedule", "lr"])["seed"].apply(list).tolist() == [[0, 1, 2, 3]] * 4
    assert set(read_verdict(run).looks) == {frozenset(("constant", "cosine"))}


def test_trials_that_fail_do_not_hold_it_up(suite: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    options = {**ROUNDS, "max_seeds": 4, "reporter": recorder}
    overrides = ["lr=[1e30, 0.1, 0.3]"]
    run = bench.run(suite, out=tmp_path, overrides=overrides, **options)
    assert run.trials["status"].value_counts().to_dict() == {"complete": 8, "failed": 3}
    recorder.trained.clear()
    bench.run(suite, out=tmp_path, overrides=overrides, retry="failed", **options)
    assert len(recorder.trained) == 3
    assert len(read_looks(run.folder)) == 2


def test_no_reuse_trains_each_trial_once(suite: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    options = {**ROUNDS, "max_seeds": 4, "reporter": recorder}
    one = bench.run(suite, out=tmp_path, reuse=False, **options)
    assert len(recorder.trained) == len(set(recorder.trained)) == 11
    recorder.trained.clear()
    again = bench.run(suite, out=tmp_path, reuse=False, **options)
    assert len(recorder.trained) == 11
    assert_equal(one, again)


def test_when_time_is_up_no_round_starts(suite: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    run = bench.run(suite, out=tmp_path, minutes=1e-6, reporter=recorder, **ROUNDS)
    assert len(run.trials) == 9
    assert "--minutes leaves no time for more seeds" in recorder.lines[-1]
    assert run.environment["decide"] == {"max_seeds": 8, "minutes": 1e-6}


def test_the_margin_is_that_of_the_verdict(suite: Path, tmp_path: Path) -> None:
    """So large that whatever is near is as good."""
    recorder = Recorder()
    run = bench.run(suite, out=tmp_path, margin=0.6, reporter=recorder, **ROUNDS)
    assert run.suite["claims"]["margin"] == 0.6
    assert read_verdict(run).margin == 0.6
    assert "(shown to be as good)" in recorder.lines[-1]
    assert "decided: " in recorder.lines[-1]


def test_looks_that_cannot_be_written_down_end_no_race(
    suite: Path, raced: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("bench.results.folder.looks.write_checked_json", full)
    run = bench.run(suite, out=tmp_path, **ROUNDS)
    assert set(run.trials["trial"]) == set(raced.trials["trial"])
    assert read_looks(run.folder) == ()


def test_seeds_of_a_search_are_left_out(suite: Path, tmp_path: Path) -> None:
    text = SUITE + "tune: {space: {batch_size: [8, 16]}, trials: 2, seeds: [3, 4]}\n"
    path = tmp_path / "vec.yaml"
    path.write_text(text)
    run = bench.run(path, out=tmp_path, **{**ROUNDS, "max_seeds": 4})
    assert seeds(run)[0.3] == [0, 1, 2, 5]


def test_one_config_is_run_as_usual(suite: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    one = ["lr=0.3", "seed=[0, 1]"]
    run = bench.run(suite, out=tmp_path, overrides=one, reporter=recorder, **ROUNDS)
    assert len(run.trials) == 2
    assert recorder.lines == [
        "note: --decide has nothing to decide: all trials are of one config; they are run as usual"
    ]
    assert "decide" not in run.environment


def test_plan_says_what_it_starts_with(suite: Path, raced: Run, tmp_path: Path) -> None:
    fresh = bench.plan(suite, out=tmp_path, **ROUNDS)
    assert [config.pending for config in fresh.configs] == [3, 3, 3]
    assert any("--decide: starts with 3 seeds, then adds" in note for note in fresh.notes)
    done = bench.plan(suite, out=raced.folder.parent, **ROUNDS)
    assert [len(config.seeds) for config in done.configs] == [3, 8, 8]
    assert sum(config.pending for config in done.configs) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 0.02}, "--margin has no effect without --decide; give --decide too, or --set"),
        ({"max_seeds": 5}, "--max-seeds has no effect without --decide"),
        ({"minutes": 5}, "--minutes has no effect without --decide"),
        ({"decide": True, "margin": 1.5}, "--margin must lie in \\(0, 1\\), such as 0.01"),
        ({"decide": True, "margin": float("nan")}, "--margin must lie in"),
        ({"decide": True, "margin": "1"}, "--margin must lie in"),
        ({"decide": True, "max_seeds": 2}, "--max-seeds must be a whole number, 3 or more, got 2"),
        ({"decide": True, "max_seeds": 3.5}, "--max-seeds must be a whole number"),
        ({"decide": True, "minutes": 0}, "--minutes must be above 0, got 0"),
        (
            {"decide": True, "max_seeds": 4, "overrides": ["seed=[0, 1, 2, 3, 4]"]},
            "--max-seeds must not be below the 5 seeds of the suite, got 4",
        ),
    ],
)
def test_limits_that_cannot_be(
    suite: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BenchError, match=message):
        bench.run(suite, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_of_several_sizes_only_that_of_the_verdict_gets_further_seeds(
    suite: Path, tmp_path: Path
) -> None:
    recorder = Recorder()
    overrides = ["shots=[2, all]", "lr=[0.1, 0.3]"]
    run = bench.run(suite, out=tmp_path, overrides=overrides, reporter=recorder, **ROUNDS)
    sizes = run.trials["settings"].map(lambda text: json.loads(text)["shots"] or "all")
    counts = run.trials.groupby(sizes)["seed"].nunique().to_dict()
    assert counts == {2: 3, "all": 8}
    assert any("look 2 of lr with all training images: " in line for line in recorder.lines)
    assert "How much labelling pays" in _report(run)


def _report(run: Run) -> str:
    from bench.results.report import Findings, document, render_markdown

    return render_markdown(document(Findings(run=run), {}))
