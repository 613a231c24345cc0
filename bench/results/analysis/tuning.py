"""What a search for settings found, what it spent, and what the found settings are worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.errors import counted
from bench.results.analysis.comparison import (
    MARGIN,
    BlockScores,
    Comparison,
    Pair,
    compare_pairs,
)
from bench.results.analysis.effects import pareto_front
from bench.results.analysis.joint import joint_scores
from bench.results.analysis.scores import Scores, trial_scores
from bench.results.analysis.studies import Goal, Setting, Side, Study, number_text
from bench.results.folder.tuning import PARAM_PREFIX
from bench.results.grid import Spread, complete_trials, is_missing, spread
from bench.results.metric import ACCURACY, Metric

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Tuning

LR = "lr"

LEAST_TRIALS = 8
"""Of fewer complete trials the importance of a setting is not told."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a study spent: its trials by their state, training images and training seconds.

    `images` are those of trials that told the search something, the complete and the pruned ones;
    `failed_images` are those of failed trials. `seconds` are of all.
    """

    study: str
    trials: int
    complete: int
    pruned: int
    failed: int
    images: int
    failed_images: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A found value beyond which, on one side, better ones may lie: `Setting.open_sides`.

    `end` says whether it is the end of the range that is in the way; else no trial lies beyond.
    `trials` are those of the study.
    """

    study: str
    setting: Setting
    value: float
    side: Side
    end: bool
    trials: int

    @property
    def text(self) -> str:
        """`best lr, 1, is at the upper end of 0.001 to 1 (log) after 20 trials`."""
        best = f"best {self.setting.name}, {number_text(self.value)}, is"
        least = "smallest" if self.side == "lower" else "largest"
        where = (
            f"at the {self.side} end of {self.setting.range_text}"
            if self.end
            else f"the {least} that was tried"
        )
        return f"{best} {where} after {counted(self.trials, 'trial')}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Gain:
    """Test figures of a study's cell before and after tuning.

    Ranks are by their means over the studies, 1 the best, None where they are not known.
    `comparison` is tuned against untuned, on the same seeds and test samples; None where the
    settings stayed the same, and without a common seed or predictions.
    """

    study: Study
    before: Spread
    after: Spread
    rank_before: int | None
    rank_after: int | None
    comparison: Comparison | None


def incumbents(study: Study, objective: Goal) -> pd.DataFrame:
    """The best complete trial so far, a row for each trial in order.

    Columns: `number`; `images`, training images of the study up to and with this trial; `value` of
    the objective and `sd` (over tuning seeds, of a metric) of the best so far, NaN before the first
    one.
    """
    import pandas as pd

    rows: list[dict[str, float]] = []
    images, best, sd = 0.0, math.nan, math.nan
    for trial in study.trials.to_dict("records"):
        images += 0 if is_missing(trial["images"]) else float(trial["images"])
        value = trial[objective.name]
        known = trial["state"] == "complete" and not is_missing(value)
        if known and not objective.gain(best) >= objective.gain(value):
            best = float(value)
            deviation: Any = trial.get(f"{objective.name}_sd")
            sd = math.nan if is_missing(deviation) else float(deviation)
        rows.append({"number": trial["number"], "images": images, "value": best, "sd": sd})
    return pd.DataFrame(rows, columns=["number", "images", "value", "sd"])


def budgets(studies: Iterable[Study]) -> list[Budget]:
    """What each study spent."""
    return [_budget(study) for study in studies]


def _budget(study: Study) -> Budget:
    states = study.trials["state"]
    images = {
        state: int(study.trials.loc[states == state, "images"].sum())
        for state in ("complete", "pruned", "failed")
    }
    return Budget(
        study=study.name,
        trials=len(study.trials),
        complete=int((states == "complete").sum()),
        pruned=int((states == "pruned").sum()),
        failed=int((states == "failed").sum()),
        images=images["complete"] + images["pruned"],
        failed_images=images["failed"],
        seconds=float(study.trials["seconds"].sum()),
    )


def image_gap(spent: Sequence[Budget]) -> float:
    """By what share of the most any study spent the least spender stays below it.

    By the images of trials that told the search something.
    """
    images = [budget.images for budget in spent]
    most = max(images, default=0)
    return (most - min(images)) / most if most else 0.0


def edges(studies: Iterable[Study]) -> list[Edge]:
    """The found values beyond which better ones may lie: a study with one is not equally tuned."""
    import pandas as pd

    found = []
    for study in studies:
        for setting in study.space:
            cells = study.trials.get(PARAM_PREFIX + setting.name)
            if cells is None or study.best is None:
                continue
            numbers = pd.to_numeric(cells, errors="coerce")
            for value in map(float, numbers[study.trials["number"] == study.best].dropna()):
                tried = numbers.dropna().tolist()
                found += edges_at(study.name, setting, value, tried, len(study.trials))
    return found


def edges_at(
    study: str, setting: Setting, value: float, tried: Sequence[float], trials: int
) -> list[Edge]:
    """Those of one found value, with all that a study has `tried` in so many `trials`."""
    return [
        Edge(study=study, setting=setting, value=value, side=side, end=end, trials=trials)
        for side, end in setting.open_sides(value, tried)
    ]


def even_studies(studies: Iterable[str], found: Iterable[Edge]) -> list[str]:
    """The studies without an edge: those that are equally tuned."""
    at_edge = {edge.study for edge in found}
    return [name for name in studies if name not in at_edge]


def evenness(studies: Sequence[str], found: Sequence[Edge]) -> str:
    """Which studies are equally tuned, and which are not, for the first edge of each."""
    first: dict[str, Edge] = {}
    for edge in found:
        first.setdefault(edge.study, edge)
    even = even_studies(studies, found)
    parts = [f"equally tuned: {'; '.join(even)}"] if even else []
    if first:
        told = [f"{name}, whose {edge.text}" for name, edge in first.items()]
        parts.append(f"{'Not' if even else 'not'} equally tuned: {'; '.join(told)}")
    return ". ".join(parts)


def gains(
    tuning: Tuning,
    studies: Sequence[Study],
    trials: pd.DataFrame,
    metric: Metric = ACCURACY,
    *,
    predictions: pd.DataFrame | None = None,
    margin: float = MARGIN,
) -> list[Gain]:
    """What tuning changed of each study; `trials` and `predictions` are those of the tuned run.

    The comparisons are one family. There are none without predictions of both runs.
    """
    untuned, tuned = tuning.untuned, {study.name: study.tuned_config for study in studies}
    if metric.test not in untuned:
        untuned = untuned.assign(**{metric.test: math.nan})
    before = _by_study(untuned, {study.name: study.untuned_config for study in studies}, metric)
    after = _by_study(trials, tuned, metric)
    ranks_before, ranks_after = _ranks(before, metric), _ranks(after, metric)
    comparisons: dict[str, Comparison] = {}
    if predictions is not None and tuning.untuned_predictions is not None:
        earlier = tuning.untuned_predictions
        if "group" not in predictions:  # they do not count in this run
            earlier = earlier.drop(columns="group", errors="ignore")
        scores = joint_scores(earlier, predictions, metric)
        sides = {
            study.name: (
                scores.of(0, before[study.name].trials),
                scores.of(1, after[study.name].trials),
            )
            for study in studies
            if not study.unchanged
        }
        comparisons = _tuned_against_untuned(sides, metric, margin)
    return [
        Gain(
            study=study,
            before=spread(before[study.name].figures.values()),
            after=spread(after[study.name].figures.values()),
            rank_before=ranks_before.get(study.name),
            rank_after=ranks_after.get(study.name),
            comparison=comparisons.get(study.name),
        )
        for study in studies
    ]


def overtakings(
    found: Sequence[Gain],
    trials: pd.DataFrame,
    metric: Metric = ACCURACY,
    *,
    predictions: pd.DataFrame | None = None,
    margin: float = MARGIN,
) -> list[Comparison]:
    """The pairs of studies that changed places, after tuning, seen from who is ahead now.

    All pairs of studies are one family. Without predictions every pair is open.
    """
    names = [gain.study.name for gain in found]
    tuned = _by_study(trials, {gain.study.name: gain.study.tuned_config for gain in found}, metric)
    scored = None if predictions is None else trial_scores(predictions, metric)
    scores: dict[str, BlockScores] = {}
    for name in names:
        own = None if scored is None else scored.of(tuned[name].trials)
        scores[name] = {} if own is None else {"": own}
    compared = compare_pairs(
        [(one, other, scores[one], scores[other]) for one, other in combinations(names, 2)],
        independent=max(1, len(names) - 1),
        margin=margin,
        higher_is_better=metric.higher_is_better,
    )
    turns = [_turn(one, other) for one, other in combinations(found, 2)]
    return [
        comparison if turn > 0 else comparison.turned()
        for comparison, turn in zip(compared, turns, strict=True)
        if turn
    ]


def front(study: Study, objectives: Sequence[Goal]) -> pd.DataFrame:
    """The complete trials that none beats in both of two objectives, best in the first first."""
    first, second = objectives
    known = study.complete.dropna(subset=[first.name, second.name])
    kept = pareto_front(
        [first.gain(value) for value in known[first.name]],
        [-second.gain(value) for value in known[second.name]],
    )
    return known[kept].sort_values(first.name, ascending=not first.maximize, kind="stable")


def importances(study: Study, objective: Goal) -> dict[str, float]:
    """The share of each setting in what tells a study's best trials from the others.

    PED-ANOVA (Watanabe, Bansal and Hutter, 2023) on complete trials; shares add up to 1. Empty
    of fewer than two settings or `LEAST_TRIALS` trials, and where Optuna refuses.
    """
    import pandas as pd

    settings = pd.DataFrame({setting.name: study.column(setting) for setting in study.space})
    values = study.trials[objective.name]
    known = settings.notna().all(axis=1) & values.notna() & (study.trials["state"] == "complete")
    if len(study.space) < 2 or known.sum() < LEAST_TRIALS:
        return {}
    params = [
        {str(name): cell for name, cell in row.items()}
        for row in settings[known].to_dict("records")
    ]
    return _ped_anova(study.space, params, values[known].tolist(), objective)


def _ped_anova(
    space: Sequence[Setting],
    params: Sequence[dict[str, Any]],
    values: Sequence[float],
    objective: Goal,
) -> dict[str, float]:
    import warnings

    import optuna

    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the method is an experimental one
            distributions = {s.name: _distribution(s, [p[s.name] for p in params]) for s in space}
            study = optuna.create_study(direction="maximize" if objective.maximize else "minimize")
            study.add_trials(
                optuna.trial.create_trial(params=own, distributions=distributions, value=value)
                for own, value in zip(params, values, strict=True)
            )
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError, ArithmeticError):
        return {}
    finally:
        optuna.logging.set_verbosity(said)
    shares = {setting.name: float(found.get(setting.name, 0.0)) for setting in space}
    return shares if all(map(math.isfinite, shares.values())) else {}


def _distribution(setting: Setting, values: Sequence[Any]) -> Any:
    """The range of a setting with what was tried outside of it: the suite's own value may be."""
    import optuna

    if not setting.numeric:
        return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))
    low, high = min(setting.low, *values), max(setting.high, *values)
    return optuna.distributions.FloatDistribution(low, high, log=setting.log and low > 0)


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """The trials of a config by seed, and their test figures."""

    trials: Mapping[int, tuple[str, ...]]
    figures: Mapping[int, float]


def _by_study(
    trials: pd.DataFrame, configs: Mapping[str, str | None], metric: Metric
) -> dict[str, _Tested]:
    """What was tested of each study; nothing where it has no config."""
    complete = complete_trials(trials).dropna(subset=[metric.test, "seed"])
    by_config = {str(config): own for config, own in complete.groupby("config", sort=False)}
    found = {}
    for name, config in configs.items():
        own = by_config.get(str(config), complete.iloc[:0])
        seeds = [int(seed) for seed in own["seed"]]
        found[name] = _Tested(
            trials={s: (str(t),) for s, t in zip(seeds, own["trial"], strict=True)},
            figures=dict(zip(seeds, map(float, own[metric.test]), strict=True)),
        )
    return found


def _ranks(tested: Mapping[str, _Tested], metric: Metric) -> dict[str, int]:
    means = {
        name: metric.sign * round(fmean(own.figures.values()), 12)
        for name, own in tested.items()
        if own.figures
    }
    return {name: 1 + sum(other > mean for other in means.values()) for name, mean in means.items()}


def _tuned_against_untuned(
    sides: Mapping[str, tuple[Scores | None, Scores | None]], metric: Metric, margin: float
) -> dict[str, Comparison]:
    pairs: dict[str, Pair] = {
        name: ("tuned", "untuned", {"": after}, {"": before})
        for name, (before, after) in sides.items()
        if before is not None and after is not None and set(before.seeds) & set(after.seeds)
    }
    compared = compare_pairs(
        list(pairs.values()),
        independent=len(pairs),
        margin=margin,
        higher_is_better=metric.higher_is_better,
    )
    return dict(zip(pairs, compared, strict=True))


def _turn(first: Gain, second: Gain) -> int:
    """1 if `first` overtook `second`, -1 if it was overtaken, else 0."""
    before = _ahead(first.rank_before, second.rank_before)
    after = _ahead(first.rank_after, second.rank_after)
    return after if before * after < 0 else 0


def _ahead(rank: int | None, other: int | None) -> int:
    """1 if `rank` is the better one, -1 if `other` is, 0 if they are equal or one is not known."""
    if rank is None or other is None or rank == other:
        return 0
    return 1 if rank < other else -1
