"""`bench advise`: what is known before training, and what each rule makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from bench.errors import BenchError
from bench.execution.work import count_work
from bench.methods.advice import RULES, BackboneFacts, Facts, Ranking
from bench.models import takes
from bench.models.build import structure
from bench.results.analysis import wilson_interval
from bench.results.analysis.transfer_scores import names_of_starts
from bench.results.folder import ScoreRow, refuse_links, write_json, write_transfer_scores
from bench.runs.check import CheckedSuite
from bench.runs.options import SelectionKeywords
from bench.runs.prepare import counted_trials
from bench.runs.reporter import Reporter, SilentReporter
from bench.runs.resolve import ResolvedRun, ResolvedTrial, resolve_run
from bench.runs.time_estimate import Timings, estimate
from bench.runs.transfer_scores import transfer_scores
from bench.suite.plugins import plugin_errors_told

FILE = "advice.json"
NEIGHBOUR, LOGME = "nearest_neighbour", "logme"


@dataclass(frozen=True, kw_only=True)
class AdvisedCell:
    """A cell of the suite with the seconds of all its trials on one worker, None if unknown."""

    backbone: str
    weights: str
    strategy: str
    lr: float
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The facts, what to expect of frozen features (95 % intervals of accuracies by backbone), what
    each rule says and what each cell of the suite costs. `path` is where it lies as JSON."""

    path: Path
    facts: Facts
    expected: Mapping[str, tuple[float, float]]
    rules: Mapping[str, Ranking]
    cells: tuple[AdvisedCell, ...]


@plugin_errors_told()
def advise(
    checked: CheckedSuite,
    *,
    reporter: Reporter | None = None,
    **options: Unpack[SelectionKeywords],
) -> Advice:
    """Look at the training split, and write scores and advice into the run folder.

    Raises `BenchError` as `resolve_run` does, and for a task that has no classes.
    """
    reporter = reporter or SilentReporter()
    resolved = resolve_run(checked, progress=reporter.progress, **options)
    if resolved.dataset.targets is not None:
        raise BenchError(
            "bench advise speaks of tasks with one class a sample, and this suite has another "
            "task; bench.transfer_scores ranks its backbones"
        )
    refuse_links(resolved.folder)
    rows = transfer_scores(resolved, reporter=reporter)
    write_transfer_scores(resolved.folder, rows)
    starts = _by_start(rows)
    for name, own in starts.items():
        if own[NEIGHBOUR].value is None:
            reporter.note(f"{name}: no features to judge by ({own[NEIGHBOUR].reason})")
    facts = _facts(resolved, starts)
    reporter.status("timing a few batches on this machine")
    advice = Advice(
        path=resolved.folder / FILE,
        facts=facts,
        expected={
            name: wilson_interval(round(own.value * own.samples), own.samples)
            for name, own in ((name, own[NEIGHBOUR]) for name, own in starts.items())
            if own.weights != "none" and own.value is not None
        },
        rules={name: rule(facts) for name, rule in RULES.items()},
        cells=tuple(_cells(resolved)),
    )
    write_json(advice.path, _as_json(resolved, advice))
    if resolved.remote is not None:
        resolved.remote.push()
    return advice


def _by_start(rows: Sequence[ScoreRow]) -> dict[str, dict[str, ScoreRow]]:
    """Scores by name of the backbone, and their own; the last of its layer groups stands."""
    keys = [((row.backbone, row.weights), row.preprocessing) for row in rows]
    names = names_of_starts(keys)
    found: dict[str, dict[str, ScoreRow]] = {}
    for key, row in zip(keys, rows, strict=True):  # of layer groups from input to output
        found.setdefault(names[key], {})[row.score] = row
    return found


def _facts(resolved: ResolvedRun, starts: Mapping[str, Mapping[str, ScoreRow]]) -> Facts:
    seed = min((own[NEIGHBOUR].seed for own in starts.values()), default=0)
    counted = (c for c in counted_trials(resolved) if c.job.trial.settings.seed == seed)
    labels = resolved.dataset.labels[max((c.splits.train for c in counted), key=len)]
    return Facts(
        samples=len(labels),
        classes=len(resolved.dataset.classes),
        majority=float(np.bincount(labels).max() / len(labels)),
        backbones=tuple(
            BackboneFacts(
                backbone=name,
                parameters=_parameters(resolved, own[NEIGHBOUR].backbone),
                pretrained=own[NEIGHBOUR].weights != "none",
                neighbour_accuracy=own[NEIGHBOUR].value,
                logme=own[LOGME].value,
            )
            for name, own in starts.items()
        ),
    )


def _parameters(resolved: ResolvedRun, label: str) -> int | None:
    """Of an image network of the libraries, its own classifier included."""
    each = next(own for own in resolved.trials if own.trial.backbone.label == label)
    name = each.trial.backbone.name
    if takes(name) != "image":
        return None
    return sum(parameter.numel() for parameter in structure(name, each.input_size).parameters())


def _cells(resolved: ResolvedRun) -> Iterator[AdvisedCell]:
    timings = Timings(resolved.dataset, resolved.device)
    cells: dict[str, list[ResolvedTrial]] = {}
    for each in resolved.trials:
        if each.skip_reason is None:
            cells.setdefault(each.trial.config, []).append(each)
    for trials in cells.values():
        own = replace(
            resolved,
            trials=tuple(replace(each, complete=False, failure=None) for each in trials),
        )
        trial = trials[0].trial
        try:
            work = count_work(counted_trials(own), reuse=own.reuse, from_cache=False)
            seconds = estimate(own, work, workers=1, timings=timings).seconds
        except BenchError:
            seconds = None
        yield AdvisedCell(
            backbone=trial.backbone.label,
            weights=resolved.loaded.suite.weights_label(trial.settings.weights),
            strategy=trial.strategy.label,
            lr=trial.settings.lr,
            seconds=seconds,
        )


def _as_json(resolved: ResolvedRun, advice: Advice) -> dict[str, Any]:
    return {
        "suite": resolved.loaded.suite.name,
        "dataset": resolved.dataset.name,
        **asdict(advice.facts),
        "expected": {
            backbone: {"low": low, "high": high}
            for backbone, (low, high) in advice.expected.items()
        },
        "rules": {name: asdict(ranking) for name, ranking in advice.rules.items()},
        "cells": [asdict(cell) for cell in advice.cells],
    }
