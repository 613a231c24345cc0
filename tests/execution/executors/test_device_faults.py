"""A GPU that fails is lost to the process that met it, and to no other: simulated on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bench.execution.executors import Executor, InProcessExecutor, ProcessPoolExecutor, Where
from bench.execution.jobs import Job, JobResult, cut
from bench.methods.schedules import SCHEDULES
from bench.suite import Resources
from bench.suite.plugins import load_plugin
from tests.emulated_device import emulated_device
from tests.tiny import entry, make_job, make_trial

PLUGIN = """\
import os
from bench.methods.schedules import SCHEDULES

@SCHEDULES.register("noted")
def noted(progress, *, says: str = ""):
    "Constant; notes the process, and fails as a GPU does."
    noted = os.environ.get("NOTED")
    if noted is None:  # keys are made
        return 1.0
    with open(noted, "a") as file:
        print(os.getpid(), file=file)
    if says and progress.step == progress.steps_per_epoch:
        raise RuntimeError(says)
    return 1.0
"""
FAULT = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    """The file that gets the process of every step."""
    plugin = tmp_path / "noted.py"
    plugin.write_text(PLUGIN)
    load_plugin(plugin)
    return tmp_path / "pids"


def jobs() -> list[Job]:
    """The first meets a fault in its second epoch."""
    return [
        make_job(
            make_trial(
                backbone="shufflenet_v2_x0_5",
                seed=seed,
                schedule=entry(SCHEDULES, "noted", **({"says": FAULT} if seed == 0 else {})),
            ),
            trial_id=str(seed),
        )
        for seed in range(3)
    ]


def run(executor: Executor, pids: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, JobResult]:
    tasks = cut(jobs(), reuse=False)
    monkeypatch.setenv("NOTED", str(pids))
    with closing(executor):
        return {result.trial_id: result for result in executor.run(tasks, lambda _: None)}


@pytest.mark.usefixtures("plugins_unloaded")
def test_trials_after_a_fault_get_a_new_process(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run(ProcessPoolExecutor(1), pids, monkeypatch)
    failed = results["0"]
    assert failed.external
    assert len(failed.records) == 1
    assert failed.error == (
        "the GPU failed in epoch 2: CUDA error: an illegal memory access was encountered; the "
        "process cannot use it again and is replaced; run the same command again to retry this "
        "trial"
    )
    assert [results[trial].error for trial in "12"] == [None, None]
    assert len(set(pids.read_text().split())) == 2


@pytest.mark.usefixtures("plugins_unloaded")
def test_a_process_that_cannot_be_renewed_trains_nothing_after_a_fault(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run(InProcessExecutor(), pids, monkeypatch)
    assert results["0"].external
    for trial in "12":
        assert results[trial].external
        assert str(results[trial].error).startswith("not trained: the GPU failed under an earlier")
        assert not results[trial].records
    assert len(set(pids.read_text().split())) == 1


@pytest.mark.parametrize(
    ("device", "name", "kind"),
    [
        ("cuda", "auto", ProcessPoolExecutor),
        ("cuda:0", "auto", ProcessPoolExecutor),
        ("cuda", "in-process", InProcessExecutor),
        ("cpu", "auto", InProcessExecutor),
    ],
)
def test_trials_of_a_single_gpu_run_in_a_process_of_their_own(
    device: str, name: str, kind: Callable[..., Executor]
) -> None:
    tasks = cut([make_job(make_trial())], reuse=False)
    with emulated_device():
        executor = Where(name=name).executor(tasks, device, Resources())
    assert isinstance(executor, kind)  # type: ignore[arg-type]
    assert executor.workers == 1
