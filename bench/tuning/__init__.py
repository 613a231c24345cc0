"""Settings searched for every cell of a suite, with equal budgets and on seeds of their own."""

from bench.tuning.tuner import tune

__all__ = ["tune"]
