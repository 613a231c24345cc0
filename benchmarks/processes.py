"""Whole processes, timed from their start to their end: `bench`, the plain loop, the ceiling."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from workload import Mode, Workload

import bench

SCRIPTS = Path(__file__).parent
BENCH = str(Path(sys.executable).with_name("bench"))
SAMPLE_SECONDS = 0.2
KEPT_IN_CACHE = ("images", "weights")
"""Folders of the cache that a timed run starts with; all else it has to compute."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A process that has ended well: its wall time, its output, its peak memory if asked for.

    `peak_mib` is the largest proportional set size of the process and its children together, in
    MiB, looked at five times a second: a page that several share counts once.
    """

    seconds: float
    output: str
    peak_mib: float | None


@dataclass(frozen=True, kw_only=True)
class BenchRun:
    """A finished `bench run` and what it wrote."""

    finished: Finished
    run: bench.Run


def timed(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, memory: bool = False
) -> Finished:
    """Run `command` to its end; ends this program if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = _Peak(process.pid) if memory else None
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output[-3000:]}")
    return Finished(seconds=seconds, output=output, peak_mib=peak.mebibytes() if peak else None)


class _Peak:
    """The peak memory of a process and its children, sampled until the process has ended."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._bytes = 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def mebibytes(self) -> float:
        self._thread.join()
        return self._bytes / 2**20

    def _watch(self) -> None:
        # An ended process keeps its entry until the parent has collected it.
        with suppress(psutil.NoSuchProcess):
            while self._process.status() != psutil.STATUS_ZOMBIE:
                family = [self._process, *self._process.children(recursive=True)]
                self._bytes = max(self._bytes, sum(map(_shared_out_bytes, family)))
                time.sleep(SAMPLE_SECONDS)


def _shared_out_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has just ended
        return 0


def bench_command(workload: Workload, out: Path, *options: str) -> list[str]:
    """`bench run` of the workload into `out`."""
    sets = [text for override in workload.overrides for text in ("--set", override)]
    return [
        *(BENCH, "run", str(workload.suite), "--out", str(out), "--device", "cpu"),
        *sets,
        *options,
    ]


def run_bench(workload: Workload, work: Path, *options: str, memory: bool = False) -> BenchRun:
    """Run the workload once with a cache that holds images and weights and nothing else."""
    with TemporaryDirectory(dir=work, prefix="run-") as out, cold_cache(work) as cache:
        finished = timed(
            bench_command(workload, Path(out), *options),
            environment={"BENCH_CACHE": str(cache)},
            memory=memory,
        )
        (tables,) = Path(out).glob("*/trials.parquet")
        return BenchRun(finished=finished, run=bench.read_run(tables.parent))


@contextmanager
def cold_cache(work: Path, *, prepared: bool = True) -> Iterator[Path]:
    """A cache of its own, with links to the images and weights of `work` if they are `prepared`."""
    with TemporaryDirectory(dir=work, prefix="cache-") as folder:
        for name in KEPT_IN_CACHE if prepared else ():
            kept = work / "cache" / name
            if kept.is_dir():
                (Path(folder) / name).symlink_to(kept, target_is_directory=True)
        yield Path(folder)


def run_naive(mode: Mode, images: Path, epochs: int, *, memory: bool = False) -> Finished:
    """Some epochs of the plain loop in a process of its own."""
    model, trained, augmented = mode
    command = [sys.executable, str(SCRIPTS / "naive.py"), "--data", str(images)]
    command += ["--model", model, "--mode", trained, "--epochs", str(epochs)]
    return timed(command if augmented else [*command, "--no-augmentation"], memory=memory)


def naive_epoch_seconds(mode: Mode, images: Path, epochs: int) -> list[float]:
    """Seconds of each of some epochs of the plain loop, without the start of its process."""
    seconds: list[float] = last_line(run_naive(mode, images, epochs))["epoch_seconds"]
    return seconds


def run_peer(side: str, *options: str, memory: bool = False) -> Finished:
    """One side of `peers.py`, whose last line of output tells what came of it."""
    return timed([sys.executable, str(SCRIPTS / "one_peer.py"), side, *options], memory=memory)


def run_ceiling(
    model: str, *, precision: str, threads: int, processes: int, seconds: float
) -> dict[str, Any]:
    """What ceiling.py prints: `images_per_second` and `floor_seconds`, one a process."""
    command = [sys.executable, str(SCRIPTS / "ceiling.py"), "--model", model]
    command += ["--precision", precision, "--threads", str(threads)]
    command += ["--processes", str(processes), "--seconds", str(seconds)]
    return last_line(timed(command))


def last_line(finished: Finished) -> dict[str, Any]:
    """The JSON object that a script prints in the end."""
    values: dict[str, Any] = json.loads(finished.output.strip().splitlines()[-1])
    return values
