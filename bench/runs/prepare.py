"""From a resolved run to jobs: data prepared, weights fetched or made, every trial keyed."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from bench.data import (
    PreparedData,
    Resize,
    Splits,
    class_counts,
    data_fingerprint,
    find_leakage,
    open_data,
    prepare,
    strata_names,
)
from bench.data.dataset import SPLIT_NOTE, UNLABELLED
from bench.data.target_data import ID_PREFIX
from bench.errors import BenchError
from bench.execution.jobs import Job, JobResult, dataset_splits, keyed, splits_key, trial_splits
from bench.execution.work import CountedTrial
from bench.methods.metrics import ACCURACY, measured, metric
from bench.methods.target_tasks import REGRESSION
from bench.models import Weights, check_unchanged, obtain_weights
from bench.results.folder import InputView
from bench.runs.checkpoints import checkpoint_path
from bench.runs.inputs import describe_inputs, input_views
from bench.runs.language_weights import make_language_weights
from bench.runs.resolve import ResolvedRun, ResolvedTrial, data_errors_placed, view_read
from bench.runs.source_weights import pretraining_job
from bench.suite import FractalWeights, Interpolation, LanguageWeights
from bench.system.download import OnProgress


def counted_trials(resolved_run: ResolvedRun) -> list[CountedTrial]:
    """Every trial that is complete or to be trained, with its keys, before any sample is prepared.

    Where samples turn out to be unreadable, the keys of the run are others.
    """
    dataset, counted = resolved_run.dataset, []
    drawn: dict[object, Splits] = {}
    for resolved in resolved_run.trials:
        if resolved.skip_reason is not None or resolved.stays_failed:
            continue
        settings = resolved.trial.settings
        key = splits_key(resolved.trial)
        if key not in drawn:
            with data_errors_placed(resolved_run.loaded):
                drawn[key] = dataset_splits(resolved.trial, dataset)
        splits = drawn[key]
        counted.append(
            CountedTrial(
                job=keyed(
                    _unkeyed(resolved_run, resolved, resolved.weights, Path()),
                    fingerprint=data_fingerprint(
                        dataset,
                        size=resolved.input_size,
                        resize=settings.resize,
                        interpolation=resolved.weights.interpolation,
                        tokenizer=resolved.weights.tokenizer,
                    ),
                    splits=splits,
                    classes=dataset.classes,
                ),
                complete=not resolved.pending,
                input_size=resolved.input_size,
                num_classes=len(dataset.classes),
                splits=splits,
                all=len(dataset),
            )
        )
    return counted


def make_job(
    resolved_run: ResolvedRun,
    resolved: ResolvedTrial,
    weights: StartingWeights,
    sets: PreparedSets,
) -> Job | BenchError:
    """The trial as a job with its keys, or why its weights are not to be had."""
    obtained = weights.of(resolved)
    if isinstance(obtained, BenchError):
        return obtained
    data = sets.data(resolved)
    job = _unkeyed(resolved_run, resolved, obtained, data.folder)
    splits = sets.splits(resolved)
    return keyed(job, fingerprint=data.fingerprint, splits=splits, classes=data.classes)


def _unkeyed(
    resolved_run: ResolvedRun, resolved: ResolvedTrial, weights: Weights, data: Path
) -> Job:
    class_map = resolved_run.dataset.class_map
    return Job(
        trial_id=resolved.id,
        trial=resolved.trial,
        plan=resolved.plan,
        data=data,
        class_map=dict(class_map) if class_map is not None else None,
        weights=weights,
        precision=resolved.precision,
        device=resolved_run.device,
        checkpoint=None
        if resolved_run.loaded.suite.checkpoints == "none"
        else checkpoint_path(resolved_run.folder, resolved.id),
        beside_all=view_read(resolved.trial) in resolved_run.views_of_all,
    )


# Weights --------------------------------------------------------------------------------------


class StartingWeights:
    """The starting weights of the pending trials: each is fetched or made once."""

    def __init__(self, resolved_run: ResolvedRun, progress: OnProgress | None) -> None:
        self._resolved_run = resolved_run
        self._progress = progress
        self._obtained: dict[tuple[str, str], Weights | BenchError] = {}
        self._failed_sources: dict[str, BenchError] = {}

    def source_jobs(self) -> dict[str, Job]:
        """The source tasks that are still to be trained, by the fingerprint of their weights."""
        jobs: dict[str, Job] = {}
        for resolved in self._resolved_run.pending:
            fingerprint = resolved.weights.fingerprint
            if resolved.needs_source_task and fingerprint not in jobs:
                jobs[fingerprint] = self._source_job(resolved)
        return jobs

    def note_source(self, result: JobResult) -> None:
        """Trials that wait for the weights of a source task that failed cannot be trained."""
        if result.error is not None:
            message = f"pretraining on fractals failed: {result.error}"
            self._failed_sources[result.trial_id] = BenchError(message)

    def of(self, resolved: ResolvedTrial) -> Weights | BenchError:
        """The trial's weights as they lie on this machine, or why they do not."""
        if resolved.weights.name in ("none", "fractals"):
            return self._failed_sources.get(resolved.weights.fingerprint, resolved.weights)
        key = (resolved.trial.backbone.name, resolved.weights.fingerprint)
        if key not in self._obtained:
            self._obtained[key] = self._obtain(resolved)
        obtained = self._obtained[key]
        if isinstance(obtained, BenchError):
            return obtained
        # What the trial's id says, and what its processes look for: of one file there may be
        # networks that pool its vectors in several ways.
        return replace(resolved.weights, path=obtained.path)

    def _obtain(self, resolved: ResolvedTrial) -> Weights | BenchError:
        backbone, entry = resolved.trial.backbone.name, resolved.trial.settings.weights
        try:
            if entry.name == "language":
                recipe = LanguageWeights(**entry.options)
                make_language_weights(resolved.weights, recipe, progress=self._progress)
                return resolved.weights
            check_unchanged(resolved.weights)
            return obtain_weights(backbone, entry, progress=self._progress)
        except BenchError as error:
            return error

    def _source_job(self, resolved: ResolvedTrial) -> Job:
        return pretraining_job(
            resolved.trial.backbone.name,
            FractalWeights(**resolved.trial.settings.weights.options),
            resolved.weights,
            image_size=resolved.input_size,
            device=self._resolved_run.device,
            progress=self._progress,
        )


# Data -----------------------------------------------------------------------------------------


_PreparedBy: TypeAlias = tuple[int, Resize, Interpolation, str | None]


def _prepared_by(resolved: ResolvedTrial) -> _PreparedBy:
    """What fixes the prepared samples of a trial: size, and how they are resized, or cut."""
    weights, settings = resolved.weights, resolved.trial.settings
    return resolved.input_size, settings.resize, weights.interpolation, weights.tokenizer


class PreparedSets:
    """The data set of a run, prepared in every way in which its trials see it."""

    def __init__(self, resolved_run: ResolvedRun, progress: OnProgress | None) -> None:
        self._resolved_run = resolved_run
        self._folders: dict[_PreparedBy, Path] = {}
        for resolved in resolved_run.trials:
            key = _prepared_by(resolved)
            if key not in self._folders:
                size, resize, interpolation, tokenizer = key
                with data_errors_placed(resolved_run.loaded):
                    self._folders[key] = prepare(
                        resolved_run.dataset,
                        size=size,
                        resize=resize,
                        interpolation=interpolation,
                        tokenizer=tokenizer,
                        progress=progress,
                    )
        named = (each.trial.settings.metric for each in resolved_run.trials)
        self._primary = next(named, ACCURACY)
        self._opened: dict[Path, PreparedData] = {}
        self._splits: dict[tuple[int, int | None, int | None], Splits] = {}

    def data(self, resolved: ResolvedTrial) -> PreparedData:
        """The samples that the trial sees."""
        folder = self._folders[_prepared_by(resolved)]
        if folder not in self._opened:
            self._opened[folder] = open_data(folder)
        return self._opened[folder]

    def splits(self, resolved: ResolvedTrial) -> Splits:
        """The trial's splits, drawn once for each seed and fold."""
        key = splits_key(resolved.trial)
        if key not in self._splits:
            with data_errors_placed(self._resolved_run.loaded):
                self._splits[key] = trial_splits(resolved.trial, self.data(resolved))
        return self._splits[key]

    def views(self) -> list[InputView]:
        """A few inputs as the network of the first trial sees them that varies its images."""
        trials = self._resolved_run.trials
        varied = (each for each in trials if each.trial.augmentation.name != "none")
        shown = next(varied, trials[0])
        return input_views(shown, self.data(shown), self.splits(shown))

    def _largest(self) -> Splits:
        """The splits of the first trial, or of the trial beside it that trains on more images."""
        first = splits_key(self._resolved_run.trials[0].trial)
        beside = [own for key, own in self._splits.items() if key[:-1] == first[:-1]]
        return max(beside, key=lambda own: len(own.train))

    def describe(self) -> dict[str, Any]:
        """The content of `data.json`: classes, counts of every split, and what is wrong."""
        data = self.data(self._resolved_run.trials[0])
        for resolved in self._resolved_run.trials:
            self.splits(resolved)
        splits = list(self._splits.values())
        folds = self._resolved_run.trials[0].trial.settings.folds
        # Texts are cut by each backbone's own tokenizer, and what is noticed then is of one alone.
        opened = map(self.data, self._resolved_run.trials)
        found = dict.fromkeys(each for own in opened for each in own.issues)
        noticed = [each for each in found if folds is None or each.kind != SPLIT_NOTE]
        issues = (*noticed, *self._resolved_run.issues, *find_leakage(data, splits))
        # The counts are those of one fold, so that a report says how many images are tested in all.
        in_folds = {} if folds is None else {"folds": folds, "tested_images": len(data)}
        return {
            "dataset": data.name,
            "fingerprint": data.fingerprint,
            "dataset_fingerprint": self._resolved_run.dataset.fingerprint,
            **_told_of_task(data, self._largest()),
            **_told_of_target(data, self._largest()),
            "classes": list(data.classes),
            "counts": class_counts(data.labels, self._largest(), strata_names(data)),
            **in_folds,
            **({} if data.groups is None else {"groups_count": True}),
            "inputs": describe_inputs(self._resolved_run),
            "issues": [asdict(issue) for issue in issues],
            "metrics": [asdict(metric(name)) for name in measured(self._primary)],
        }


def _told_of_target(data: PreparedData, splits: Splits) -> dict[str, bool]:
    """Whether what is tested is what the model is for, where samples of that have no labels."""
    if not splits.unlabelled.size:
        return {}
    apart = bool(np.any(data.given_splits == UNLABELLED))
    tested = (data.sample_ids[at].startswith(ID_PREFIX) for at in splits.test)
    return {"target_tested": not apart or all(tested)}


def _told_of_task(data: PreparedData, splits: Splits) -> dict[str, Any]:
    """What of `data.json` is there only where no classes are predicted.

    `positives` says how many samples of every split have each label.
    """
    targets = data.targets
    if targets is None:
        return {}
    if targets.task == REGRESSION.name:
        return {"task": targets.task}
    having = {split: targets.values[own].sum(axis=0) for split, own in splits.named().items()}
    positives = {
        split: {name: int(count) for name, count in zip(data.classes, own, strict=True)}
        for split, own in having.items()
    }
    return {"task": targets.task, "positives": positives}
