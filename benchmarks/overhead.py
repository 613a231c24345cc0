"""What a trial costs beside its training: many tiny trials, on one executor after the other.

python benchmarks/overhead.py --trials 2000 --executors in-process processes ray
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

import bench
from bench.execution.jobs import Job, JobResult
from bench.runs.reporter import SilentReporter
from bench.runs.resolve import ResolvedRun

SUITE = """\
name: overhead
dataset: {name: fractals, classes: 2, train_per_class: 8, val_per_class: 4, test_per_class: 4,
          image_size: 32}
backbone: shufflenet_v2_x0_5
weights: none
strategy: from_scratch
augmentation: none
batch_size: 16
precision: fp32
epochs: 1
"""
SEEDS = 100
MEBIBYTE = 2**20


class Watch(SilentReporter):
    """The clock and this process's memory at the steps of a run."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.planned_at = self.trained_at = 0.0
        self.memory: list[float] = []
        self.training_seconds = 0.0

    def resolved(self, resolved_run: ResolvedRun) -> None:
        """The suite is checked."""
        self.planned_at = time.perf_counter()

    def finished(self, job: Job, result: JobResult) -> None:
        """A trial has ended."""
        assert result.error is None, result.error
        self.training_seconds += sum(r.train_seconds + r.val_seconds for r in result.records)
        self.memory.append(psutil.Process().memory_info().rss / MEBIBYTE)

    def status(self, message: str) -> None:
        """Tables are written; the report comes."""
        self.trained_at = time.perf_counter()


def measure(executor: str, trials: int, workers: int | None, folder: Path, out: str | None) -> None:
    """Print what a run of so many trials took."""
    suite = folder / "overhead.yaml"
    suite.write_text(SUITE)
    lrs = [0.001 * 1.01**step for step in range(max(1, trials // SEEDS))]
    overrides = [f"seed={list(range(min(SEEDS, trials)))}", f"lr={lrs}"]
    os.environ["BENCH_CACHE"] = str(folder / f"cache-{executor}")
    watch = Watch()
    run = bench.run(
        suite,
        out=folder / executor if out is None else f"{out}/{executor}",
        executor=executor,
        workers=workers,
        overrides=overrides,
        reporter=watch,
    )
    ended = time.perf_counter()
    count = len(run.trials)
    spent = {
        "planning": watch.planned_at - watch.began,
        "training and writing": watch.trained_at - watch.planned_at,
        "epochs alone, summed over workers": watch.training_seconds,
        "report": ended - watch.trained_at,
    }
    shares = ", ".join(f"{what} {1e3 * seconds / count:.1f} ms" for what, seconds in spent.items())
    print(f"{executor}: {count} trials; of each: {shares}", flush=True)
    print(
        f"memory of this process: {watch.memory[count // 10]:.0f} MiB after a tenth of the trials, "
        f"{watch.memory[-1]:.0f} MiB after all",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every executor that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int)
    parser.add_argument(
        "--executors", nargs="+", default=["in-process", "processes", "ray"], metavar="NAME"
    )
    parser.add_argument("--out", help="Folder or URL of the runs (default: one that is removed).")
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        for executor in given.executors:
            measure(executor, given.trials, given.workers, Path(folder), given.out)


if __name__ == "__main__":
    main()
