"""The answer of a run in plain sentences, for every form of report. Nothing here is escaped.

A sentence claims that one strategy beats another only where the analysis supports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.results.analysis import (
    ALPHA,
    Comparison,
    compare_strategies,
    holm,
    representatives,
    sample_test,
    seeds_to_decide,
)
from bench.results.grid import ConfigResult, Grid, Spread, complete_trials
from bench.results.metric import ACCURACY, Metric

if TYPE_CHECKING:
    import pandas as pd

MAX_NAMES = 4


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The values of the leading axis, the best mean test figure first, and what sets them apart.

    `results` are those of the configs that stand for them, by value; `against` the comparisons of
    the first value with every other one, seen from the first; `predictions` what each predicted on
    the test split, by value and seed.
    """

    grid: Grid
    results: Mapping[str, ConfigResult]
    comparisons: Sequence[Comparison]
    predictions: Mapping[tuple[str, int], pd.DataFrame]

    @property
    def leader(self) -> str:
        return next(iter(self.results))

    @property
    def metric(self) -> Metric:
        return self.grid.metric

    @property
    def against(self) -> dict[str, Comparison]:
        turned = (c if c.first == self.leader else c.turned() for c in self.comparisons)
        found = {c.second: c for c in turned if c.first == self.leader}
        return {value: found[value] for value in self.results if value in found}

    def sample_ps(self, comparison: Comparison) -> list[float]:
        """p of McNemar's test on the test images, for each seed whose predictions are known."""
        sides = (comparison.first, comparison.second)
        known = self._known_sample_ps
        if frozenset(sides) not in known:
            pairs = ([self.predictions.get((s, seed)) for s in sides] for seed in comparison.seeds)
            known[frozenset(sides)] = [
                sample_test(a, b) for a, b in pairs if a is not None and b is not None
            ]
        return known[frozenset(sides)]

    @cached_property
    def _known_sample_ps(self) -> dict[frozenset[str], list[float]]:
        """Of the pairs that were asked for: the answer and the evidence ask for the same ones."""
        return {}

    @cached_property
    def told_apart_by_samples(self) -> dict[str, tuple[int, int]]:
        """In how many seeds, of how many, the test images tell the leader from each other value.

        McNemar's test of the two trained models, at 0.05 after Holm over all values and seeds.
        """
        ps = {value: self.sample_ps(comparison) for value, comparison in self.against.items()}
        corrected = iter(holm([p for each in ps.values() for p in each]))
        return {
            value: (sum(next(corrected) < ALPHA for _ in each), len(each))
            for value, each in ps.items()
        }


def contest(
    trials: pd.DataFrame,
    grid: Grid,
    results: Sequence[ConfigResult],
    predictions: pd.DataFrame,
) -> Contest | None:
    """The contest of `results`, all of the grid; None if none of them has a test figure."""
    chosen = representatives(trials, grid)
    by_config = {result.config: result for result in results}
    known = {
        value: by_config[config]
        for value, config in chosen.items()
        if by_config[config].rank is not None
    }
    if not known:
        return None
    ordered = sorted(known, key=lambda value: -round(grid.metric.sign * known[value].test.mean, 12))
    return Contest(
        grid=grid,
        results={value: known[value] for value in ordered},
        comparisons=compare_strategies(trials, grid),
        predictions=_by_value_and_seed(trials, predictions, {known[v].config: v for v in known}),
    )


def _by_value_and_seed(
    trials: pd.DataFrame, predictions: pd.DataFrame, values: Mapping[str, str]
) -> dict[tuple[str, int], pd.DataFrame]:
    """The predictions of the complete trials of some configs (config → value)."""
    complete = complete_trials(trials)
    chosen = complete[complete["config"].isin(list(values))].set_index("trial")
    merged = predictions.join(chosen[["config", "seed"]], on="trial", how="inner")
    groups: Iterable[tuple[Any, pd.DataFrame]] = merged.groupby(["config", "seed"], sort=False)
    return {(values[config], int(seed)): own for (config, seed), own in groups}


def answer(found: Contest | None, metric: Metric = ACCURACY) -> list[str]:
    """Which strategy is ahead by the metric, by how much, and how sure one can be of it."""
    if found is None:
        return [f"No complete trial has a test {metric.label}, so there is nothing to compare."]
    leader = found.results[found.leader]
    if len(found.results) == 1:
        return [
            f"{found.leader} is the only {found.grid.lead} with a complete trial.",
            f"Its mean test {metric.label} is {figures(leader.test, metric)}.",
        ]
    return [
        *_too_few(found),
        *_claims(found),
        *_claims_of_models(found),
        *_representation(found),
        *_chosen_by_validation(found),
        *_unequal_seeds(found),
    ]


def _too_few(found: Contest) -> list[str]:
    """Said first: no difference can be significant, whatever it is."""
    if not all(c.verdict == "too few seeds" for c in found.comparisons):
        return []
    most = max(len(c.seeds) for c in found.comparisons)
    number = len(found.comparisons)
    pairs = "1 pair" if number == 1 else f"{number} pairs"
    smallest = min(c.attainable for c in found.comparisons)
    return [
        f"With {_seeds(most)} no difference can be significant: for {pairs} of "
        f"{found.grid.lead} values the smallest attainable p is {smallest:.2g}; "
        f"it takes {seeds_to_decide(number)} seeds."
    ]


def _claims(found: Contest) -> list[str]:
    leader, against, metric = found.leader, found.against, found.metric
    reached = figures(found.results[leader].test, metric)
    by_verdict: dict[str, list[Comparison]] = {}
    for comparison in against.values():
        by_verdict.setdefault(comparison.verdict, []).append(comparison)
    beaten = by_verdict.pop("better", [])
    if beaten and not by_verdict and len(beaten) > 1:
        first, p = beaten[0], max(comparison.corrected for comparison in beaten)
        return [
            f"{leader} beats all {len(beaten)} others: {_named(metric)}{reached} on the test "
            f"split, {_lead(first, metric)} ahead of the next, {first.second} "
            f"(every corrected p ≤ {p:.2g})."
        ]
    sentences = [f"{leader} has the {metric.best} mean test {metric.label}: {reached}."]
    if beaten:
        names = [
            f"{c.second} (by {_lead(c, metric)}, corrected p = {c.corrected:.2g})" for c in beaten
        ]
        sentences.append(f"It beats {named(names)}.")
    for verdict, words in (
        ("undecided", "not distinguishable from"),
        ("too few seeds", "ahead of"),
    ):
        names = [
            f"{c.second} ({_lead(c, metric)}; {_needed(c)})" for c in by_verdict.get(verdict, [])
        ]
        if names:
            sentences.append(f"It is {words} {named(names)}.")
    return sentences


def _claims_of_models(found: Contest) -> list[str]:
    """What the test images say of the trained models where the seeds say nothing of strategies.

    They say which model is right more often: nothing of other metrics.
    """
    if not found.metric.is_accuracy:
        return []
    unclaimed = [value for value, c in found.against.items() if c.verdict != "better"]
    told = {value: found.told_apart_by_samples[value] for value in unclaimed}
    if not any(tested for _, tested in told.values()):
        return []
    apart = [
        f"{value} in {count} of {_seeds(tested)}"
        for value, (count, tested) in told.items()
        if count
    ]
    if not apart:
        return ["The test images do not tell its models from theirs either (McNemar)."]
    rest = ", from no other" if len(apart) < len(told) else ""
    return [
        f"The test images tell its trained models from those of {named(apart)}{rest} "
        "(McNemar, corrected): that holds for these models, not yet for the strategies."
    ]


def _needed(comparison: Comparison) -> str:
    """What it would take to tell two apart that differ as much as these seem to."""
    more = comparison.more_seeds
    if len(comparison.seeds) < 2:
        return "one seed shows no spread"
    if more is None:
        return "hardly any number of seeds would tell them apart"
    return f"about {more} more seed{'s' if more > 1 else ''} would be needed"


def named(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - MAX_NAMES
    return "; ".join(names[:MAX_NAMES]) + (f"; and {more} more" if more > 0 else "")


def _lead(comparison: Comparison, metric: Metric) -> str:
    """By how much the first is ahead, whichever direction is better."""
    low, high = sorted(metric.sign * end for end in comparison.interval)
    effect = metric.points(metric.number(metric.sign * comparison.effect))
    return effect if low != low else f"{effect}, {metric.number(low)} to {metric.number(high)}"


def _named(metric: Metric) -> str:
    """What a figure without a verb is of: nothing is said of accuracy."""
    return "" if metric.is_accuracy else f"{metric.label} "


def _representation(found: Contest) -> list[str]:
    if len(found.grid.cells) == len(found.results):
        return []
    return [
        f"Each {found.grid.lead} stands here as the config of it that has the {found.metric.best} "
        f"mean validation {found.metric.label}."
    ]


def _chosen_by_validation(found: Contest) -> list[str]:
    metric = found.metric
    means = {value: metric.sign * r.val.mean for value, r in found.results.items() if r.val.n}
    chosen = max(means, key=lambda value: means[value], default=found.leader)
    if chosen == found.leader:
        return [f"Validation {metric.label} alone would have chosen the same {found.grid.lead}."]
    return [
        f"Validation {metric.label} alone would have chosen {chosen}, "
        f"which reaches {figures(found.results[chosen].test, metric)} on the test split."
    ]


def _unequal_seeds(found: Contest) -> list[str]:
    if len({result.seeds for result in found.results.values()}) == 1:
        return []
    return ["Not all have the same complete seeds; only common ones are compared."]


def figures(figure: Spread, metric: Metric) -> str:
    """Mean, standard deviation and number of seeds."""
    mean = metric.text(figure.mean)
    if figure.n == 1:
        return f"{mean} (one seed)"
    return f"{mean} ± {metric.number(figure.sd)} over {figure.n} seeds"


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"{number} seeds"
