"""From a plan to jobs: images prepared, starting weights fetched or made, every trial keyed."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.data import ImageData, Resize, Splits, class_counts, leakage, prepare_images
from bench.data.images.prepared import prepared_fingerprint, resolve_resize
from bench.errors import BenchError
from bench.execution.jobs import Job, JobResult, keyed, splits_of, trial_splits
from bench.execution.work import Counted
from bench.models import Weights, check_unchanged, obtain_weights
from bench.runs.resolve import PlannedTrial, RunPlan
from bench.runs.source_weights import pretraining_job
from bench.suite import FractalWeights
from bench.system.download import Progress


def planned_jobs(plan: RunPlan) -> list[Counted]:
    """Every trial that is complete or to be trained, with its keys, before any image is decoded.

    Where images turn out to be unreadable, the keys of the run are others.
    """
    source, counted = plan.source, []
    drawn: dict[tuple[int, int | None], Splits] = {}
    for planned in plan.trials:
        if planned.skip_reason is not None or planned.stays_failed:
            continue
        settings = planned.trial.settings
        key = (settings.seed, settings.shots)
        if key not in drawn:
            drawn[key] = splits_of(planned.trial, source.labels, source.splits, source.classes)
        splits = drawn[key]
        resize = resolve_resize(settings.resize, source.native_size)
        counted.append(
            Counted(
                job=keyed(
                    _unkeyed(plan, planned, planned.weights, Path()),
                    fingerprint=prepared_fingerprint(source, planned.image_size, resize),
                    splits=splits,
                    classes=source.classes,
                ),
                complete=not planned.pending,
                image_size=planned.image_size,
                num_classes=len(source.classes),
                splits=splits,
                all=len(source),
            )
        )
    return counted


def make_job(
    plan: RunPlan, planned: PlannedTrial, weights: StartingWeights, images: PreparedImages
) -> Job | BenchError:
    """The trial as a job with its keys, or why its weights are not to be had."""
    obtained = weights.of(planned)
    if isinstance(obtained, BenchError):
        return obtained
    data = images.data(planned)
    job = _unkeyed(plan, planned, obtained, data.folder)
    splits = images.splits(planned)
    return keyed(job, fingerprint=data.fingerprint, splits=splits, classes=data.classes)


def _unkeyed(plan: RunPlan, planned: PlannedTrial, weights: Weights, images: Path) -> Job:
    class_map = plan.source.class_map
    return Job(
        trial_id=planned.id,
        trial=planned.trial,
        plan=planned.plan,
        images=images,
        class_map=dict(class_map) if class_map is not None else None,
        weights=weights,
        precision=planned.precision,
        device=plan.device,
        checkpoint=plan.folder / "checkpoints" / f"{planned.id}.safetensors",
    )


# Weights --------------------------------------------------------------------------------------


class StartingWeights:
    """The starting weights of the pending trials: each is fetched or made once."""

    def __init__(self, plan: RunPlan, progress: Progress | None) -> None:
        self._plan = plan
        self._progress = progress
        self._obtained: dict[tuple[str, str], Weights | BenchError] = {}
        self._failed_sources: dict[str, BenchError] = {}

    def source_jobs(self) -> dict[str, Job]:
        """The source tasks that are still to be trained, by the fingerprint of their weights."""
        jobs: dict[str, Job] = {}
        for planned in self._plan.pending:
            fingerprint = planned.weights.fingerprint
            if planned.needs_source_task and fingerprint not in jobs:
                jobs[fingerprint] = self._source_job(planned)
        return jobs

    def note_source(self, result: JobResult) -> None:
        """Trials that wait for the weights of a source task that failed cannot be trained."""
        if result.error is not None:
            message = f"pretraining on fractals failed: {result.error}"
            self._failed_sources[result.trial_id] = BenchError(message)

    def of(self, planned: PlannedTrial) -> Weights | BenchError:
        """The trial's weights as they lie on this machine, or why they do not."""
        if planned.weights.name in ("none", "fractals"):
            return self._failed_sources.get(planned.weights.fingerprint, planned.weights)
        key = (planned.trial.backbone.name, planned.weights.fingerprint)
        if key not in self._obtained:
            self._obtained[key] = self._obtain(planned)
        return self._obtained[key]

    def _obtain(self, planned: PlannedTrial) -> Weights | BenchError:
        backbone, entry = planned.trial.backbone.name, planned.trial.settings.weights
        try:
            check_unchanged(planned.weights)
            obtained = obtain_weights(backbone, entry, progress=self._progress)
        except BenchError as error:
            return error
        # What the trial's id says, and what its processes look for.
        return replace(planned.weights, path=obtained.path)

    def _source_job(self, planned: PlannedTrial) -> Job:
        return pretraining_job(
            planned.trial.backbone.name,
            FractalWeights(**planned.trial.settings.weights.options),
            planned.weights,
            image_size=planned.image_size,
            device=self._plan.device,
            progress=self._progress,
        )


# Data -----------------------------------------------------------------------------------------


class PreparedImages:
    """The image caches of a run: one for every (image size, resize rule) among its trials."""

    def __init__(self, plan: RunPlan, progress: Progress | None) -> None:
        self._plan = plan
        self._folders: dict[tuple[int, Resize], Path] = {}
        for planned in plan.trials:
            key = (planned.image_size, planned.trial.settings.resize)
            if key not in self._folders:
                self._folders[key] = prepare_images(
                    plan.source, image_size=key[0], resize=key[1], progress=progress
                )
        self._opened: dict[Path, ImageData] = {}
        self._splits: dict[tuple[int, int | None], Splits] = {}

    def data(self, planned: PlannedTrial) -> ImageData:
        """The images that the trial sees."""
        folder = self._folders[planned.image_size, planned.trial.settings.resize]
        if folder not in self._opened:
            self._opened[folder] = ImageData.open(folder)
        return self._opened[folder]

    def splits(self, planned: PlannedTrial) -> Splits:
        """The trial's splits, drawn once for each seed."""
        settings = planned.trial.settings
        key = (settings.seed, settings.shots)
        if key not in self._splits:
            self._splits[key] = trial_splits(planned.trial, self.data(planned))
        return self._splits[key]

    def describe(self) -> dict[str, Any]:
        """The content of `data.json`: classes, counts of every split, and what is wrong."""
        data = self.data(self._plan.trials[0])
        for planned in self._plan.trials:
            self.splits(planned)
        splits = list(self._splits.values())
        issues = (*data.issues, *self._plan.issues, *leakage(data, splits))
        return {
            "dataset": data.name,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "counts": class_counts(data.labels, splits[0], data.classes),
            "issues": [asdict(issue) for issue in issues],
        }
