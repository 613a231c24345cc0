"""What the results support: statistics of a finished run, from its files alone."""

from bench.analysis.across import Change, Difference, RunComparison, compare_runs
from bench.analysis.calibration import BINS, Reliability, reliability
from bench.analysis.configs import Sample, natural_target, sample_of, trial_measures
from bench.analysis.effects import COSTS, Effect, pareto_front, variance_shares
from bench.analysis.intervals import bca_interval, interquartile_mean, wilson_interval
from bench.analysis.lr_ranges import LrCell, lr_cells
from bench.analysis.mistakes import Mistake, confident_mistakes
from bench.analysis.paired import (
    ALPHA,
    Comparison,
    compare,
    holm,
    mcnemar_p,
    more_seeds,
    outlook,
    probability_of_improvement,
    seeds_to_decide,
    sign_flip_p,
    smallest_p,
)
from bench.analysis.strategies import (
    Ranking,
    compare_strategies,
    rank_over_blocks,
    representatives,
    sample_test,
    seed_table,
)

__all__ = [
    "ALPHA",
    "BINS",
    "COSTS",
    "Change",
    "Comparison",
    "Difference",
    "Effect",
    "LrCell",
    "Mistake",
    "Ranking",
    "Reliability",
    "RunComparison",
    "Sample",
    "bca_interval",
    "compare",
    "compare_runs",
    "compare_strategies",
    "confident_mistakes",
    "holm",
    "interquartile_mean",
    "lr_cells",
    "mcnemar_p",
    "more_seeds",
    "natural_target",
    "outlook",
    "pareto_front",
    "probability_of_improvement",
    "rank_over_blocks",
    "reliability",
    "representatives",
    "sample_of",
    "sample_test",
    "seed_table",
    "seeds_to_decide",
    "sign_flip_p",
    "smallest_p",
    "trial_measures",
    "variance_shares",
    "wilson_interval",
]
