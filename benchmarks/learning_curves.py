"""Would a pruner that extrapolates learning curves choose better than halving, at equal epochs?

Replays the validation curves of finished runs. The configs of a cell (a backbone, a strategy) are
drawn in random order and trained until a budget of epochs is spent; a rule looks at each after 1/9
and 1/3 of the epochs, as `bench tune` does with `pruner: halving`, or after every epoch, and stops
it or lets it go on. The best config that was trained to the end is chosen. Its regret is what it
lies behind the best config of the cell, by the same validation figures: means over seeds of the
best metric, or with `--loss` of the lowest loss, up to each epoch.

- whole: every training goes on to its end.
- halving: goes on if among the best third that were seen at this look (`pruner: halving`).
- pow3 third: the same, by the figure of the last epoch that a power law c - a·n^-b predicts.
- pow3 bound: at every epoch from the fourth on, stops what the power law puts below the best so
  far, by more than 1.64 standard errors (after Domhan, Springenberg and Hutter, Speeding up
  Automatic Hyperparameter Optimization of Deep Neural Networks by Extrapolation of Learning Curves,
  2015, with one curve model and no Markov chain).
- oracle third: as halving, by the true figure of the last epoch: what no extrapolation can better.

    bench run benchmarks/curves_grid.yaml --out work
    python benchmarks/learning_curves.py work/curves_grid --loss --resamples 500
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit

from bench.results.folder import read_run

Curve = tuple[float, ...]
Rule = Callable[[Curve, int, dict[int, list[float]], float], bool]
"""Whether a curve goes on after so many epochs; with figures seen at each look, the best so far."""

REDUCTION = 3
LEAST_POINTS = 4
BOUND = 1.64
BUDGETS = (4, 8, 12)
"""Whole trainings that the epochs would be enough for."""


def cells(folder: Path, *, loss: bool) -> dict[str, list[Curve]]:
    """Of each cell the curves of its configs: mean over seeds of the best figure so far.

    Configs of which a trial has failed are left out.
    """
    run = read_run(folder)
    name, sign = ("loss", -1) if loss else (run.metric.name, run.metric.sign)
    done = run.trials["status"] == "complete"
    whole = done.groupby(run.trials["config"]).transform("all")
    facts = run.trials.loc[whole, ["trial", "config", "seed", "backbone", "strategy"]]
    rows = run.curves[run.curves["split"] == "val"].merge(facts, on="trial")
    found: dict[str, list[Curve]] = {}
    for (backbone, strategy, _), own in rows.groupby(["backbone", "strategy", "config"]):
        by_epoch = own.pivot_table(index="seed", columns="epoch", values=name)
        curve = np.maximum.accumulate(sign * by_epoch.to_numpy(float), axis=1).mean(axis=0)
        if np.isfinite(curve).all():
            found.setdefault(f"{backbone} · {strategy}", []).append(tuple(map(float, curve)))
    return {cell: curves for cell, curves in found.items() if len({*map(len, curves)}) == 1}


@cache
def extrapolated(begun: Curve, epochs: int) -> tuple[float, float]:
    """The last figure by a power law, and its standard error."""
    steps, values = np.arange(1.0, len(begun) + 1), np.array(begun)

    def law(n: np.ndarray, c: float, a: float, b: float) -> np.ndarray:
        return np.asarray(c - a * n ** (-b))

    start = (values[-1] + 0.01, max(values[-1] - values[0], 0.01), 0.7)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a flat curve the exponent is not known
            (c, a, b), covariance = curve_fit(
                law, steps, values, p0=start, bounds=((-math.inf, 0, 0.01), (1.0, 2.0, 4.0))
            )
    except (RuntimeError, ValueError):
        return begun[-1], 0.0
    slope = np.array([1.0, -(epochs**-b), a * math.log(epochs) * epochs**-b])
    residuals = values - law(steps, c, a, b)
    variance = float(slope @ covariance @ slope) if np.isfinite(covariance).all() else 0.0
    variance += float(residuals @ residuals) / max(1, len(begun) - 3)
    return max(begun[-1], float(law(np.array(epochs), c, a, b))), math.sqrt(max(0.0, variance))


def looks(epochs: int) -> tuple[int, ...]:
    """After how many epochs the tuner looks at a trial."""
    found, stop = [], max(1, epochs // REDUCTION**2)
    while stop < epochs:
        found.append(stop)
        stop *= REDUCTION
    return tuple(found)


def _third(figure: Callable[[Curve, int], float]) -> Rule:
    def rule(curve: Curve, epoch: int, seen: dict[int, list[float]], best: float) -> bool:
        if epoch not in looks(len(curve)):
            return True
        own = figure(curve, epoch)
        seen.setdefault(epoch, []).append(own)
        kept = sorted(seen[epoch], reverse=True)[: max(1, len(seen[epoch]) // REDUCTION)]
        return own >= kept[-1]

    return rule


def _predicted(curve: Curve, epoch: int) -> float:
    if epoch < LEAST_POINTS:
        return curve[epoch - 1]
    return extrapolated(curve[:epoch], len(curve))[0]


def _bound(curve: Curve, epoch: int, seen: dict[int, list[float]], best: float) -> bool:
    if epoch < LEAST_POINTS or math.isinf(best):
        return True
    predicted, spread = extrapolated(curve[:epoch], len(curve))
    return predicted + BOUND * spread > best


RULES: dict[str, Rule] = {
    "whole": lambda curve, epoch, seen, best: True,
    "halving": _third(lambda curve, epoch: curve[epoch - 1]),
    "pow3 third": _third(_predicted),
    "pow3 bound": _bound,
    "oracle third": _third(lambda curve, epoch: curve[-1]),
}


def regret(curves: Sequence[Curve], order: Sequence[int], rule: Rule, budget: int) -> float:
    """How far the chosen config lies behind the best one; `budget` counts epochs."""
    seen: dict[int, list[float]] = {}
    best, spent = -math.inf, 0
    for index in order:
        curve = curves[index]
        if spent >= budget:
            break
        epoch = 1
        while epoch < len(curve) and rule(curve, epoch, seen, best):
            epoch += 1
        spent += epoch
        if epoch == len(curve):
            best = max(best, curve[-1])
    top = max(curve[-1] for curve in curves)
    return top - (best if math.isfinite(best) else min(curve[-1] for curve in curves))


def main() -> None:
    """Print the mean regret of each rule in hundredths, with its standard error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with curves")
    parser.add_argument("--loss", action="store_true", help="by validation loss")
    parser.add_argument("--resamples", type=int, default=500, help="random orders of the configs")
    given = parser.parse_args()
    for folder in given.runs:
        for cell, curves in cells(folder, loss=given.loss).items():
            tops = sorted((curve[-1] for curve in curves), reverse=True)
            print(f"\n{cell}: {len(curves)} configs, best {tops[0]:.3f}, median "
                  f"{statistics.median(tops):.3f}, {len(curves[0])} epochs")  # fmt: skip
            print(f"{'regret in 1/100':18}" + "".join(f"{name:>16}" for name in RULES))
            for whole in BUDGETS:
                shown = []
                for rule in RULES.values():
                    values = [
                        100 * regret(
                            curves,
                            np.random.default_rng([whole, number]).permutation(len(curves)),
                            rule,
                            whole * len(curves[0]),
                        )
                        for number in range(given.resamples)
                    ]  # fmt: skip
                    error = statistics.stdev(values) / math.sqrt(len(values))
                    shown.append(f"{statistics.fmean(values):9.2f} ± {error:.2f}")
                print(f"{whole:3} trainings     " + "".join(f"{text:>16}" for text in shown))


if __name__ == "__main__":
    main()
