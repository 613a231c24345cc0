"""What several predictions make together: numbers alone.

Probabilities are `[samples, classes]`, labels class indices `[samples]`; of other tasks both are
`[samples, outputs]`, as metrics take them. Everything that is chosen
here is chosen on the arrays that are given: those of a validation split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.methods.metrics import log_loss

Probabilities = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Merit = Callable[[Labels, Probabilities], float]
"""Of a merit more is better, of a loss less."""

MAX_ROUNDS = 50


def mean_of(
    predictions: Sequence[Probabilities], weights: Sequence[int] | None = None
) -> Probabilities:
    """The mean of probabilities, each counted `weights` times (default: once)."""
    return np.average(np.stack(predictions), axis=0, weights=weights)


def votes_of(predictions: Sequence[Probabilities]) -> Probabilities:
    """Shares of a majority vote: a vote each for its most probable class, and one of their mean.

    The mean, as a further vote that is divided among the classes, breaks ties and can outvote
    nobody; so no share is 0 unless all probabilities are. Of probabilities that are equal to the
    bit the first class counts.
    """
    mean = mean_of(predictions)
    votes = sum(np.eye(mean.shape[1])[each.argmax(axis=1)] for each in predictions)
    return np.asarray((votes + mean) / (len(predictions) + 1))


@dataclass(frozen=True, kw_only=True)
class Selected:
    """How often each candidate was taken, and the merit of their mean."""

    counts: tuple[int, ...]
    merit: float


def select_greedily(
    candidates: Sequence[Probabilities],
    labels: Labels,
    merit: Merit,
    *,
    loss: Merit = log_loss,
    rounds: int = MAX_ROUNDS,
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
        scores = [(merit(labels, mean), -loss(labels, mean)) for mean in means]
        chosen = max(range(len(candidates)), key=lambda index: (*scores[index], -index))
        total = total + candidates[chosen]
        counts[chosen] += 1
        if best is None or scores[chosen][0] > best.merit:
            best = Selected(counts=tuple(counts), merit=scores[chosen][0])
    assert best is not None
    return best
