"""Pairs of samples, of one class and of two: what a plan of pairs trains on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data import Samples


def pair_order(
    samples: Samples, labels: npt.NDArray[Any], count: int, generator: np.random.Generator
) -> Samples:
    """An epoch of pairs `[4 · count · n]`, the two of each beside each other, in any order.

    Every one of the `n` samples begins `count` pairs with others of its class (with itself where it
    is the only one) and as many with samples of other classes.
    """
    by_class = samples[np.argsort(labels[samples], kind="stable")]
    _, first, size = np.unique(labels[by_class], return_index=True, return_counts=True)
    first, size = np.repeat(first, size), np.repeat(size, size)
    at, of_all, shape = np.arange(len(samples)), len(samples), (count, len(samples))
    further = generator.integers(1, np.maximum(size, 2), shape)
    same = first + (at - first + further) % size
    beyond = generator.integers(0, np.maximum(of_all - size, 1), shape)
    other = (first + size + beyond) % of_all
    partners = np.concatenate([same, other]).reshape(-1)
    pairs = np.stack([np.tile(at, 2 * count), partners], axis=1)
    return np.asarray(by_class[generator.permutation(pairs)].reshape(-1))
