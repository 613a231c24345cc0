"""What does a search lose or gain by widening its ranges, within the same budget?

Simulated searches over the learning rate and the weight decay of one cell. The score is 0.9 where
both are best, and falls by the square of the distance from there (in decades: 0.05 of the learning
rate, 0.005 of the weight decay); to each score the luck of a training is added. The best learning
rate lies inside of the range asked for, or so many decades above it.

A line for each: what the chosen values lose against the best ones (points), how far the chosen
learning rate is from the best one (decades), how many searches end equally tuned, and how many
trials tried an end of a range.

    python benchmarks/widening.py --searches 100
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from bench.runs.catalogue import catalogue
from bench.suite import Range, Tune, expand, load_suite
from bench.training.state import EpochRecord, Scores
from bench.tuning.cells import Cell, cells_of
from bench.tuning.studies import CellStudy

SUITE: Mapping[str, Any] = {
    "name": "widening",
    "dataset": "fractals",
    "backbone": "resnet18",
    "strategy": "full_finetune",
    "lr": 0.01,
    "weight_decay": 0.0001,
    "tune": {
        "space": {
            "lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
        }
    },
}
TOP, LUCK = 0.9, 0.01
DECAY = 1e-4
BEYOND = (None, 0.5, 1.0, 2.0)
"""Decades by which the best learning rate lies above the range; None: inside, at 0.01."""

SAMPLERS = ("tpe", "random")


def merit(params: Mapping[str, float], best: float) -> float:
    """The score without luck."""
    rate = math.log10(params["lr"] / best)
    decay = math.log10(params["weight_decay"] / DECAY)
    return TOP - 0.05 * rate**2 - 0.005 * decay**2


def search(cell: Cell, tune: Tune, *, seed: int, best: float, **method: Any) -> CellStudy:
    """A search with made-up trainings of one epoch."""
    chosen = tune.method.model_copy(update={"seed": seed, "seeds": (1000,), **method})
    ranges = {name: item.values for name, item in cell.space.items()}
    assert all(isinstance(values, Range) for values in ranges.values())
    study = CellStudy(
        cell=cell,
        study=optuna.create_study(direction="maximize"),
        method=chosen,
        ranges=ranges,  # type: ignore[arg-type]
        epochs=1,
        images_per_epoch=1,
    )
    study.enqueue_first()
    rng = np.random.default_rng(seed)
    while suggestions := study.ask():
        for suggestion in suggestions:
            score = merit(suggestion.params, best) + LUCK * float(rng.normal())
            scores = Scores(loss=1 - score, metrics={"accuracy": score})
            record = EpochRecord(
                epoch=1, lr=0.1, train=scores, val=scores, train_seconds=0.0, val_seconds=0.0
            )
            study.take(suggestion, [[record]], stop=1)
    return study


def main() -> None:
    """Print a line for each place of the optimum, sampler and number of widenings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--searches", type=int, default=100, help="searches of each kind")
    parser.add_argument("--trials", type=int, default=20, help="trials of each search")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = catalogue()
    loaded = load_suite(dict(SUITE), names)
    tune = loaded.suite.tune
    assert tune is not None
    (cell,) = cells_of(expand(loaded, names), tune)
    print(f"{given.searches} searches of {given.trials} trials each\n")
    heads = ("points lost", "decades away", "equally tuned", "trials at ends")
    print(f"{'optimum':18}{'sampler':9}{'widen':>6}" + "".join(f"{head:>17}" for head in heads))
    for beyond in BEYOND:
        best = 0.01 if beyond is None else 0.1 * 10**beyond
        place = "inside" if beyond is None else f"{beyond:g} decades above"
        for sampler in SAMPLERS:
            for widen in (0, 3):
                lost, away, even, ends = [], [], [], []
                for seed in range(given.searches):
                    study = search(
                        cell, tune, seed=seed, best=best, trials=given.trials, sampler=sampler,
                        widen=widen,
                    )  # fmt: skip
                    assert study.best is not None
                    found = study.best.params
                    lost.append(100 * (TOP - merit(found, best)))
                    away.append(abs(math.log10(found["lr"] / best)))
                    even.append(100.0 * (not study.edges()))
                    ends.append(float(sum(row["origin"] == "edge" for row in study.rows())))
                error = statistics.stdev(lost) / math.sqrt(len(lost))
                shown = [f"{statistics.fmean(lost):.1f} ± {error:.1f}"]
                shown += [f"{statistics.fmean(away):.2f}", f"{statistics.fmean(even):.0f} %"]
                shown += [f"{statistics.fmean(ends):.1f}"]
                print(f"{place:18}{sampler:9}{widen:>6}" + "".join(f"{text:>17}" for text in shown),
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
