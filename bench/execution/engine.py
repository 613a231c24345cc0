"""What a process does with a task: it trains, keeps states for others, and tells what is done."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data import PREPROCESSING, PreparedData, Samples, Splits, open_data
from bench.execution import PRELOADED
from bench.execution.epoch_keys import LIBRARIES
from bench.execution.jobs import (
    EpochDone,
    Event,
    Job,
    JobResult,
    Predictions,
    StateSaved,
    Task,
    trial_splits,
)
from bench.keys import content_hash
from bench.methods.penalties import discriminators, needs_source_head
from bench.models import PRETRAINED_HEAD, ZERO_SHOT_HEAD, Network, build_network, head_start
from bench.models.checkpoints import ModelSpec, keep_start, write_checkpoint
from bench.models.companions import is_companion
from bench.suite.plugins import ensure_loaded
from bench.system.cache import cache_root
from bench.system.machine import PeakMemory, installed_versions
from bench.training.class_texts import zero_shot_head
from bench.training.data_parallel import Follow, Followers, Ranks, SharedBatches
from bench.training.failures import (
    DeviceLostError,
    Failure,
    failure_of,
    is_device_fault,
    is_out_of_memory,
    place,
)
from bench.training.frozen_features import FeatureStore
from bench.training.loop import Branch, Outcome, isolated, outcome, train, trainable_parameters
from bench.training.one_device import OneDevice
from bench.training.stacked_heads import HeadTrial, train_heads
from bench.training.state import EpochRecord, State, StateStore, state_cache
from bench.training.trial import (
    NUMERICS_VERSION,
    Compute,
    Training,
    TrainingDivergedError,
    copied_tensors,
    start_of,
    stops_early,
)

logger = logging.getLogger(__name__)

MEMORY_TOLERANCE = 0.05
"""A peak of memory is told if so much of it, at most, may belong to other trials."""

SAVE_SECONDS = 30.0
"""A killed run loses about so much training time at most."""

Emit = Callable[[Event], None]


class Engine:
    """Performs tasks; `parallel_batches` of a frozen trunk run at once, which changes no number.

    It is `exhausted` once a task has run out of memory, and `broken` once a GPU has failed: then no
    task is trained here any more. A task on several devices is led from here: other processes
    follow, until the engine is closed.
    """

    def __init__(self, *, parallel_batches: int = 1) -> None:
        self.parallel_batches = parallel_batches
        self.exhausted = False
        self.broken = False
        self.networks = _Networks()
        self._features: FeatureStore | None = None
        self._states: StateStore | None = None
        self._followers: Followers | None = None

    def perform(self, task: Task, emit: Emit) -> None:
        """Train what the task says. An error ends its trials only: it is told, not raised."""
        performance = _Performance(self, task, emit)
        try:
            if self.broken:
                raise DeviceLostError()
            performance.prepare()
            threads, device = task.jobs[0].trial.settings.cpu_threads, task.jobs[0].device
            with self._compute(task) as compute, isolated(threads, device):
                performance.run(compute)
        except Exception as error:
            performance.fail(error)
        self.broken |= performance.lost_device
        if performance.ran_out:
            self.exhausted = True
            self._forget()

    def follow(self, task: Task, ranks: Ranks) -> Failure | None:
        """Take part in a task that another process leads; returns what went wrong here alone."""
        performance = _Performance(self, task, lambda event: None)
        settings = task.jobs[0].trial.settings
        try:
            performance.prepare()
            with isolated(settings.cpu_threads, task.jobs[0].device):
                performance.run(SharedBatches(ranks))
        except TrainingDivergedError:
            return None  # which all ranks find, from the same losses
        except Exception as error:
            return failure_of(error, settings, "")
        return None

    def close(self) -> None:
        """End the processes that follow."""
        if self._followers is not None:
            self._followers.close()
            self._followers = None

    @property
    def spent(self) -> bool:
        """Whether the next task needs another process: memory in pieces, or a GPU that failed."""
        return self.exhausted or self.broken

    @contextmanager
    def _compute(self, task: Task) -> Iterator[Compute]:
        """Where the task is computed; the followers of the last one stay, if they are as many."""
        count, device = task.devices, task.jobs[0].device
        if count == 1:
            yield OneDevice()
            return
        followers = self._followers
        alike = followers is not None and (followers.count, followers.device) == (count, device)
        if followers is None or not alike or not followers.alive:
            self.close()
            make_follow = partial(_follow_with, self.parallel_batches)
            followers = self._followers = Followers(count, device, make_follow, preload=PRELOADED)
        with followers.working(lambda device: _without_files(task, device)) as ranks:
            yield SharedBatches(ranks)

    def _forget(self) -> None:
        """Give back what is kept in memory to save time."""
        self.networks = _Networks()
        self._features = self._states = None
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # the GPU does not answer any more
                torch.cuda.empty_cache()

    def stores(self, *, shared: bool) -> tuple[FeatureStore, StateStore]:
        """Where features and states are kept; a trial that shares nothing has its own."""
        if not shared:
            return FeatureStore(), StateStore(None)
        if self._features is None or self._states is None:
            self._features = FeatureStore(cache_root())
            self._states = StateStore(state_cache())
        return self._features, self._states


class _Performance:
    """One task on its way."""

    def __init__(self, engine: Engine, task: Task, emit: Emit) -> None:
        self._engine = engine
        self._task = task
        self._emit = emit
        self._started = datetime.now(UTC)
        self._open = {job.trial_id: job for job in task.jobs}
        self._records: dict[str, list[EpochRecord]] = {job.trial_id: [] for job in task.jobs}
        self._outcomes: dict[str, Outcome] = {}
        self._tested: set[str] = set()
        self._began = False
        self._compute: Compute = OneDevice()
        self.ran_out = False
        self.lost_device = False

    def prepare(self) -> None:
        """Open what the task works with, and load what it uses from outside."""
        for job in self._task.jobs:
            ensure_loaded(job.plugins)
        first = self._task.jobs[0]
        self._features, self._own_states = self._engine.stores(shared=self._task.kind != "alone")
        self._data = open_data(first.data)
        # What only earlier tasks needed goes before memory is measured.
        self._own_states.keep_only(first.keys)
        self._engine.networks.keep_only(first, self._data)
        self._memory = PeakMemory(first.device)

    def run(self, compute: Compute) -> None:
        """Perform the task; an error is raised, for the trials that are still open."""
        self._compute = compute
        self._states = compute.states(self._own_states)
        if self._task.kind == "heads":
            self._heads()
        elif self._task.kind == "segment":
            self._segment()
        else:
            self._alone()

    def fail(self, error: Exception) -> None:
        """Every trial that is not finished ends with this error."""
        for job in list(self._open.values()):
            self._fail(job, error)

    def _alone(self) -> None:
        """The whole trial, with nothing from others and nothing kept for them."""
        (job,) = self._task.jobs
        training = self._training(job)
        result = train(training, lambda record: self._done((job.trial_id,), record))
        self._tell(job, training, result)

    # Heads ------------------------------------------------------------------------------------

    def _heads(self) -> None:
        """The first epochs of all trials, stacked; those that go on leave a state."""
        jobs = self._task.jobs
        starts: dict[int, dict[str, Tensor]] = {}
        by_trial: dict[int, Job] = {}
        trials = []
        for job in jobs:
            settings = job.trial.settings
            if settings.seed not in starts:
                starts[settings.seed] = head_start(
                    job.trial.backbone.name,
                    settings.head,
                    num_classes=len(self._data.classes),
                    seed=settings.seed,
                )
            training = self._training(job, network_of=jobs[0])
            start = starts[settings.seed]
            trial = HeadTrial(
                training=training,
                epochs=job.heads_end,
                start={name: training.learned.get(name, start[name]) for name in start},
                keys=job.keys,
            )
            by_trial[id(trial)] = job
            trials.append(trial)
        for row, record in train_heads(trials):
            names = tuple(by_trial[id(trial)].trial_id for trial in row)
            self._done(names, record)
            for trial in row:
                job = by_trial[id(trial)]
                if trial.state.epochs == job.head_epochs < job.end:
                    self._hand_over([job], job.keys[job.head_epochs], trial.state)
        for trial in trials:
            job = by_trial[id(trial)]
            if trial.error is not None:
                self._fail(job, trial.error)
            elif trial.state.epochs == job.end or trial.state.epochs < job.heads_end:
                self._finish(job, trial.training, trial.state)

    # Segments ---------------------------------------------------------------------------------

    def _segment(self) -> None:
        """Go on from the deepest state that is there, to the end of the segment."""
        jobs, end = self._task.jobs, self._task.end
        first = jobs[0]
        branch = Branch(training=self._training(first))
        branch.restore(self._found_state(jobs, end))
        names = tuple(job.trial_id for job in jobs)
        for record in branch.records[self._task.start :]:
            self._done(names, record)
        saved = time.monotonic()
        while True:
            self._stop_early(branch, jobs)
            live = [job for job in jobs if job.trial_id in self._open]
            if not live or len(branch.records) == end:
                break
            for job in live:
                self._records[job.trial_id] = list(branch.records)
            record = branch.train_epoch()
            if len(branch.records) > self._task.start:
                self._done(tuple(job.trial_id for job in live), record)
            due = time.monotonic() - saved > SAVE_SECONDS
            if due and len(branch.records) < end:
                key = first.keys[len(branch.records)]
                self._states.save(key, branch.state())
                self._emit(StateSaved(key=key, trials=()))
                saved = time.monotonic()
        if live:
            self._end_of_segment(branch, live, end)

    def _found_state(self, jobs: Sequence[Job], end: int) -> State:
        """The deepest state of the path at which none of `jobs` should have stopped before."""
        first = jobs[0]
        state = self._states.deepest(first.keys[: end + 1])
        if state is not None:
            stop = min(_stopping_epoch(job, state) for job in jobs)
            if stop < state.epochs:
                state = self._states.deepest(first.keys[: stop + 1])
        if state is not None and state.epochs >= first.head_epochs:
            logger.info("%s goes on from the state after epoch %d", first.trial_id, state.epochs)
            return state
        # Heads are trained stacked or not at all, so a state among their epochs is of no use.
        return self._heads_again(first) if first.head_epochs else State()

    def _end_of_segment(self, branch: Branch, live: Sequence[Job], end: int) -> None:
        state = branch.state()
        if end:
            following = [job for job in live if job.end > end]
            self._hand_over(following, live[0].keys[end], state)
        for job in live:
            if job.end == end:
                self._finish(job, self._training_on(branch, job), state)

    def _stop_early(self, branch: Branch, jobs: Sequence[Job]) -> None:
        stopping = [
            job
            for job in jobs
            if job.trial_id in self._open
            and len(branch.records) < job.plan.epochs
            and stops_early(job.plan, job.trial.settings, branch.records)
        ]
        if not stopping:
            return
        state = branch.state()
        for job in stopping:
            self._finish(job, self._training_on(branch, job), state)
        branch.training.load(state.model)

    def _training_on(self, branch: Branch, job: Job) -> Training:
        """The branch's own for the job that it trains as, else one like it."""
        return branch.training if job is self._task.jobs[0] else self._training(job)

    def _heads_again(self, job: Job) -> State:
        """Train a head whose state is gone: evicted, or never made."""
        trial = HeadTrial(training=self._training(job), epochs=job.head_epochs, keys=job.keys)
        for _ in train_heads([trial]):
            pass
        if trial.error is not None:
            raise trial.error
        return trial.state

    # Both -------------------------------------------------------------------------------------

    def _training(self, job: Job, *, network_of: Job | None = None) -> Training:
        """The job's training, on the process's network of it (or of a job of another seed)."""
        network, start = self._engine.networks.of(network_of or job, self._data)
        self._began = True
        return make_training(
            job,
            self._data,
            trial_splits(job.trial, self._data),
            network=network,
            start=start,
            features=self._features,
            parallel_batches=self._engine.parallel_batches,
            compute=self._compute,
            memory=self._memory,
        )

    def _done(self, trials: tuple[str, ...], record: EpochRecord) -> None:
        for trial in trials:
            self._records[trial] = [*self._records[trial][: record.epoch - 1], record]
        self._emit(EpochDone(trials=trials, record=record))

    def _hand_over(self, jobs: Sequence[Job], key: str, state: State) -> None:
        """Keep the state; from here on `jobs` are no business of this task."""
        self._states.save(key, state)
        for job in jobs:
            del self._open[job.trial_id]
        self._emit(StateSaved(key=key, trials=tuple(job.trial_id for job in jobs)))

    def _finish(self, job: Job, training: Training, state: State) -> None:
        """Choose, test, write and tell; an error here is this trial's alone.

        Trials that end in the same state have the same scores: it is tested once.
        """
        if job.stop is not None:
            self._stop(job, state)
            return
        key = job.keys[state.epochs]
        self._tested.add(job.trial_id)
        try:
            if key in self._outcomes:
                params = trainable_parameters(training.network, job.plan)
                result = replace(self._outcomes[key], trainable_params=params)
            else:
                result = self._outcomes[key] = outcome(training, state)
            self._tell(job, training, result)
        except Exception as error:
            if self._task.devices > 1:
                raise  # the others may not have seen it, and must not go on with another trial
            self._fail(job, error)

    def _stop(self, job: Job, state: State) -> None:
        """Keep the state of a trial that may go on later; nothing is tested."""
        if job.head_epochs <= state.epochs == job.end < job.plan.epochs:
            self._states.save(job.keys[state.epochs], state)
        self._close(job, records=state.records)

    def _tell(self, job: Job, training: Training, result: Outcome) -> None:
        splits = training.splits
        if job.checkpoint is not None:
            _write_checkpoint(job, job.checkpoint, training, result)
        self._close(
            job,
            records=result.records,
            # The weights stay in this process; what comes back is small.
            outcome=replace(result, state={}),
            predictions=self._predictions(splits.test, result.probabilities),
            val_predictions=self._predictions(splits.val, result.val_probabilities),
            peak_memory_mib=self._own_peak(result.records),
        )

    def _own_peak(self, records: Sequence[EpochRecord]) -> float | None:
        """The trial's peak of memory, over all tasks that it was trained in.

        None where it is not known: how much the trials beside it had may be too much to tell.
        """
        now = self._memory.mebibytes()
        beside = records[-1].shared_memory_mib if self._task.kind == "heads" and records else 0.0
        peaks = [(now, beside), *((r.peak_memory_mib, r.shared_memory_mib) for r in records)]
        known = [(peak, shared) for peak, shared in peaks if peak is not None]
        if len(known) < len(peaks):
            return None
        most, least = max(peak for peak, _ in known), max(peak - shared for peak, shared in known)
        return most if most - least <= MEMORY_TOLERANCE * most else None

    def _predictions(
        self, samples: Samples, probabilities: np.ndarray[Any, np.dtype[Any]]
    ) -> Predictions:
        groups, sets = self._data.groups, self._data.test_sets
        targets = self._data.targets
        return Predictions(
            samples=tuple(self._data.sample_ids[index] for index in samples),
            labels=self._data.labels[samples],
            probabilities=probabilities,
            classes=self._data.classes,
            groups=None if groups is None else tuple(groups[index] for index in samples),
            test_sets=None if sets is None else tuple(sets[index] for index in samples),
            targets=None if targets is None else targets.of(samples),
        )

    def _fail(self, job: Job, error: Exception) -> None:
        """The trial's end with an error, while it trained or, its epochs ended, was tested."""
        self.ran_out |= is_out_of_memory(error)
        self.lost_device |= is_device_fault(error)
        records = tuple(self._records[job.trial_id])
        end = len(records) if job.trial_id in self._tested else job.end
        where = place(len(records) if self._began else None, end)
        failure = failure_of(error, job.trial.settings, where)
        self._close(
            job, records=records, error=failure.error, log=failure.log, external=failure.external
        )

    def _close(self, job: Job, **values: Any) -> None:
        del self._open[job.trial_id]
        self._emit(
            JobResult(
                trial_id=job.trial_id,
                started=self._started,
                finished=datetime.now(UTC),
                **values,
            )
        )


def _stopping_epoch(job: Job, state: State) -> int:
    """After how many of the state's epochs the trial should have stopped; all if it goes on."""
    for epochs in range(1, state.epochs):
        if epochs < job.plan.epochs and stops_early(
            job.plan, job.trial.settings, state.records[:epochs]
        ):
            return epochs
    return state.epochs


class _Networks:
    """The network of the last task: the next one often starts from the same weights."""

    def __init__(self) -> None:
        self._key = ""
        self._last: tuple[Network, dict[str, Tensor]] | None = None

    def of(self, job: Job, data: PreparedData) -> tuple[Network, dict[str, Tensor]]:
        """The job's network, in any state, and its starting weights."""
        self.keep_only(job, data)
        if self._last is None:
            network = build(job, data)
            self._key, self._last = _network_key(job, data), (network, copied_tensors(network))
        return self._last

    def keep_only(self, job: Job, data: PreparedData) -> None:
        """Let go of another network than the job's: its memory is free before the next is made."""
        if self._key != _network_key(job, data) or not job.trunk_key:
            self._last = None


def _network_key(job: Job, data: PreparedData) -> str:
    settings = job.trial.settings
    return content_hash(
        [
            job.trunk_key,
            settings.seed,
            settings.head.identity(),
            job.device,
            data.classes,
            needs_source_head(job.plan),
            [asdict(shape) for shape in discriminators(job.plan)],
        ],
        digits=32,
    )


def _follow_with(parallel_batches: int) -> Follow:
    """What a process that follows another's engine does."""
    return Engine(parallel_batches=parallel_batches).follow


def _without_files(task: Task, device: str) -> Task:
    """The task on another device, without the files that the first rank writes."""
    jobs = (replace(job, checkpoint=None, device=device) for job in task.jobs)
    return replace(task, jobs=tuple(jobs))


def make_training(
    job: Job,
    data: PreparedData,
    splits: Splits,
    *,
    network: Network | None = None,
    start: dict[str, Tensor] | None = None,
    features: FeatureStore | None = None,
    parallel_batches: int = 1,
    compute: Compute | None = None,
    memory: PeakMemory | None = None,
) -> Training:
    """The network and everything else that the trainer needs for this job."""
    trial = job.trial
    training = Training(
        network=build(job, data) if network is None else network,
        plan=job.plan,
        data=data,
        preprocessing=data.preprocessing(job.weights.mean, job.weights.std),
        splits=splits,
        settings=trial.settings,
        schedule=trial.schedule,
        augmentation=trial.augmentation,
        device=torch.device(job.device),
        precision=job.precision,
        compute=compute or OneDevice(),
        trunk_key=job.trunk_key,
        bare_trunk_key=job.bare_trunk_key,
        views_key=job.views_key,
        beside_all=job.beside_all,
        features=features or FeatureStore(),
        parallel_batches=parallel_batches,
        start=start,
        memory=memory,
    )
    if trial.settings.head.name == ZERO_SHOT_HEAD:
        with isolated(trial.settings.cpu_threads, job.device):
            training.begin_with(zero_shot_head(training))
    return training


def _write_checkpoint(job: Job, path: Path, training: Training, result: Outcome) -> None:
    """What differs from the starting weights, which are kept beside it; without any, all of it."""
    assert training.start is not None
    settings, weights = job.trial.settings, job.weights.path
    epoch = result.best.epoch - 1
    spec = ModelSpec(
        trial=job.trial_id,
        backbone=job.trial.backbone.name,
        head=settings.head.name,
        head_options=settings.head.options,
        num_classes=len(training.preprocessing.classes),
        weights=job.weights.name,
        start=None if weights is None else keep_start(weights, path.parent),
        weights_classes=job.weights.classes if settings.head.name == PRETRAINED_HEAD else None,
        class_map=job.class_map,
        seed=settings.seed,
        adapter=job.plan.adapter,
        described=job.weights.described,
        image_size=training.preprocessing.size,
        channels=training.preprocessing.form.depth,
        boundary=start_of(training, epoch if epoch >= 0 else None)[0],
        precision=training.precision,
        threads=settings.cpu_threads,
        numerics=NUMERICS_VERSION,
        versions={
            **{name: version(name) for name in ("torch", "torchvision")},
            **({} if job.weights.described is None else installed_versions(*LIBRARIES)),
        },
        task=training.target_task.name,
        standardised=result.standardised,
        thresholds=result.thresholds,
    )
    start = training.learned if weights is not None else training.start
    kept = {name: tensor for name, tensor in start.items() if not is_companion(name)}
    tensors = {**kept, **result.state}
    write_checkpoint(tensors, path, spec, {PREPROCESSING: training.preprocessing.to_json()})


def build(job: Job, data: PreparedData, *, source_head: bool = False) -> Network:
    """The job's network with its starting weights.

    With a `source_head`, or where its plan needs that, with the classifier of the weights.
    """
    settings = job.trial.settings
    return build_network(
        job.trial.backbone.name,
        weights=job.weights,
        head=settings.head,
        num_classes=len(data.classes),
        seed=settings.seed,
        image_size=data.input_size,
        channels=data.preprocessing(job.weights.mean, job.weights.std).form.depth,
        class_map=job.class_map,
        classes=data.classes,
        adapter=job.plan.adapter,
        source_head=source_head or needs_source_head(job.plan),
        discriminators=discriminators(job.plan),
    )
