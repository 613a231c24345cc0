"""How long a run may take: a few batches timed on this machine, times what is to be done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bench.data import Dataset, Splits, stand_in
from bench.errors import BenchError
from bench.execution.engine import make_training
from bench.execution.jobs import Job
from bench.execution.work import Work
from bench.methods.plan import Plan, Rule, Stage
from bench.models import describe_weights
from bench.runs.resolve import ResolvedRun, ResolvedTrial
from bench.runs.source_weights import source_trial
from bench.suite import Entry, FractalWeights, LanguageWeights, Trial
from bench.training.loop import train

TIMED_BATCHES = 2
TIMED_SAMPLES = 32


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """What is left to do, the making of weights included, and about how long."""

    epochs: int
    trained_samples: int
    evaluated_samples: int
    seconds: float

    def epoch_seconds(self, workers: int) -> float:
        """Of a mean epoch, where `workers` epochs are trained at once."""
        return self.seconds * workers / self.epochs if self.epochs else 0.0


def duration(seconds: float) -> str:
    """In the unit that reads best: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def estimate(
    resolved_run: ResolvedRun, work: Work, *, workers: int, timings: Timings | None = None
) -> TimeEstimate:
    """Count the pending work and time one short epoch of each distinct kind of it.

    A kind is a backbone under one table of rules with all settings but seed and fold. The timings
    run one after the other and `workers` at once are taken to be as fast each, so it is coarse.
    Runs of one data set on one device may share `timings`.
    """
    timings = timings or Timings(resolved_run.dataset, resolved_run.device)
    by_id = {resolved.id: resolved for resolved in resolved_run.trials}
    epochs = trained = evaluated = 0
    seconds = 0.0
    for epoch in work.epoch_work:
        counted = epoch.counted
        train, evaluate = timings.seconds_per_sample(by_id[counted.job.trial_id], epoch.stage)
        epochs += 1
        trained += counted.job.plan.rows(counted.train)
        evaluated += counted.evaluated
        if epoch.boundary is None:
            derived = counted.derived(epoch.stage)
            seconds += (derived * train + counted.evaluated * evaluate) / workers
        else:
            # What the frozen trunk costs is close to an evaluation: it is paid once for a view.
            rest = max(0.0, train - evaluate)
            seconds += (counted.train * rest + epoch.views * evaluate) / workers
    for resolved, source, share in _source_tasks(resolved_run, workers):
        options, settings = source.dataset.options, source.settings
        sizes = [options["classes"] * options[f"{split}_per_class"] for split in ("train", "val")]
        everything = Stage(epochs=settings.epochs, rules=(Rule(pattern="*", lr=1.0),))
        alone = Plan(stages=(everything,))
        resolved = replace(resolved, trial=source, plan=alone, input_size=settings.image_size or 0)
        train, evaluate = timings.seconds_per_sample(resolved, everything)
        epochs += settings.epochs
        trained += settings.epochs * sizes[0]
        evaluated += settings.epochs * sizes[1]
        seconds += settings.epochs * (sizes[0] * train + sizes[1] * evaluate) / share
    for resolved, recipe in _pretrainings(resolved_run):
        everything = Stage(epochs=recipe.epochs, rules=(Rule(pattern="*", lr=1.0),))
        batches = resolved.trial.with_settings(batch_size=recipe.batch_size)
        resolved = replace(resolved, trial=batches, plan=Plan(stages=(everything,)))
        train, _ = timings.seconds_per_sample(resolved, everything)
        epochs += recipe.epochs
        trained += recipe.epochs * recipe.sentences
        seconds += recipe.epochs * recipe.sentences * train
    return TimeEstimate(
        epochs=epochs, trained_samples=trained, evaluated_samples=evaluated, seconds=seconds
    )


def _source_tasks(
    resolved_run: ResolvedRun, workers: int
) -> Iterator[tuple[ResolvedTrial, Trial, int]]:
    """(a trial that needs it, the source task, source tasks at once)."""
    sources: dict[str, tuple[ResolvedTrial, Trial]] = {}
    for resolved in resolved_run.pending:
        if resolved.needs_source_task:
            recipe = FractalWeights(**resolved.trial.settings.weights.options)
            backbone = resolved.trial.backbone.name
            source = source_trial(backbone, recipe, image_size=resolved.input_size)
            sources[resolved.weights.fingerprint] = (resolved, source)
    for resolved, source in sources.values():
        yield resolved, source, min(workers, len(sources))


def _pretrainings(resolved_run: ResolvedRun) -> Iterator[tuple[ResolvedTrial, LanguageWeights]]:
    """Of all weights that are to be made from sentences: a trial that needs them, and how."""
    lacking = {
        each.weights.fingerprint: each for each in resolved_run.pending if each.needs_sentences
    }
    for resolved in lacking.values():
        yield resolved, LanguageWeights(**resolved.trial.settings.weights.options)


def _alike(rules: tuple[Rule, ...]) -> tuple[tuple[str, float | None, str], ...]:
    """What of the rules decides how long a step takes: what trains, and not how fast."""
    kinds = tuple((rule.pattern, rule.lr and 1.0, rule.norm_mode) for rule in rules)
    whole = ("*", 1.0, "update")
    return (whole,) if {kind[1:] for kind in kinds} == {whole[1:]} else kinds


class Timings:
    """Seconds per sample of every kind of work, each measured when it is first asked for."""

    def __init__(self, dataset: Dataset, device: str) -> None:
        self._dataset, self._device = dataset, device
        self._measured: dict[str, tuple[float, float]] = {}

    def seconds_per_sample(self, resolved: ResolvedTrial, stage: Stage) -> tuple[float, float]:
        """(training, evaluation) seconds per sample under the rules of `stage`."""
        trial = resolved.trial.model_copy(update={"fold": None}).with_settings(
            seed=0, lr=1e-9, weights=Entry(name="none"), class_weights="none"
        )
        if resolved.plan.fit is not None:  # a linear head takes as long as an empty one
            trial = trial.with_settings(head=Entry(name="linear"))
        # Neither the number of epochs and images nor the rates make a sample take longer.
        alike = trial.with_settings(epochs=1, shots=None, precision=resolved.precision).model_copy(
            update={"schedule": Entry(name="none"), "strategy": Entry(name="none")}
        )
        adapter = resolved.plan.adapter
        key = f"{alike.id({})} {resolved.input_size} {_alike(stage.rules)} {adapter}"
        if key not in self._measured:
            rules = Plan(stages=(Stage(epochs=2, rules=stage.rules),), adapter=adapter)
            self._measured[key] = self._measure(replace(resolved, trial=trial, plan=rules))
        return self._measured[key]

    def _measure(self, resolved: ResolvedTrial) -> tuple[float, float]:
        settings = resolved.trial.settings
        num_train = TIMED_BATCHES * settings.batch_size
        data = stand_in(
            self._dataset,
            count=num_train + TIMED_SAMPLES,
            size=resolved.input_size,
            resize=settings.resize,
        )
        samples = np.arange(len(data))
        splits = Splits(samples[:num_train], samples[num_train:], samples[num_train:])
        job = Job(
            trial_id="timing",
            trial=resolved.trial,
            plan=resolved.plan,
            data=data.folder,
            class_map=None,
            weights=describe_weights(resolved.trial.backbone.name, Entry(name="none")),
            precision=resolved.precision,
            device=self._device,
            checkpoint=None,
        )
        # The first epoch warms up.
        try:
            *_, record = train(make_training(job, data, splits), lambda _: None).records
        except RuntimeError as error:
            raise BenchError(f"{resolved.trial.label} cannot be timed here: {error}") from None
        return record.train_seconds / num_train, record.val_seconds / TIMED_SAMPLES
