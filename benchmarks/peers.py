"""Measure `bench` beside the loops of other libraries on the same work.

Each side trains ResNet-18 from the same file of weights on the same 195 + 49 photographs of ants
and bees, with all cores: a process of its own that is timed from its start to its end, and its
epochs. Sides run in turns (A B C A B C …). Prints a Markdown table of medians and ratios of
medians; everything that was measured is in one JSON file. README.md says what is equal.

    python benchmarks/peers.py --data FOLDER --work FOLDER --out FILE --rounds 3 --epochs 3
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peer_loops import MODEL, PEERS
from processes import Finished, bench_command, cold_cache, last_line, run_peer, timed
from safetensors.torch import load_file
from torch import Tensor
from workload import Workload, prepare

import bench
from bench.system.machine import describe_machine, usable_cores

SUITES = Path(__file__).parent
BENCH = "bench"
SIDES = (BENCH, *PEERS)
PRECISIONS = ("fp32", "bf16")
AS_IT_COMES = "auto"
"""What a suite says if nobody has said anything: `bench` measures which precision is faster here,
and peers, of which none does, compute in fp32."""

THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Left out of every side's environment: each chooses its threads as on a user's machine."""

KIND_EPOCHS = 2
"""So many epochs of a kind are timed where a peer's time for a grid is a multiple of them."""

ALIKE = 2.0
"""Losses and ways that are so many times the median of all sides, or less: not the same work."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is trained, by `bench` at once, by a peer one trial after the other."""

    help: str
    suite: str
    overrides: tuple[str, ...]


SAME_VIEWS = "augmentation={name: flip_crop, min_scale: 0.08}"
ROWS: Mapping[str, Row] = {
    "finetune": Row(
        help="one full fine-tuning, as a whole process",
        suite="reference_grid.yaml",
        overrides=(
            *("strategy=full_finetune", "schedule=constant", "lr=0.001", "seed=0"),
            *("name=finetune", SAME_VIEWS),
        ),
    ),
    "probes": Row(
        help="32 linear probes with fresh views in every epoch",
        suite="probes.yaml",
        overrides=("seed=[0, 1]", SAME_VIEWS),
    ),
    "mixed": Row(
        help="12 trials: probes, fine-tuning after a probe, of the top, of everything",
        suite="mixed_grid.yaml",
        overrides=(SAME_VIEWS,),
    ),
}
SINGLE = "finetune"
"""The row with one trial; of all others, a peer's time is a multiple of its epochs."""

WHOLE, TRAINING, EPOCH = "whole process", "training", "an epoch"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one process showed.

    `seconds` are those of the whole process, `epochs` those of each epoch; `losses` and
    `accuracies` are of the last epoch by split, `moved` is how far the body's weights went from
    where they started, as a share of their length.
    """

    seconds: float
    epochs: Sequence[float]
    losses: Mapping[str, float]
    accuracies: Mapping[str, float]
    moved: float
    peak_mib: float | None = None


@dataclass(kw_only=True)
class Cell:
    """One side in one row at one precision: seconds by what was timed, a value a round."""

    samples: list[Sample] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What all processes of one call share."""

    work: Path
    images: Path
    weights: Path
    memory: bool


Cells = dict[tuple[str, str, str], Cell]
"""By (precision, row, side)."""


# One process ------------------------------------------------------------------------------------


def train_peer(side: str, mode: str, precision: str, epochs: int, given: Prepared) -> Sample:
    """A peer in a process of its own; ends this program if it did not train what `mode` says."""
    with TemporaryDirectory(dir=given.work, prefix=f"{side}-") as out:
        finished = run_peer(
            *(side, "--mode", mode, "--precision", _of_peers(precision), "--epochs", str(epochs)),
            *("--data", str(given.images), "--weights", str(given.weights), "--out", out),
            memory=given.memory,
        )
        said = last_line(finished)
        moved = _moved(Path(said["checkpoint"]), given.weights)
    _check_epochs(side, said["epochs"], epochs)
    _check_moved(side, moved, mode)
    last = said["epochs"][-1]
    return Sample(
        seconds=finished.seconds,
        epochs=[epoch["seconds"] for epoch in said["epochs"]],
        losses={split: last[f"{split}_loss"] for split in ("train", "val")},
        accuracies={split: last[f"{split}_accuracy"] for split in ("train", "val")},
        moved=moved,
        peak_mib=finished.peak_mib,
    )


def train_bench(workload: Workload, given: Prepared) -> tuple[Sample, float]:
    """`bench run` with an empty cache; also the seconds from the first trial's start to the end."""
    with (
        TemporaryDirectory(dir=given.work, prefix="bench-") as out,
        cold_cache(given.work, prepared=False) as cache,
    ):
        finished = _timed_bench(workload, Path(out), cache, memory=given.memory)
        (tables,) = Path(out).glob("*/trials.parquet")
        run = bench.read_run(tables.parent)
        trial = run.trials.iloc[-1]
        moved = _moved(tables.parent / "checkpoints" / f"{trial.trial}.safetensors", given.weights)
    curves = run.curves[run.curves.trial == trial.trial]
    last = curves[curves.epoch == curves.epoch.max()].set_index("split")
    sample = Sample(
        seconds=finished.seconds,
        epochs=curves.groupby("epoch").seconds.sum().tolist(),
        losses=last.loss.to_dict(),
        accuracies=last.accuracy.to_dict(),
        moved=moved,
        peak_mib=finished.peak_mib,
    )
    return sample, (run.trials.finished.max() - run.trials.started.min()).total_seconds()


def _timed_bench(workload: Workload, out: Path, cache: Path, *, memory: bool) -> Finished:
    command = bench_command(workload, out)
    return timed(command, environment={"BENCH_CACHE": str(cache)}, memory=memory)


def _moved(checkpoint: Path, weights: Path) -> float:
    """The length of the body's way from its start, divided by the length of the start.

    `bench` leaves out of a checkpoint what stayed as it was.
    """
    start = {
        name: tensor
        for name, tensor in load_file(weights).items()
        if name.endswith("weight") and not name.startswith("fc.")
    }
    now = _tensors(checkpoint)
    way = sum(
        float((now[name].float() - tensor).square().sum())
        for name, tensor in start.items()
        if name in now
    )
    return math.sqrt(way / sum(float(tensor.square().sum()) for tensor in start.values()))


def _tensors(checkpoint: Path) -> dict[str, Tensor]:
    """By the network's own names, whichever library wrote them."""
    if checkpoint.suffix == ".safetensors":
        tensors = load_file(checkpoint)
    else:
        kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
        tensors = kept.get("state_dict", kept)
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def _check_epochs(side: str, epochs: Sequence[Mapping[str, float]], wanted: int) -> None:
    if len(epochs) != wanted:
        raise SystemExit(f"{side} trained {len(epochs)} epochs instead of {wanted}")
    if not all(math.isfinite(value) for epoch in epochs for value in epoch.values()):
        raise SystemExit(f"{side} reports what is no number: {epochs}")


def _check_moved(side: str, moved: float, mode: str) -> None:
    if (moved > 0) != (mode != "probe"):
        raise SystemExit(f"{side} did not train as {mode}: its body moved by {moved}")


# Rounds -----------------------------------------------------------------------------------------


def measure(given: argparse.Namespace, sides: Sequence[str], precisions: Sequence[str]) -> Cells:
    """All rounds: each precision and row, and within it each side in turn; written after each."""
    cells: Cells = defaultdict(Cell)
    workloads = {row: _workload(row, given) for row in given.rows}
    prepared = Prepared(
        work=given.work,
        images=next(iter(workloads.values())).images,
        weights=given.work / f"{MODEL}.safetensors",
        memory=given.memory,
    )
    for number, precision in product(range(1, given.rounds + 1), precisions):
        present = [side for side in sides if _computes_in(side, precision)]
        # A kind of epoch that two rows need is timed once a round.
        kinds: dict[tuple[str, str], float] = {}
        for (row, workload), side in product(workloads.items(), present):
            cell = cells[precision, row, side]
            if row == SINGLE:
                _time_single(cell, side, workload, precision, given.epochs, prepared, kinds)
            else:
                _time_grid(cell, side, workload, precision, prepared, kinds)
        write_results(given, cells, workloads)
        print(f"round {number} of {given.rounds}, {precision}: done", file=sys.stderr, flush=True)
    return cells


def _computes_in(side: str, precision: str) -> bool:
    return side == BENCH or _of_peers(precision) in PEERS[side].precisions


def _of_peers(precision: str) -> str:
    return "fp32" if precision == AS_IT_COMES else precision


def _time_single(
    cell: Cell,
    side: str,
    workload: Workload,
    precision: str,
    epochs: int,
    prepared: Prepared,
    kinds: dict[tuple[str, str], float],
) -> None:
    if side == BENCH:
        sample, _ = train_bench(_in_precision(workload, precision), prepared)
    else:
        sample = train_peer(side, "full", precision, epochs, prepared)
        kinds[side, "full"] = statistics.mean(sample.epochs)
    cell.samples.append(sample)
    cell.seconds[WHOLE].append(sample.seconds)
    cell.seconds[EPOCH].append(statistics.median(sample.epochs))


def _time_grid(
    cell: Cell,
    side: str,
    workload: Workload,
    precision: str,
    prepared: Prepared,
    kinds: dict[tuple[str, str], float],
) -> None:
    if side == BENCH:
        sample, training = train_bench(_in_precision(workload, precision), prepared)
        cell.seconds[WHOLE].append(sample.seconds)
        cell.seconds[TRAINING].append(training)
        return
    for (_, mode, _), count in workload.naive_epochs.items():
        if (side, mode) not in kinds:
            few = min(count, KIND_EPOCHS)
            kinds[side, mode] = statistics.mean(
                train_peer(side, mode, precision, few, prepared).epochs
            )
    cell.seconds[TRAINING].append(
        sum(count * kinds[side, mode] for (_, mode, _), count in workload.naive_epochs.items())
    )


def _in_precision(workload: Workload, precision: str) -> Workload:
    return replace(workload, overrides=(*workload.overrides, f"precision={precision}"))


def _workload(row: str, given: argparse.Namespace) -> Workload:
    chosen = ROWS[row]
    epochs = given.epochs if row == SINGLE else given.grid_epochs
    return prepare(
        SUITES / chosen.suite,
        model=MODEL,
        data=given.data,
        work=given.work,
        overrides=(*chosen.overrides, f"epochs={epochs}"),
    )


# What is told ------------------------------------------------------------------------------------


def different_work(cells: Cells) -> Iterator[str]:
    """A sentence for each loss and way that is far from those of all sides of its row."""
    for precision, row in dict.fromkeys((precision, row) for precision, row, _ in cells):
        told = [
            (number, side, {**sample.losses, "way of the weights": sample.moved})
            for (of, at, side), cell in cells.items()
            if (of, at) == (precision, row)
            for number, sample in enumerate(cell.samples, start=1)
        ]
        for name in told[0][2] if told else ():
            middle = statistics.median(values[name] for _, _, values in told)
            for number, side, values in told:
                if not middle / ALIKE <= values[name] <= middle * ALIKE:
                    yield (
                        f"{row}, {precision}, round {number}: {side} has {name} "
                        f"{values[name]:.4g}, the median is {middle:.4g}"
                    )


def tables(cells: Cells) -> str:
    """Markdown: a table for the single training, one for the grids."""
    single = [key for key in cells if key[1] == SINGLE]
    grids = [key for key in cells if key[1] != SINGLE]
    lines: list[str] = []
    if single:
        lines += ["| precision | side | whole process | ÷ bench | an epoch | ÷ bench | " + LAST]
        lines += ["| --- | --- | ---: | ---: | ---: | ---: | --- |"]
        lines += [_single_line(cells, *key) for key in single]
    if grids:
        lines += ["", "| grid | precision | side | training | ÷ bench | whole process |"]
        lines += ["| --- | --- | --- | ---: | ---: | ---: |"]
        lines += [_grid_line(cells, *key) for key in grids]
    return "\n".join(lines).strip()


LAST = "last epoch: loss of training, validation; accuracy |"


def _single_line(cells: Cells, precision: str, row: str, side: str) -> str:
    cell = cells[precision, row, side]
    last = cell.samples[-1]
    losses = f"{last.losses['train']:.3f}, {last.losses['val']:.3f}"
    accuracies = f"{last.accuracies['train']:.2f}, {last.accuracies['val']:.2f}"
    peaks = [sample.peak_mib for sample in cell.samples if sample.peak_mib is not None]
    memory = f"; {statistics.median(peaks):.0f} MiB" if peaks else ""
    values = [
        text
        for what in (WHOLE, EPOCH)
        for text in (_span(cell.seconds[what]), _ratio(cells, precision, row, side, what))
    ]
    return f"| {' | '.join([precision, side, *values])} | {losses}; {accuracies}{memory} |"


def _grid_line(cells: Cells, precision: str, row: str, side: str) -> str:
    seconds = cells[precision, row, side].seconds
    whole = _span(seconds[WHOLE]) if WHOLE in seconds else ""
    ratio = _ratio(cells, precision, row, side, TRAINING)
    return f"| {row} | {precision} | {side} | {_span(seconds[TRAINING])} | {ratio} | {whole} |"


def _span(values: Sequence[float]) -> str:
    median = statistics.median(values)
    return f"{median:.4g} s ({min(values):.4g}–{max(values):.4g})"


def _ratio(cells: Cells, precision: str, row: str, side: str, what: str) -> str:
    ours = cells.get((precision, row, BENCH))
    if side == BENCH or ours is None:
        return ""
    theirs = cells[precision, row, side].seconds[what]
    return f"{statistics.median(theirs) / statistics.median(ours.seconds[what]):.2f}"


def write_results(
    given: argparse.Namespace, cells: Cells, workloads: Mapping[str, Workload]
) -> None:
    """All samples, what they were made with, and what multiplied a peer's epochs."""
    packages = sorted({name for peer in PEERS.values() for name in peer.packages} | {"torchvision"})
    result = {
        "command": shlex.join(["python", "benchmarks/peers.py", *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": given.rounds,
        "epochs": given.epochs,
        "grid_epochs": given.grid_epochs,
        "kind_epochs": KIND_EPOCHS,
        "cells": [
            {
                "precision": precision,
                "row": row,
                "side": side,
                "seconds": cell.seconds,
                "samples": list(map(asdict, cell.samples)),
            }
            for (precision, row, side), cell in cells.items()
        ],
        "peer_epochs": {
            row: {mode: count for (_, mode, _), count in workload.naive_epochs.items()}
            for row, workload in workloads.items()
        },
        "overrides": {row: workload.overrides for row, workload in workloads.items()},
        "versions": {name: version(name) for name in packages if find_spec(name) is not None},
        "cores": usable_cores(),
        "machine": describe_machine("cpu"),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")


# Command line -------------------------------------------------------------------------------------


def present_sides(sides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those whose packages are installed, and a sentence for each of the others."""
    there, missing = [], []
    for side in sides:
        packages = PEERS[side].packages if side in PEERS else ()
        lacking = [name for name in packages if find_spec(name) is None]
        if lacking:
            missing.append(f"{side} is left out: pip install {' '.join(lacking)}")
        else:
            there.append(side)
    return there, missing


def _arguments() -> argparse.ArgumentParser:
    rows = "; ".join(f"{name}: {row.help}" for name, row in ROWS.items())
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=_folder, required=True, help="with train/ and val/")
    parser.add_argument("--work", type=_folder, required=True, help="for passing files")
    parser.add_argument("--out", type=Path, required=True, help="the results (.json)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help=rows)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    choices = (*PRECISIONS, AS_IT_COMES)
    parser.add_argument("--precision", nargs="+", choices=choices, default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=3, help="of all sides, in turns")
    parser.add_argument("--epochs", type=int, default=3, help="of the single training")
    # In few epochs the schedules of a grid have not parted yet, and sharing would look too good.
    parser.add_argument("--grid-epochs", type=int, default=10, help="of each trial of a grid")
    parser.add_argument("--memory", action="store_true", help="measure memory too; takes time")
    return parser


def _folder(text: str) -> Path:
    return Path(text).expanduser().resolve()


def main() -> None:
    """Measure, print the tables, write the file; exit code 1 if sides did different work."""
    given = _arguments().parse_args()
    for name in THREAD_LIMITS:
        os.environ.pop(name, None)
    sides, missing = present_sides(given.sides)
    untold = [
        f"{side} has no {precision} on a CPU: left out there"
        for side, precision in product(sides, given.precision)
        if not _computes_in(side, precision)
    ]
    given.work.mkdir(parents=True, exist_ok=True)
    cells = measure(given, sides, given.precision)
    print(tables(cells))
    for line in (*missing, *untold):
        print(f"\n{line}")
    if differences := list(different_work(cells)):
        raise SystemExit("\n".join(differences))


if __name__ == "__main__":
    main()
