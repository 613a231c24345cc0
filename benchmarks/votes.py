"""What a vote over learning rates gains over a choice among them, with 5 or 10 labels of a class.

With so few labels a fifth of them is held back to choose by: one of 5, two of 10 of each class.
Both train at c/5, c and 5c (FewTrans, arXiv 2603.00478), where c is the rate of the shipped suite.
"chosen": four fifths train, and validation accuracy chooses the rate, of equals the middle one
(the mean over many draws of what is held back). "vote" and "mean": all labels train, and nothing is
chosen (`after: vote`). "middle": all labels train, at c. Test images are the same for all, and the
intervals are those of seeds and images, of all pairs of a data set and number as one family.

    python -m benchmarks.votes                                   # fractals, ResNet-18
    BENCH_HYMENOPTERA=FOLDER python -m benchmarks.votes --photographs --labels 5

About a quarter of an hour on one core; fewer `--labels` and `--seeds` take less.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import bench
from bench.results.analysis import Scores, compare_pairs

Numbers = npt.NDArray[np.float64]

STRATEGIES = {"linear_probe": 0.01, "full_finetune": 0.003}
DRAWS = 400
ARMS = ("vote", "mean", "middle", "chosen")
FRACTALS: dict[str, Any] = {
    "dataset": {
        "name": "fractals", "classes": 2, "train_per_class": 120, "val_per_class": 20,
        "test_per_class": 200, "image_size": 64,
    },
    "backbone": "resnet18",
    "weights": "fractals",
}  # fmt: skip
PHOTOGRAPHS: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "weights": "imagenet",
    "image_size": 64,
}
SHARED: dict[str, Any] = {
    "name": "votes",
    "strategy": [
        {"name": strategy, "lr": [centre / 5, centre, centre * 5]}
        for strategy, centre in STRATEGIES.items()
    ],
    "after": ["vote", {"name": "vote", "by": "mean"}],
    "schedule": "cosine",
    "augmentation": "flip_crop",
    "epochs": 12,
    "batch_size": 8,
    "optimizer": "sgd",
    "momentum": 0.9,
    "choose": "last",
    "checkpoints": "none",
}


def main() -> None:
    """Train what all arms need, and print their figures and differences."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photographs", action="store_true")
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10], help="of a class")
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    suite = {**SHARED, **FRACTALS}
    if given.photographs:
        folder = {"name": "hymenoptera", "path": os.environ["BENCH_HYMENOPTERA"]}
        suite = {**SHARED, **PHOTOGRAPHS, "dataset": folder}
    suite["seed"] = list(range(given.seeds))
    suite["shots"] = sorted({size for labels in given.labels for size in _sizes(labels)})
    with TemporaryDirectory() as out:
        run = bench.run(suite, out=out)
        for labels in given.labels:
            _print(labels, {strategy: _arms(run, strategy, labels) for strategy in STRATEGIES})


def _sizes(labels: int) -> tuple[int, int]:
    """How many images of a class train where a fifth is held back, and where none is."""
    return labels - labels // 5, labels


def _arms(run: bench.Run, strategy: str, labels: int) -> dict[str, Scores]:
    """The scores of every arm."""
    shots = run.trials["settings"].map(lambda text: json.loads(text)["shots"])
    trials = run.trials[run.trials["strategy"] == strategy]
    fewer, every = (trials[shots[trials.index] == size] for size in _sizes(labels))
    rates = sorted(every["lr"].unique())
    children = run.children[run.children["base"].isin(every["trial"])]
    made = dict(list(children.assign(trial=children["child"]).groupby("name", sort=False)))
    return {
        "vote": _scores(run.child_predictions, made["vote"]),
        "mean": _scores(run.child_predictions, made["vote(by=mean)"]),
        "middle": _scores(run.predictions, every[every["lr"] == rates[len(rates) // 2]]),
        "chosen": _chosen(run, fewer, labels // 5),
    }


def _right(predictions: pd.DataFrame, trial: str) -> pd.Series[float]:
    own = predictions[predictions["trial"] == trial].set_index("sample").sort_index()
    return (own["label"] == own["predicted"]).astype(float)


def _scores(predictions: pd.DataFrame, rows: pd.DataFrame) -> Scores:
    """Of one trial, or child, for each seed."""
    ordered = rows.sort_values("seed")
    sides = [_right(predictions, trial) for trial in ordered["trial"]]
    return Scores(
        seeds=tuple(map(int, ordered["seed"])),
        samples=tuple(sides[0].index),
        values=np.stack([side.to_numpy() for side in sides]),
    )


def _chosen(run: bench.Run, trials: pd.DataFrame, held: int) -> Scores:
    """In each seed the rate that `held` validation images of each class choose: a mean of draws."""
    values = []
    samples: tuple[str, ...] = ()
    seeds = sorted(map(int, trials["seed"].unique()))
    for seed in seeds:
        own = trials[trials["seed"] == seed].sort_values("lr")
        val = np.stack([_right(run.val_predictions, trial).to_numpy() for trial in own["trial"]])
        sides = [_right(run.predictions, trial) for trial in own["trial"]]
        first = run.val_predictions[run.val_predictions["trial"] == own["trial"].iloc[0]]
        labels = first.set_index("sample").sort_index()["label"].to_numpy()
        shares = _shares(val, labels, held, np.random.default_rng(seed))
        values.append(shares @ np.stack([side.to_numpy() for side in sides]))
        samples = tuple(sides[0].index)
    return Scores(
        seeds=tuple(seeds),
        samples=samples,
        values=np.stack(values),
    )


def _shares(right: Numbers, labels: Sequence[str], held: int, rng: np.random.Generator) -> Numbers:
    """How often each rate is chosen."""
    counts = np.zeros(len(right))
    known = np.asarray(labels)
    middle = len(right) // 2
    for _ in range(DRAWS):
        drawn = np.concatenate(
            [
                rng.choice(np.flatnonzero(known == name), held, replace=False)
                for name in np.unique(known)
            ]
        )
        figures = right[:, drawn].mean(axis=1)
        best = np.flatnonzero(figures == figures.max())
        counts[best[np.argmin(np.abs(best - middle))]] += 1
    return counts / DRAWS


def _print(labels: int, arms: dict[str, dict[str, Scores]]) -> None:
    pairs = [
        (f"{strategy}: {arm}", other, {"": own[arm]}, {"": own[other]})
        for strategy, own in arms.items()
        for arm, other in (("vote", "chosen"), ("mean", "chosen"), ("vote", "middle"))
    ]
    print(f"{labels} labels of a class")
    for strategy, own in arms.items():
        figures = (f"{arm} {100 * own[arm].values.mean():.1f}" for arm in ARMS)
        print(f"  {strategy}:", *figures)
    for (first, second, _, _), found in zip(pairs, compare_pairs(pairs), strict=True):
        low, high = (100 * end for end in found.interval)
        print(f"  {first} - {second}: {100 * found.difference:+.1f} ({low:+.1f} to {high:+.1f})",
              found.verdict, flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
