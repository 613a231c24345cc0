"""`bench advise`: what is known before training, and what each rule makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Unpack

import numpy as np

from bench.data.text.prepared import TextData
from bench.data.text.tokens import row_lengths
from bench.errors import BenchError
from bench.execution.executors import Where
from bench.execution.work import Work, count_work
from bench.keys import content_hash
from bench.methods.advice import RULES, BackboneFacts, Facts
from bench.models import takes
from bench.models.build import structure
from bench.models.flops import group_flops
from bench.results.analysis import wilson_interval
from bench.results.analysis.transfer_scores import names_of_starts
from bench.results.folder import (
    Advice,
    AdvisedCell,
    Origin,
    Range,
    ScoreRow,
    Start,
    TextLengths,
    read_advice,
    refuse_links,
    write_advice,
    write_transfer_scores,
)
from bench.results.folder.advice import FILE
from bench.runs.check import CheckedSuite
from bench.runs.options import SelectionKeywords
from bench.runs.prepare import PreparedSets, counted_trials
from bench.runs.reporter import Reporter, SilentReporter
from bench.runs.resolve import ResolvedRun, ResolvedTrial, resolve_run
from bench.runs.time_estimate import TIMED_BATCHES, TIMED_SAMPLES, Timings, estimate
from bench.runs.transfer_scores import (
    MAX_SAMPLES,
    error_text,
    starting_trials,
    transfer_scores,
)
from bench.suite import dump_suite
from bench.suite.plugins import plugin_errors_told
from bench.suite.yaml_file import parse_yaml
from bench.system.machine import installed_versions
from bench.training.trial import NUMERICS_VERSION

RULE: str | None = None
"""The rule to follow; None as long as none is shown to beat the baselines."""
NEIGHBOUR, RIDGE, LOGME = "nearest_neighbour", "ridge_probe", "logme"
EXPECTED_BY = (NEIGHBOUR, RIDGE)
"""Scores that are accuracies of frozen features."""

SMALL_SHARE, LEAST_FLOPS = 0.05, 2e11
"""A run writes advice by itself where that takes at most such a share of its operations, and where
it has so many: of a run of seconds, building networks would be a large part."""


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
    _refuse_other_tasks(resolved)
    refuse_links(resolved.folder)
    rows = transfer_scores(resolved, reporter=reporter)
    write_transfer_scores(resolved.folder, rows)
    starts = _by_start(rows)
    for name, own in starts.items():
        if own[NEIGHBOUR].value is None:
            reporter.note(f"{name}: no features to judge by ({own[NEIGHBOUR].reason})")
    reporter.status("timing a few batches on this machine")
    advice = _advice(resolved, starts, timed=True)
    write_advice(advice)
    if resolved.remote is not None:
        resolved.remote.push()
    return advice


def advise_before(
    resolved: ResolvedRun, work: Work, *, asked: bool | None, where: Where, reporter: Reporter
) -> None:
    """Write advice into the folder of a run that is about to train, if it has none of its data.

    If nobody has `asked` for it, only where that is a small part of the run's `work`, and without
    costs where timing them would be a larger one. Weights that have to be trained are trained where
    the run trains. An error is told, and the run goes on.
    """
    if asked is False or not resolved.pending:
        return
    try:
        if _has_advice(resolved):
            if asked:
                reporter.note(f"note: {FILE} of an earlier start is kept")
            return
        if not asked and (work.flops_done < LEAST_FLOPS or resolved.dataset.targets is not None):
            return
        flops, most = _flops(resolved), SMALL_SHARE * work.flops_done
        if not asked and flops.scores > most:
            return
        _refuse_other_tasks(resolved)
        reporter.status("writing down what is advised")
        rows = transfer_scores(
            resolved, final=(*EXPECTED_BY, LOGME), where=where, reporter=reporter
        )
        timed = bool(asked) or flops.scores + flops.timing <= most
        write_advice(_advice(resolved, _by_start(rows), timed=timed))
    except Exception as error:  # whatever it is, trials can be trained
        reporter.note(f"note: nothing is advised before this run: {error_text(error)}")


def _refuse_other_tasks(resolved: ResolvedRun) -> None:
    if resolved.dataset.targets is not None:
        raise BenchError(
            "bench advise speaks of tasks with one class a sample, and this suite has another "
            "task; bench.transfer_scores ranks its backbones"
        )


def _advice(
    resolved: ResolvedRun, starts: Mapping[str, Mapping[str, ScoreRow]], *, timed: bool
) -> Advice:
    facts, lengths = _facts(resolved, starts), _text_lengths(resolved)
    return Advice(
        path=resolved.folder / FILE,
        origin=_origin(resolved),
        facts=facts,
        starts=tuple(
            Start(
                name=name,
                backbone=own[NEIGHBOUR].backbone,
                weights=own[NEIGHBOUR].weights,
                preprocessing=own[NEIGHBOUR].preprocessing,
                texts=texts,
            )
            for (name, own), texts in zip(starts.items(), lengths, strict=True)
        ),
        expected={
            name: ranges
            for name, own in starts.items()
            if own[NEIGHBOUR].weights != "none" and (ranges := dict(_expected(own)))
        },
        rules={name: rule(facts) for name, rule in RULES.items()},
        rule=RULE,
        cells=tuple(_cells(resolved, timed=timed)),
    )


def _text_lengths(resolved: ResolvedRun) -> Iterator[TextLengths | None]:
    """Of the training texts of each start, None of other samples."""
    starts = starting_trials(resolved)
    sets = PreparedSets(replace(resolved, trials=tuple(starts)), None)
    for each in starts:
        data = sets.data(each)
        if not isinstance(data, TextData):
            yield None
            continue
        lengths = row_lengths(data.tokens[sets.splits(each).train])
        yield TextLengths(
            median=float(np.median(lengths)),
            longest=int(lengths.max()),
            max_length=data.input_size,
            full=float((lengths == data.input_size).mean()),
        )


def _expected(own: Mapping[str, ScoreRow]) -> Iterator[tuple[str, Range]]:
    """What each accuracy of frozen features makes expect."""
    for name in EXPECTED_BY:
        row = own[name]
        if row.value is not None:
            low, high = wilson_interval(round(row.value * row.samples), row.samples)
            yield name, Range(low=low, high=high)


def _origin(resolved: ResolvedRun) -> Origin:
    suite = resolved.loaded.suite
    return Origin(
        suite=suite.name,
        suite_digest=_digest(resolved),
        dataset=resolved.dataset.name,
        data=resolved.dataset.fingerprint,
        bench=installed_versions("bench").get("bench", "unknown"),
        numerics=NUMERICS_VERSION,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        complete=sum(each.complete for each in resolved.trials),
    )


def advice_of_suite(resolved: ResolvedRun) -> Advice | None:
    """What is in the run folder if it was told of this very suite and its data."""
    advice = _readable(resolved)
    if advice is None or advice.origin.data != resolved.dataset.fingerprint:
        return None
    return advice if advice.origin.suite_digest == _digest(resolved) else None


def _readable(resolved: ResolvedRun) -> Advice | None:
    try:
        return read_advice(resolved.folder)
    except BenchError:
        return None


def _digest(resolved: ResolvedRun) -> str:
    return content_hash(parse_yaml(dump_suite(resolved.loaded.suite)).data, digits=32)


def _has_advice(resolved: ResolvedRun) -> bool:
    """Whether the folder has some of this data, for all backbones of the run."""
    advice = _readable(resolved)
    if advice is None or advice.origin.data != resolved.dataset.fingerprint:
        return False
    known = {(each.backbone, each.weights) for each in advice.starts}
    suite = resolved.loaded.suite
    return known >= {
        (each.trial.backbone.label, suite.weights_label(each.trial.settings.weights))
        for each in starting_trials(resolved)
    }


@dataclass(frozen=True, kw_only=True)
class _Flops:
    """Floating-point operations, at most: of the pass that is scored, and of timing all cells."""

    scores: int
    timing: int


def _flops(resolved: ResolvedRun) -> _Flops:
    classes, samples = len(resolved.dataset.classes), min(MAX_SAMPLES, len(resolved.dataset))

    def of_sample(each: ResolvedTrial) -> int:
        return sum(group_flops(each.trial.backbone.name, each.input_size, classes).values())

    timing = 0
    selected = {each.trial.config: each for each in resolved.trials if each.skip_reason is None}
    for each in selected.values():
        # A step costs about three passes, and the first epoch warms up.
        steps = TIMED_BATCHES * each.trial.settings.batch_size
        timed = 2 * (3 * steps + TIMED_SAMPLES) * len(each.plan.stages)
        timing += timed * of_sample(each)
    return _Flops(
        scores=samples * sum(of_sample(each) for each in starting_trials(resolved)),
        timing=timing,
    )


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


def _cells(resolved: ResolvedRun, *, timed: bool) -> Iterator[AdvisedCell]:
    timings = Timings(resolved.dataset, resolved.device)
    cells: dict[str, list[ResolvedTrial]] = {}
    for each in resolved.trials:
        if each.skip_reason is None:
            cells.setdefault(each.trial.config, []).append(each)
    for trials in cells.values():
        trial = trials[0].trial
        yield AdvisedCell(
            config=trial.config,
            backbone=trial.backbone.label,
            weights=resolved.loaded.suite.weights_label(trial.settings.weights),
            strategy=trial.strategy.label,
            lr=trial.settings.lr,
            trials=len(trials),
            seconds=_seconds(resolved, trials, timings) if timed else None,
        )


def _seconds(
    resolved: ResolvedRun, trials: Sequence[ResolvedTrial], timings: Timings
) -> float | None:
    """Of some trials, if nothing were complete or kept; None where they cannot be timed here."""
    fresh = tuple(replace(each, complete=False, failure=None) for each in trials)
    own = replace(resolved, trials=fresh)
    try:
        work = count_work(counted_trials(own), reuse=own.reuse, from_cache=False)
        return estimate(own, work, workers=1, timings=timings).seconds
    except BenchError:
        return None
