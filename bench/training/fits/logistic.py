"""Logistic regression along a path of penalties, each started where the one before has ended."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.training.fits.base import (
    Candidate,
    Samples,
    linear,
    of_two,
    path,
    scikit_learn,
    spanned,
)

INVERSE_PENALTIES = tuple((10.0 ** np.linspace(-6, 5, 45)).tolist())
TOLERANCE, ITERATIONS = 1e-6, 1000


def logistic(samples: Samples, *, c: float | None) -> Iterator[Candidate]:
    """Scikit-learn's, whose `C` multiplies the sum of the losses; L-BFGS, in double precision."""
    with scikit_learn("strategy 'logistic'"):
        from sklearn.linear_model import LogisticRegression

        features, back = spanned(samples.doubles)
        model = LogisticRegression(max_iter=ITERATIONS, tol=TOLERANCE, warm_start=True)
        for strength in path(c, INVERSE_PENALTIES):
            model.C = strength
            model.fit(features, samples.targets, sample_weight=samples.weights)
            weight, bias = of_two(model.coef_, model.intercept_)
            weight = weight if back is None else weight @ back
            yield Candidate(chosen={"c": strength}, tensors=linear(weight, bias))
