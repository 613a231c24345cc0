"""Jobs and tasks: trials with everything a process needs, cut into pieces that run on their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.data import (
    Dataset,
    PreparedData,
    Splits,
    Targets,
    check_targets,
    make_fold_splits,
    make_splits,
    make_time_splits,
    strata_names,
    time_of,
    view_name,
)
from bench.data.dataset import UNLABELLED
from bench.errors import DataError
from bench.execution.epoch_keys import outline_of, trial_keys, trunk_key, views_key
from bench.execution.origins import sent_with, used_plugins
from bench.execution.tree import grow
from bench.keys import content_hash
from bench.methods.plan import Plan
from bench.models import Outline, Weights
from bench.suite import Trial
from bench.suite.plugins import Plugin
from bench.training.freezing import head_epochs
from bench.training.frozen_features import reads_whole_views
from bench.training.loop import Outcome
from bench.training.stacked_heads import stack_key
from bench.training.state import EpochRecord

MAX_STACKED = 64
"""How many trials' heads train at once; with hidden layers a quarter of it, which bounds memory.
Trials that share their first epoch stay together, however many they are."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One trial, resolved: picklable, and independent of every other job.

    `keys` are its epoch keys; its first `head_epochs` epochs train a plain head and nothing else;
    `trunk_key` names what a frozen group's output depends on beside the view of the samples,
    `bare_trunk_key` the same where the plan's adapter has no part in it, and `views_key` what views
    depend on, where jobs that share them keep them (else it is empty); `beside_all` is as for
    `reads_whole_views`. It trains on so many `train_samples`. With `stop` it ends after so many
    epochs: its state is kept and the test split is not read. Processes that train it load its
    `plugins` first.
    """

    trial_id: str
    trial: Trial
    plan: Plan
    data: Path
    class_map: dict[str, tuple[int | str, ...]] | None
    weights: Weights
    precision: str
    device: str
    checkpoint: Path | None
    keys: tuple[str, ...] = ()
    head_epochs: int = 0
    trunk_key: str = ""
    bare_trunk_key: str = ""
    views_key: str = ""
    beside_all: bool = False
    train_samples: int = 0
    stop: int | None = None
    plugins: tuple[Plugin, ...] = ()

    @property
    def cached(self) -> tuple[Path, ...]:
        """What it reads that another machine would have to make or fetch again."""
        weights = () if self.weights.path is None else (self.weights.path,)
        return (self.data, *weights)

    @property
    def outline(self) -> Outline:
        """That of its network."""
        return outline_of(self.trial, self.plan)

    @property
    def end(self) -> int:
        """After how many epochs it ends, unless it stops early."""
        return self.plan.epochs if self.stop is None else self.stop

    @property
    def heads_end(self) -> int:
        """How many of those epochs train a plain head and nothing else."""
        return min(self.head_epochs, self.end)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Epochs `start` to `end` of the path that `jobs` share, or heads that train together.

    `kind` is `alone` (one trial from start to end, sharing nothing), `heads` (the first epochs of
    all `jobs`, stacked) or `segment`. A task with `needs` waits until the state of that epoch key
    is saved. `longest` epochs depend on it one after another.
    """

    kind: Literal["alone", "heads", "segment"]
    jobs: tuple[Job, ...]
    start: int = 0
    end: int = 0
    needs: str | None = None
    longest: int = 0

    @property
    def devices(self) -> int:
        """How many devices train it together; heads on a frozen trunk need one only."""
        job = self.jobs[0]
        heads_alone = self.kind == "heads" or (self.kind == "alone" and job.heads_end == job.end)
        return 1 if heads_alone else job.trial.settings.devices


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Samples of a split in order: ids, class indices, probabilities `[samples, classes]`, and
    their groups and test sets if they have any.

    Where no classes are predicted, `targets` are what is true of them, and `probabilities`
    `[samples, outputs]` those of each label, or the values that are predicted.
    """

    samples: tuple[str, ...]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    probabilities: np.ndarray[Any, np.dtype[Any]]
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    test_sets: tuple[str, ...] | None = None
    targets: Targets | None = None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a job: an outcome, or the error that ended it; neither if it has stopped.

    The cause of an error may lie `external` to the trial: a file that is missing, a full disk, a
    process that was told to end. Such a trial has had no fair start.
    """

    trial_id: str
    started: datetime
    finished: datetime
    records: tuple[EpochRecord, ...] = ()
    outcome: Outcome | None = None
    predictions: Predictions | None = None
    val_predictions: Predictions | None = None
    peak_memory_mib: float | None = None
    error: str | None = None
    external: bool = False
    log: str | None = None


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """These trials have finished an epoch, together."""

    trials: tuple[str, ...]
    record: EpochRecord


@dataclass(frozen=True, kw_only=True)
class StateSaved:
    """The state with this epoch key can be loaded: tasks that need it may start.

    `trials` go on from it, in other tasks.
    """

    key: str
    trials: tuple[str, ...]


Event = EpochDone | StateSaved | JobResult


# Keys -----------------------------------------------------------------------------------------


def keyed(job: Job, *, fingerprint: str, splits: Splits, classes: Sequence[str]) -> Job:
    """The job with its keys; `fingerprint` is that of the prepared data."""
    trial = job.trial
    used = used_plugins(trial, job.plan)
    meets: dict[str, Any] = {
        "device": job.device,
        "precision": job.precision,
        "fingerprint": fingerprint,
        "plugins": used,
    }
    return replace(
        job,
        plugins=sent_with(used),
        trunk_key=trunk_key(trial, job.weights, **meets, splits=splits, adapter=job.plan.adapter),
        bare_trunk_key=trunk_key(trial, job.weights, **meets, splits=splits),
        views_key=views_key(trial, fingerprint=fingerprint, plugins=used),
        head_epochs=head_epochs(job.outline, job.plan),
        train_samples=len(splits.train),
        keys=trial_keys(
            trial,
            job.plan,
            job.weights,
            **meets,
            splits=splits,
            classes=classes,
            class_map=job.class_map,
        ),
    )


# Tasks ----------------------------------------------------------------------------------------


def cut(jobs: Sequence[Job], *, reuse: bool, more: bool = False) -> list[Task]:
    """The tasks of `jobs`, which have keys: with `reuse` no epoch is in two of them.

    Heads on a frozen trunk are stacked, the rest is cut where trials part. Without `reuse` every
    job is a task. Tasks of one network follow one another, seed by seed. `more` trials of the same
    kind may follow, so views are kept for them.
    """
    if not reuse:
        jobs = [replace(job, views_key="") for job in jobs]
        return _by_network(
            [Task(kind="alone", jobs=(job,), longest=job.plan.epochs) for job in jobs]
        )
    jobs = jobs if more else _keeping_views(jobs)
    by_id = {job.trial_id: job for job in jobs}
    forest = grow(
        {job.trial_id: job.keys[: job.end + 1] for job in jobs if _leaves_heads(job)},
        {job.trial_id: job.head_epochs for job in jobs},
    )
    followers = {trial: root.longest for root in forest for trial in root.trials}
    tasks = [_heads_task(stack, followers) for stack in _stacks(jobs)]
    for root in forest:
        for segment in root.walk():
            members = tuple(by_id[trial] for trial in segment.trials)
            start_key = members[0].keys[segment.start]
            tasks.append(
                Task(
                    kind="segment",
                    jobs=members,
                    start=segment.start,
                    end=segment.end,
                    needs=start_key if segment.start else None,
                    longest=segment.longest,
                )
            )
    return _by_network(tasks)


def _keeping_views(jobs: Sequence[Job]) -> list[Job]:
    """The jobs; those that see no view together with another training keep none."""
    trainings: dict[str, set[str]] = {}
    seen = {job.trial_id: views_seen(job) for job in jobs}
    for job in jobs:
        # Heads on one frozen trunk share its features, and are one training.
        own = job.keys[job.end] if _leaves_heads(job) else job.trunk_key
        trainings.setdefault(seen[job.trial_id], set()).add(own)
    alone = {views for views, each in trainings.items() if len(each) == 1}
    return [replace(job, views_key="") if seen[job.trial_id] in alone else job for job in jobs]


def views_seen(job: Job) -> str:
    """Equal for jobs that train on the same views of the same samples."""
    trial, settings = job.trial, job.trial.settings
    whole = reads_whole_views(settings, varies=True, beside_all=job.beside_all)
    view = view_name(trial.augmentation, seed=settings.seed, epoch=0)
    own = None if whole else (settings.shots, trial.fold)
    return content_hash([job.views_key, view, own])


def _by_network(tasks: Sequence[Task]) -> list[Task]:
    """In such an order a process builds a network once, and not for each of its trials.

    Of a run that ends early there is something of every config.
    """
    trunks: dict[tuple[str, str], int] = {}
    for task in tasks:
        trunks.setdefault(_trunk(task), len(trunks))
    return sorted(tasks, key=lambda t: (trunks[_trunk(t)], t.jobs[0].trial.settings.seed))


def _trunk(task: Task) -> tuple[str, str]:
    job = task.jobs[0]
    return job.trial.backbone.label, job.weights.fingerprint


def _leaves_heads(job: Job) -> bool:
    return job.head_epochs == 0 or job.end > job.head_epochs


def _stacks(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """Jobs whose heads train together, split where a stack grows too large."""
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        if job.head_epochs:
            trial = job.trial
            key = stack_key(
                job.trunk_key,
                trial.settings,
                trial.augmentation,
                fold=trial.fold,
                train_samples=job.train_samples,
            )
            alike.setdefault(key, []).append(job)
    stacks = []
    for members in alike.values():
        size = MAX_STACKED if members[0].trial.settings.head.name == "linear" else MAX_STACKED // 4
        stack: list[Job] = []
        for sharing in _by_first_epoch(members):
            if stack and len(stack) + len(sharing) > size:
                stacks.append(tuple(stack))
                stack = []
            stack += sharing
        stacks.append(tuple(stack))
    return stacks


def _by_first_epoch(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that share their first epoch: one stack must have all of them."""
    groups: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.trial.settings.seed):
        groups.setdefault(job.keys[1], []).append(job)
    return list(groups.values())


def _heads_task(stack: tuple[Job, ...], followers: Mapping[str, int]) -> Task:
    longest = max(job.heads_end + followers.get(job.trial_id, 0) for job in stack)
    return Task(kind="heads", jobs=stack, longest=longest)


# Splits ---------------------------------------------------------------------------------------


def trial_splits(trial: Trial, data: PreparedData) -> Splits:
    """The splits of the trial's seed and fold: the same for every trial with both."""
    return _splits(trial, data, data.given_splits)


def dataset_splits(trial: Trial, dataset: Dataset) -> Splits:
    """`trial_splits` before anything is prepared."""
    return _splits(trial, dataset, dataset.splits)


def _splits(
    trial: Trial, samples: Dataset | PreparedData, given_splits: npt.NDArray[np.int8]
) -> Splits:
    """Raises `DataError` where they cannot be drawn, or nothing can be learned from one."""
    splits = _drawn_splits(trial, samples, given_splits)
    if (targets := samples.targets) is not None:
        of_training = targets.values[splits.train]
        check_targets(targets.task, of_training, samples.classes, "the training split")
    return splits


def _drawn_splits(
    trial: Trial, samples: Dataset | PreparedData, given_splits: npt.NDArray[np.int8]
) -> Splits:
    options, settings = trial.dataset.options, trial.settings
    labels, classes, times = samples.labels, strata_names(samples), samples.times
    all_classes = samples.targets is None
    rule = options.get("split") or {"by": "image"}
    together = samples.groups if rule["by"] == "group" else None
    if settings.folds is not None:
        assert trial.fold is not None
        if np.any(given_splits == UNLABELLED):
            raise DataError(
                "folds test every image once, but what is tested here is target data; leave one of "
                "the two out"
            )
        if samples.test_sets is not None:
            raise DataError(
                "folds test every image once, but the data set has test sets with names; leave one "
                "of the two out"
            )
        return make_fold_splits(
            labels,
            classes,
            seed=settings.seed,
            folds=settings.folds,
            fold=trial.fold,
            val_fraction=options["val_fraction"],
            shots=settings.shots,
            unlabelled_fraction=options["unlabelled_fraction"],
            groups=together,
            all_classes=all_classes,
        )
    if rule["by"] == "time":
        assert times is not None
        return make_time_splits(
            labels,
            given_splits,
            classes,
            times,
            at=time_of(rule["at"]),
            seed=settings.seed,
            val_fraction=options["val_fraction"],
            shots=settings.shots,
            unlabelled_fraction=options["unlabelled_fraction"],
            all_classes=all_classes,
        )
    return make_splits(
        labels,
        given_splits,
        classes,
        seed=settings.seed,
        val_fraction=options["val_fraction"],
        test_fraction=options["test_fraction"],
        split_seed=options["split_seed"],
        shots=settings.shots,
        unlabelled_fraction=options["unlabelled_fraction"],
        groups=together,
        all_classes=all_classes,
    )


def splits_key(trial: Trial) -> tuple[int, int | None, int | None]:
    """What tells the splits of a suite's trials apart: equal keys, equal splits."""
    return trial.settings.seed, trial.fold, trial.settings.shots
