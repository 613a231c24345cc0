"""Signals at many moments of the start of commands: does each end the process, at once, with 130?

The commands take turns, and Ctrl-C with SIGTERM. Moments are drawn uniformly from the time that
the command takes, undisturbed, until it begins its work: for `run` and `tune` until they say what
there is to train. A signal that comes before the first line of `bench` is Python's own affair, and
is counted apart.

    python benchmarks/startup_signals.py --moments 500
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUITE = """\
name: started
dataset: {name: fractals, classes: 2, train_per_class: 8, val_per_class: 6, test_per_class: 6,
          image_size: 32}
backbone: shufflenet_v2_x0_5
weights: none
strategy: from_scratch
schedule: constant
augmentation: none
epochs: 1
batch_size: 8
lr: 0.01
precision: fp32
seed: [0]
tune:
  space: {lr: {low: 1e-4, high: 0.05, log: true}}
  trials: 2
"""

MARK = b"bench begins\n"
START = f"import os; from bench.cli.start import main; os.write(1, {MARK!r}); main()"
COMMANDS: Mapping[str, tuple[Sequence[str], bytes]] = {
    "run": (("run", "{suite}", "--out", "{new}", "--device", "cpu"), b"to train"),
    "tune": (("tune", "{suite}", "--out", "{new}", "--device", "cpu"), b"to train"),
    "plan": (("plan", "{suite}", "--out", "{new}", "--device", "cpu"), b""),
    "report": (("report", "{run}"), b"report.md"),
    "show": (("show", "{run}"), b""),
}
"""What is called, and what it says when its work begins or is done; nothing: until its end."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PROMPT = 10.0
"""Seconds after which a process that is still there counts as one that goes on: the machine may be
busy, and what has begun is written first."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One signal: to what, when, in which phase, and what became of it."""

    command: str
    number: signal.Signals
    seconds: float
    phase: str
    exit_code: int
    took: float
    fault: str = ""


def start(command: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """The command in a process group of its own."""
    places = {"suite": folder / "suite.yaml", "run": folder / "out" / "started",
              "new": log.with_suffix(".out")}  # fmt: skip
    words = [word.format(**places) for word in COMMANDS[command][0]]
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", START, *words],
            env={**os.environ, "BENCH_CACHE": str(folder / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def until_it_works(command: str, folder: Path) -> float:
    """Seconds until the command says that its work begins, or else until its end."""
    log = folder / f"undisturbed-{command}.txt"
    said, began = COMMANDS[command][1], time.perf_counter()
    process = start(command, folder, log)
    while process.poll() is None and not (said and said in log.read_bytes()):
        time.sleep(0.01)
    took = time.perf_counter() - began
    if process.wait():
        raise SystemExit(f"bench {command} failed: {log.read_text(errors='replace')}")
    return took


def disturb(command: str, folder: Path, seconds: float, number: signal.Signals) -> Moment:
    """Send the signal that long after the start; what became of the process."""
    log = folder / f"{time.monotonic_ns()}.txt"
    process = start(command, folder, log)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, number)
    sent = time.perf_counter()
    before = log.read_bytes()
    phase = "python" if MARK not in before else "loading"
    done = COMMANDS[command][1]
    if done and done in before:
        phase = "working"
    went_on = ""
    try:
        process.wait(PROMPT)
    except subprocess.TimeoutExpired:
        went_on = f"still there {PROMPT:.0f} s after the signal, in"
        os.kill(process.pid, signal.SIGABRT)  # it says where it is
        process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        went_on += log.read_text(errors="replace").partition("Fatal Python error")[2][:2000]
    took = time.perf_counter() - sent
    return Moment(
        command=command,
        number=number,
        seconds=seconds,
        phase=phase,
        exit_code=process.returncode,
        took=took,
        fault=went_on or _fault(phase, process.returncode, number, log.read_bytes()),
    )


def _fault(phase: str, exit_code: int, number: signal.Signals, said: bytes) -> str:
    if phase == "python":
        return "" if exit_code else "exit code 0"
    ended = exit_code == 0 or exit_code == -number  # its output was written, Python was ending
    if ended and _is_complete(said):
        return ""
    if exit_code != 130:
        return f"exit code {exit_code}"
    return "a traceback" if b"Traceback" in said else ""


def _is_complete(said: bytes) -> bool:
    """Whether the command had come to its end before it was told to."""
    return len(said) > len(MARK) and b"interrupted" not in said and b"Traceback" not in said


def sweep(moments: int, *, seed: int, work: Path | None = None) -> list[Moment]:
    """So many signals; a line for each that was not heard as it should."""
    rng = np.random.default_rng(seed)
    found: list[Moment] = []
    with tempfile.TemporaryDirectory(prefix="start-", dir=work) as place:
        folder = Path(place)
        (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
        subprocess.run(
            [sys.executable, "-c", START, "run", str(folder / "suite.yaml"),
             "--out", str(folder / "out"), "--device", "cpu"],
            env={**os.environ, "BENCH_CACHE": str(folder / "cache")},
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        windows = {command: until_it_works(command, folder) for command in COMMANDS}
        print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in windows.items()), flush=True)
        for index in range(moments):
            command = list(COMMANDS)[index % len(COMMANDS)]
            number = SIGNALS[index // len(COMMANDS) % len(SIGNALS)]
            found.append(disturb(command, folder, rng.uniform(0, windows[command]), number))
            if found[-1].fault:
                print(found[-1], flush=True)
    return found


def show(found: Sequence[Moment]) -> None:
    """How many were heard, by command and phase."""
    heard = Counter((each.command, each.phase) for each in found if not each.fault)
    tried = Counter((each.command, each.phase) for each in found)
    print("\n| command | python | loading | working |\n| --- | ---: | ---: | ---: |")
    for command in COMMANDS:
        cells = (
            f"{heard[command, phase]} of {tried[command, phase]}"
            for phase in ("python", "loading", "working")
        )
        print(f"| {command} | {' | '.join(cells)} |")
    took = [each.took for each in found if each.phase == "loading"]
    longest = f", at most {max(took):.2f} s after it" if took else ""
    print(f"\n{sum(heard.values())} of {len(found)} signals ended the process{longest}")


def main() -> None:
    """Send them; exit code 1 if any was not heard."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--moments", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="default: a temporary folder")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as from a terminal
    found = sweep(given.moments, seed=given.seed, work=given.work)
    show(found)
    if any(each.fault for each in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
