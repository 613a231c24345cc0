"""Time and memory of each strategy that trains by steps, relative to full fine-tuning.

Each trial is a run of its own without reuse, in this process: the strategies in turns, round after
round. Time is that of an epoch's training, the median of the epochs after the first; what is frozen
in front of what trains is computed in the first one. Memory is the peak over what the process had
before. Medians of ratios within a round; smallest and largest.

    python benchmarks/strategy_costs.py resnet18:96 timm/vit_tiny_patch16_224:96 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

import bench
from bench.errors import BenchError
from bench.methods.strategies import STRATEGIES
from bench.system.machine import give_back_freed_memory, keep_large_buffers

BASELINE = "full_finetune"
EPOCHS = 4
DATA = {"classes": 2, "train_per_class": 48, "val_per_class": 8, "test_per_class": 8}
SOURCE = {"name": "fractals", "classes": 2, "images_per_class": 16, "epochs": 1}


def main() -> None:
    """Print a table for each backbone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="+", help="BACKBONE:PIXELS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    keep_large_buffers()
    for case in given.cases:
        backbone, _, pixels = case.rpartition(":")
        _measure(backbone, int(pixels), given.rounds, given.batch)


def _measure(backbone: str, pixels: int, rounds: int, batch: int) -> None:
    suites = dict(_suites(backbone, pixels, batch))
    taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in suites}
    _cost(suites[BASELINE])  # pretrains and prepares what all share
    for _ in range(rounds):
        for name, suite in suites.items():
            taken[name].append(_cost(suite))
    print(f"\n{backbone}, {pixels} px, batch {batch}, n = {rounds}\n")
    print("| strategy | parameters that train | time | memory |\n| --- | --- | --- | --- |")
    for name, own in taken.items():
        pairs = list(zip(own, taken[BASELINE], strict=True))
        time = [mine[0] / base[0] for mine, base in pairs]
        memory = [mine[1] / base[1] for mine, base in pairs]
        print(f"| `{name}` | {own[0][2]:,} | {_spread(time)} | {_spread(memory)} |", flush=True)


def _suites(backbone: str, pixels: int, batch: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A suite for each strategy that trains by steps and that the backbone has a place for."""
    for name in STRATEGIES:
        if not STRATEGIES.get(name).traits.trains:
            continue
        suite = {
            "name": name,
            "dataset": {"name": "fractals", "image_size": pixels, **DATA},
            "backbone": backbone,
            "weights": SOURCE,
            "strategy": name,
            "epochs": EPOCHS,
            "batch_size": batch,
            "optimizer": "adamw",
            "lr": 1e-3,
            "precision": "fp32",
            "augmentation": "flip",
            "seed": 0,
        }
        with tempfile.TemporaryDirectory() as out:
            try:
                bench.plan(suite, out=out, device="cpu")
            except BenchError as error:
                print(f"{name}: {error}", flush=True)
                continue
        yield name, suite


def _cost(suite: Mapping[str, Any]) -> tuple[float, float, int]:
    """Seconds of an epoch, MiB over what the process has, and how many parameters train."""
    give_back_freed_memory()
    before = psutil.Process().memory_info().rss / 2**20
    with tempfile.TemporaryDirectory() as out:
        run = bench.run(suite, out=out, device="cpu", workers=1, reuse=False)
        (trial,) = run.trials.to_dict("records")
        curves = run.curves
    train = curves[(curves["split"] == "train") & (curves["epoch"] > 1)]
    seconds = statistics.median(train["seconds"].tolist())
    return seconds, trial["peak_memory_mib"] - before, int(trial["trainable_params"])


def _spread(ratios: list[float]) -> str:
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    main()
