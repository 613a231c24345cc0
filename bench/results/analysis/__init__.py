"""What the results support: statistics of a finished run, from its files alone."""

from bench.results.analysis.across import Change, Difference, RunComparison, compare_runs
from bench.results.analysis.audit import Audited, Reason, Suspect, find_suspects
from bench.results.analysis.by_output import Residual, largest_residuals
from bench.results.analysis.calibration import BINS, Reliability, reliability
from bench.results.analysis.choice import Choice, choices, representatives
from bench.results.analysis.comparison import ALPHA, Comparison, compare, compare_pairs, look_level
from bench.results.analysis.configs import (
    Sample,
    natural_target,
    reached_target,
    sample_of,
    trial_measures,
)
from bench.results.analysis.effects import COSTS, Effect, pareto_front, variance_shares
from bench.results.analysis.intervals import interquartile_mean, mean_interval, wilson_interval
from bench.results.analysis.label_curves import Crossing, LabelCurves, read_label_curves
from bench.results.analysis.label_forecasts import Forecast, NoForecast
from bench.results.analysis.lr_ranges import LrCell, lr_cells
from bench.results.analysis.mistakes import Mistake, confident_label_mistakes, confident_mistakes
from bench.results.analysis.ranks import Ranking, rank_over_blocks
from bench.results.analysis.scores import Scores, trial_scores
from bench.results.analysis.studies import (
    Goal,
    Setting,
    Study,
    goal_of,
    number_text,
    read_goals,
    read_studies,
)
from bench.results.analysis.tuning import (
    LEAST_TRIALS,
    LR,
    Budget,
    Edge,
    Gain,
    budgets,
    edges,
    even_studies,
    evenness,
    front,
    gains,
    image_gap,
    importances,
    incumbents,
    overtakings,
)
from bench.results.analysis.verdict import Contender, Needs, Verdict, reach_verdict, read_verdict

__all__ = [
    "ALPHA",
    "BINS",
    "COSTS",
    "LEAST_TRIALS",
    "LR",
    "Audited",
    "Budget",
    "Change",
    "Choice",
    "Comparison",
    "Contender",
    "Crossing",
    "Difference",
    "Edge",
    "Effect",
    "Forecast",
    "Gain",
    "Goal",
    "LabelCurves",
    "LrCell",
    "Mistake",
    "Needs",
    "NoForecast",
    "Ranking",
    "Reason",
    "Reliability",
    "Residual",
    "RunComparison",
    "Sample",
    "Scores",
    "Setting",
    "Study",
    "Suspect",
    "Verdict",
    "budgets",
    "choices",
    "compare",
    "compare_pairs",
    "compare_runs",
    "confident_label_mistakes",
    "confident_mistakes",
    "edges",
    "even_studies",
    "evenness",
    "find_suspects",
    "front",
    "gains",
    "goal_of",
    "image_gap",
    "importances",
    "incumbents",
    "interquartile_mean",
    "largest_residuals",
    "look_level",
    "lr_cells",
    "mean_interval",
    "natural_target",
    "number_text",
    "overtakings",
    "pareto_front",
    "rank_over_blocks",
    "reach_verdict",
    "reached_target",
    "read_goals",
    "read_label_curves",
    "read_studies",
    "read_verdict",
    "reliability",
    "representatives",
    "sample_of",
    "trial_measures",
    "trial_scores",
    "variance_shares",
    "wilson_interval",
]
