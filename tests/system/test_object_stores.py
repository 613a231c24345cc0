"""Run folders and the cache in object stores: fsspec's own memory, and S3 as moto serves it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pandas as pd
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import bench
from bench.cli.main import main
from bench.errors import BenchError, MachineError, StoreError
from bench.execution.jobs import EpochDone, Job, JobResult
from bench.results.folder import RemoteFolder, Run, RunStore, run_folder
from bench.results.folder.lock import StoreLock
from bench.results.folder.remote import _Pusher
from bench.runs.reporter import SilentReporter
from bench.system.object_store import ObjectStore, is_url
from bench.training.loop import Branch
from bench.tuning import tune

SUITE = """\
name: tiny
dataset: {name: fractals, classes: 2, train_per_class: 8, val_per_class: 6, test_per_class: 6,
          image_size: 32}
backbone: shufflenet_v2_x0_5
weights: none
strategy: from_scratch
schedule: constant
augmentation: flip_crop
epochs: 3
batch_size: 8
lr: 0.01
precision: fp32
seed: [0, 1]
"""
VOLATILE = ["started", "finished", "train_seconds", "peak_memory_mib"]

pytestmark = pytest.mark.xdist_group("stores")
"""In one process: they share a server, and a run that they are compared with."""

TUNE = """\
tune:
  space: {lr: {low: 1e-3, high: 1e-1, log: true}}
  trials: 2
  sampler: random
  pruner: none
  seeds: [1000]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run on a disk, left alone."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "tiny.yaml").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run.write_report", lambda run: [])
        return bench.run(folder / "tiny.yaml", out=folder, workers=1)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """An empty store; a refusal comes back at once, and no figure is drawn."""
    monkeypatch.setattr("bench.system.object_store.PAUSES", (0.0, 0.0))
    monkeypatch.setattr("bench.runs.run.write_report", lambda run: [])
    MemoryFileSystem.store.clear()
    yield fsspec.filesystem("memory")
    MemoryFileSystem.store.clear()


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A server of S3 on this machine, with an empty bucket."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "anybody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store = fsspec.filesystem("s3", use_listings_cache=False)
        store.mkdir("bucket")
        yield store
    server.stop()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Makes this process work with the disk of another machine."""

    def move(name: str) -> Path:
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / name))
        return tmp_path / name

    return move


class Recorder(SilentReporter):
    """Notes what is said and trained; interrupts after so many trials, or epochs."""

    def __init__(self, *, trials: int | None = None, epochs: int | None = None) -> None:
        self.trained: list[str] = []
        self.notes: list[str] = []
        self.epochs = 0
        self._stops = (trials, epochs)

    def finished(self, job: Job, result: JobResult) -> None:
        self.trained.append(job.trial_id)
        if len(self.trained) == self._stops[0]:
            raise KeyboardInterrupt

    def epoch(self, done: EpochDone) -> None:
        self.epochs += 1
        if self.epochs == self._stops[1]:
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        if not message.startswith("note: validation has"):  # of the small data set that it is
            self.notes.append(message)


class FlakyFileSystem(MemoryFileSystem):
    """Refuses the next `failures` uploads."""

    protocol = "flaky"
    failures: ClassVar[float] = 0
    error: ClassVar[type[Exception]] = ConnectionResetError

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("flaky://", "memory://")))

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if FlakyFileSystem.failures > 0:
            FlakyFileSystem.failures -= 1
            raise FlakyFileSystem.error("the line is down")
        super().put_file(lpath, rpath, **options)


@pytest.fixture
def flaky(memory: MemoryFileSystem) -> Iterator[type[FlakyFileSystem]]:
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    yield FlakyFileSystem
    FlakyFileSystem.failures, FlakyFileSystem.error = 0, ConnectionResetError


def assert_equal(found: Run, expected: Run) -> None:
    for name in ("trials", "curves", "predictions"):
        tables = [
            getattr(run, name).drop(columns=[*VOLATILE, "seconds"], errors="ignore")
            for run in (found, expected)
        ]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


def run_and_kill(suite: Path, *, trials: int) -> None:
    """After so many trials; the store is left as by a process that had no time for a word."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Pusher, "sync", lambda self: None)
        patch.setattr(StoreLock, "release", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            bench.run(suite, out="memory://runs", workers=1, reporter=Recorder(trials=trials))


def grow_old(name: str, *, minutes: float) -> None:
    """Make an object of the memory look as if it had been written so long ago."""
    MemoryFileSystem.store[name].modified = datetime.now(UTC) - timedelta(minutes=minutes)


def written_part(folder: Path, trial: str, status: str = "complete") -> None:
    values = {"seed": 0, "epochs": 1, "batch_size": 1, "lr": 0.1}
    names = ("config", "suite", "dataset", "backbone", "weights", "head", "strategy", "schedule",
             "augmentation", "optimizer")  # fmt: skip
    RunStore(folder).write_part(
        {"trial": trial, "status": status, **dict.fromkeys(names, "x"), **values}
    )


# Runs -------------------------------------------------------------------------------------------


def test_a_run_on_s3_is_the_run_on_a_disk(
    s3: Any,
    suite: Path,
    expected: Run,
    machine: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bench.runs.run.write_report", lambda run: [])
    machine("first")
    assert_equal(bench.run(suite, out="s3://bucket/results/", workers=1), expected)
    names = {name.removeprefix("bucket/results/tiny/") for name in s3.find("bucket/results")}
    parts = {name for name in names if name.startswith("parts/")}
    assert len(parts) == 2 * 4
    assert names >= {"trials.parquet", "suite.yaml", "environment.json", "data.json"}
    assert sum(name.startswith("checkpoints/") for name in names) == 2
    assert not any(name.startswith(".") for name in names), "the lock is gone"

    machine("second")
    assert_equal(bench.read_run("s3://bucket/results/tiny"), expected)
    for command in ("show", "report"):
        monkeypatch.setattr(sys, "argv", ["bench", command, "s3://bucket/results/tiny"])
        with pytest.raises(SystemExit, match="0"):
            main()
    assert "from_scratch" in capsys.readouterr().out
    assert s3.exists("bucket/results/tiny/report.html")
    assert s3.exists("bucket/results/tiny/plots/curves.png")


def test_another_machine_goes_on_where_one_was_killed(
    memory: MemoryFileSystem, suite: Path, expected: Run, machine: Callable[[str], Path]
) -> None:
    machine("first")
    run_and_kill(suite, trials=2)
    assert len(memory.find("/runs/tiny/parts")) == 2 * 4
    # The upload of a part was cut short, and the first machine's lock is still there.
    second = memory.ls("/runs/tiny/parts", detail=False)[1].rpartition("/")[2]
    memory.rm_file(f"/runs/tiny/parts/{second}/checksums.json")

    machine("second")
    with pytest.raises(BenchError, match=f"process {os.getpid()} on {socket.gethostname()}"):
        bench.run(suite, out="memory://runs", workers=1)
    grow_old("/runs/tiny/.lock.json", minutes=6)
    recorder = Recorder()
    found = bench.run(suite, out="memory://runs", workers=1, reporter=recorder)
    assert recorder.trained == [second]
    assert_equal(found, expected)

    # The first one has what the second did, and trains nothing.
    machine("first")
    recorder = Recorder()
    assert_equal(bench.run(suite, out="memory://runs", reporter=recorder), expected)
    assert recorder.trained == []


def test_the_same_machine_need_not_wait_for_the_lock_of_its_killed_run(
    memory: MemoryFileSystem, suite: Path, expected: Run, machine: Callable[[str], Path]
) -> None:
    machine("first")
    run_and_kill(suite, trials=1)
    recorder = Recorder()
    assert_equal(bench.run(suite, out="memory://runs", workers=1, reporter=recorder), expected)
    assert len(recorder.trained) == 1


@pytest.mark.campaign
def test_a_search_goes_on_on_another_machine(
    memory: MemoryFileSystem, suite: Path, machine: Callable[[str], Path]
) -> None:
    suite.write_text(SUITE.replace("[0, 1]", "[0]").replace("epochs: 3", "epochs: 1") + TUNE)
    machine("first")
    tune(suite, out="memory://runs", workers=1)
    machine("second")
    recorder = Recorder()
    tuned = tune(suite, out="memory://runs", workers=1, trials=3, reporter=recorder)
    searched = [note for note in recorder.notes if " · trial " in note]
    assert len(searched) == 1, "one trial more"
    assert len(tuned.trials) == 1
    assert memory.exists("/runs/tiny_tuned/tuned.yaml")


def test_what_is_removed_on_one_side_goes_on_the_other(
    memory: MemoryFileSystem, machine: Callable[[str], Path]
) -> None:
    machine("first")
    folder, first = run_folder("memory://runs", "tiny")
    assert first is not None
    written_part(folder, "a", "failed")
    written_part(folder, "b")
    (folder / "logs").mkdir()
    (folder / "logs" / "a.log").write_text("boom")
    first.push()
    machine("second")
    other, second = run_folder("memory://runs", "tiny")
    assert second is not None
    with second.writing(print) as push:
        written_part(other, "a")
        push("logs/a.log", "parts/a", wait=True)
        assert not memory.exists("/runs/tiny/logs/a.log")
    memory.rm("/runs/tiny/parts/b", recursive=True)
    first.pull(parts=True)
    store = RunStore(folder)
    assert (store.completed("a"), store.has_part("b")) == (True, False)
    # What no store has seen yet stays.
    written_part(folder, "c")
    memory.rm("/runs/tiny", recursive=True)
    first.pull(parts=True)
    assert [path.name for path in store.parts.iterdir()] == ["c"]
    first.push()
    assert len(memory.find("/runs/tiny/parts")) == 4


def test_whoever_makes_room_on_the_disk_removes_nothing_from_the_store(
    memory: MemoryFileSystem, machine: Callable[[str], Path]
) -> None:
    machine("first")
    folder, remote = run_folder("memory://runs", "tiny")
    assert remote is not None
    written_part(folder, "a")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "a.safetensors").write_text("weights")
    remote.push()
    for name in ("parts", "checkpoints"):
        shutil.rmtree(folder / name)
    for parts in (False, True):
        remote.pull(parts=parts)
        remote.push()
        assert len(memory.find("/runs/tiny")) == 4 + 1
    assert RunStore(folder).completed("a")
    shutil.rmtree(folder)
    remote.pull(parts=True)
    remote.push()
    assert len(memory.find("/runs/tiny")) == 4 + 1


# Locks ------------------------------------------------------------------------------------------


def test_a_lock_is_kept_by_signs_of_life_and_lost_to_whoever_takes_it(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.results.folder.lock.BEAT_SECONDS", 0.01)
    name = "/runs/.lock.json"
    store = ObjectStore("memory://runs")
    first = StoreLock(store, mark=tmp_path / "first")
    first.acquire()
    grow_old(name, minutes=6)
    until(lambda: datetime.now(UTC) - memory.modified(name) < timedelta(minutes=1))
    second = StoreLock(store, mark=tmp_path / "second")
    with pytest.raises(BenchError, match=r"last sign of life 0 s ago.*for 5 minutes"):
        second.acquire()
    monkeypatch.setattr("bench.results.folder.lock.DEAD_SECONDS", -1.0)
    monkeypatch.setattr("bench.results.folder.lock.BEAT_SECONDS", 60.0)
    second.acquire()
    until(lambda: first.lost)
    first.release()
    assert memory.exists(name), "it is the second one's"
    second.release()
    assert memory.find("/runs") == []


def test_whoever_has_lost_the_lock_writes_no_more(
    memory: MemoryFileSystem, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.results.folder.lock.BEAT_SECONDS", 0.01)
    machine("first")
    folder, remote = run_folder("memory://runs", "tiny")
    assert remote is not None
    with (  # noqa: PT012
        pytest.raises(StoreError, match="another run has taken memory://runs/tiny over"),
        remote.writing(print) as push,
    ):
        memory.pipe_file("/runs/tiny/.lock.json", b'{"token": "another"}')
        written_part(folder, "a")
        while True:
            push("parts/a")
            time.sleep(0.01)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


# Failures ---------------------------------------------------------------------------------------


def test_uploads_are_tried_again(
    flaky: type[FlakyFileSystem], suite: Path, expected: Run, machine: Callable[[str], Path]
) -> None:
    machine("first")
    flaky.failures = 2
    recorder = Recorder()
    found = bench.run(suite, out="flaky://runs", workers=1, reporter=recorder)
    assert (flaky.failures, recorder.notes) == (0, [])
    assert_equal(found, expected)


def test_a_store_that_stays_away_costs_nothing_that_is_trained(
    flaky: type[FlakyFileSystem],
    memory: MemoryFileSystem,
    suite: Path,
    expected: Run,
    machine: Callable[[str], Path],
) -> None:
    cache = machine("first")
    flaky.failures = 10**9
    recorder = Recorder()
    with pytest.raises(MachineError) as caught:
        bench.run(suite, out="flaky://runs", workers=1, reporter=recorder)
    for said in ("the line is down", "Nothing is lost", str(cache / "runs"), "the same command"):
        assert said in str(caught.value)
    assert len(recorder.trained) == 2
    assert len(recorder.notes) == 1
    assert memory.find("/runs") == []
    flaky.failures = 0
    recorder = Recorder()
    assert_equal(bench.run(suite, out="flaky://runs", workers=1, reporter=recorder), expected)
    assert recorder.trained == []
    assert len(memory.find("/runs/tiny/parts")) == 2 * 4


@pytest.mark.parametrize(
    ("name", "content"),
    [("../../evil.json", b"1"), ("parts/../../evil.json", b"1"), ("parts//x", b"1")],
)
def test_names_that_lead_out_of_the_folder_are_refused(
    s3: Any, machine: Callable[[str], Path], tmp_path: Path, name: str, content: bytes
) -> None:
    cache = machine("first")
    s3.pipe_file(f"bucket/hostile/tiny/{name}", content)
    try:
        with pytest.raises(BenchError, match="whose name leads out of it"):
            run_folder("s3://bucket/hostile", "tiny")
    finally:
        s3.rm_file(f"bucket/hostile/tiny/{name}")
    assert not any(path.name == "evil.json" for path in (tmp_path, *cache.rglob("*")))


def test_absurd_sizes_are_refused_and_strange_files_left_alone(
    memory: MemoryFileSystem, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("first")
    for name in ("notes.txt", "parts/a/readme", "parts/b c/checksums.json", ".lock", "x/y.json"):
        memory.pipe_file(f"/runs/tiny/{name}", b"1")
    folder, _ = run_folder("memory://runs", "tiny")
    assert [path for path in folder.rglob("*") if path.name != ".pushed"] == []
    monkeypatch.setattr("bench.results.folder.remote.MAX_FILE_BYTES", 10)
    memory.pipe_file("/runs/tiny/data.json", b"{" + b" " * 10 + b"}")
    with pytest.raises(BenchError, match=r"data.json has 12 bytes, which no run writes"):
        run_folder("memory://runs", "tiny")
    monkeypatch.setattr("bench.results.folder.remote.MAX_FILE_BYTES", 10**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 1))
    with pytest.raises(BenchError, match="make room"):
        run_folder("memory://runs", "tiny")


def test_what_cannot_be_opened_is_explained(
    s3: Any, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("first")
    monkeypatch.setattr("bench.system.object_store.PAUSES", ())
    with pytest.raises(BenchError, match="protocol of fsspec, got 's33'; did you mean 's3'"):
        RemoteFolder("s33://bucket/runs")
    with pytest.raises(BenchError, match="must have a name"):
        RemoteFolder("s3://bucket/..")
    with pytest.raises(BenchError, match="given as text"):
        is_url(Path("s3://bucket/runs"))
    with pytest.raises(BenchError, match=r"trials\.parquet, s3://bucket/none does not"):
        bench.read_run("s3://bucket/none")
    with pytest.raises(MachineError, match=r"nobucket.*bucket does not exist.*make the bucket"):
        run_folder("s3://nobucket/runs", "tiny")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gcsfs", None)
        with pytest.raises(BenchError, match=r'package gcsfs.*pip install "bench\[gcs\]"'):
            RemoteFolder("gs://bucket/runs")
    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("HOME", "/nowhere")
        fsspec.filesystem("s3").clear_instance_cache()
        with pytest.raises(MachineError, match="credentials"):
            run_folder("s3://bucket/runs", "tiny")
    with monkeypatch.context() as patch, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()  # and never answers
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        patch.setattr("bench.system.object_store.ANSWER_SECONDS", 0.3)
        fsspec.filesystem("s3").clear_instance_cache()
        with pytest.raises(MachineError, match=r"does not answer within 0 s"):
            run_folder("s3://bucket/runs", "tiny")
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_refusal_names_the_rights_that_are_needed(
    flaky: type[FlakyFileSystem], machine: Callable[[str], Path]
) -> None:
    machine("first")
    folder, remote = run_folder("flaky://runs", "tiny")
    assert remote is not None
    written_part(folder, "a")
    flaky.failures, flaky.error = 1, PermissionError
    with pytest.raises(MachineError, match="must allow to list, read, write and delete"):
        remote.push()


# The cache --------------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every epoch that is trained, and not found."""
    epochs: list[int] = []
    train_epoch = Branch.train_epoch

    def counted(self: Branch) -> Any:
        epochs.append(1)
        return train_epoch(self)

    monkeypatch.setattr(Branch, "train_epoch", counted)
    monkeypatch.setattr("bench.execution.engine.SAVE_SECONDS", 0.0)
    return epochs


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes this process work with a cache in a store, and the disk of a machine before it."""

    def move(url: str, name: str) -> Path:
        monkeypatch.setenv("BENCH_CACHE", url)
        monkeypatch.setenv("BENCH_CACHE_FOLDER", str(tmp_path / name))
        return tmp_path / name

    return move


def test_a_machine_with_an_empty_disk_goes_on_from_the_last_epoch(
    s3: Any,
    suite: Path,
    expected: Run,
    cached: Callable[[str, str], Path],
    trained: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.runs.run.write_report", lambda run: [])
    first = cached("s3://bucket/cache", "first")
    with pytest.raises(KeyboardInterrupt):
        # In the second trial's last epoch: its first two have left states.
        bench.run(suite, out="s3://bucket/runs", workers=1, reporter=Recorder(epochs=6))
    assert len(trained) == 6
    assert {path.name for path in (first / "states").iterdir()}
    trained.clear()

    second = cached("s3://bucket/cache", "second")
    monkeypatch.setattr("bench.data.images.prepared._decode", None)
    found = bench.run(suite, out="s3://bucket/runs", workers=1)
    assert len(trained) == 1
    assert_equal(found, expected)
    assert (second / "images").is_dir()
    earlier = json.loads((found.folder / "accounts.json").read_text())["earlier"]
    assert earlier == 3 + 2


@pytest.mark.campaign
def test_made_weights_and_features_are_shared(
    memory: MemoryFileSystem, suite: Path, tmp_path: Path, cached: Callable[[str, str], Path]
) -> None:
    text = SUITE.replace("weights: none", "weights: {name: fractals, classes: 2, epochs: 1, "
                         "images_per_class: 8}")  # fmt: skip
    suite.write_text(text.replace("from_scratch", "linear_probe"))
    cached("memory://cache", "first")
    before = bench.run(suite, out=tmp_path / "a", workers=1)
    kept = {name.split("/")[2] for name in memory.find("/cache")}
    assert kept >= {"features", "images", "weights"}
    second = cached("memory://cache", "second")
    recorder = Recorder()
    assert_equal(bench.run(suite, out=tmp_path / "b", workers=1, reporter=recorder), before)
    assert len(recorder.trained) == 2, "the source task is not trained again"
    assert {path.name for path in (second / "features").iterdir()}


@pytest.mark.campaign
def test_what_is_damaged_in_the_store_is_made_again(
    memory: MemoryFileSystem,
    suite: Path,
    tmp_path: Path,
    cached: Callable[[str, str], Path],
    trained: list[int],
) -> None:
    only: dict[str, Any] = {"workers": 1, "overrides": ["seed=[0]"]}
    cached("memory://cache", "first")
    expected = bench.run(suite, out=tmp_path / "a", **only)
    for name in memory.find("/cache"):
        if not name.endswith(".json"):
            content = bytearray(memory.cat_file(name))
            content[-1] ^= 1
            memory.pipe_file(name, bytes(content))
    trained.clear()
    cached("memory://cache", "second")
    assert_equal(bench.run(suite, out=tmp_path / "b", **only), expected)
    assert len(trained) == 3


def test_a_cache_that_cannot_be_reached_costs_no_trial(
    flaky: type[FlakyFileSystem],
    suite: Path,
    tmp_path: Path,
    expected: Run,
    cached: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cached("flaky://cache", "first")
    flaky.failures = 10**9
    recorder = Recorder()
    assert_equal(bench.run(suite, out=tmp_path / "a", workers=1, reporter=recorder), expected)
    (note,) = recorder.notes
    assert "costs time but no trial" in note

    monkeypatch.setattr(FlakyFileSystem, "find", FlakyFileSystem.put_file)
    recorder = Recorder()
    cached("flaky://cache", "second")
    assert_equal(bench.run(suite, out=tmp_path / "b", workers=1, reporter=recorder), expected)
    assert len(recorder.notes) == 1


def test_a_cache_at_no_place_is_refused_before_anything_runs(
    suite: Path, tmp_path: Path, cached: Callable[[str, str], Path]
) -> None:
    cached("s4://cache", "first")
    with pytest.raises(BenchError, match="s4://cache must have a protocol of fsspec"):
        bench.run(suite, out=tmp_path)
