"""What several predictions make together, and how sure one may be of it: numbers alone.

Probabilities are `[samples, classes]`, labels class indices `[samples]`. Everything that is chosen
here is chosen on the arrays that are given: those of a validation split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Merit = Callable[[Labels, Probabilities], float]
"""More is better."""

LOG_TEMPERATURES = (-7.0, 7.0)
"""Where the logarithm of a temperature is sought: e^-7 is as sharp as single precision can tell."""

MAX_ROUNDS = 50


def mean_of(
    predictions: Sequence[Probabilities], weights: Sequence[int] | None = None
) -> Probabilities:
    """The mean of probabilities, each counted `weights` times (default: once)."""
    return np.average(np.stack(predictions), axis=0, weights=weights)


@dataclass(frozen=True, kw_only=True)
class Selected:
    """How often each candidate was taken, and the merit of their mean."""

    counts: tuple[int, ...]
    merit: float


def select_greedily(
    candidates: Sequence[Probabilities], labels: Labels, merit: Merit, *, rounds: int = MAX_ROUNDS
) -> Selected:
    """Ensemble selection with replacement (Caruana et al., Ensemble Selection, 2004).

    In each round the candidate is added whose mean with those before is best (of equals, the one
    whose log loss is least, then the first). What counts is the best of all rounds, the smallest of
    equals: so it is never worse than the best candidate alone.
    """
    total = np.zeros_like(candidates[0])
    counts = [0] * len(candidates)
    best: Selected | None = None
    for size in range(1, rounds + 1):
        means = [(total + each) / size for each in candidates]
        scores = [(merit(labels, mean), -log_loss(labels, mean)) for mean in means]
        chosen = max(range(len(candidates)), key=lambda index: (*scores[index], -index))
        total = total + candidates[chosen]
        counts[chosen] += 1
        if best is None or scores[chosen][0] > best.merit:
            best = Selected(counts=tuple(counts), merit=scores[chosen][0])
    assert best is not None
    return best


def log_loss(labels: Labels, probabilities: Probabilities) -> float:
    """The mean of −log p of the true class, in nats."""
    true = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean())


def fit_temperature(probabilities: Probabilities, labels: Labels) -> float:
    """The temperature T > 0 with the least log loss of softmax(log p / T).

    Guo et al., On Calibration of Modern Neural Networks, 2017. The loss is convex in 1/T; it is
    sought by its logarithm. It is never above that of T = 1.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return log_loss(labels, tempered(probabilities, float(np.exp(log_temperature))))

    found = minimize_scalar(
        loss, bounds=LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-8}
    )
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def tempered(probabilities: Probabilities, temperature: float) -> Probabilities:
    """softmax(log p / T): the order of the classes stays as it is."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / temperature
    powers: Probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
