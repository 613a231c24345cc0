"""Where the time of one suite with one trial goes beside its epochs, and what memory it takes.

Each run is a process of its own, with a results folder and a cache of its own: empty (`cold`), or
with all that an earlier run left but for states of trials (`warm`). Memory is the largest
proportional set size of all its processes together, looked at five times a second.

    python benchmarks/fixed_costs.py --data FOLDER --work FOLDER --runs 3 --set precision=fp32
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from bench.cli.start import few_searches_for_garbage

SUITE = """\
name: one
dataset: {{name: hymenoptera, path: {data}}}
backbone: resnet18
weights: none
strategy: from_scratch
augmentation: flip_crop
epochs: {epochs}
batch_size: 32
seed: 0
"""
LAST_EPOCH = 4
"""The place of the end of the last epoch among the moments."""

PHASES = (
    "start of Python, first imports",
    "torch imported; suite, data and weights resolved; precision measured",
    "images prepared, leakage, inputs shown",
    "epochs",
    "test scores, state, checkpoint",
    "tables, figures, report",
    "end of the process",
)


def main() -> None:
    """Print a table of seconds by phase: the median over the runs, the smallest and the largest."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="hymenoptera_data, with train/ and val/")
    parser.add_argument("--work", type=Path, help="an empty folder for results and caches")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--one-run", nargs=2, metavar=("SUITE", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_run:
        print(json.dumps(moments(*given.one_run, given.overrides)))
        return
    suite = given.work / "one.yaml"
    suite.write_text(SUITE.format(data=given.data.resolve(), epochs=given.epochs))
    found: dict[str, list[tuple[list[float], float]]] = {"cold": [], "warm": []}
    for number in range(given.runs):
        cache = given.work / f"cache-{number}"
        for kind, own in found.items():
            own.append(measured(suite, given.work / "out", cache, given.overrides))
            shutil.rmtree(cache / "states", ignore_errors=True)
            print(f"run {number}, {kind}: {sum(own[-1][0]):.1f} s", file=sys.stderr)
        shutil.rmtree(cache)
    print("\n".join(table(found)))


class Clock:
    """A reporter that tells nothing; made without torch, which a run imports when it needs it."""

    progress = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def moments(suite: str, out: str, overrides: Sequence[str]) -> list[float]:
    """When each phase ended, in seconds since the epoch; the first is the start of the process."""
    ends = [psutil.Process().create_time()]

    def end(*_: Any) -> None:
        ends.append(time.time())

    with few_searches_for_garbage():  # as in the command
        import bench

        clock: Any = Clock()
        clock.resolved = clock.training = clock.status = end
        clock.epoch = lambda _: ends.__setitem__(slice(LAST_EPOCH, None), [time.time()])
        end()
        bench.run(suite, reporter=clock, out=out, overrides=overrides)
        end()
    return ends


def measured(
    suite: Path, out: Path, cache: Path, overrides: Sequence[str]
) -> tuple[list[float], float]:
    """Seconds of each phase of a run, and its peak of memory in MiB."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, __file__, "--one-run", str(suite), str(out)]
    command += [word for each in overrides for word in ("--set", each)]
    environment = {**psutil.Process().environ(), "BENCH_CACHE": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        peak = max(peaks(psutil.Process(process.pid)), default=0.0)
        assert process.stdout is not None
        ends = [*json.loads(process.stdout.read()), time.time()]
    return [after - before for before, after in pairwise(ends)], peak


def peaks(root: psutil.Process) -> Iterator[float]:
    """The proportional set size of a process and all that it started, until it ends, in MiB."""
    while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
        try:
            family = [root, *root.children(recursive=True)]
            yield sum(each.memory_full_info().pss for each in family) / 2**20
        except psutil.Error:
            pass
        time.sleep(0.2)


def table(found: dict[str, list[tuple[list[float], float]]]) -> Iterator[str]:
    """Markdown: a row a phase, a column for each state of the cache."""
    yield f"| seconds | {' | '.join(found)} |"
    yield f"| --- |{' ---: |' * len(found)}"
    for index, phase in enumerate(PHASES):
        cells = (spread([run[0][index] for run in runs]) for runs in found.values())
        yield f"| {phase} | {' | '.join(cells)} |"
    beside = [[sum(run[0]) - run[0][3] for run in runs] for runs in found.values()]
    yield f"| all beside the epochs | {' | '.join(map(spread, beside))} |"
    memory = (spread([run[1] for run in runs], digits=0) for runs in found.values())
    yield f"| peak memory, MiB | {' | '.join(memory)} |"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """`4.2 (4.1 to 4.5)`: the median, the smallest and the largest."""
    shown = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return f"{statistics.median(values):.{digits}f} ({' to '.join(shown)})"


if __name__ == "__main__":
    main()
