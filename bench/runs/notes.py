"""What a suite writes down that does nothing, or cannot work, with this data on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bench.data import TEST, VAL, DataIssue, Dataset, Splits
from bench.data.dataset import counted
from bench.errors import DataError
from bench.execution.jobs import splits_of
from bench.methods.plan import Plan
from bench.methods.schedules import Progress, lr_factor
from bench.models.batch_norms import single_value_norms
from bench.runs.catalogue import catalogue
from bench.suite import Entry, LoadedSuite, Note, Trial, Uses, WrittenTrial, no_effect
from bench.training.trial import batch_edges

WILL_FAIL = "will fail"
LOOKS = 200
"""How many steps of a schedule are looked at."""
FULL = 0.5
"""A schedule of one step that trains at a smaller share of the rate than this is told."""


def notes(
    loaded: LoadedSuite,
    written: Sequence[WrittenTrial],
    plans: Sequence[tuple[Trial, Plan, int]],
    dataset: Dataset,
) -> tuple[DataIssue, ...]:
    """What is to be told before training; `plans` has each trial's plan and image size in pixels.

    `count` of each issue counts trials.
    """
    found = no_effect(loaded, written, catalogue())
    uses = Uses(loaded.yaml_file)
    facts = _Facts(dataset)
    by_trial = {id(trial): plan for trial, plan, _ in plans}
    for each in written:
        plan = by_trial[id(each.trial)]
        if plan.stages:
            _tell_schedule(uses, each, plan, facts)
            _tell_early_stopping(uses, each, plan)
            _tell_class_weights(uses, each, facts)
    found += uses.notes()
    found += _unused_fractions(loaded, written, dataset)
    found += _failing(loaded, written, plans)
    return tuple(DataIssue(kind=n.kind, message=f"{n.message}.", count=n.count) for n in found)


def lines(issues: Sequence[DataIssue]) -> list[str]:
    """The issues of trials as text, with how many trials each concerns."""
    return [f"{issue.message} ({counted(issue.count, 'trial')})" for issue in issues]


class _Facts:
    """What the training split comes to, as far as it can be known before images are decoded."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._drawn: dict[tuple[int, int | None], Splits | None] = {}

    def steps_per_epoch(self, trial: Trial) -> int | None:
        """Optimiser steps of an epoch."""
        splits = self._splits(trial)
        if splits is None:
            return None
        return len(batch_edges(len(splits.train), trial.settings.batch_size))

    def is_balanced(self, trial: Trial) -> bool:
        """Whether every class has as many training images."""
        splits = self._splits(trial)
        if splits is None:
            return False
        return len(set(np.bincount(self._dataset.labels[splits.train]).tolist())) == 1

    def _splits(self, trial: Trial) -> Splits | None:
        """The trial's splits; None where they cannot be drawn, which the run itself tells."""
        key = (trial.settings.seed, trial.settings.shots)
        if key not in self._drawn:
            data = self._dataset
            try:
                self._drawn[key] = splits_of(trial, data.labels, data.splits, data.classes)
            except DataError:
                self._drawn[key] = None
        return self._drawn[key]


# Schedules ------------------------------------------------------------------------------------


def _tell_schedule(uses: Uses, each: WrittenTrial, plan: Plan, facts: _Facts) -> None:
    schedule, place = each.trial.schedule, each.places["schedule"]
    if not uses.is_written(place) or (schedule.name == "constant" and not schedule.given):
        return
    steps = facts.steps_per_epoch(each.trial)
    if steps is None:
        return
    start = Progress(step=0, steps_per_epoch=steps, num_epochs=plan.epochs)
    told = (
        ("", None if schedule.name == "constant" else _why_not(schedule, start)),
        ("warmup_epochs", _why_no_warmup(schedule, start)),
        ("milestones", _why_no_milestone(schedule, start)),
    )
    for option, reason in told:
        if option and option not in schedule.given:
            continue
        name = f"schedule {schedule.label!r}"
        where = (*place, option) if option else place
        if option:
            name = f"{option} of {name}"
        if reason is None:
            uses.used(name, where)
        else:
            uses.unused(name, where, each.trial, reason)


def _why_not(schedule: Entry, start: Progress) -> str | None:
    bare = schedule.model_copy(update={"options": {**schedule.options, "warmup_epochs": 0.0}})
    return _why_not_without_warmup(bare.model_dump_json(), start)


@lru_cache(maxsize=1024)
def _why_not_without_warmup(schedule: str, start: Progress) -> str | None:
    """The same for all trials with as many epochs and steps; `schedule` is an entry as JSON."""
    entry = Entry.model_validate_json(schedule)
    steps = np.linspace(start.num_steps - 1, 0, min(start.num_steps, LOOKS)).astype(int)
    if all(_factor(entry, start, step) == 1 for step in steps.tolist()):
        return "no effect, it changes the learning rate at no step of the training"
    factor = _factor(entry, start, 0)
    if start.num_steps == 1 and factor < FULL:
        return f"training has one step only, at {factor:.0e} of the learning rate"
    return None


def _factor(schedule: Entry, start: Progress, step: int) -> float:
    """The factor at a step if the validation loss never falls."""
    losses = (1.0,) * (step // start.steps_per_epoch)
    return lr_factor(schedule, replace(start, step=step, val_losses=losses))


def _why_no_warmup(schedule: Entry, start: Progress) -> str | None:
    epochs = schedule.options.get("warmup_epochs", 0.0)
    steps = round(min(epochs, start.num_epochs) * start.steps_per_epoch)
    if epochs == 0:
        return None
    if steps == 0:
        return "no effect, the warm-up is shorter than half a step"
    if steps >= start.num_steps:
        return "the warm-up takes all of the training, or longer"
    return None


def _why_no_milestone(schedule: Entry, start: Progress) -> str | None:
    milestones = schedule.options.get("milestones", ())
    late = [str(milestone) for milestone in milestones if milestone >= start.num_epochs]
    if not late or len(late) == len(milestones):  # then the schedule as a whole does nothing
        return None
    return f"no effect of {', '.join(late)}, where training is over"


# Other settings -------------------------------------------------------------------------------


def _tell_early_stopping(uses: Uses, each: WrittenTrial, plan: Plan) -> None:
    place, patience = each.places["early_stopping"], each.trial.settings.early_stopping
    if patience is None or not uses.is_written(place):
        return
    length = plan.stages[-1].epochs
    # Patience starts with the last stage; with the first epoch, where there is no other stage.
    waits = length - 1 if len(plan.stages) == 1 else length
    if patience < waits:
        uses.used("early_stopping", place)
    else:
        uses.unused(
            "early_stopping",
            place,
            each.trial,
            "no effect, so many epochs without a better one end with the training or after it",
        )


def _tell_class_weights(uses: Uses, each: WrittenTrial, facts: _Facts) -> None:
    place = each.places["class_weights"]
    if each.trial.settings.class_weights == "none" or not uses.is_written(place):
        return
    if facts.is_balanced(each.trial):
        reason = "no effect, every class has as many training images"
        uses.unused("class_weights", place, each.trial, reason)
    else:
        uses.used("class_weights", place)


def _unused_fractions(
    loaded: LoadedSuite, written: Sequence[WrittenTrial], dataset: Dataset
) -> Iterator[Note]:
    """Shares of splits that the data set has of its own; a val split may serve as the test."""
    uses = Uses(loaded.yaml_file)
    has_test, has_val = bool(np.any(dataset.splits == TEST)), bool(np.any(dataset.splits == VAL))
    unused = {
        "val_fraction": has_val and has_test,
        "test_fraction": has_val or has_test,
        "split_seed": has_val or has_test,
    }
    for option, is_unused in unused.items():
        if not is_unused or option not in loaded.suite.dataset.given:
            continue
        split = "validation" if option == "val_fraction" else "test"
        for each in written:
            reason = f"no effect, the data set has a {split} split of its own"
            uses.unused(f"{option} of the data set", ("dataset", option), each.trial, reason)
    yield from uses.notes()


def _failing(
    loaded: LoadedSuite,
    written: Sequence[WrittenTrial],
    plans: Sequence[tuple[Trial, Plan, int]],
) -> Iterator[Note]:
    """Trials with batches of one image that a batch norm cannot train on."""
    places = {id(each.trial): each.places["batch_size"] for each in written}
    failing: dict[str, int] = {}
    for trial, plan, size in plans:
        if trial.settings.batch_size > 1 or trial.settings.devices > 1:
            continue
        if any(
            stage.rule_for(address).norm_mode == "update"
            for address in single_value_norms(trial.backbone.name, size)
            for stage in plan.stages
        ):
            named = loaded.yaml_file.problem(places[id(trial)], "batch_size 1")
            message = (
                f"{named}: strategy {trial.strategy.name!r} trains batch norms of "
                f"{trial.backbone.name} that have one value per channel of an image of {size} px, "
                "and one value has no variance; give batch_size 2 or larger images"
            )
            failing[message] = failing.get(message, 0) + 1
    for message, count in failing.items():
        yield Note(kind=WILL_FAIL, message=message, count=count)
