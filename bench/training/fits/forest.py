"""Random forests, as tensors that walk down all trees at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.training.fits.base import Candidate, Samples, scikit_learn, single, whole


def forest(samples: Samples, *, trees: int, min_leaf: int) -> Iterator[Candidate]:
    """Scikit-learn's, which draws √features for each split; numbers and labels by mean squares.

    Of labels, which are 1 and 0, the mean square is half of what Gini's impurity is.
    """
    with scikit_learn("strategy 'forest'"):
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        kind = RandomForestClassifier if samples.task.has_classes else RandomForestRegressor
        model = kind(
            n_estimators=trees,
            max_features="sqrt",
            min_samples_leaf=min_leaf,
            random_state=samples.seed,
        )
        targets = samples.targets
        if not samples.task.has_classes and samples.outputs == 1:
            targets = targets[:, 0]
        model.fit(samples.features.numpy(), targets, sample_weight=samples.weights)
    found = [tree.tree_ for tree in model.estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in found)])
    classes = samples.task.has_classes
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _NODES}
    for start, tree in zip(starts, found, strict=False):
        is_leaf = tree.children_left < 0
        itself = np.arange(tree.node_count)
        parts["feature"].append(np.where(is_leaf, 0, tree.feature))
        parts["threshold"].append(_rounded_down(tree.threshold))
        parts["left"].append(start + np.where(is_leaf, itself, tree.children_left))
        parts["right"].append(start + np.where(is_leaf, itself, tree.children_right))
        parts["values"].append(tree.value[:, 0] if classes else tree.value[..., 0])
    joined = {name: np.concatenate(each) for name, each in parts.items()}
    yield Candidate(
        chosen={},
        tensors={
            **{name: whole(joined[name]) for name in ("feature", "left", "right")},
            "threshold": single(joined["threshold"]),
            "values": single(joined["values"]),
            "roots": whole(starts[:-1]),
            "depth": whole(max(tree.max_depth for tree in found)),
            "link": whole(samples.link),
        },
    )


_NODES = ("feature", "threshold", "left", "right", "values")


def _rounded_down(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Which numbers of single precision are no larger is the same of these."""
    rounded = thresholds.astype(np.float32)
    above = rounded > thresholds
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded
