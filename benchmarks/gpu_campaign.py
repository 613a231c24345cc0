"""One run on one GPU: does `bench` compute the right thing there, and how fast?

Each stage is a process of its own with a time limit. Each finding is a line of OUT/campaign.jsonl,
as soon as it is there; what a stage prints is in OUT/STAGE.log. README.md says what the stages
check. Ends with exit code 1 if a stage fails or finds something wrong.

    python benchmarks/gpu_campaign.py OUT                  # all stages
    python benchmarks/gpu_campaign.py OUT repeat stacks    # some
    BENCH_CAMPAIGN_DEVICE=cpu BENCH_CAMPAIGN_SMALL=1 python benchmarks/gpu_campaign.py OUT facts
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SMALL_PATIENCE = 8
"""A machine without a GPU may take so many times as long."""

GRACE = 5.0
"""Seconds in which a stage that is interrupted may end what it has started."""

LOG_TAIL = 800
"""Characters of a failed stage's log that its finding quotes."""


Finding = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The seconds that a stage may take on a GPU, and the environment that it needs."""

    seconds: int
    environment: Mapping[str, str] = field(default_factory=dict)


FIXED_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":16:8", "CUBLASLT_WORKSPACE_SIZE": "1"}
STAGES: Mapping[str, Stage] = {
    "facts": Stage(seconds=15),
    "repeat": Stage(seconds=80),
    "stacks": Stage(seconds=25),
    "stacks_fixed_workspace": Stage(seconds=25, environment=FIXED_WORKSPACE),
    "curves": Stage(seconds=75),
    "syncs": Stage(seconds=15),
    "ceiling": Stage(seconds=60),
    "loop": Stage(seconds=70),
    "auto": Stage(seconds=20),
    "resume": Stage(seconds=75),
    "oom": Stage(seconds=35),
    "cpu_on_gpu": Stage(seconds=40),
    "grid": Stage(seconds=80),
    "limit": Stage(seconds=20),
    "ddp": Stage(seconds=40),
    "ray": Stage(seconds=30),
}


class Record:
    """The findings of a campaign, written as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, stage: str, finding: Finding) -> None:
        """Write a line."""
        with self._path.open("a") as file:
            file.write(json.dumps({"stage": stage, **finding}, default=str) + "\n")

    def lines(self) -> list[str]:
        """All that are written, those of earlier calls first."""
        return self._path.read_text().splitlines() if self._path.is_file() else []


# A stage's own process -------------------------------------------------------------------------


def perform(name: str, out: Path, device: str, small: bool, record: Record) -> None:
    """Write what the stage finds."""
    # Here, where this checkout is on the path; the process that starts stages needs no torch.
    from gpu_stages import CHECKS, Setup

    warnings.simplefilter("default")
    for finding in CHECKS[name](Setup(folder=out / name, device=device, small=small)):
        record.add(name, finding)


# The process that starts them ------------------------------------------------------------------


def run_stage(name: str, out: Path, device: str, small: bool) -> Finding:
    """Run the stage in a process of its own; says how that went."""
    seconds = STAGES[name].seconds * (SMALL_PATIENCE if small else 1)
    shutil.rmtree(out / name, ignore_errors=True)
    command = [sys.executable, __file__, str(out), "--inside", name, "--device", device]
    command += ["--small"] if small else []
    started = time.perf_counter()
    with _process(command, _environment(name, out), out / f"{name}.log") as process:
        try:
            ended: int | str = process.wait(seconds)
        except subprocess.TimeoutExpired:
            ended = f"took longer than {seconds} seconds"
    taken = {"stage_seconds": round(time.perf_counter() - started, 1)}
    if ended == 0:
        return taken
    tail = (out / f"{name}.log").read_text()[-LOG_TAIL:]
    return {"ok": False, "ended": ended, **taken, "log": tail}


def _environment(name: str, out: Path) -> dict[str, str]:
    """The package, and its tests, are those of this checkout."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ours = {"BENCH_CACHE": str(out / "cache"), "PYTHONPATH": path}
    return {**os.environ, **ours, **STAGES[name].environment}


@contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has ended at the end, with all that it has started."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            _signal_group(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages one after the other."""
    given = _parser().parse_args(arguments)
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out / "campaign.jsonl")
    if given.inside:
        perform(given.inside, out, given.device, given.small, record)
        return 0
    earlier = len(record.lines())
    for name in given.stages or STAGES:
        before = len(record.lines())
        record.add(name, run_stage(name, out, given.device, given.small))
        print(*record.lines()[before:], sep="\n", flush=True)
    findings = record.lines()[earlier:]
    faults = sum(json.loads(line).get("ok") is False for line in findings)
    print(f"{len(findings)} lines, {faults} not as they should be: {out}/campaign.jsonl")
    return 1 if faults else 0


def _stage(name: str) -> str:
    # argparse's own choices refuse the empty list, which stands for all.
    if name not in STAGES:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(STAGES)}, got {name!r}")
    return name


def _parser() -> argparse.ArgumentParser:
    environment = os.environ
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="Folder of the findings and logs.")
    parser.add_argument(
        "stages", nargs="*", type=_stage, metavar="STAGE", help=f"Of {', '.join(STAGES)}."
    )
    parser.add_argument(
        "--device",
        default=environment.get("BENCH_CAMPAIGN_DEVICE", "cuda"),
        help="cuda, or cpu to try the script (default: $BENCH_CAMPAIGN_DEVICE, or cuda).",
    )
    parser.add_argument(
        "--small",
        action="store_true",
        default=environment.get("BENCH_CAMPAIGN_SMALL") == "1",
        help="Little work and long time limits (default: if $BENCH_CAMPAIGN_SMALL is 1).",
    )
    parser.add_argument("--inside", type=_stage, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
