"""Kill `bench run`, `tune`, `report`, `predict` or `export`: does the same come out in the end?

A round starts a command on a small suite in a new folder with a new cache and ends it by a signal,
at a moment drawn uniformly from the time that it takes undisturbed; of `report`, `predict` and
`export`, on the finished run of an undisturbed round. The same command is started again, and
killed again, until one start reaches its end before its moment or finds all trials complete. The
tables must then equal those of an undisturbed run to the last bit, but for times and memory, and
the checkpoints byte for byte; so must be what is predicted and exported, which after a kill is
either whole or not there. After every kill, what lies in the run folder must be readable, or be
refused with a remedy.

    python benchmarks/kill_campaign.py --kills 100 --command run tune report predict export
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import psutil
from PIL import Image

import bench
from bench.errors import BenchError
from bench.results.folder import TABLES, RunStore
from bench.results.folder.children import read_child_predictions, read_children
from bench.system.cache import is_temporary
from bench.system.machine import describe_machine

NAME = "killed"
SUITE = f"""\
name: {NAME}
dataset: {{name: fractals, classes: 2, train_per_class: 24, val_per_class: 10, test_per_class: 10,
          image_size: 32}}
backbone: shufflenet_v2_x0_5
weights: {{name: fractals, classes: 3, images_per_class: 16, epochs: 2}}
strategy:
  - from_scratch
  - linear_probe
  - {{name: gradual_unfreeze, every: 1}}
  - {{name: full_finetune, early_stopping: 1}}
schedule: [constant, {{name: step, step_size: 2}}]
augmentation: flip_crop
epochs: 4
batch_size: 8
lr: 0.01
precision: fp32
seed: [0, 1]
after: [ensemble, temperature, tta]
"""

TUNED = f"{NAME}_tuned"
TUNE_SUITE = SUITE.partition("seed:")[0].replace(
    """\
strategy:
  - from_scratch
  - linear_probe
  - {name: gradual_unfreeze, every: 1}
  - {name: full_finetune, early_stopping: 1}
schedule: [constant, {name: step, step_size: 2}]
""",
    """\
strategy: [from_scratch, linear_probe]
schedule: constant
tune:
  space: {lr: {low: 1e-4, high: 0.05, log: true}}
  trials: 4
seed: [0]
""",
)
VERBS: Mapping[str, Sequence[str]] = {
    "predict": (".csv", ".parquet", ".jsonl"),
    "export": ("safetensors", "torch-export", "onnx"),
}
"""Commands that use a finished run, and the kinds of what they write, drawn anew for each start."""

COMMANDS = ("run", "tune", "report", *VERBS)
PHOTOS, SIDE = 400, 200
"""How many images are classified, and their sides in pixels."""

TIMES = ("milliseconds", "milliseconds_alone", "trial_milliseconds")
"""What of the check in a model card depends on the clock."""
TRACED = ("model.pt2", "model.onnx")

MAIN = "from bench.cli.start import main; main()"
EXECUTORS: Mapping[str, tuple[str, Sequence[str]]] = {
    "processes": (MAIN, ("--workers", "2")),
    # Saves a state after almost every epoch, so that kills fall between a state and the next.
    "in-process": (
        f"from bench.execution import engine; engine.SAVE_SECONDS = 0.1; {MAIN}",
        ("--executor", "in-process"),
    ),
}
"""How a start trains, drawn anew for each: the code and the options of its command."""

WAYS: Mapping[str, tuple[signal.Signals, bool]] = {
    "kill": (signal.SIGKILL, True),
    "kill-main": (signal.SIGKILL, False),
    "int": (signal.SIGINT, True),
    "term": (signal.SIGTERM, False),
    "term-all": (signal.SIGTERM, True),
}
"""(the signal, whether the whole process group gets it or its first process alone)"""

MIX: Mapping[str, float] = {"kill": 0.6, "kill-main": 0.1, "int": 0.1, "term": 0.1, "term-all": 0.1}
PHASES = ("start", "pretraining", "training", "report", "work", "end")
CLOCK = ("started", "finished", "train_seconds", "seconds", "peak_memory_mib")
"""Columns that depend on the clock or the machine's memory."""

REMEDIES = ("run the suite again", "a run folder must")
PATIENCE = 600.0
"""Seconds that an undisturbed start may take."""

MOST_KILLS = {"report": 3, "predict": 3, "export": 3}
"""Of a round: these leave nothing from which the next one could go on."""

GRACE = 60.0
"""Seconds in which an interrupted run, and what it has started, must be gone."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill: how, when, what the run was doing, and what was wrong afterwards."""

    round: int
    command: str
    executor: str
    way: str
    seconds: float
    phase: str
    complete: int
    exit_code: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with a run and a cache of its own, and what is started there."""

    folder: Path
    command: str = "run"

    @property
    def run(self) -> Path:
        return self.folder / "out" / (TUNED if self.command == "tune" else NAME)

    @property
    def logs(self) -> list[Path]:
        """What every start has printed, in their order."""
        return sorted(self.folder.glob("start-*.txt"))

    @property
    def photos(self) -> Path:
        """What is classified: the same files for all places, since their names are written."""
        return self.folder.parent / "photos"

    def given(self, kind: str) -> Path:
        """Where `predict` or `export` puts what is of this kind."""
        return self.folder / (f"found{kind}" if self.command == "predict" else kind)

    @property
    def partial(self) -> list[Path]:
        """What is being written, or was when its process was killed."""
        return [path for path in self.folder.iterdir() if is_temporary(path.name)]

    def _words(self, executor: str) -> tuple[str, list[str]]:
        """The code of a start, and the arguments of its command."""
        if self.command == "report":
            return MAIN, [str(self.run)]
        if self.command in VERBS:
            out = ["--out", str(self.given(executor))]
            own = {
                "predict": [str(self.photos), "--device", "cpu"],
                "export": ["--format", executor],
            }
            return MAIN, [str(self.run), *own[self.command], *out]
        suite = self.folder / "suite.yaml"
        suite.write_text(TUNE_SUITE if self.command == "tune" else SUITE, encoding="utf-8")
        code, options = EXECUTORS[executor]
        return code, [str(suite), "--out", str(self.folder / "out"), "--device", "cpu", *options]

    def start(self, executor: str) -> subprocess.Popen[bytes]:
        """The command in a process group of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        code, words = self._words(executor)
        for left in self.partial:  # a day later the command itself would remove it
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        command = [sys.executable, "-c", code, self.command, *words]
        with (self.folder / f"start-{len(self.logs):03}.txt").open("wb") as log:
            return subprocess.Popen(
                command,
                env={**os.environ, "BENCH_CACHE": str(self.folder / "cache")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """What the last start has printed."""
        return self.logs[-1].read_text(encoding="utf-8", errors="replace")

    def weights_are_there(self) -> bool:
        """Whether the source task is trained."""
        return any((self.folder / "cache" / "weights" / "fractals").glob("*.safetensors"))


@dataclass(kw_only=True)
class Campaign:
    """What is to be done (`limit` kills), and all kills so far, round by round.

    `expected` is what was left alone, by command; `durations` are the seconds of an undisturbed
    start by command and executor, `ways` their probabilities; `faults` are what was wrong at the
    end of each round.
    """

    expected: Mapping[str, Place]
    durations: Mapping[str, Mapping[str, float]]
    ways: Mapping[str, float]
    limit: int
    rng: np.random.Generator
    kills: list[Kill] = field(default_factory=list)
    faults: list[list[str]] = field(default_factory=list)

    def trials(self, command: str) -> list[str]:
        """The trials that are complete in the end."""
        run = self.expected[command].run
        return [str(trial) for trial in rows(run / "trials.parquet")["trial"]]

    @property
    def finished(self) -> bool:
        """Whether all kills are made."""
        return len(self.kills) >= self.limit

    def clean(self, number: int) -> bool:
        """Whether nothing was wrong in a finished round."""
        kills = (kill for kill in self.kills if kill.round == number)
        return not self.faults[number] and not any(kill.faults for kill in kills)

    def survived(self, kill: Kill) -> bool:
        """Whether the run went on as if nothing had happened."""
        return not kill.faults and not self.faults[kill.round]


# Rounds -------------------------------------------------------------------------------------------


def undisturbed(place: Place, executor: str) -> float:
    """Run the suite to its end; the seconds that it took."""
    started = time.perf_counter()
    faults = end_of_last_start(place.start(executor), place)
    if faults:
        raise SystemExit(f"the undisturbed run failed: {'; '.join(faults)}")
    return time.perf_counter() - started


def undisturbed_of(
    work: Path, commands: Sequence[str]
) -> tuple[dict[str, Place], dict[str, dict[str, float]]]:
    """What each command leaves undisturbed, and the seconds that it takes, by executor."""
    expected: dict[str, Place] = {}
    durations: dict[str, dict[str, float]] = {}
    for command in commands:
        executors = list(VERBS.get(command, EXECUTORS))
        executors = ["processes"] if command == "report" else executors
        places = [Place(folder=work / f"{command}-{name}", command=command) for name in executors]
        if command in VERBS:
            places = places[:1] * len(executors)
            make_photos(places[0].photos)
        if command in MOST_KILLS:
            undisturbed(Place(folder=places[0].folder), "processes")
        seconds = [undisturbed(*each) for each in zip(places, executors, strict=True)]
        faults = [fault for other in places[1:] for fault in differences(places[0], other)]
        if faults:
            raise SystemExit(f"undisturbed runs differ: {'; '.join(faults)}")
        expected[command] = places[0]
        durations[command] = dict(zip(executors, seconds, strict=True))
        shown = ", ".join(f"{name} {s:.1f} s" for name, s in durations[command].items())
        print(f"undisturbed {command}: {shown}", flush=True)
    return expected, durations


def make_photos(folder: Path) -> None:
    """So many images, once."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(PHOTOS):
        pixels = draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")


def run_round(campaign: Campaign, place: Place) -> None:
    """Kill and start again until a start reaches its end, then compare."""
    groups: list[int] = []
    if place.command in MOST_KILLS:
        shutil.copytree(campaign.expected[place.command].run, place.run)
    try:
        process = kill_until_it_ends(campaign, place, groups)
        faults = end_of_last_start(process, place)
        faults += left_behind(groups)
        faults += differences(campaign.expected[place.command], place)
    finally:
        remove(groups)
    for fault in faults:
        print(f"round {len(campaign.faults)}: {fault}", flush=True)
    campaign.faults.append(faults)


def kill_until_it_ends(
    campaign: Campaign, place: Place, groups: list[int]
) -> subprocess.Popen[bytes]:
    """The start that nobody killed; the process groups of all starts are put into `groups`."""
    rng, ways, complete = campaign.rng, campaign.ways, 0
    durations, trials = campaign.durations[place.command], campaign.trials(place.command)
    while True:
        executor = str(rng.choice(list(durations)))
        way = str(rng.choice(list(ways), p=list(ways.values())))
        moment = rng.uniform(0, durations[executor])
        process = place.start(executor)
        groups.append(process.pid)
        enough = MOST_KILLS.get(place.command)
        over = complete == len(trials) if enough is None else len(groups) > enough
        if campaign.finished or over:
            return process
        try:
            process.wait(moment)
            return process
        except subprocess.TimeoutExpired:
            became = end(process, place, trials, way)
        if place.command in VERBS:
            became["faults"] += tuple(half_given(campaign.expected[place.command], place))
        number, complete = len(campaign.faults), became["complete"]
        campaign.kills.append(
            Kill(
                round=number,
                command=place.command,
                executor=executor,
                seconds=moment,
                **became,
            )
        )
        show(campaign.kills[-1], len(campaign.kills))


def end(
    process: subprocess.Popen[bytes], place: Place, trials: Sequence[str], way: str
) -> dict[str, Any]:
    """Send the signal; what became of the run: the fields of `Kill`."""
    number, whole_group = WAYS[way]
    phase = phase_of(place, trials)
    with suppress(ProcessLookupError):
        (os.killpg if whole_group else os.kill)(process.pid, number)
    faults = []
    try:
        exit_code = process.wait(GRACE)
    except subprocess.TimeoutExpired:
        faults.append(f"still there {GRACE:.0f} s after {number.name}")
        os.killpg(process.pid, signal.SIGKILL)
        exit_code = process.wait()
    # Before the command line has its handlers and after its end, Python ends as it does anywhere.
    if number != signal.SIGKILL and phase not in ("start", "end"):
        ended = phase == "report" and "report.html" in place.said()
        if exit_code != 130 and not ended:
            faults.append(f"exit code {exit_code} after {number.name}, not 130")
        if "Traceback" in place.said():
            faults.append(f"a traceback after {number.name}")
    faults += unreadable(place.run)
    return {
        "way": way,
        "phase": phase,
        "complete": complete_trials(place, trials),
        "exit_code": exit_code,
        "faults": tuple(faults),
    }


def end_of_last_start(process: subprocess.Popen[bytes], place: Place) -> list[str]:
    """Wait for a start that nobody kills; what was wrong with it."""
    try:
        exit_code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return [f"not at its end after {PATIENCE:.0f} s"]
    said = place.said()
    if exit_code or "Traceback" in said:
        return [f"exit code {exit_code}: {said[-2000:]}"]
    return []


def phase_of(place: Place, trials: Sequence[str]) -> str:
    """What the last start is doing, from what it has printed and written."""
    if place.command == "report":
        return "end" if "report.html" in place.said() else "report"
    if place.command in VERBS:
        ended = "rows: " if place.command == "predict" else "card.md"
        if ended in place.said():
            return "end"
        return "work" if place.partial else "start"
    if "to train" not in place.said():
        return "start"
    if not place.weights_are_there():
        return "pretraining"
    if complete_trials(place, trials) < len(trials):
        return "training"
    return "end" if "report.html" in place.said() else "report"


def complete_trials(place: Place, trials: Sequence[str]) -> int:
    """How many of the trials have a part of a complete trial."""
    store = RunStore(place.run)
    return sum(store.completed(trial) for trial in trials)


# Checks -------------------------------------------------------------------------------------------


def unreadable(run: Path) -> list[str]:
    """What of a killed run's folder cannot be read and is not refused with a remedy."""
    faults = []
    try:
        bench.read_run(run)
    except BenchError as error:
        if not any(remedy in str(error) for remedy in REMEDIES):
            faults.append(f"no remedy: {error}")
    except Exception as error:
        faults.append(f"read_run: {type(error).__name__}: {error}")
    store = RunStore(run)
    for part in visible(run / "parts"):
        try:
            store.read_part(part.name)
        except Exception as error:
            faults.append(f"part {part.name}: {type(error).__name__}: {error}")
    for file in visible(run):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".parquet":
                pd.read_parquet(file)
        except Exception as error:
            faults.append(f"{file.name}: {type(error).__name__}: {error}")
    return faults


def differences(expected: Place, found: Place) -> list[str]:
    """In what two finished runs differ beside times and memory."""
    faults = []
    for table in TABLES:
        try:
            one, other = (rows(place.run / f"{table}.parquet") for place in (expected, found))
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        except (AssertionError, OSError) as error:
            faults.append(f"{table} differ: {error}")
    for table in ("tuning", "untuned") if expected.command == "tune" else ():
        one, other = (rows(place.run / f"{table}.parquet") for place in (expected, found))
        try:
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        except AssertionError as error:
            faults.append(f"{table} differ: {error}")
    if expected.command in VERBS:
        faults += half_given(expected, found)
        if not any(found.given(kind).exists() for kind in VERBS[found.command]):
            faults.append("nothing was written")
    faults += [
        f"{name} differs"
        for name, one in children(expected.run).items()
        if not one.equals(children(found.run).get(name))
    ]
    if expected.command == "report":
        faults += [
            f"{name} differs"
            for name in ("report.md", "verdict.json")
            if (expected.run / name).read_bytes() != (found.run / name).read_bytes()
        ]
    checkpoints = [
        {file.name: file.read_bytes() for file in visible(place.run / "checkpoints")}
        for place in (expected, found)
    ]
    names = set(checkpoints[0]) | set(checkpoints[1])
    faults += [
        f"checkpoint {name} differs"
        for name in sorted(names)
        if checkpoints[0].get(name) != checkpoints[1].get(name)
    ]
    return faults


def children(run: Path) -> dict[str, pd.DataFrame]:
    """What was made of finished trials, without the ids, which hold when these were finished."""
    made = read_children(run)
    predictions = read_child_predictions(run, made)
    names = {
        c: f"{n} of {o}, seed {s}"
        for c, n, o, s in zip(made["child"], made["name"], made["of"], made["seed"], strict=True)
    }
    plain = made.drop(columns=["child", "seconds"])
    predictions = predictions.assign(trial=predictions["trial"].map(names))
    return {
        "children": plain.reset_index(drop=True),
        "child predictions": predictions.reset_index(drop=True),
    }


def half_given(expected: Place, found: Place) -> list[str]:
    """What is there under a final name and is not what an undisturbed start leaves there."""
    faults = []
    for kind in VERBS[found.command]:
        path = found.given(kind)
        if path.exists() and content(path) != content(expected.given(kind)):
            faults.append(f"{path.name} differs")
    return faults


def content(path: Path) -> dict[str, Any]:
    """The bytes of a file, or of those in a folder, without what depends on the clock.

    torch's exporters never write the same bytes twice: of their files the card says what was found.
    """
    if path.is_file():
        return {"": path.read_bytes()}
    found: dict[str, Any] = {file.name: file.read_bytes() for file in path.iterdir()}
    card = json.loads(found["card.json"])
    for name in TIMES:
        card["check"].pop(name)
    card["file"].pop("files")
    changing = {name: bool(found[name]) for name in ("card.md", *TRACED) if name in found}
    return {**found, **changing, "card.json": card}


def rows(table: Path) -> pd.DataFrame:
    """A table without what depends on the clock."""
    return pd.read_parquet(table).drop(columns=[*CLOCK], errors="ignore")


def left_behind(groups: Sequence[int]) -> list[str]:
    """Processes of ended starts that do not end by themselves."""
    patience = time.monotonic() + GRACE
    while time.monotonic() < patience:
        if not any(members(group) for group in groups):
            return []
        time.sleep(0.5)
    return [
        f"left behind: {process.pid} {' '.join(process.cmdline())}"
        for group in groups
        for process in members(group)
    ]


def remove(groups: Sequence[int]) -> None:
    """End what is left of these process groups."""
    for group in groups:
        for process in members(group):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def members(group: int) -> list[psutil.Process]:
    """The living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.Error):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and os.getpgid(process.pid) == group:
                found.append(process)
    return found


def visible(folder: Path) -> Iterator[Path]:
    """What is in the folder, if there is one, but for what is being written."""
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))


# Output -------------------------------------------------------------------------------------------


def show(kill: Kill, number: int) -> None:
    """A line for a kill."""
    print(
        f"{number:4}  round {kill.round:3}  {kill.command:6}  {kill.way:9}  {kill.executor:10}  "
        f"{kill.seconds:6.2f} s  {kill.phase:11}  {kill.complete:2} trials complete  "
        f"exit code {kill.exit_code}" + "".join(f"\n      {fault}" for fault in kill.faults),
        flush=True,
    )


def show_summary(campaign: Campaign) -> None:
    """How many kills were survived, by phase and way."""
    tried = Counter((kill.phase, kill.way) for kill in campaign.kills)
    survived = Counter((k.phase, k.way) for k in campaign.kills if campaign.survived(k))
    commands = Counter(kill.command for kill in campaign.kills)
    ways = [way for way in WAYS if any(kill.way == way for kill in campaign.kills)]
    print(f"\n| phase | {' | '.join(ways)} |\n| --- |{' ---: |' * len(ways)}")
    for phase in PHASES:
        cells = (f"{survived[phase, way]} of {tried[phase, way]}" for way in ways)
        print(f"| {phase} | {' | '.join(cells)} |")
    shown = ", ".join(f"{count} of {command}" for command, count in commands.items())
    print(f"\n{sum(survived.values())} of {len(campaign.kills)} kills survived ({shown})")


def record_line(file: IO[str], campaign: Campaign, seed: int) -> None:
    """Append the campaign as one JSON line."""
    line = {
        "kills": len(campaign.kills),
        "survived": sum(map(campaign.survived, campaign.kills)),
        "rounds": len(campaign.faults),
        "phases": Counter(kill.phase for kill in campaign.kills),
        "ways": Counter(kill.way for kill in campaign.kills),
        "commands": Counter(kill.command for kill in campaign.kills),
        "seed": seed,
        "undisturbed_seconds": campaign.durations,
        "each": [asdict(kill) for kill in campaign.kills],
        "faults": {n: faults for n, faults in enumerate(campaign.faults) if faults},
        "command": shlex.join(["python", "benchmarks/kill_campaign.py", *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine("cpu"),
    }
    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> None:
    """Kill until the number or the time is reached; exit code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--command", nargs="+", choices=COMMANDS, default=["run"])
    parser.add_argument("--minutes", type=float, default=1e9, help="start no round after that long")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the ways")
    parser.add_argument("--signal", nargs="+", choices=WAYS, help="equally often; default: a mix")
    parser.add_argument("--work", type=Path, help="where the runs go; default: a temporary folder")
    parser.add_argument("--record", type=Path, help="JSON lines, appended to")
    given = parser.parse_args()
    # What a shell starts in the background ignores Ctrl-C, and so would all that this starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ways = {way: 1 / len(given.signal) for way in given.signal} if given.signal else MIX
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="kill-", dir=given.work))
    rng = np.random.default_rng(given.seed)
    started = time.monotonic()
    expected, durations = undisturbed_of(work, given.command)
    campaign = Campaign(
        expected=expected, durations=durations, ways=ways, limit=given.kills, rng=rng
    )
    while not campaign.finished and time.monotonic() - started < 60 * given.minutes:
        number = len(campaign.faults)
        command = given.command[number % len(given.command)]
        place = Place(folder=work / f"round-{number}", command=command)
        run_round(campaign, place)
        if campaign.clean(number):
            shutil.rmtree(place.folder)
    show_summary(campaign)
    if given.record:
        given.record.parent.mkdir(parents=True, exist_ok=True)
        with given.record.open("a", encoding="utf-8") as file:
            record_line(file, campaign, given.seed)
    if not all(campaign.clean(number) for number in range(len(campaign.faults))):
        raise SystemExit(f"something was wrong; the runs are in {work}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
