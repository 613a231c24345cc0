"""How much disk a run may take: in its folder, and in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data import Dataset, ImageDataset, data_fingerprint, kept_bytes, prepared_bytes
from bench.execution.engine import SAVE_SECONDS
from bench.execution.jobs import Job, Task, views_seen
from bench.execution.work import CountedTrial, Work
from bench.methods.plan import HEAD, Term
from bench.models.sizes import activation_bytes, tensor_bytes
from bench.runs.resolve import ResolvedRun
from bench.suite import Entry
from bench.system.cache import cache_root
from bench.system.cache_content import size_text
from bench.system.lru_folder import cache_limit
from bench.training.freezing import moved_tensors
from bench.training.frozen_features import MAX_VIEW_BYTES

SMALL_FILES = 256 * 2**10
"""Bytes of a trial's tables, beside its checkpoint."""


@dataclass(frozen=True, kw_only=True)
class DiskEstimate:
    """Bytes that a run will add, at most: to its folder, and to the cache, where `states`,
    `features` and `views` keep to the `limit` each. `run_free` and `cache_free` are what the disks
    have left.

    Weights and downloads are not counted.
    """

    checkpoints: int
    tables: int
    states: int
    features: int
    views: int
    data: int
    limit: int
    run_free: int
    cache_free: int

    @property
    def run(self) -> int:
        """In the run folder."""
        return self.checkpoints + self.tables

    @property
    def cache(self) -> int:
        """In the cache."""
        return sum(min(size, self.limit) for size in self._limited.values()) + self.data

    @property
    def _limited(self) -> dict[str, int]:
        return {"states": self.states, "features": self.features, "views": self.views}

    def sentence(self) -> str:
        """What is added where, and whether there is room."""
        parts = [
            f"{size_text(size)} of {name}"
            for name, size in (
                *((name, min(size, self.limit)) for name, size in self._limited.items()),
                ("prepared data", self.data),
            )
            if size
        ]
        text = f"Disk: up to {size_text(self.run)} in the run folder"
        if self.checkpoints:
            text += f" ({size_text(self.checkpoints)} of checkpoints)"
        text += f", {size_text(self.cache)} in the cache"
        text += f" ({', '.join(parts)})" if parts else ""
        return text + self._short()

    def _short(self) -> str:
        if self.run > self.run_free:
            return (
                f"; its disk has {size_text(self.run_free)} free: set checkpoints to best or none, "
                "or point --out to another disk"
            )
        if self.cache > self.cache_free:
            return (
                f"; its disk has {size_text(self.cache_free)} free: empty it (bench cache "
                "--empty states), lower BENCH_CACHE_GIB, or point BENCH_CACHE to another disk"
            )
        return ""


def disk_estimate(
    resolved_run: ResolvedRun,
    counted: Sequence[CountedTrial],
    work: Work,
    tasks: Sequence[Task],
    *,
    epoch_seconds: float,
) -> DiskEstimate:
    """Add up what the pending trials leave; `epoch_seconds` say how often states are kept."""
    pending = [each for each in counted if not each.complete]
    classes = {each.job.trial_id: each.num_classes for each in pending}
    return DiskEstimate(
        checkpoints=_checkpoints(resolved_run, pending),
        tables=SMALL_FILES * len(pending),
        states=sum(_states(task, classes, epoch_seconds) for task in tasks),
        features=_features(work) if resolved_run.reuse else 0,
        views=_views(pending, tasks, _pixel_bytes(resolved_run.dataset)),
        data=_data(resolved_run),
        limit=cache_limit(),
        run_free=_free(resolved_run.folder),
        cache_free=_free(cache_root()),
    )


def _checkpoints(resolved_run: ResolvedRun, pending: Sequence[CountedTrial]) -> int:
    kept = resolved_run.loaded.suite.checkpoints
    if kept == "none":
        return 0
    sizes: dict[str, int] = {}
    for each in pending:
        job = each.job
        key = job.trial.config if kept == "best" else job.trial_id
        sizes[key] = max(sizes.get(key, 0), _moved(job, each.num_classes, job.plan.epochs))
    return sum(sizes.values())


def _states(task: Task, classes: dict[str, int], epoch_seconds: float) -> int:
    """The weights, the best ones and the optimiser's slots, each time that a state is kept."""
    first = task.jobs[0]
    num_classes = classes.get(first.trial_id, 2)
    if task.kind == "segment" and task.end:
        on_the_way = (task.end - task.start - 1) * min(1.0, epoch_seconds / SAVE_SECONDS)
        size = _moved(first, num_classes, task.end)
        return int((1 + on_the_way) * size * (2 + _slots(first)))
    if task.kind == "heads":
        going_on = [job for job in task.jobs if job.head_epochs < job.end]
        return sum(
            _moved(job, num_classes, job.head_epochs) * (2 + _slots(job)) for job in going_on
        )
    return 0


def _slots(job: Job) -> int:
    """Tensors that the optimiser keeps for each parameter."""
    settings = job.trial.settings
    if settings.optimizer == "sgd":
        return 1 if settings.momentum else 0
    return 2


def _moved(job: Job, num_classes: int, epochs: int) -> int:
    """Bytes of what so many epochs may have changed, and of a head that is fitted."""
    name, head = job.trial.backbone.name, job.trial.settings.head
    fitted = 0 if job.plan.fit is None else _fitted(job, job.plan.fit, num_classes)
    sizes = tensor_bytes(name, head, num_classes, job.plan.adapter)
    moved = moved_tensors(job.outline, job.plan, epochs, sizes)
    return fitted + sum(sizes[each] for each in moved)


def _fitted(job: Job, fit: Term, num_classes: int) -> int:
    """About: linear layers, training samples that are kept, or nodes of trees."""
    linear = Entry(name="linear")
    sizes = tensor_bytes(job.trial.backbone.name, linear, num_classes)
    classifier = sum(size for name, size in sizes.items() if name.startswith(f"{HEAD}/"))
    if fit.name == "forest":
        nodes = 2 * job.train_samples * int(dict(fit.options)["trees"])
        return nodes * (28 + 4 * num_classes)
    rows = job.train_samples if fit.name in ("knn", "svm", "tip_adapter") else 0
    return classifier + rows * (classifier // num_classes + 4 * num_classes)


def _features(work: Work) -> int:
    total = 0
    for epoch in work.epoch_work:
        if epoch.boundary is None or not epoch.views:
            continue
        counted = epoch.counted
        job = counted.job
        each = activation_bytes(job.trial.backbone.name, counted.input_size)[epoch.boundary]
        size = epoch.views * (each // 2 if job.precision != "fp32" else each)
        total += size if size <= MAX_VIEW_BYTES else 0
    return total


def _views(pending: Sequence[CountedTrial], tasks: Sequence[Task], pixel_bytes: int) -> int:
    """Of augmented images; those that are made fast are not kept, which only training shows."""
    counted = {each.job.trial_id: each for each in pending}
    sizes: dict[str, int] = {}
    for job in (job for task in tasks for job in task.jobs if job.views_key):
        each, key = counted[job.trial_id], views_seen(job)
        size = kept_bytes(
            job.trial.augmentation,
            each.train,
            size=each.input_size,
            epochs=job.end,
            pixel_bytes=pixel_bytes,
        )
        sizes[key] = max(sizes.get(key, 0), size)
    return sum(sizes.values())


def _pixel_bytes(dataset: Dataset) -> int:
    return dataset.form.pixel_bytes if isinstance(dataset, ImageDataset) else 0


def _data(resolved_run: ResolvedRun) -> int:
    """Of what is not prepared yet, once for each size and rule."""
    there = {
        entry.name.rpartition("-")[2]
        for folder in ("images", "vectors", "texts")
        for entry in (cache_root() / folder).glob("*-*")
    }
    dataset, sizes = resolved_run.dataset, {}
    for resolved in resolved_run.pending:
        size, resize = resolved.input_size, resolved.trial.settings.resize
        fingerprint = data_fingerprint(
            dataset,
            size=size,
            resize=resize,
            interpolation=resolved.weights.interpolation,
            tokenizer=resolved.weights.tokenizer,
        )
        if fingerprint[:16] not in there:
            sizes[fingerprint] = prepared_bytes(dataset, size=size, resize=resize)
    return sum(sizes.values())


def _free(folder: Path) -> int:
    """Bytes that the disk of `folder` has left, which need not be there yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
