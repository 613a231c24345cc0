"""Whose peak of memory a trial's is: not that of the trial before, and of all its own epochs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from bench.execution import engine as engine_module
from bench.execution.engine import Engine
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import Event, Job, JobResult, cut
from bench.methods.schedules import SCHEDULES
from tests.tiny import entry, make_job, make_trial

SMALL = "shufflenet_v2_x0_5"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux measures it")
def test_a_trial_after_a_large_one_has_its_own_peak() -> None:
    engine = Engine()

    def peak(backbone: str) -> float:
        events: list[Event] = []
        (task,) = cut([make_job(make_trial(backbone=backbone, epochs=1, seed=7))], reuse=False)
        engine.perform(task, events.append)
        (result,) = (event for event in events if isinstance(event, JobResult))
        assert result.peak_memory_mib is not None, result.error
        return result.peak_memory_mib

    before, large, after = peak(SMALL), peak("resnet18"), peak(SMALL)
    assert large > before + 100
    assert after < before + 50


class Gauge:
    """In place of `PeakMemory`: so many MiB in each task, one after another."""

    peaks: Iterator[float | None]

    def __init__(self, device: str) -> None:
        self._peak = next(self.peaks)

    def mebibytes(self) -> float | None:
        return self._peak


def told(
    monkeypatch: pytest.MonkeyPatch, jobs: list[Job], *peaks: float | None
) -> dict[str, float | None]:
    monkeypatch.setattr(Gauge, "peaks", iter(peaks), raising=False)
    monkeypatch.setattr(engine_module, "PeakMemory", Gauge)
    with closing(InProcessExecutor()) as executor:
        results = {r.trial_id: r for r in executor.run(cut(jobs, reuse=True), lambda _: None)}
    assert [result.error for result in results.values()] == [None] * len(jobs)
    return {trial: result.peak_memory_mib for trial, result in results.items()}


def parting(seed: int) -> list[Job]:
    """Two trials that share the first of two epochs."""
    jobs = []
    for step in (1, 2):
        schedule = entry(SCHEDULES, "step", step_size=step)
        trial = make_trial(backbone=SMALL, seed=seed, schedule=schedule)
        jobs.append(make_job(trial, trial_id=str(step)))
    return jobs


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_epochs_that_were_shared_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, parting(0), 900.0, 300.0, 1200.0) == {"1": 900.0, "2": 1200.0}
    # Of states that are found again, the peak is that of their own training.
    again = told(monkeypatch, parting(0), 10.0, 20.0, 30.0)
    assert again == {"1": 900.0, "2": 1200.0}


def test_what_is_not_known_of_an_epoch_is_not_known_of_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert told(monkeypatch, parting(1), None, 300.0, 400.0) == {"1": None, "2": None}


@pytest.mark.parametrize(("peak", "known"), [(1000.0, True), (1.0, False)])
def test_a_head_among_many_has_a_peak_where_the_others_hardly_count(
    monkeypatch: pytest.MonkeyPatch, peak: float, known: bool
) -> None:
    heads = [
        make_job(make_trial("linear_probe", backbone=SMALL, lr=lr), trial_id=str(lr))
        for lr in (0.1, 0.01, 0.001)
    ]
    told_of = told(monkeypatch, heads, peak)
    assert set(told_of.values()) == {peak if known else None}
    alone = told(monkeypatch, heads[:1], peak)
    assert alone == {"0.1": peak}
