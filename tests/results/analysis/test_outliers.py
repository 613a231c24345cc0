"""The local outlier factor against scikit-learn's, and where it is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from bench.results.analysis import outliers
from bench.results.analysis.outliers import LEAST_FACTOR, Features, local_outlier_factors

neighbours_of = pytest.importorskip("sklearn.neighbors")


def clusters(seed: int = 0) -> Features:
    """Two of other densities, and a direction that is in neither: the last one."""
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(2, 32))
    dense, sparse = (
        centre + width * rng.normal(size=(60, 32))
        for centre, width in zip(centres, (0.3, 1.0), strict=True)
    )
    return np.concatenate([dense, sparse, 4 * rng.normal(size=(1, 32))])


@pytest.mark.parametrize(("neighbours", "block"), [(20, 1024), (5, 7), (200, 50)])
def test_it_is_that_of_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, neighbours: int, block: int
) -> None:
    monkeypatch.setattr(outliers, "BLOCK", block)
    features = clusters()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    fitted = neighbours_of.LocalOutlierFactor(n_neighbors=min(neighbours, len(unit) - 1)).fit(unit)
    found = local_outlier_factors(features, neighbours=neighbours)
    assert found == pytest.approx(-fitted.negative_outlier_factor_, rel=1e-5)


def test_what_is_far_from_all_is_named_and_a_sparse_cluster_is_not() -> None:
    named = local_outlier_factors(clusters()) >= LEAST_FACTOR
    assert np.flatnonzero(named).tolist() == [120]


def test_copies_of_one_image_make_no_other_one_odd() -> None:
    features = clusters()[:60]
    found = local_outlier_factors(np.concatenate([features, np.repeat(features[:1], 30, axis=0)]))
    assert np.isfinite(found).all()
    assert found.max() < 1 / outliers.LEAST_SPREAD * 2


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_samples_and_features_without_length_are_no_trouble(count: int) -> None:
    assert local_outlier_factors(np.zeros((count, 4))) == pytest.approx(np.ones(count))
