"""`bench advise`: what is known before training, and what each rule makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
from bench.results.folder import ScoreRow, refuse_links, write_json, write_transfer_scores
from bench.runs.check import CheckedSuite
from bench.runs.options import SelectionKeywords
from bench.runs.prepare import counted_trials
from bench.runs.resolve import ResolvedRun, ResolvedTrial, resolve_run
from bench.runs.run import Reporter, SilentReporter
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
    names = start_names(rows)
    for row in rows:
        if row.score == NEIGHBOUR and row.value is None:
            reporter.note(f"{names[_start(row)]}: no features to judge by ({row.reason})")
    facts, counts = _facts(resolved, rows)
    reporter.status("timing a few batches on this machine")
    advice = Advice(
        path=resolved.folder / FILE,
        facts=facts,
        expected={
            each.backbone: wilson_interval(
                round(each.neighbour_accuracy * counts[each.backbone]), counts[each.backbone]
            )
            for each in facts.backbones
            if each.pretrained and each.neighbour_accuracy is not None
        },
        rules={name: rule(facts) for name, rule in RULES.items()},
        cells=tuple(_cells(resolved)),
    )
    write_json(advice.path, _as_json(resolved, advice))
    if resolved.remote is not None:
        resolved.remote.push()
    return advice


def _facts(resolved: ResolvedRun, rows: tuple[ScoreRow, ...]) -> tuple[Facts, Mapping[str, int]]:
    """With how many samples each backbone was scored on."""
    names = start_names(rows)
    starts: dict[str, dict[str, ScoreRow]] = {}
    for row in rows:  # of layer groups from input to output: the last one stands
        starts.setdefault(names[_start(row)], {})[row.score] = row
    seed = min(row.seed for row in rows) if rows else 0
    counted = (c for c in counted_trials(resolved) if c.job.trial.settings.seed == seed)
    labels = resolved.dataset.labels[max((c.splits.train for c in counted), key=len)]
    facts = Facts(
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
    return facts, {name: own[NEIGHBOUR].samples for name, own in starts.items()}


def _start(row: ScoreRow) -> tuple[str, str, str]:
    return row.backbone, row.weights, row.preprocessing


def start_names(rows: Iterable[ScoreRow]) -> dict[tuple[str, str, str], str]:
    """The backbone of each start, with as much more as tells it from the others."""
    starts = list(dict.fromkeys(map(_start, rows)))

    def name(start: tuple[str, str, str]) -> str:
        parts = range(1, len(start) + 1)
        alone = (n for n in parts if sum(each[:n] == start[:n] for each in starts) == 1)
        return ", ".join(start[: next(alone)])

    return {start: name(start) for start in starts}


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
