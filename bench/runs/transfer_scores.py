"""Transfer scores of a suite's backbones: one pass of training samples, no training."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data import PreparedData, Samples, open_data, samples_digest
from bench.errors import BenchError, WeightsError, counted
from bench.execution.engine import build, make_training
from bench.execution.executors import Where
from bench.execution.jobs import Job, trial_splits
from bench.keys import derive_seed
from bench.methods.plan import HEAD
from bench.methods.strategies import make_plan
from bench.methods.transfer_scores import (
    TRANSFER_SCORES,
    Features,
    TransferScore,
    UndefinedScoreError,
)
from bench.models import Network, Weights, layer_group_names, takes, text_family
from bench.models.evaluation import evaluation_batch, view_batch
from bench.models.pooled_groups import NAME, pooled_groups
from bench.models.source_head import source_logits
from bench.results.folder import ScoreRow, refuse_links, write_transfer_scores
from bench.runs.check import CheckedSuite
from bench.runs.options import SelectionKeywords
from bench.runs.reporter import Reporter, SilentReporter
from bench.runs.resolve import ResolvedRun, ResolvedTrial, resolve_run
from bench.runs.tasks import ready_jobs
from bench.suite import Entry, FractalWeights
from bench.suite.plugins import plugin_errors_told
from bench.system.cache import cache_root
from bench.system.machine import keep_large_buffers, usable_cores
from bench.system.transfers import on_device
from bench.training.frozen_features import FeatureStore, view_key
from bench.training.loop import isolated
from bench.training.trial import Training

MAX_SAMPLES = 2000
"""Training samples that are scored at most: with more, scores change little and take long."""
PROBE = {
    "strategy": Entry(name="linear_probe"),
    "schedule": Entry(name="constant"),
    "augmentation": Entry(name="none"),
}
"""The axes of a plain linear probe."""


@plugin_errors_told()
def score_suite(
    checked: CheckedSuite,
    *,
    reporter: Reporter | None = None,
    **options: Unpack[SelectionKeywords],
) -> tuple[ScoreRow, ...]:
    """Score the backbones of a suite, and keep the table in the run folder.

    Raises `BenchError` as `resolve_run` does.
    """
    reporter = reporter or SilentReporter()
    resolved = resolve_run(checked, progress=reporter.progress, **options)
    refuse_links(resolved.folder)
    rows = transfer_scores(resolved, reporter=reporter)
    write_transfer_scores(resolved.folder, rows)
    if resolved.remote is not None:
        resolved.remote.push()
    return rows


def transfer_scores(
    resolved_run: ResolvedRun,
    *,
    max_samples: int = MAX_SAMPLES,
    final: Collection[str] | None = None,
    where: Where | None = None,
    reporter: Reporter | None = None,
) -> tuple[ScoreRow, ...]:
    """Every transfer score of every layer group of every backbone that the run's trials start from.

    Backbones count with their weights and preprocessing; random weights only where the run has no
    others for the backbone. They see the training split of the first seed (with folds, of its first
    fold; of several `shots` the largest), at most `max_samples` of it with the classes in
    proportion, in the view that evaluation uses. No other split is looked at. Weights are fetched
    or made first; what the frozen backbones give is kept as the features of trials are. What ends
    with an error, or has no score, is in the rows with the reason. With names of scores as `final`
    there are these alone, and of what flows into the head alone. `where` says who makes weights
    that have to be trained.
    """
    keep_large_buffers()
    reporter = reporter or SilentReporter()
    starts = starting_trials(resolved_run)
    probes = tuple(each for each in map(_probe, starts) if each is not None)
    jobs = iter(ready_jobs(replace(resolved_run, trials=probes), reporter, where))
    features = FeatureStore(cache_root() if resolved_run.reuse else None)
    names = tuple(TRANSFER_SCORES) if final is None else final
    rows: list[ScoreRow] = []
    for done, start in enumerate(starts):
        _tell(reporter, done, len(starts))
        told = _Told.of(resolved_run, start)
        if _probe(start) is None:
            reason = f"{start.trial.backbone.name} gives n-grams, and no vector"
            rows += told.without_scores(names, reason)
            continue
        try:
            rows += tuple(_scored(next(jobs), told, features, final, max_samples))
        except (BenchError, RuntimeError) as error:  # torch's own, such as too little memory
            rows += told.without_scores(names, error_text(error))
    _tell(reporter, len(starts), len(starts))
    return tuple(rows)


def _tell(reporter: Reporter, done: int, total: int) -> None:
    if reporter.progress is not None:
        reporter.progress("computing transfer scores", done, total)


def error_text(error: Exception) -> str:
    """What went wrong, in a line."""
    return str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"


# What is scored ---------------------------------------------------------------------------------


def starting_trials(resolved_run: ResolvedRun) -> list[ResolvedTrial]:
    """For each backbone with weights and preprocessing, the trial whose training split is seen."""
    selected = [each for each in resolved_run.trials if each.skip_reason is None]
    seed = min((each.trial.settings.seed for each in selected), default=0)
    found: dict[tuple[object, ...], ResolvedTrial] = {}
    pretrained = {e.trial.backbone.label for e in selected if e.weights.name != "none"}
    for each in selected:
        trial, settings = each.trial, each.trial.settings
        if settings.seed != seed or trial.fold not in (None, 0):
            continue
        if each.weights.name == "none" and trial.backbone.label in pretrained:
            continue
        key = (trial.backbone.label, each.weights, each.input_size, settings.resize, each.precision)
        if key not in found or _shots(each) > _shots(found[key]):
            found[key] = each
    return list(found.values())


def _shots(resolved: ResolvedTrial) -> float:
    shots = resolved.trial.settings.shots
    return float("inf") if shots is None else shots


def _probe(resolved: ResolvedTrial) -> ResolvedTrial | None:
    """A linear probe from the trial's start, still to be trained; None where no vector is there."""
    name = resolved.trial.backbone.name
    if takes(name) == "text" and text_family(name).fits is not None:
        return None
    trial = resolved.trial.with_settings(head=Entry(name="linear"), epochs=1)
    trial = trial.model_copy(update=PROBE)
    plan = make_plan(trial.strategy, layer_group_names(name), trial.settings)
    return replace(resolved, trial=trial, plan=plan, reuse=False)


def scored_samples(
    samples: Samples, strata: npt.NDArray[np.int64], *, seed: int, at_most: int
) -> Samples:
    """At most so many of the `samples`, ascending; each stratum has its share, and one at least.

    `strata` are those of all samples of the data. Which ones are drawn depends on `seed`.
    """
    if len(samples) <= at_most:
        return np.sort(samples)
    order = np.random.default_rng(derive_seed(seed, "transfer scores")).permutation(samples)
    place = np.empty(len(order))
    for stratum in np.unique(strata[order]):
        own = np.flatnonzero(strata[order] == stratum)
        place[own] = np.arange(len(own)) / len(own)
    return np.sort(order[np.argsort(place, kind="stable")[:at_most]])


# One backbone -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What all rows of a backbone say."""

    backbone: str
    weights: str
    preprocessing: str
    seed: int
    samples: int = 0
    pass_seconds: float = 0.0

    @classmethod
    def of(cls, resolved_run: ResolvedRun, resolved: ResolvedTrial) -> _Told:
        settings = resolved.trial.settings
        of_texts = takes(resolved.trial.backbone.name) == "text"
        sees: dict[str, Any] = (
            {"max_length": resolved.input_size, "pooling": settings.pooling}
            if of_texts
            else {"image_size": resolved.input_size, "resize": settings.resize}
        )
        return cls(
            backbone=resolved.trial.backbone.label,
            weights=resolved_run.loaded.suite.weights_label(settings.weights),
            preprocessing=json.dumps({**sees, "precision": resolved.precision}),
            seed=settings.seed,
        )

    def without_scores(self, names: Collection[str], reason: str) -> Iterator[ScoreRow]:
        """A row for each score, which the backbone does not have."""
        for name in names:
            yield self.row(None, name, reason)

    def row(
        self, group: str | None, score: str, value: float | str, seconds: float = 0.0
    ) -> ScoreRow:
        """With a value, or the reason why there is none."""
        return ScoreRow(
            **vars(self),
            group=group,
            score=score,
            value=None if isinstance(value, str) else value,
            reason=value if isinstance(value, str) else None,
            seconds=seconds,
        )


def _scored(
    job: Job | BenchError,
    told: _Told,
    features: FeatureStore,
    final: Collection[str] | None,
    max_samples: int,
) -> Iterator[ScoreRow]:
    if isinstance(job, BenchError):
        raise job
    started = time.perf_counter()
    seen = _seen(job, features, max_samples)
    told = replace(told, samples=len(seen.samples), pass_seconds=time.perf_counter() - started)
    wanted = TRANSFER_SCORES if final is None else {n: TRANSFER_SCORES[n] for n in final}
    for group, vectors in list(seen.vectors.items())[0 if final is None else -1 :]:
        known = _features(vectors)
        for name, score in wanted.items():
            if score.of == "features":
                value, seconds = _timed(score, known, seen)
                yield told.row(group, name, value, seconds)
    for name, score in wanted.items():
        if score.of == "source_probabilities":
            value, seconds = _timed(score, seen.source_probabilities, seen)
            yield told.row(HEAD, name, value, seconds)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a backbone makes of `samples`: vectors by layer group, and what its classifier says, or
    why it says nothing. Scores compare it with `targets`: classes `[n]`, or `[n, outputs]`."""

    samples: Samples
    targets: npt.NDArray[Any]
    vectors: Mapping[str, npt.NDArray[Any]]
    source_probabilities: npt.NDArray[np.float64] | str


def _features(vectors: npt.NDArray[Any]) -> Features | str:
    try:
        return Features(vectors)
    except UndefinedScoreError as error:
        return str(error)


def _timed(
    score: TransferScore, given: Features | npt.NDArray[Any] | str, seen: _Seen
) -> tuple[float | str, float]:
    """The value, or why there is none, and the seconds that it took."""
    if score.of_classes and seen.targets.ndim > 1:
        return "it is of samples with one class each", 0.0
    if isinstance(given, str):
        return given, 0.0
    started = time.perf_counter()
    try:
        value: float | str = score.function(given, seen.targets)
    except (BenchError, np.linalg.LinAlgError) as error:
        value = error_text(error)
    return value, time.perf_counter() - started


def _seen(job: Job, features: FeatureStore, max_samples: int) -> _Seen:
    """Passes the samples through the network, or finds what it has made of them before."""
    data = open_data(job.data)
    splits = trial_splits(job.trial, data)
    settings = job.trial.settings
    samples = scored_samples(splits.train, data.labels, seed=settings.seed, at_most=max_samples)
    with isolated(settings.cpu_threads, job.device):
        network, reason = _network(job, data)
        pooled = pooled_groups(network)
        training = make_training(
            job,
            data,
            splits,
            network=pooled.network,
            features=features,
            parallel_batches=_parallel_batches(job, pooled.network),
        )
        training.network.eval()
        rows = _rows(training, samples)
        first = training.central.batch(samples[:1], 0)
        widths, shape = pooled.widths(first), pooled.head_input(first)
        if reason is None and shape is None:
            reason = "its head takes maps of features, of which the means alone are kept"
        source = (
            _source_probabilities(training, rows[:, -widths[-1] :].reshape(-1, *(shape or ())))
            if reason is None
            else reason
        )
    parts = np.split(rows.numpy(), np.cumsum(widths)[:-1], axis=1)
    return _Seen(
        samples=samples,
        targets=training.targets[samples],
        vectors=dict(zip(pooled.names, parts, strict=True)),
        source_probabilities=source,
    )


def _parallel_batches(job: Job, network: Network) -> int:
    """How many batches run at once: what blocks make of texts is caught as they run, one by one."""
    return 1 if network.takes_texts or job.device != "cpu" else usable_cores()


def _rows(training: Training, samples: Samples) -> Tensor:
    """The vectors of all groups side by side, a row a sample, on the CPU; kept and found as those
    in front of a boundary are."""
    key = view_key(training.trunk_key, NAME, training.central.view(0), samples_digest(samples))
    size = view_batch(training.network, training.device)
    chunks = np.array_split(samples, range(size, len(samples), size))
    batches = (on_device(training.central.batch(own, 0), training.device) for own in chunks)
    trunk = training.trunk(HEAD)
    found = training.features.view(key, lambda: trunk(batches), count=len(samples))
    if found is None:
        raise BenchError(f"its features of {counted(len(samples), 'sample')} are too large")
    return found.cpu()


# The classifier of the weights ------------------------------------------------------------------


def _network(job: Job, data: PreparedData) -> tuple[Network, str | None]:
    """The network, with the classifier of the weights or the reason why that is not there."""
    weights = _with_classes(job)
    if weights.classes is None:
        return build(job, data), _no_classifier(job)
    try:
        return build(replace(job, weights=weights), data, source_head=True), None
    except WeightsError as error:  # of what is told of the classifier, or of all of the file
        return build(job, data), str(error)


def _with_classes(job: Job) -> Weights:
    """The weights, with names for the classes of generated ones, whose file has a classifier."""
    if job.weights.name != "fractals":
        return job.weights
    recipe = FractalWeights(**job.trial.settings.weights.options)
    return replace(job.weights, classes=tuple(f"fractal {n}" for n in range(recipe.classes)))


def _no_classifier(job: Job) -> str:
    """Why the weights have no classifier of known classes."""
    if job.weights.path is None:
        return "random weights have no classifier"
    if job.trial.settings.weights.is_file:
        return "nobody has told the classes of the file's classifier (weights: {classes: …})"
    return f"the weights {job.weights.name!r} come without a classifier"


def _source_probabilities(training: Training, features: Tensor) -> npt.NDArray[np.float64]:
    """What the classifier of the weights says `[n, source classes]`, as the head computes."""
    with torch.no_grad():
        pieces = torch.split(features.to(training.device), evaluation_batch(training.device))
        logits = torch.cat([source_logits(training.network, piece).cpu() for piece in pieces])
    return np.asarray(logits.double().softmax(dim=1).numpy())
