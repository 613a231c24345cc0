"""A job: one trial with everything a process needs to train it, and what comes back."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.backbones import Network, Weights, build_network
from bench.backbones.network import save_tensors
from bench.data import ImageData, Splits, make_splits
from bench.errors import BenchError
from bench.machine import PeakMemory
from bench.plan import Plan
from bench.suite import Trial
from bench.trainer import EpochRecord, Outcome, Training, train

Emit = Callable[[str, EpochRecord], None]
"""Called with the trial's id and the record of every finished epoch."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One trial, resolved: picklable, and independent of every other job."""

    trial_id: str
    trial: Trial
    plan: Plan
    images: Path
    class_map: dict[str, tuple[int | str, ...]] | None
    weights: Weights
    precision: str
    device: str
    checkpoint: Path | None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Test samples in order: ids, class indices, probabilities `[samples, classes]`."""

    samples: tuple[str, ...]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    probabilities: np.ndarray[Any, np.dtype[np.float32]]
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a job: an outcome, or the error that ended it."""

    trial_id: str
    started: datetime
    finished: datetime
    records: tuple[EpochRecord, ...] = ()
    outcome: Outcome | None = None
    predictions: Predictions | None = None
    peak_memory_mib: float | None = None
    error: str | None = None
    log: str | None = None


def perform(job: Job, emit: Emit) -> JobResult:
    """Train one job. An error ends this job only: it is returned, not raised."""
    started = datetime.now(UTC)
    records: list[EpochRecord] = []

    def on_epoch(record: EpochRecord) -> None:
        records.append(record)
        emit(job.trial_id, record)

    try:
        return _trained(job, on_epoch, started)
    except BenchError as error:
        message, log = str(error), None
    except Exception as error:
        message, log = f"{type(error).__name__}: {error}", traceback.format_exc()
    return JobResult(
        trial_id=job.trial_id,
        started=started,
        finished=datetime.now(UTC),
        records=tuple(records),
        error=message,
        log=log,
    )


def _trained(job: Job, on_epoch: Callable[[EpochRecord], None], started: datetime) -> JobResult:
    memory = PeakMemory(job.device)
    data = ImageData.open(job.images)
    splits = trial_splits(job.trial, data)
    training = make_training(job, data, splits)
    outcome = train(training, on_epoch)
    if job.checkpoint is not None:
        save_tensors(outcome.state, job.checkpoint)
    return JobResult(
        trial_id=job.trial_id,
        started=started,
        finished=datetime.now(UTC),
        records=outcome.records,
        # The weights stay in this process; what comes back is small.
        outcome=replace(outcome, state={}),
        predictions=Predictions(
            samples=tuple(data.sample_ids[index] for index in splits.test),
            labels=data.labels[splits.test],
            probabilities=outcome.probabilities,
            classes=data.classes,
        ),
        peak_memory_mib=memory.mebibytes(),
    )


def make_training(job: Job, data: ImageData, splits: Splits) -> Training:
    """The network and everything else that `train` needs for this job."""
    import torch

    trial = job.trial
    return Training(
        network=_network(job, data),
        plan=job.plan,
        data=data,
        splits=splits,
        settings=trial.settings,
        schedule=trial.schedule,
        augmentation=trial.augmentation,
        device=torch.device(job.device),
        precision=job.precision,
    )


def _network(job: Job, data: ImageData) -> Network:
    settings = job.trial.settings
    return build_network(
        job.trial.backbone.name,
        weights=job.weights,
        head=settings.head,
        num_classes=len(data.classes),
        seed=settings.seed,
        image_size=data.image_size,
        class_map=job.class_map,
        classes=data.classes,
    )


def trial_splits(trial: Trial, data: ImageData) -> Splits:
    """The splits of the trial's seed: the same for every trial of that seed."""
    return splits_of(trial, data.labels, data.source_splits, data.classes)


def splits_of(
    trial: Trial,
    labels: npt.NDArray[np.int64],
    source_splits: npt.NDArray[np.int8],
    classes: Sequence[str],
) -> Splits:
    """`trial_splits` of images that need not have been decoded yet."""
    options = trial.dataset.options
    return make_splits(
        labels,
        source_splits,
        classes,
        seed=trial.settings.seed,
        val_fraction=options["val_fraction"],
        test_fraction=options["test_fraction"],
        split_seed=options["split_seed"],
        shots=trial.settings.shots,
    )
