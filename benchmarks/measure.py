"""Measure `bench` against the plain loop, its own runs without sharing, and the bare ceiling.

One subcommand a row of the table in README.md. What is compared runs in turns (A B A B …); medians,
extremes and ratios of medians are printed, and one JSON line a call is appended to a file.

    python benchmarks/measure.py probe --data FOLDER --work FOLDER --record FILE --repeats 3
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from processes import (
    BENCH,
    BenchRun,
    bench_command,
    naive_epoch_seconds,
    run_bench,
    run_ceiling,
    run_naive,
    timed,
)
from workload import Mode, Workload, prepare

from bench.system.machine import describe_machine, usable_cores

SUITES = Path(__file__).parent
SIDES = ("naive", "reuse", "no-reuse")

ONE_TRIAL = ("schedule={name: step, step_size: 7}", "lr=0.001", "seed=0")
STRATEGIES = ("linear_probe", "{{name: gradual_unfreeze, every: {every}}}", "full_finetune")
GROWING_LRS = (0.001, 0.003, 0.0003, 0.01, 0.0001, 0.03, 0.0006, 0.006)
THROUGHPUT_EPOCHS = 4
IDENTITY = ["trial", "epoch", "split"]


@dataclass(kw_only=True)
class Measurement:
    """What one call measured: samples by what was run, in `unit`, and what follows from them."""

    unit: str
    samples: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ratios: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def add_ratio(self, name: str, above: str, below: str) -> None:
        """The ratio of the medians of two samples, if both were measured."""
        if above in self.samples and below in self.samples:
            self.ratios[name] = self.median(above) / self.median(below)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table: a suite, what is overridden in it, and what is measured of it."""

    measure: Callable[[Workload, argparse.Namespace], Measurement]
    help: str
    suite: str = "reference_grid.yaml"
    overrides: tuple[str, ...] = ()


# Grids and single trials ------------------------------------------------------------------------


def compare(workload: Workload, given: argparse.Namespace) -> Measurement:
    """Seconds of the plain loop, of `bench run`, and of `bench run --no-reuse`.

    Of `bench`, the wall time of the whole process and the part of it from the start of the first
    trial to the end of the last, which is what the ratios compare: the plain loop's process start
    is not counted either.
    """
    result = Measurement(unit="s")
    runs: dict[str, list[BenchRun]] = {"reuse": [], "no-reuse": []}
    for _, side in product(range(given.repeats), given.sides):
        if side == "naive":
            seconds = _naive_seconds(workload, given.naive_epochs)
            if len(workload.naive_epochs) == 1:
                (epochs,) = workload.naive_epochs.values()
                result.samples["naive, one epoch"].append(seconds / epochs)
        else:
            run = run_bench(workload, given.work, *_flags(side))
            runs[side].append(run)
            trials = run.run.trials
            seconds = (trials.finished.max() - trials.started.min()).total_seconds()
            result.samples[f"{side}, whole process"].append(run.finished.seconds)
            if len(trials) == 1:
                epochs = run.run.curves.groupby("epoch").seconds.sum()
                result.samples[f"{side}, one epoch"].append(float(epochs.median()))
        result.samples[side].append(seconds)
    if "naive" in given.sides:
        result.facts["naive"] = _naive_remark(workload.naive_epochs, given.naive_epochs)
    every = [run for side in runs.values() for run in side]
    if every:
        result.facts["precision"] = sorted({p for run in every for p in run.run.trials.precision})
    result.add_ratio("R_total (naive / reuse)", "naive", "reuse")
    result.add_ratio("R_total, whole process", "naive", "reuse, whole process")
    result.add_ratio("R_total, one epoch", "naive, one epoch", "reuse, one epoch")
    if all(runs.values()):
        result.facts["curves_equal"] = all(_same_curves(every[0], run) for run in every[1:])
        result.add_ratio("R_share (no-reuse / reuse)", "no-reuse", "reuse")
    return result


def _flags(side: str) -> tuple[str, ...]:
    return ("--no-reuse",) if side == "no-reuse" else ()


def _naive_seconds(workload: Workload, measured: int) -> float:
    """The sum over all epochs of all trials, each kind as long as the mean of those measured."""
    return sum(
        epochs * statistics.mean(naive_epoch_seconds(mode, workload.images, min(measured, epochs)))
        for mode, epochs in workload.naive_epochs.items()
    )


def _naive_remark(epochs: Mapping[Mode, int], measured: int) -> str:
    kinds = ", ".join(
        f"{count} × {mode} ({min(measured, count)} measured)"
        for (_, mode, _), count in epochs.items()
    )
    return f"sum of single epochs, process start not counted: {kinds}"


def _same_curves(one: BenchRun, other: BenchRun) -> bool:
    """Whether all trials have the same losses, to the last bit, at the same precision."""
    frames = [
        run.run.curves[[*IDENTITY, "loss"]]
        .merge(run.run.trials[["trial", "precision"]], on="trial")
        .sort_values(IDENTITY, ignore_index=True)
        for run in (one, other)
    ]
    return frames[0].equals(frames[1])


# Speed, start, memory, growth ---------------------------------------------------------------------


def throughput(workload: Workload, given: argparse.Namespace) -> Measurement:
    """Images a second of `bench` in training epochs, and of the bare step, all cores at work."""
    result = Measurement(unit="images/s")
    workers = str(given.processes)
    for _ in range(given.repeats):
        run = run_bench(workload, given.work, "--workers", workers).run
        (precision,) = run.trials.precision.unique()
        ceiling = run_ceiling(
            given.model,
            precision=precision,
            threads=given.threads,
            processes=given.processes,
            seconds=given.seconds,
        )
        result.samples["bench"].append(_images_per_second(run.curves, workload.train_images))
        result.samples["ceiling"].append(sum(ceiling["images_per_second"]))
        result.facts.setdefault("floor_seconds", []).append(ceiling["floor_seconds"])
        result.facts["precision"] = precision
    result.add_ratio("share of the ceiling (bench / ceiling)", "bench", "ceiling")
    return result


def _images_per_second(curves: pd.DataFrame, train_images: int) -> float:
    """Summed over the trials, which run at once; the first epoch of each is a warm-up."""
    warm = curves[(curves.split == "train") & (curves.epoch > 1)]
    return float((train_images / warm.groupby("trial").seconds.median()).sum())


def startup(workload: Workload, given: argparse.Namespace) -> Measurement:
    """Wall seconds of what trains nothing or next to nothing."""
    result = Measurement(unit="s")
    with TemporaryDirectory(dir=given.work) as out:
        again = bench_command(workload, Path(out))
        timed(again)
        commands = {
            "python, import torch": [sys.executable, "-c", "import torch"],
            "bench --help": [BENCH, "--help"],
            "bench list": [BENCH, "list"],
            "bench run, nothing to do": again,
        }
        for _ in range(given.repeats):
            for name, command in commands.items():
                result.samples[name].append(timed(command).seconds)
            before = datetime.now(UTC)
            run = run_bench(workload, given.work)
            until_first = run.run.trials.started.min() - before
            result.samples["bench run, until a trial starts"].append(until_first.total_seconds())
            result.samples["bench run, one epoch of a probe"].append(run.finished.seconds)
    return result


def memory(workload: Workload, given: argparse.Namespace) -> Measurement:
    """Peak MiB of all processes together."""
    result = Measurement(unit="MiB")
    for _, side in product(range(given.repeats), given.sides):
        if side == "naive":
            mode = (given.model, "full", True)
            finished = run_naive(mode, workload.images, given.naive_epochs, memory=True)
        else:
            finished = run_bench(workload, given.work, *_flags(side), memory=True).finished
        assert finished.peak_mib is not None
        result.samples[side].append(finished.peak_mib)
    result.add_ratio("reuse / no-reuse", "reuse", "no-reuse")
    result.add_ratio("reuse / naive (one trial)", "reuse", "naive")
    return result


def growth(workload: Workload, given: argparse.Namespace) -> Measurement:
    """Wall seconds of the grid with more and more learning rates, one strategy at a time."""
    result = Measurement(unit="s")
    cells = list(product(STRATEGIES, given.lrs))
    prepared = {cell: _with_lrs(given, *cell) for cell in cells}
    for _, (strategy, count) in product(range(given.repeats), cells):
        run = run_bench(prepared[strategy, count], given.work)
        result.samples[_cell_name(strategy, count)].append(run.finished.seconds)
    for strategy in STRATEGIES:
        first, last = (_cell_name(strategy, given.lrs[end]) for end in (0, -1))
        result.add_ratio(f"{last} / {first}", last, first)
    _plot_growth(result, given.lrs, given.plot)
    return result


def _with_lrs(given: argparse.Namespace, strategy: str, count: int) -> Workload:
    lrs = f"lr={list(GROWING_LRS[:count])}"
    chosen = f"strategy={strategy.format(every=given.every)}"
    return _prepared(given, ROWS["growth"], (*given.overrides, chosen, lrs))


def _cell_name(strategy: str, count: int) -> str:
    return f"{_short(strategy)}, {count} LR"


def _short(strategy: str) -> str:
    return strategy.strip("{}").removeprefix("name: ").partition(",")[0]


def _plot_growth(result: Measurement, lrs: Sequence[int], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for strategy in STRATEGIES:
        samples = [result.samples[_cell_name(strategy, count)] for count in lrs]
        medians = [statistics.median(values) for values in samples]
        below = [m - min(values) for m, values in zip(medians, samples, strict=True)]
        above = [max(values) - m for m, values in zip(medians, samples, strict=True)]
        label = _short(strategy)
        drawn = axes.errorbar(lrs, medians, yerr=[below, above], marker="o", capsize=3, label=label)
        axes.plot(
            lrs,
            [medians[0] * count / lrs[0] for count in lrs],
            linestyle=":",
            color=drawn.lines[0].get_color(),
        )
    axes.plot([], [], linestyle=":", color="grey", label="in proportion to the first point")
    axes.set(xlabel="learning rates in the grid", ylabel="wall time in seconds", xticks=list(lrs))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


# Command line -------------------------------------------------------------------------------------

ROWS: Mapping[str, Row] = {
    "finetune": Row(
        measure=compare,
        help="one full fine-tuning",
        overrides=("name=finetune", "strategy=full_finetune", *ONE_TRIAL),
    ),
    "probe": Row(
        measure=compare,
        help="one linear probe",
        overrides=("name=probe", "strategy=linear_probe", *ONE_TRIAL),
    ),
    "probes": Row(measure=compare, help="64 linear probes", suite="probes.yaml"),
    "partial": Row(
        measure=compare,
        help="one fine-tuning of the topmost layer group",
        overrides=("name=partial", "strategy={name: partial_finetune, top: 1}", *ONE_TRIAL),
    ),
    "reference": Row(measure=compare, help="the reference grid, 72 trials"),
    "hippo": Row(measure=compare, help="staged schedules, 12 trials", suite="hippo_grid.yaml"),
    "throughput": Row(
        measure=throughput,
        help="images a second beside the bare ceiling",
        overrides=(
            *("name=throughput", "strategy=full_finetune", "schedule=constant", "lr=0.001"),
            f"epochs={THROUGHPUT_EPOCHS}",
        ),
    ),
    "startup": Row(
        measure=startup,
        help="what is paid before anything is trained",
        overrides=("name=startup", "strategy=linear_probe", *ONE_TRIAL, "epochs=1"),
    ),
    "memory": Row(measure=memory, help="peak memory of the reference grid"),
    "growth": Row(measure=growth, help="time of the reference grid at 1, 2, 4, 8 LRs"),
}


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    rows = parser.add_subparsers(dest="row", required=True, metavar="ROW")
    for name, row in ROWS.items():
        options = rows.add_parser(name, help=row.help)
        options.add_argument("--data", type=_folder, required=True, help="with train/ and val/")
        options.add_argument("--work", type=_folder, required=True, help="cache and passing files")
        options.add_argument("--record", type=Path, required=True, help="JSON lines, appended to")
        options.add_argument("--repeats", type=int, default=3, help="of each side, in turns")
        options.add_argument("--model", default="resnet18", help="a torchvision classifier")
        options.add_argument(
            "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[]
        )
        if row.measure in (compare, memory):
            options.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
            options.add_argument("--naive-epochs", type=int, default=2, help="measured of a kind")
        if name == "hippo":
            options.add_argument("--frozen", action="store_true", help="with frozen strategies")
        if name == "throughput":
            options.add_argument("--threads", type=int, default=1, help="of each process")
            options.add_argument("--processes", type=int, help="at once; default: fill the cores")
            options.add_argument("--seconds", type=float, default=20.0, help="of the ceiling")
        if name == "growth":
            options.add_argument("--lrs", type=int, nargs="+", default=[1, 2, 4, 8])
            options.add_argument("--every", type=int, default=5, help="of gradual unfreezing")
            options.add_argument("--plot", type=Path, required=True, help="the figure (.png)")
    return parser


def _folder(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _prepared(given: argparse.Namespace, row: Row, overrides: Sequence[str]) -> Workload:
    suite = "hippo_grid_frozen.yaml" if getattr(given, "frozen", False) else row.suite
    return prepare(
        SUITES / suite,
        model=given.model,
        data=given.data,
        work=given.work,
        overrides=(*row.overrides, *overrides),
    )


def _fill_cores(given: argparse.Namespace) -> None:
    """As many processes, trials and seeds as the threads of each leave room for."""
    given.processes = given.processes or max(1, usable_cores() // given.threads)
    given.overrides += [f"seed={list(range(given.processes))}", f"threads={given.threads}"]


def _show(row: str, result: Measurement) -> None:
    print(f"{row} ({result.unit})")
    width = max(map(len, result.samples))
    for name, values in result.samples.items():
        print(
            f"  {name:{width}}  median {statistics.median(values):.3f}  n {len(values)}  "
            f"min {min(values):.3f}  max {max(values):.3f}"
        )
    for name, value in (*result.ratios.items(), *result.facts.items()):
        print(f"  {name}: {value:.3f}" if isinstance(value, float) else f"  {name}: {value}")


def _record(given: argparse.Namespace, workload: Workload, result: Measurement) -> None:
    line = {
        "row": given.row,
        "suite": workload.suite.name,
        "model": given.model,
        "overrides": [*ROWS[given.row].overrides, *given.overrides],
        "command": shlex.join(["python", "benchmarks/measure.py", *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "unit": result.unit,
        "samples": result.samples,
        "medians": {name: result.median(name) for name in result.samples},
        "ratios": result.ratios,
        **result.facts,
        "machine": describe_machine("cpu"),
    }
    given.record.parent.mkdir(parents=True, exist_ok=True)
    with given.record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> None:
    """Measure one row; exit code 1 if sharing changed a loss."""
    given = _arguments().parse_args()
    if given.row == "throughput":
        _fill_cores(given)
    row = ROWS[given.row]
    workload = _prepared(given, row, given.overrides)
    result = row.measure(workload, given)
    _show(given.row, result)
    _record(given, workload, result)
    if result.facts.get("curves_equal") is False:
        raise SystemExit("the curves with and without reuse differ")


if __name__ == "__main__":
    main()
