"""Fits: heads that are found at once, from features of the frozen backbone.

A fit is a function from `Samples` and its options to candidates, from the most to the least
regularised. Validation chooses among several; `bench.training.fitted` asks it.
"""

from __future__ import annotations

from importlib import import_module

from bench.methods.plan import Term
from bench.training.fits.base import Candidate, Fit, Part, Samples, check_installed
from bench.training.fits.forest import forest
from bench.training.fits.linear_sweep import linear_sweep
from bench.training.fits.logistic import logistic
from bench.training.fits.nearest import class_mean, nearest_neighbours
from bench.training.fits.ridge import ridge
from bench.training.fits.svm import svm
from bench.training.fits.texts import coop, tip_adapter, zero_shot

__all__ = ["FITS", "Candidate", "Part", "Samples", "check_available", "prepare"]

FITS: dict[str, Fit] = {
    "class_mean": class_mean,
    "coop": coop,
    "forest": forest,
    "knn": nearest_neighbours,
    "linear_sweep": linear_sweep,
    "logistic": logistic,
    "ridge": ridge,
    "svm": svm,
    "tip_adapter": tip_adapter,
    "zero_shot": zero_shot,
}

_OF_SCIKIT_LEARN = ("forest", "logistic", "svm")


def check_available(fit: Term) -> None:
    """Raise `MissingExtraError` where what the fit needs is not installed."""
    if fit.name in _OF_SCIKIT_LEARN:
        check_installed(f"strategy {fit.name!r}")


def prepare(fit: Term) -> None:
    """Import what the fit needs: that takes seconds, which are none of the first trial's."""
    if fit.name in _OF_SCIKIT_LEARN:
        check_available(fit)
        for part in ("ensemble", "linear_model", "svm"):
            import_module(f"sklearn.{part}")
