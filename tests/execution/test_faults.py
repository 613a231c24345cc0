"""Faults of the machine, caused for real: a message that says how to go on, and nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import save_file

import bench
from bench.cli.main import main
from bench.errors import BenchError, MachineError
from bench.execution.jobs import EpochDone, Job
from bench.results.folder import read_run
from bench.runs.reporter import SilentReporter
from tests.damage import flip
from tests.made_up_run import made_up_run
from tests.tiny import SMOKE_SUITE

pytestmark = [pytest.mark.campaign, pytest.mark.usefixtures("no_report")]
ONE_TRIAL = ("strategy=from_scratch", "weights=none", "seed=0", "epochs=1")
MAIN = "import bench.runs.run as r; r.write_report = print; from bench.cli.main import main; main()"
"""Figures take most of the time of so small a run, and nobody looks at them here."""

COMMAND = (sys.executable, "-c", MAIN, "run", "tiny.yaml")
RUN = [
    *COMMAND,
    *("--workers", "1", *(word for change in ONE_TRIAL for word in ("--set", change))),
]

SMALL_DISK = """\
set -e
mkdir disk
mount -t tmpfs -o size=$SIZE none disk
code=0
"$@" --out disk || code=$?
echo "first: $code" >&2
mount -o remount,size=200m disk
mount -o remount,$THEN disk
code=0
"$@" --out disk $MORE || code=$?
echo "second: $code" >&2
find disk -name trials.parquet -path '*tiny/trials*' -exec cp {} found.parquet ';'
"""
"""Run a command twice on a disk of its own: one that is full, then one with room (and `MORE`)."""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SMOKE_SUITE)
    return path


def may_mount() -> str:
    """The program that gives a command mounts of its own; without the right to that, a skip."""
    unshare = shutil.which("unshare")
    probe = "mount -t tmpfs none /mnt"
    if unshare is None or subprocess.run([unshare, "-m", "sh", "-c", probe]).returncode:
        pytest.skip("disks of any size need unshare and the right to mount")
    return unshare


def on_a_disk(
    folder: Path, *, size: str, then: str = "rw", more: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command of `RUN` in `folder/disk`, mounted where nobody else sees it."""
    unshare = may_mount()
    return subprocess.run(
        [unshare, "-m", "sh", "-c", SMALL_DISK, "sh", *RUN],
        cwd=folder,
        env={**os.environ, "SIZE": size, "THEN": then, "MORE": more},
        capture_output=True,
        text=True,
    )


def test_a_full_disk_is_told_and_the_same_command_goes_on_once_there_is_room(
    suite: Path, tmp_path: Path
) -> None:
    done = on_a_disk(tmp_path, size="16k")
    said = " ".join(done.stderr.split())
    assert "Traceback" not in done.stdout + done.stderr
    assert "first: 1" in said, (done.stdout, done.stderr)
    assert "No space left on device" in said
    assert "make room, or point --out (results) or BENCH_CACHE (the cache) to another disk" in said
    assert "second: 0" in said
    assert list(pd.read_parquet(tmp_path / "found.parquet")["status"]) == ["complete"]


@pytest.mark.campaign
def test_a_read_only_folder_is_told(suite: Path, tmp_path: Path) -> None:
    done = on_a_disk(tmp_path, size="100m", then="ro", more="--no-reuse")
    said = " ".join(done.stderr.split())
    assert "Traceback" not in done.stdout + done.stderr
    assert "first: 0" in said, (done.stdout, done.stderr)
    assert "second: 1" in said
    assert "Read-only file system" in said
    assert "give an --out or a BENCH_CACHE that is a folder and may be written to" in said


READ_ONLY_CACHE = """\
set -e
mkdir cache
mount -t tmpfs none cache
BENCH_CACHE=$PWD/cache "$@" --out writable --set seed=0
mount -o remount,ro cache
BENCH_CACHE=$PWD/cache "$@" --out read-only --set seed=1
"""


@pytest.mark.campaign
def test_a_cache_that_cannot_be_written_costs_time_and_no_trial(
    suite: Path, tmp_path: Path
) -> None:
    unshare = may_mount()
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", READ_ONLY_CACHE, "sh", *COMMAND, "--workers", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    for folder in ("writable", "read-only"):
        trials = pd.read_parquet(tmp_path / folder / "tiny" / "trials.parquet")
        assert list(trials["status"]) == ["complete"] * 2
        assert list(trials["strategy"]) == ["from_scratch", "linear_probe"]


def test_a_file_where_the_results_should_go_is_told(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(MachineError, match=r"results.*give an --out .* that is a folder"):
        bench.run(suite, out=tmp_path / "results", overrides=ONE_TRIAL)


def test_a_file_where_the_cache_should_be_is_told(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["bench", "run", str(suite), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    said = " ".join(capsys.readouterr().err.split())
    assert caught.value.code == 1
    assert "BENCH_CACHE that is a folder" in said
    assert "Traceback" not in said


class AtTheStart(SilentReporter):
    """Does something to the machine when the trials start."""

    def __init__(self, fault: object) -> None:
        self.trained: list[str] = []
        self._fault = fault

    def training(self, jobs: Sequence[Job]) -> None:
        self.trained += [job.trial_id for job in jobs]
        if self._fault is not None:
            self._fault()  # type: ignore[operator]


def same_numbers(one: bench.Run, other: bench.Run) -> None:
    columns = ["trial", "status", "best_epoch", "val_loss", "test_loss", "test_accuracy"]
    pd.testing.assert_frame_equal(one.trials[columns], other.trials[columns])


def test_a_cache_that_vanishes_or_rots_costs_time_and_no_number(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("BENCH_CACHE", str(cache))
    few = ["seed=0", "epochs=1"]
    first = bench.run(suite, out=tmp_path / "first", workers=1, overrides=few)
    assert set(first.trials["status"]) == {"complete"}

    files = sorted(path for path in cache.rglob("*") if path.is_file())
    kinds = {path.relative_to(cache).parts[0] for path in files}
    assert {"images", "features", "weights"} <= kinds
    for path in files:
        if path.suffix != ".lock" and path.stat().st_size:
            flip(path, -20 if path.stat().st_size > 20 else 0)
    rotten = bench.run(suite, out=tmp_path / "rotten", workers=1, overrides=few)
    same_numbers(rotten, first)

    gone = AtTheStart(lambda: shutil.rmtree(cache))
    lost = bench.run(suite, out=tmp_path / "gone", workers=1, overrides=few, reporter=gone)
    failed = lost.trials[lost.trials["status"] == "failed"]
    assert all("the same command" in error for error in failed["error"])
    assert failed["started"].isna().all()
    same_numbers(bench.run(suite, out=tmp_path / "gone", workers=1, overrides=few), first)


class KillsTheWorker(SilentReporter):
    """Ends the process that has told of the first epoch."""

    killed = 0

    def epoch(self, done: EpochDone) -> None:
        if self.killed == 0:
            for process in psutil.Process().children(recursive=True):
                if "forkserver" in " ".join(process.cmdline()) and process.ppid() != os.getpid():
                    process.kill()
                    self.killed += 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are found as on Linux")
def test_a_killed_worker_costs_its_trial_until_it_is_asked_for(suite: Path, tmp_path: Path) -> None:
    overrides = ["strategy=from_scratch", "weights=none", "epochs=40"]
    how = {"overrides": overrides, "workers": 1, "executor": "processes"}
    reporter = KillsTheWorker()
    run = bench.run(suite, out=tmp_path, reporter=reporter, **how)  # type: ignore[arg-type]
    assert reporter.killed == 1
    assert sorted(run.trials["status"]) == ["complete", "failed"]
    failed = run.trials[run.trials["status"] == "failed"].iloc[0]
    told = run.curves[run.curves["trial"] == failed["trial"]]
    expected = "the worker process died (signal SIGKILL, often because memory ran out) in epoch "
    assert failed["error"] == f"{expected}{told['epoch'].max() + 1}"
    log = run.folder / "logs" / f"{failed['trial']}.log"
    assert failed["error"] in log.read_text()

    kept = bench.run(suite, out=tmp_path, **how)  # type: ignore[arg-type]
    assert sorted(kept.trials["status"]) == ["complete", "failed"]
    retried = bench.run(suite, out=tmp_path, retry="failed", **how)  # type: ignore[arg-type]
    alone = bench.run(suite, out=tmp_path / "alone", reuse=False, **how)  # type: ignore[arg-type]
    assert set(retried.trials["status"]) == {"complete"}
    same_numbers(retried, alone)
    assert not log.exists()


def test_images_that_change_while_they_are_read_are_refused(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    from bench.data import open_dataset, prepare_images

    for label in ("dark", "light"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(4):
            pixels = np.full((20, 20, 3), index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")

    def change(what: str, done: int, total: int | None) -> None:
        if what.startswith("decode") and done == 1:
            last = tmp_path / "photos" / "light" / "3.png"
            Image.new("RGB", (20, 20), (1, 2, 3)).save(last)

    source = open_dataset("folder", {"path": str(tmp_path / "photos")})
    with pytest.raises(BenchError, match="changed while they were read; run the same command"):
        prepare_images(source, image_size=16, resize="squash", progress=change)
    changed = open_dataset("folder", {"path": str(tmp_path / "photos")})
    assert changed.fingerprint != source.fingerprint
    prepare_images(changed, image_size=16, resize="squash")


def test_a_weights_file_that_changes_while_a_run_works_fails_its_trials(
    suite: Path, tmp_path: Path
) -> None:
    from torchvision.models import shufflenet_v2_x0_5

    torch.manual_seed(0)
    weights = tmp_path / "own.safetensors"
    save_file(shufflenet_v2_x0_5().state_dict(), weights)
    overrides = ["weights={file: own.safetensors}", "seed=0", "epochs=1", "image_size=32"]

    def change() -> None:
        save_file(shufflenet_v2_x0_5().state_dict(), weights)

    run = bench.run(
        suite, out=tmp_path, workers=1, overrides=overrides, reporter=AtTheStart(change)
    )
    assert list(run.trials["status"]) == ["complete", "failed"]
    assert "own.safetensors has changed since the run began" in run.trials["error"].iloc[1]
    then = AtTheStart(None)
    again = bench.run(suite, out=tmp_path, workers=1, overrides=overrides, reporter=then)
    assert list(again.trials["status"]) == ["complete", "complete"]
    assert again.trials["trial"].iloc[1] != run.trials["trial"].iloc[1]
    assert again.trials["trial"].iloc[0] not in then.trained


def test_a_clock_that_was_set_back_breaks_no_report(tmp_path: Path) -> None:
    def backwards(row: dict[str, object], _: dict[str, object]) -> None:
        row["finished"] = row["started"] - timedelta(days=3)  # type: ignore[operator]

    from bench.results.report import write_report
    from bench.results.report.reasons import find_trial, why
    from bench.results.report.terminal import show_run

    run = made_up_run(tmp_path, strategies=["a", "b"], seeds=2, epochs=2, change=backwards)
    written = write_report(read_run(tmp_path))
    assert all(path.is_file() for path in written)
    assert list(show_run(run))
    assert list(why(run, find_trial(run, run.trials["trial"].iloc[0])))
