"""Does this checkout give the numbers of an earlier commit, to the last bit?

For changes that must not change numbers. The commit is checked out beside this one, both
train the same on this machine (bits depend on the processor), one after the other, in fp32 on one
thread each, and everything but times, memory and paths must be equal:

- suites, trained by the command line: tables, checkpoints, accounts;
- random grids, trained with reuse in this process: curves, scores, probabilities, errors;
- the keys of epochs, without training: which epochs of which trials are one epoch, and how the
  trials are cut into tasks. The keys themselves may be others.

Trials are told apart by their config and seed: ids change with the numerics version. Columns that
only one side has are named and not compared. Class weights are not drawn together with mixes or
label smoothing, whose meaning has changed with numerics version 3.

What the earlier commit gives is kept in the work folder. Exit code 1 if anything differs.

    python benchmarks/same_numbers.py 7f679af --work ../same-numbers
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import inspect
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock

# The package's names ------------------------------------------------------------------------------

HOMES: Mapping[str, tuple[str, ...]] = {
    "BenchError": ("bench.errors:BenchError",),
    "Entry": ("bench.suite:Entry",),
    "ImageData": ("bench.data:ImageData",),
    "InProcessExecutor": (
        "bench.execution.executors:InProcessExecutor",
        "bench.executors:InProcessExecutor",
    ),
    "Job": ("bench.execution.jobs:Job", "bench.jobs:Job"),
    "STRATEGIES": (
        "bench.methods:STRATEGIES",
        "bench.methods.strategies:STRATEGIES",
        "bench.strategies:STRATEGIES",
    ),
    "Settings": ("bench.suite:Settings",),
    "Trial": ("bench.suite:Trial",),
    "catalogue": ("bench.runs.catalogue:catalogue", "bench.catalogue:catalogue"),
    "cut": ("bench.execution.jobs:cut", "bench.jobs:cut"),
    "describe_weights": ("bench.models:describe_weights", "bench.backbones:describe_weights"),
    "keyed": ("bench.execution.jobs:keyed", "bench.jobs:keyed"),
    "layer_group_names": ("bench.models:layer_group_names", "bench.backbones:layer_group_names"),
    "open_source": ("bench.data:open_dataset", "bench.data:open_source"),
    "plan_run": (
        "bench.runs.resolve:resolve_run",
        "bench.runs.resolve:plan_run",
        "bench.planning:plan_run",
    ),
    "planned_jobs": ("bench.runs.prepare:counted_trials", "bench.preparation:planned_jobs"),
    "prepare_images": ("bench.data:prepare_images",),
    "trial_splits": ("bench.execution.jobs:trial_splits", "bench.jobs:trial_splits"),
}
"""What this script uses of the package → where it may be, newest home first, and under what name.

The names on the left stay as they are: a thing that moves gets another home on the right.
"""

SPELLINGS: Mapping[str, tuple[str, ...]] = {"images": ("data",)}
"""Attribute or keyword argument → what it may be called instead, such as
`"head_epochs": ("probe_epochs",)`. Names that are not here have one spelling."""


def home(name: str) -> Any:
    """What this side's package has under one of the name's homes."""
    for candidate in HOMES[name]:
        module, _, attribute = candidate.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            # A module that is there and fails to import another must not be passed over.
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
        except AttributeError:
            continue
    raise SystemExit(f"{name} has none of its homes {', '.join(HOMES[name])}: edit HOMES")


def part(thing: Any, name: str) -> Any:
    """An attribute, by any of its spellings."""
    for spelling in (name, *SPELLINGS.get(name, ())):
        if hasattr(thing, spelling):
            return getattr(thing, spelling)
    raise SystemExit(f"{type(thing).__name__} has no {name}: edit SPELLINGS")


def call(name: str, /, *arguments: Any, **named: Any) -> Any:
    """Call what is at home under `name`, its keyword arguments spelled as it has them."""
    function = home(name)
    known = inspect.signature(function).parameters
    spelled = {
        next((each for each in (key, *SPELLINGS.get(key, ())) if each in known), key): value
        for key, value in named.items()
    }
    return function(*arguments, **spelled)


# Grids at random, as plain data -------------------------------------------------------------------

BACKBONE = "shufflenet_v2_x0_5"
DATA = {
    "classes": 2,
    "train_per_class": 6,
    "val_per_class": 4,
    "test_per_class": 4,
    "image_size": 32,
}
STRATEGIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("full_finetune", {}),
    ("full_finetune", {}),
    ("two_rates", {"backbone_multiplier": 0.0}),
    ("two_rates", {"backbone_multiplier": 1.0}),
    ("layerwise_decay", {}),
    ("linear_probe", {}),
    ("linear_probe", {}),
    ("mlp_probe", {}),
    ("partial_finetune", {"top": 2}),
    ("gradual_unfreeze", {"every": 1}),
    ("lp_ft", {"probe_epochs": 1}),
    ("lp_ft", {"probe_epochs": 1, "finetune_multiplier": 1.0}),
)
SCHEDULES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("constant", {}),
    ("constant", {}),
    ("step", {"step_size": 1}),
    ("step", {"step_size": 2}),
    ("multistep", {"milestones": [1, 2]}),
    ("cosine", {}),
    ("plateau", {"patience": 0}),
)
RARE: tuple[dict[str, Any], ...] = (
    {"momentum": 0.0},
    {"momentum": 0.5},
    {"nesterov": True},
    {"weight_decay": 0.0},
    {"label_smoothing": 0.1},
    {"grad_clip_norm": 0.5},
    {"class_weights": "balanced"},
    {"sampler": "balanced"},
    {"micro_batch": 3},
    {"batch_size": 8},  # as many steps as with 6
    {"shots": 4},
    {"optimizer": "adam"},
    {"early_stopping": 1},
    {"lr": 0.05},
    {"seed": 2},
)
"""Settings of which a trial may have one that its family has not."""

Plain = dict[str, Any]


def draw_trial(draw: random.Random) -> Plain:
    """A trial of a small world, so that many of them have epochs in common."""
    strategy = draw.choice(STRATEGIES)
    return {
        "strategy": strategy,
        "head": ("mlp", {"hidden": 8}) if strategy[0] == "mlp_probe" else ("linear", {}),
        "schedule": draw.choice(SCHEDULES),
        "augmentation": draw.choice(["none", "flip_crop"]),
        "mix": draw.choice([None, None, None, "mixup"]),
        "settings": {
            "epochs": draw.choice([2, 3]),
            "optimizer": draw.choice(["sgd", "sgd", "adamw"]),
            "lr": draw.choice([0.02, 0.1]),
            "weight_decay": 0.01,
            "early_stopping": draw.choice([None, None, 1]),
            "seed": draw.choice([0, 0, 1]),
            "batch_size": 6,
            "image_size": DATA["image_size"],
            "precision": "fp32",
            "threads": 1,
        },
    }


def draw_family(number: int) -> list[Plain]:
    """A trial and three variations, which part from it in an epoch, a schedule, or at once."""
    draw = random.Random(f"family {number}")
    family = [draw_trial(draw)]
    for _ in range(3):
        base = draw.choice(family)
        change = draw.choice(["schedule", "schedule", "epochs", "epochs", "rare"])
        if change == "schedule":
            family.append({**base, "schedule": draw.choice(SCHEDULES)})
            continue
        new = {"epochs": 5 - base["settings"]["epochs"]}
        changed = new if change == "epochs" else draw.choice(RARE)
        family.append(_changed(base, changed))
    return family


def _changed(base: Plain, changed: Plain) -> Plain:
    """The trial with other settings; without mixes and smoothing where it has class weights."""
    settings = {**base["settings"], **changed}
    if settings.get("class_weights", "none") == "none":
        return {**base, "settings": settings}
    return {**base, "mix": None, "settings": {**settings, "label_smoothing": 0.0}}


def draw_grid(number: int, families: int) -> list[Plain]:
    """Two to six different trials of two families."""
    draw = random.Random(f"grid {number}")
    first, second = (draw_family(each) for each in draw.sample(range(families), 2))
    trials = draw.sample(first, draw.randint(1, 4)) + draw.sample(second, draw.randint(1, 2))
    return list({json.dumps(trial): trial for trial in trials}.values())


def one_change_each() -> list[list[Plain]]:
    """Two grids of a trial and all that differ from it in one thing: what a key may leave out."""
    grids = []
    for strategy in ("full_finetune", "linear_probe"):
        drawn = draw_trial(random.Random(strategy))
        settings = {**drawn["settings"], "epochs": 2, "optimizer": "sgd", "lr": 0.1, "seed": 0}
        base = {
            "strategy": (strategy, {}),
            "head": ("linear", {}),
            "schedule": SCHEDULES[0],
            "augmentation": "flip_crop",
            "mix": None,
            "settings": {**settings, "early_stopping": None},
        }
        changes: list[Plain] = [{"schedule": schedule} for schedule in SCHEDULES]
        changes += [{"augmentation": "none"}, {"mix": "mixup"}, {"head": ("mlp", {"hidden": 8})}]
        trials = [{**base, **change} for change in changes]
        trials += [_changed(base, changed) for changed in RARE]
        grids.append(list({json.dumps(trial): trial for trial in trials}.values()))
    return grids


# One side: everything below, up to the next line, runs with that side's package -------------------


def entry(registry: Any, name: str, options: Mapping[str, Any]) -> Any:
    """A checked entry with all its options."""
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    checked = part(registry.get(name), "options")(**given).model_dump()
    return call("Entry", name=name, options=checked, given=tuple(given))


def trial_of(plain: Plain) -> Any:
    """The package's trial."""
    names = home("catalogue")()
    settings = {
        **plain["settings"],
        "weights": call("Entry", name="none"),
        "head": entry(part(names, "head"), *plain["head"]),
    }
    return call(
        "Trial",
        suite="grids",
        dataset=entry(part(names, "dataset"), "fractals", DATA),
        backbone=call("Entry", name=BACKBONE),
        strategy=entry(part(names, "strategy"), *plain["strategy"]),
        schedule=entry(part(names, "schedule"), *plain["schedule"]),
        augmentation=entry(
            part(names, "augmentation"), plain["augmentation"], {"mix": plain["mix"]}
        ),
        settings=call("Settings", **settings),
    )


def job_of(plain: Plain) -> Any:
    """The trial with its plan, its images and its keys."""
    trial = trial_of(plain)
    settings, dataset = part(trial, "settings"), part(trial, "dataset")
    strategy = part(trial, "strategy")
    registry = home("STRATEGIES")
    plan = part(registry.get(strategy.name), "function")
    shared = getattr(registry, "shared_options", ())
    own = {key: value for key, value in strategy.options.items() if key not in shared}
    source = call("open_source", dataset.name, dataset.options)
    data = home("ImageData").open(
        call("prepare_images", source, image_size=settings.image_size, resize=settings.resize)
    )
    job = call(
        "Job",
        trial_id=trial.id({}),
        trial=trial,
        plan=plan(call("layer_group_names", trial.backbone.name), settings.epochs, **own),
        images=data.folder,
        class_map=None,
        weights=call("describe_weights", trial.backbone.name, settings.weights),
        precision=settings.precision,
        device="cpu",
        checkpoint=None,
    )
    splits = call("trial_splits", trial, data)
    return call("keyed", job, fingerprint=data.fingerprint, splits=splits, classes=data.classes)


def train(asked: Plain, folder: Path) -> list[Plain]:
    """What every trial of the grids gives; each grid has a cache of its own."""
    given = []
    for number, grid in enumerate(asked["grids"]):
        os.environ["BENCH_CACHE"] = str(folder / "cache" / "images")
        jobs = [job_of(plain) for plain in grid]
        cache = folder / "cache" / f"grid-{number}"
        os.environ["BENCH_CACHE"] = str(cache)
        results = home("InProcessExecutor")().run(call("cut", jobs, reuse=True), lambda _: None)
        numbers = {part(result, "trial_id"): numbers_of(result, folder) for result in results}
        given.append(numbers)
        shutil.rmtree(cache, ignore_errors=True)
    return given


def numbers_of(result: Any, folder: Path) -> Plain:
    """Everything but times."""
    error, outcome = part(result, "error"), part(result, "outcome")
    numbers = {
        "error": error and error.replace(str(folder), "FOLDER"),
        "epochs": plain_of(part(result, "records")),
    }
    if outcome is not None:
        for name in ("best", "last", "trainable_params", "total_params"):
            numbers[name] = plain_of(part(outcome, name))
    predictions = part(result, "predictions")
    if predictions is not None:
        probabilities = part(predictions, "probabilities")
        numbers["samples"] = list(part(predictions, "samples"))
        numbers["labels"] = part(predictions, "labels").tolist()
        numbers["probabilities"] = [str(probabilities.dtype), probabilities.tobytes().hex()]
    return numbers


def plain_of(value: Any) -> Any:
    """Dataclasses as mappings, without what was measured."""
    if is_dataclass(value):
        named = {each.name: getattr(value, each.name) for each in fields(value)}
        if "metrics" in named:  # before, the accuracy was the only one
            named["accuracy"] = named.pop("metrics")["accuracy"]
        return {name: plain_of(each) for name, each in named.items() if not is_measured(name)}
    if isinstance(value, (list, tuple)):
        return [plain_of(each) for each in value]
    return value


def count(asked: Plain, folder: Path) -> Plain:
    """Which epochs are one epoch: of the suites here, of each grid, of all grids together."""
    os.environ["BENCH_CACHE"] = str(folder / "cache")
    grids = [[job_of(plain) for plain in grid] for grid in asked["grids"]]
    together = {part(job, "trial_id"): job for grid in grids for job in grid}
    return {
        "suites": {
            suite.stem: suite_shape(suite, asked, folder)
            for suite in sorted(Path("suites").glob("*.yaml"))
        },
        "grids": [shape(jobs) for jobs in grids],
        "all grids": shape(list(together.values())),
    }


def suite_shape(suite: Path, asked: Plain, folder: Path) -> Plain:
    """The shape of a suite's trials, or why it is not to be had here."""
    photographs = needs_photographs(suite)
    if photographs and not asked["photographs"]:
        return {"skipped": "BENCH_HYMENOPTERA is not set"}
    overrides = [*FIXED, *(photographs_of(asked["photographs"]) if photographs else ())]
    try:
        plan = call("plan_run", suite, out=folder / "out", device="cpu", overrides=overrides)
        counted = call("planned_jobs", plan)
    except home("BenchError") as error:
        return {"skipped": str(error)}
    return shape([part(each, "job") for each in counted])


def shape(jobs: Sequence[Any]) -> Plain:
    """What of the keys does not depend on their values: for each the first epoch that has it."""
    first: dict[str, str] = {}
    trunks: dict[str, str] = {}
    epochs, heads = {}, {}
    for job in jobs:
        trial = name_of(job)
        keys = part(job, "keys")[1:]
        epochs[trial] = [first.setdefault(key, f"{trial}, {n}") for n, key in enumerate(keys, 1)]
        trunk = trunks.setdefault(part(job, "trunk_key"), trial)
        heads[trial] = {"epochs": part(job, "head_epochs"), "trunk of": trunk}
    return {
        "unique epochs": len(first),
        "same as": epochs,
        "heads": heads,
        "tasks": [task_shape(task) for task in call("cut", jobs, reuse=True)],
    }


def name_of(job: Any) -> str:
    """What names its trial on both sides."""
    trial = part(job, "trial")
    return f"{trial.config} {trial.settings.seed}"


def task_shape(task: Any) -> list[Any]:
    """(kind, trials, start, end)"""
    trials = [name_of(job) for job in part(task, "jobs")]
    return [part(task, "kind"), trials, part(task, "start"), part(task, "end")]


WORK: Mapping[str, Callable[[Plain, Path], Any]] = {"train": train, "count": count}


def one_side(work: str, folder: Path) -> None:
    """Do what `asked.json` says, with the package of the folder that this process is in."""
    import bench

    if not Path(bench.__file__).is_relative_to(Path.cwd()):
        raise SystemExit(f"this side's package must lie in {Path.cwd()}, got {bench.__file__}")
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    given = WORK[work](asked, folder)
    (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")


# Both sides ---------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "7f679af"
"""The last commit before the package was reorganised."""

FIXED = ("precision=fp32", "threads=1")
REDUCED: Mapping[str, Sequence[str]] = {
    "strategies": (
        "dataset.train_per_class=24",
        "dataset.val_per_class=10",
        "dataset.test_per_class=20",
        "dataset.image_size=32",
        "weights={name: fractals, classes: 4, images_per_class: 16, epochs: 1}",
        "epochs=4",
        "seed=[0, 1]",
    )
}
"""Suite → what makes it short, unless it is to run as it is shipped."""

FAMILIES = 24
COUNTED_FAMILIES = 240
FORMAT = 2
"""Raise it with every change of what a side writes: what is kept is made anew."""

MEASURED = ("second", "started", "finished", "memory", "path")
"""Columns and fields that have one of these in their names differ from run to run."""

ROW_KEYS: Mapping[str, tuple[str, ...]] = {
    "trials": ("trial",),
    "curves": ("trial", "epoch", "split"),
    "predictions": ("trial", "sample"),
}
SITE = """\
import sys
sys.meta_path[:] = [
    finder
    for finder in sys.meta_path
    if not getattr(finder, "__module__", "").startswith("__editable___bench_")
]
"""
"""Run at the start of a side's processes. An editable installation of this package would lend a
side the modules that it lacks, and those are of another checkout."""

SHOWN = 20
"""How many differences of a check are printed."""


def is_measured(name: str) -> bool:
    """Whether a column or field depends on the clock or the machine's memory."""
    return any(word in name for word in MEASURED)


def needs_photographs(suite: Path) -> bool:
    """Whether the suite's data set would be downloaded."""
    return "\ndataset: hymenoptera" in suite.read_text(encoding="utf-8")


def photographs_of(folder: str) -> tuple[str, ...]:
    """The override that points the suite to a copy."""
    return (f"dataset.path={folder}",)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A checkout, and the folder of what it gives; `keeps` says whether that stays true."""

    name: str
    checkout: Path
    folder: Path
    keeps: bool


class SideError(Exception):
    """A side did not come to its end."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What two results have in common, in words, and in what they differ."""

    compared: str
    differences: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Check:
    """`run` leaves in a folder what a side gives for `asked`; `compare` looks at two of them."""

    name: str
    asked: Mapping[str, Any]
    run: Callable[[Side, Path], None]
    compare: Callable[[Path, Path], Found]

    @property
    def key(self) -> str:
        """Names what is asked and what it runs on."""
        versions = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")}
        content = [self.name, self.asked, versions, processor(), sys.version, FORMAT]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def processor() -> list[str]:
    """What of the processor decides about bits."""
    about = Path("/proc/cpuinfo")
    if not about.is_file():
        return [platform.machine(), platform.processor()]
    lines = about.read_text(encoding="utf-8").splitlines()
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})


def result_of(side: Side, check: Check) -> tuple[Path, str]:
    """The folder of what the side gives, and how long that took; raises `SideError`."""
    folder = side.folder / f"{check.name}-{check.key}"
    finished = folder / "finished"
    if side.keeps and finished.is_file():
        return folder, "kept"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{check.name}: {side.name} …", flush=True)
    started = time.perf_counter()
    check.run(side, folder)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    finished.touch()
    return folder, f"{time.perf_counter() - started:.0f} s"


def start(side: Side, folder: Path, command: Sequence[str]) -> None:
    """Run Python with the side's package and a cache of its own; raises `SideError`."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(side.checkout), str(site)]),
        "BENCH_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    log = folder / "log.txt"
    with log.open("wb") as file:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=side.checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise SideError(f"{side.name} ended with exit code {done.returncode}: {said[-3000:]}")


# Checks -------------------------------------------------------------------------------------------


def suite_check(name: str, *, full: bool, workers: int | None, ignore: Sequence[str]) -> Check:
    """A suite, trained by the command line."""
    overrides = [*FIXED, *(() if full else REDUCED.get(name, ()))]
    suite = ROOT / "suites" / f"{name}.yaml"
    photographs = os.environ.get("BENCH_HYMENOPTERA", "")
    if photographs and suite.is_file() and needs_photographs(suite):
        overrides += photographs_of(photographs)
    return Check(
        name=f"suite-{name}",
        asked={"overrides": overrides},
        run=partial(run_suite, name, overrides, workers),
        compare=partial(compare_runs, ignore=ignore),
    )


def run_suite(
    name: str, overrides: Sequence[str], workers: int | None, side: Side, folder: Path
) -> None:
    """`bench run` of the side's own suite file."""
    suite = side.checkout / "suites" / f"{name}.yaml"
    if not suite.is_file():
        raise SideError(f"{side.name} has no {suite.relative_to(side.checkout)}")
    project = tomllib.loads((side.checkout / "pyproject.toml").read_text(encoding="utf-8"))
    module, _, function = project["project"]["scripts"]["bench"].partition(":")
    code = (
        "import sys, bench; "
        f"assert bench.__file__.startswith({str(side.checkout)!r}), bench.__file__; "
        f"from {module} import {function}; sys.exit({function}())"
    )
    options = [text for override in overrides for text in ("--set", override)]
    options += [] if workers is None else ["--workers", str(workers)]
    out = ["--out", str(folder / "out"), "--device", "cpu"]
    start(side, folder, ["-c", code, "run", str(suite), *out, *options])


def compare_runs(before: Path, now: Path, *, ignore: Sequence[str]) -> Found:
    """Two run folders: tables row by row, checkpoints tensor by tensor, accounts."""
    one, other = (next((folder / "out").iterdir()) for folder in (before, now))
    found: list[str] = []
    counts: list[str] = []
    for file in sorted({path.name for run in (one, other) for path in run.glob("*.parquet")}):
        if not all((run / file).is_file() for run in (one, other)):
            found.append(f"{file}: only {'before' if (one / file).is_file() else 'now'}")
            continue
        rows, differences = compare_tables(one / file, other / file, ignore)
        counts.append(f"{rows:,} {Path(file).stem}")
        found += differences
    checkpoints = (tensors_of(one), tensors_of(other))
    counts.append(f"{len(checkpoints[0])} checkpoints")
    found += differences_of(*checkpoints, "checkpoints")
    accounts = (accounts_of(one), accounts_of(other))
    counts.append("accounts")
    found += differences_of(*accounts, "accounts")
    return Found(compared=", ".join(counts), differences=found)


def compare_tables(one: Path, other: Path, ignore: Sequence[str]) -> tuple[int, list[str]]:
    """How many rows the first table has, and the differences."""
    import pyarrow.parquet as pq

    tables = (pq.read_table(one), pq.read_table(other))
    columns = (columns_of(tables[0], ignore), columns_of(tables[1], ignore))
    both = [name for name in columns[0] if name in columns[1]]
    for name in sorted(columns[0].keys() ^ columns[1].keys()):
        print(f"{one.stem}: the column {name} is on one side only")
    keys = [name for name in ROW_KEYS.get(one.stem, ()) if name in both]
    rows = [
        rows_of(table, both, keys, names_of(path.parent))
        for table, path in zip(tables, (one, other), strict=True)
    ]
    types = ({name: columns[0][name] for name in both}, {name: columns[1][name] for name in both})
    found = differences_of(*types, f"{one.stem}, columns")
    return tables[0].num_rows, [*found, *differences_of(*rows, one.stem)]


def names_of(run: Path) -> dict[str, str]:
    """Trial ids of a run folder, which are another side's own, to what names the trial on both."""
    import pyarrow.parquet as pq

    columns = pq.read_table(run / "trials.parquet", columns=["trial", "config", "seed"])
    return {row["trial"]: f"{row['config']} {row['seed']}" for row in columns.to_pylist()}


def columns_of(table: Any, ignore: Sequence[str]) -> dict[str, str]:
    """The columns that are compared, and their types."""
    names = (name for name in table.column_names if not is_measured(name) and name not in ignore)
    return {name: str(table.schema.field(name).type) for name in names}


def rows_of(
    table: Any, columns: list[str], keys: Sequence[str], names: Mapping[str, str]
) -> dict[str, list[Plain]]:
    """The rows by what tells them apart: a list each, since nothing may be passed over."""
    rows: dict[str, list[Plain]] = {}
    for row in table.select(columns).to_pylist():
        if "trial" in row:
            row["trial"] = names[row["trial"]]
        rows.setdefault(" ".join(str(row[name]) for name in keys), []).append(row)
    return rows


def tensors_of(run: Path) -> dict[str, Plain]:
    """Of every checkpoint, by its place: tensor → type, shape and a digest of its bytes."""
    from safetensors import deserialize

    names = names_of(run)
    return {
        names.get(path.stem, str(path.relative_to(run))): {
            name: [about["dtype"], list(about["shape"]), hashlib.sha256(about["data"]).hexdigest()]
            for name, about in deserialize(path.read_bytes())
        }
        for path in sorted(run.rglob("*.safetensors"))
    }


def accounts_of(run: Path) -> Plain:
    """The accounts, without the sentence that puts them into words."""
    accounts = json.loads((run / "accounts.json").read_text(encoding="utf-8"))
    return {name: value for name, value in accounts.items() if name != "sentence"}


def grids_check(number: int) -> Check:
    """Random grids, trained."""
    grids = [draw_grid(each, FAMILIES) for each in range(number)]
    return Check(
        name="grids",
        asked={"grids": grids},
        run=partial(run_here, "train", {"grids": grids}),
        compare=compare_grids,
    )


def count_check(number: int) -> Check:
    """The keys of epochs."""
    drawn = [draw_grid(each, COUNTED_FAMILIES) for each in range(number)]
    asked = {
        "grids": [*one_change_each(), *drawn],
        "photographs": os.environ.get("BENCH_HYMENOPTERA", ""),
    }
    return Check(
        name="unique-epochs",
        asked=asked,
        run=partial(run_here, "count", asked),
        compare=compare_counts,
    )


def run_here(work: str, asked: Plain, side: Side, folder: Path) -> None:
    """This script, with the side's package."""
    (folder / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    start(side, folder, [str(Path(__file__).resolve()), "--one-side", work, str(folder)])


def given_in(folder: Path) -> Any:
    return json.loads((folder / "given.json").read_text(encoding="utf-8"))


def compare_grids(before: Path, now: Path) -> Found:
    """Trial by trial."""
    one, other = given_in(before), given_in(now)
    trials = [trial for grid in one for trial in grid.values()]
    epochs = sum(len(trial["epochs"]) for trial in trials)
    failed = sum(trial["error"] is not None for trial in trials)
    return Found(
        compared=f"{len(one)} grids, {len(trials)} trials ({failed} failed), {epochs} epochs",
        differences=list(differences_of(one, other, "grids")),
    )


def compare_counts(before: Path, now: Path) -> Found:
    """Suite by suite and grid by grid; a suite that is new has nothing to be compared with."""
    one, other = given_in(before), given_in(now)
    for name in sorted(set(other["suites"]) - set(one["suites"])):
        print(f"unique-epochs: {name} is new and not compared")
        del other["suites"][name]
    skipped = {name for name in one["suites"] if "skipped" in one["suites"][name]}
    for name in sorted(skipped):
        print(f"unique-epochs: {name} skipped: {one['suites'][name]['skipped']}")
        if "skipped" in other["suites"].get(name, ()):  # for a reason that may be worded otherwise
            other["suites"][name] = one["suites"][name]
    shapes = [one["suites"][name] for name in one["suites"] if name not in skipped]
    trials = sum(len(each["same as"]) for each in (*shapes, one["all grids"]))
    epochs = sum(each["unique epochs"] for each in (*shapes, one["all grids"]))
    return Found(
        compared=f"{len(shapes)} suites ({len(skipped)} skipped), {len(one['grids'])} grids, "
        f"{trials:,} trials, {epochs:,} unique epochs",
        differences=list(differences_of(one, other, "unique epochs")),
    )


def differences_of(before: Any, now: Any, where: str) -> Iterator[str]:
    """In what two pieces of plain data differ, a line each; NaN equals NaN, 0 is not -0."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in before:
            if name in now:
                yield from differences_of(before[name], now[name], f"{where}, {name}")
            else:
                yield f"{where}: {name} only before ({in_short(before[name])})"
        for name in now:
            if name not in before:
                yield f"{where}: {name} only now ({in_short(now[name])})"
    elif isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            yield f"{where}: {len(before)} before, {len(now)} now"
        for number, (one, other) in enumerate(zip(before, now, strict=False)):
            yield from differences_of(one, other, f"{where}, {number}")
    elif repr(before) != repr(now):  # of a float it has every bit
        yield f"{where}: {in_short(before)} before, {in_short(now)} now"


def in_short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


# The commit ---------------------------------------------------------------------------------------


def git(*arguments: str, folder: Path = ROOT) -> str:
    """What git says, run in `folder`."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def reference(ref: str, work: Path) -> Side:
    """The commit, checked out in the work folder."""
    commit = git("rev-parse", "--verify", f"{ref}^{{commit}}")
    folder = work / commit[:12]
    checkout = folder / "checkout"
    with FileLock(f"{folder}.lock"):
        if not checkout.is_dir():
            # With force, since git may remember a worktree there that was deleted by hand.
            git("worktree", "add", "--force", "--detach", str(checkout), commit)
    found = git("rev-parse", "HEAD", folder=checkout)
    if found != commit or git("status", "--porcelain", folder=checkout):
        raise SystemExit(f"{checkout} must be {commit[:12]} without changes: remove it")
    return Side(name=f"before ({commit[:7]})", checkout=checkout, folder=folder, keeps=True)


def current(work: Path) -> Side:
    """This checkout as it lies here, with changes that are not committed."""
    place = hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]
    return Side(name="now", checkout=ROOT, folder=work / f"now-{place}", keeps=False)


# Output -------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Row:
    """A line of the table."""

    check: str
    compared: str = ""
    before: str = ""
    now: str = ""
    differences: list[str] = field(default_factory=list)


def examine(check: Check, before: Side, now: Side) -> Row:
    """Run both sides and compare; prints what differs."""
    row = Row(check=check.name)
    try:
        with FileLock(f"{before.folder}.lock"):  # calls from several checkouts may share it
            one, row.before = result_of(before, check)
        other, row.now = result_of(now, check)
    except SideError as error:
        row.differences.append(str(error))
    else:
        found = check.compare(one, other)
        row.compared, row.differences = found.compared, list(found.differences)
    for line in islice(row.differences, SHOWN):
        print(f"{check.name}: {line}", flush=True)
    if len(row.differences) > SHOWN:
        print(f"{check.name}: and {len(row.differences) - SHOWN} more", flush=True)
    return row


def show(rows: Iterable[Row]) -> None:
    """One line for each check."""
    print("\n| check | compared | before | now | |\n| --- | --- | ---: | ---: | --- |")
    for row in rows:
        verdict = f"**{len(row.differences)} differences**" if row.differences else "equal"
        print(f"| {row.check} | {row.compared} | {row.before} | {row.now} | {verdict} |")


def main() -> None:
    """Compare; exit code 1 if anything differs."""
    if sys.argv[1:2] == ["--one-side"]:
        one_side(sys.argv[2], Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("ref", nargs="?", default=REFERENCE, help="a commit; default: %(default)s")
    parser.add_argument("--work", type=Path, help="a folder; default: a temporary one that stays")
    parser.add_argument(
        "--suites", nargs="*", default=["smoke", "strategies"], help="names in suites/; none: none"
    )
    parser.add_argument("--full", action="store_true", help="strategies.yaml as it is shipped")
    parser.add_argument("--grids", type=int, default=30, help="random grids to train")
    parser.add_argument("--counted", type=int, default=200, help="random grids whose epochs count")
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="COLUMN", help="columns that may differ"
    )
    parser.add_argument("--workers", type=int, help="of `bench run`; numbers do not depend on it")
    given = parser.parse_args()
    work = (given.work or Path(tempfile.gettempdir()) / "bench-same-numbers").resolve()
    work.mkdir(parents=True, exist_ok=True)
    before, now = reference(given.ref, work), current(work)
    checks = [count_check(given.counted)]
    checks += [grids_check(given.grids)] if given.grids else []
    checks += [
        suite_check(name, full=given.full, workers=given.workers, ignore=given.ignore)
        for name in given.suites
    ]
    with FileLock(f"{now.folder}.lock"):
        rows = [examine(check, before, now) for check in checks]
    show(rows)
    if any(row.differences for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
