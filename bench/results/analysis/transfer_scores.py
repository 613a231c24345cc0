"""Transfer scores of a run's backbones, and whether they ranked them as the results do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.methods.plan import HEAD
from bench.methods.transfer_scores import TRANSFER_SCORES
from bench.results.folder import Run, ScoreRow, read_transfer_scores
from bench.results.grid import complete_trials

LEAST_BACKBONES = 3
"""A rank correlation of fewer says nothing."""

Start = tuple[str, str]
"""A backbone and its weights, as `trials` have them."""


def names_of_starts(starts: Iterable[tuple[Start, str]]) -> dict[tuple[Start, str], str]:
    """The backbone of each start and preprocessing, with what tells it from others of the same."""
    every = list(dict.fromkeys(starts))
    found = {}
    for start, preprocessing in every:
        backbone, weights = start
        alike = [own for own, _ in every if own[0] == backbone]
        parts = [backbone]
        if len(set(alike)) > 1:
            parts.append(weights)
        if alike.count(start) > 1:
            parts.append(preprocessing)
        found[start, preprocessing] = ", ".join(parts)
    return found


@dataclass(frozen=True, kw_only=True)
class BackboneScores:
    """Scores of one backbone with its weights, seen with one preprocessing (JSON).

    Its `name` tells it from all others of the run. `values` are by layer group, from input to
    output, and name of the score: of the classifier of the weights is the group `head`. `reasons`
    say why a score has none, and of which groups. `result` is what the backbone reached in the run,
    None as long as that is not known.
    """

    name: str
    start: Start
    preprocessing: str
    samples: int
    values: Mapping[str, Mapping[str, float]]
    reasons: Mapping[tuple[str, str], tuple[str, ...]]
    result: float | None

    def has(self, score: str) -> bool:
        """Whether some layer group has the score."""
        return any(score in own for own in self.values.values())

    def final(self, score: str) -> float | None:
        """The score of what flows into the head, or of the classifier of the weights."""
        source = TRANSFER_SCORES[score].of == "source_probabilities"
        groups = [group for group in self.values if source == (group == HEAD)]
        return self.values[groups[-1]].get(score) if groups else None


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """Those of all backbones; `correlations` are weighted Kendall τ of each score with the results
    of so many `ranked` backbones, none where there are too few or trials are missing."""

    backbones: tuple[BackboneScores, ...]
    correlations: Mapping[str, float]
    ranked: int


def run_scores(run: Run) -> RunScores | None:
    """The scores in the run folder of backbones that its trials have; None without any.

    Raises `BenchError` for a damaged table.
    """
    used = dict.fromkeys(zip(run.trials["backbone"], run.trials["weights"], strict=True))
    by_start: dict[tuple[Start, str], list[ScoreRow]] = {}
    for row in read_transfer_scores(run.folder):
        # Tables of later versions may have further scores.
        if (row.backbone, row.weights) in used and row.score in TRANSFER_SCORES:
            key = ((row.backbone, row.weights), row.preprocessing)
            by_start.setdefault(key, []).append(row)
    if not by_start:
        return None
    results, names = _results(run), names_of_starts(by_start)
    backbones = tuple(
        _of_backbone(names[start, preprocessing], start, preprocessing, rows, results.get(start))
        for (start, preprocessing), rows in by_start.items()
    )
    ranked = backbones if len({each.start for each in backbones}) == len(backbones) else ()
    return RunScores(
        backbones=backbones,
        correlations=_correlations(ranked, sign=run.metric.sign),
        ranked=len(ranked),
    )


def _of_backbone(
    name: str, start: Start, preprocessing: str, rows: Sequence[ScoreRow], result: float | None
) -> BackboneScores:
    values: dict[str, dict[str, float]] = {}
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        own = values.setdefault(row.group, {}) if row.group is not None else {}
        if row.value is not None:
            own[row.score] = row.value
        elif row.reason is not None:
            reasons.setdefault((row.score, row.reason), []).append(row.group or "")
    return BackboneScores(
        name=name,
        start=start,
        preprocessing=preprocessing,
        samples=max(row.samples for row in rows),
        values=values,
        reasons={what: tuple(groups) for what, groups in reasons.items()},
        result=result,
    )


def _results(run: Run) -> dict[Start, float]:
    """What each backbone reached: the mean test figure of its best config on validation.

    Nothing as long as trials are missing.
    """
    complete = complete_trials(run.trials)
    if len(complete) < run.num_trials:
        return {}
    found = {}
    val, test = run.metric.val, run.metric.test
    for start, own in complete.groupby(["backbone", "weights"], sort=False):
        means = own.groupby("config")[[val, test]].mean()
        chosen = (means[val] * run.metric.sign).to_numpy()
        if len(means) > 1 and np.isnan(chosen).all():
            continue  # nothing has chosen among them
        best = int(np.nanargmax(chosen)) if len(means) > 1 else 0
        figure = float(means[test].to_numpy()[best])
        if not math.isnan(figure):
            backbone, weights = map(str, start)
            found[backbone, weights] = figure
    return found


def _correlations(backbones: Sequence[BackboneScores], *, sign: int) -> dict[str, float]:
    """Weighted Kendall τ of each score that all `backbones` have with their results."""
    from scipy.stats import weightedtau

    if len(backbones) < LEAST_BACKBONES or any(each.result is None for each in backbones):
        return {}
    results = [sign * each.result for each in backbones if each.result is not None]
    found = {}
    for name in TRANSFER_SCORES:
        scores = [value for each in backbones if (value := each.final(name)) is not None]
        if len(scores) == len(results):
            tau = float(weightedtau(scores, results).statistic)
            if not math.isnan(tau):  # where all scores, or all results, are the same
                found[name] = tau
    return found
