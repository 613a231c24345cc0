"""What was advised before training, against what the trials then reached.

What a rule advises is measured by the test: by the config that validation chooses among those that
it names. The best is what validation chooses among all. Both are compared by the test that every
claim uses, all rules being one family.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.keys import content_hash
from bench.results.analysis.choice import ONE_BLOCK, Choice, choices, compared_trials, preferred
from bench.results.analysis.comparison import Comparison, Pair, compare_pairs
from bench.results.analysis.scores import folds_of
from bench.results.analysis.verdict import Verdict, scores_of
from bench.results.folder import Advice, Range
from bench.results.grid import Grid, complete_trials

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run, Tuning

PROBE = "linear_probe"
ALIKE = 3.0
"""A learning rate within so many times the advised one is as advised."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What following a rule would have given.

    `said` are the strategy and the backbone that it puts first, `lacking` those of them, and of
    what it puts next, that the suite does not have (a backbone: with that strategy). `label` is the
    config that stands for the first that it has, None where there is none; `figure` its mean test
    figure. `comparison` is with the best config; None where that is the very one.
    """

    rule: str
    reason: str
    said: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    label: str | None = None
    figure: float = math.nan
    comparison: Comparison | None = None

    @property
    def held(self) -> bool | None:
        """Whether it is as good as the best or better, None while that is open, and where the suite
        lacks what it puts first: what stands next is no test of it."""
        if self.label is None or self.lacking:
            return None
        if self.comparison is None or self.comparison.not_worse:
            return True
        return {"better": True, "as_good": True, "worse": False, "open": None}[
            self.comparison.verdict
        ]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What `source` made expect of a linear probe on `backbone`, and its mean test accuracy."""

    backbone: str
    source: str
    expected: Range
    reached: float

    @property
    def held(self) -> bool:
        """Whether it lies in the range."""
        return self.expected.low <= self.reached <= self.expected.high


@dataclass(frozen=True, kw_only=True)
class Told:
    """A number of a config that was told before, and what became of it."""

    label: str
    advised: float
    used: float

    @property
    def ratio(self) -> float:
        """How many times the advised one."""
        return self.used / self.advised


@dataclass(frozen=True, kw_only=True)
class HeldAdvice:
    """The advice of a run beside its results: rates are learning rates where they were searched,
    costs seconds of all trials of a config. `best` is the label of the best config, with its
    `figure`. `changed`: the suite is not the one that the advice is of."""

    advice: Advice
    changed: bool
    best: str | None
    figure: float
    rules: tuple[Followed, ...]
    expectations: tuple[Expectation, ...]
    rates: tuple[Told, ...]
    costs: tuple[Told, ...]


def held_advice(
    run: Run, advice: Advice, grid: Grid, verdict: Verdict, tuning: Tuning | None
) -> HeldAdvice:
    """What became of the advice of a run, of its complete trials."""
    trials = compared_trials(run.trials, grid)
    starts = _starts(trials, advice)
    best = _chosen(trials, grid) if len(trials) else None
    followed = {
        name: _first(ranking.strategies, ranking.backbones, trials, starts)
        for name, ranking in advice.rules.items()
    }
    followed_by = {
        name: _chosen(trials[trials["trial"].isin(own)], grid)
        for name, (own, _) in followed.items()
        if own
    }
    figures, compared = _compared(run, followed_by, best, grid, verdict)
    return HeldAdvice(
        advice=advice,
        changed=content_hash(run.suite, digits=32) != advice.origin.suite_digest,
        best=None if best is None else grid.labels[best.config],
        figure=figures.get("", math.nan),
        rules=tuple(
            Followed(
                rule=name,
                reason=ranking.reason,
                said=(*ranking.strategies[:1], *ranking.backbones[:1]),
                lacking=followed[name][1],
                label=grid.labels[followed_by[name].config] if name in followed_by else None,
                figure=figures.get(name, math.nan),
                comparison=compared.get(name),
            )
            for name, ranking in advice.rules.items()
        ),
        expectations=tuple(_expectations(trials, starts, advice, grid)),
        rates=() if tuning is None else tuple(_rates(run, advice, grid, tuning)),
        costs=tuple(_costs(run, advice, grid)),
    )


def _chosen(trials: pd.DataFrame, grid: Grid) -> Choice:
    """As the report recommends: of what stands for each thing compared, what validation prefers."""
    standing = {
        f"{value}/{block}": own
        for value, blocks in choices(trials, grid).items()
        for block, own in blocks.items()
    }
    return preferred(standing, grid)


# Rules ------------------------------------------------------------------------------------------


def _first(
    strategies: Sequence[str],
    backbones: Sequence[str],
    trials: pd.DataFrame,
    starts: Mapping[str, str],
) -> tuple[Collection[str], tuple[str, ...]]:
    """The trials of the first strategy and the first backbone that the run has, and what of the
    rule stands before them; no trials where it has none of either."""
    own = trials
    lacking: list[str] = []
    for wanted, column in (
        (strategies, _strategies(trials)),
        (backbones, trials["config"].map(starts)),
    ):
        if not wanted:
            continue
        known = set(column[own.index])
        lacking += _until(wanted, known)
        found = next((each for each in wanted if each in known), None)
        if found is None:
            return (), tuple(lacking)
        own = own[column[own.index] == found]
    if not strategies and not backbones:
        return (), ()
    return list(own["trial"]), tuple(lacking)


def _strategies(trials: pd.DataFrame) -> pd.Series[str]:
    """Names without options."""
    return trials["strategy"].astype(str).str.partition("(")[0]


def _until(wanted: Sequence[str], known: Collection[str]) -> Iterator[str]:
    """Those before the first that is known."""
    for each in wanted:
        if each in known:
            return
        yield each


def _starts(trials: pd.DataFrame, advice: Advice) -> dict[str, str]:
    """What the advice calls the backbone of each config, where it knows it."""
    found = {}
    for row in trials.drop_duplicates("config").to_dict("records"):
        own = [
            each
            for each in advice.starts
            if (each.backbone, each.weights) == (row["backbone"], row["weights"])
        ]
        if len(own) > 1:
            own = [each for each in own if _sees(row, each.preprocessing)]
        if len(own) == 1:
            found[str(row["config"])] = own[0].name
    return found


def _sees(row: Mapping[Any, Any], preprocessing: str) -> bool:
    """Whether a trial's network sees what the preprocessing says."""
    said, settings = json.loads(preprocessing), json.loads(str(row["settings"]))
    own = {**settings, "precision": row["precision"]}
    return all(own.get(name, value) == value for name, value in said.items())


def _compared(
    run: Run,
    choices: Mapping[str, Choice],
    best: Choice | None,
    grid: Grid,
    verdict: Verdict,
) -> tuple[dict[str, float], dict[str, Comparison]]:
    """Mean test figures, by rule and of the best (""), and each rule's choice against it."""
    if best is None:
        return {}, {}
    every = {"": best, **choices}
    scores = scores_of(
        {name: {ONE_BLOCK: choice} for name, choice in every.items()},
        run.trials,
        run.judged,
        grid.metric,
        folds_of(run),
    )
    figures = {name: float(own[ONE_BLOCK].values.mean()) for name, own in scores.items()}
    distinct: dict[tuple[str, ...], Pair] = {}
    for name, choice in choices.items():
        if choice.trials != best.trials:
            label = grid.labels[choice.config]
            distinct[choice.all_trials] = (label, "the best", scores[name], scores[""])
    if not distinct:
        return figures, {}
    found = compare_pairs(
        list(distinct.values()),
        looks={frozenset(pair[:2]): verdict.look for pair in distinct.values()},
        margin=verdict.margin,
        higher_is_better=grid.metric.higher_is_better,
    )
    by_trials = dict(zip(distinct, found, strict=True))
    return figures, {
        name: by_trials[choice.all_trials]
        for name, choice in choices.items()
        if choice.all_trials in by_trials
    }


# Figures ----------------------------------------------------------------------------------------


def _expectations(
    trials: pd.DataFrame, starts: Mapping[str, str], advice: Advice, grid: Grid
) -> Iterator[Expectation]:
    names = trials["config"].map(starts)
    probes = _strategies(trials) == PROBE
    for backbone, ranges in advice.expected.items():
        own = trials[probes & (names == backbone)]
        if own.empty:
            continue
        used = list(_chosen(own, grid).all_trials)
        reached = own.loc[own["trial"].isin(used), "test_accuracy"].astype(float).mean()
        for source, expected in ranges.items():
            yield Expectation(
                backbone=backbone, source=source, expected=expected, reached=float(reached)
            )


def _rates(run: Run, advice: Advice, grid: Grid, tuning: Tuning) -> Iterator[Told]:
    """Learning rates of the studies that searched them, of cells that the advice has."""
    advised = {cell.config: cell.lr for cell in advice.cells if cell.lr > 0}
    lrs = dict(zip(run.trials["config"].astype(str), run.trials["lr"], strict=True))
    for study in tuning.description["studies"].values():
        before, after = study.get("untuned_config"), study.get("tuned_config")
        if "lr" in study["space"] and before in advised and after in lrs:
            yield Told(label=grid.labels[after], advised=advised[before], used=float(lrs[after]))


def _costs(run: Run, advice: Advice, grid: Grid) -> Iterator[Told]:
    """Seconds of configs of which all advised trials are complete; of more of them the share."""
    seconds = complete_trials(run.trials).groupby("config", sort=False)["train_seconds"]
    used = {str(config): own for config, own in seconds}
    for cell in advice.cells:
        own = used.get(cell.config)
        if own is not None and cell.seconds and len(own) >= cell.trials:
            whole = float(own.astype(float).mean()) * cell.trials
            if math.isfinite(whole):
                yield Told(label=grid.labels[cell.config], advised=cell.seconds, used=whole)
