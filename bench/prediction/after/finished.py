"""The finished trials of a run as what is made of them needs them, and what one such child is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.inputs import PreparedData
from bench.data.splits import Splits
from bench.errors import BenchError
from bench.methods.metrics import METRICS, log_loss, multi_label_log_loss
from bench.methods.target_tasks import (
    MULTI_LABEL,
    REGRESSION,
    TARGET_TASKS,
    TargetTask,
    chosen_thresholds,
    decisions,
)
from bench.prediction.choice import Chosen
from bench.prediction.combine import Labels, Probabilities
from bench.results.analysis.choice import Choice, choices
from bench.results.analysis.predicted import Predicted, predicted_by_trial
from bench.results.folder import Run
from bench.results.folder.tables import TEST, VAL
from bench.results.grid import Grid, complete_trials, read_grid

if TYPE_CHECKING:
    import pandas as pd

    from bench.prediction.model import TrainedModel


class CannotBeError(BenchError):
    """A child cannot be made, and why."""


@dataclass(frozen=True, kw_only=True)
class TrialData:
    """The prepared data that a trial saw, and its splits."""

    data: PreparedData
    splits: Splits


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A child: its predictions, how often each trial counts, and what validation chose.

    `val` is None where no image is in the validation split of all members. `passes` through a
    network predict one sample.
    """

    val: Predicted | None
    test: Predicted
    members: Mapping[str, int]
    passes: int
    chosen: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A child that is to be, made from `candidates`; `make` raises `BenchError` if it cannot.

    `of` says in words what it is made of. Without a `seed` it joins several. It is compared with
    the trial `base`, or with what the run recommends.
    """

    name: str
    of: str
    seed: int | None
    candidates: tuple[str, ...]
    make: Callable[[], Made]
    config: str | None = None
    base: str | None = None


def of_val(make: Callable[[], Predicted | None]) -> Predicted | None:
    """What `make` makes of validation splits where nothing is chosen on it; None without them."""
    try:
        return make()
    except CannotBeError:
        return None


def refused(reason: str) -> Made:
    """What is planned and cannot be, for this reason."""
    raise CannotBeError(reason)


OF_INPUTS = ("image_size", "resize", "max_length", "pooling")
"""Settings that say what of a sample is seen, and what becomes of it."""


class Finished:
    """The complete trials of a run; `data_of` finds the data of one, `device` computes."""

    def __init__(
        self, run: Run, data_of: Callable[[str], TrialData], *, device: str = "cpu"
    ) -> None:
        self.run = run
        self.device = device
        self._data_of = data_of
        self._known: dict[str, dict[str, Predicted]] = {}

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row each, with the settings of its inputs."""
        own = complete_trials(self.run.trials).copy()
        settings = [json.loads(text) for text in own["settings"]]
        for name in OF_INPUTS:
            own[name] = [each.get(name) for each in settings]
        return own

    @cached_property
    def grid(self) -> Grid:
        """The grid of all trials."""
        return read_grid(self.run.trials, self.run.metric)

    @cached_property
    def reported(self) -> tuple[Choice, ...]:
        """What stands for each value of the leading axis on each backbone."""
        found = choices(self.run.trials, self.grid)
        return tuple(choice for own in found.values() for choice in own.values())

    def of_config(self, config: str) -> dict[int, str]:
        """The trials of a config by their seed."""
        own = self.trials[self.trials["config"] == config]
        return {int(seed): str(id) for seed, id in zip(own["seed"], own["trial"], strict=True)}

    @property
    def target_task(self) -> TargetTask:
        """What the run predicts."""
        return TARGET_TASKS[self.run.target_task]

    def merit(self, labels: Labels, probabilities: Probabilities) -> float:
        """The figure of the metric that chose the epochs, turned so that more is better.

        Where labels have to be given, they are from the thresholds that these very samples choose,
        as in a training.
        """
        metric = METRICS.get(self.run.metric.name)
        answers: Any = probabilities
        if metric.traits.decides:
            limits = chosen_thresholds(labels, probabilities)
            answers = decisions(probabilities, limits).astype(np.float64)
        value = metric.function(labels, answers)
        return -np.inf if np.isnan(value) else self.run.metric.sign * float(value)

    def loss(self, labels: Labels, probabilities: Probabilities) -> float:
        """What training minimised, of which less is better: it parts what is equally good."""
        task = self.target_task
        if task is REGRESSION:
            spread = np.square(labels - labels.mean(axis=0)).mean(axis=0)
            squares = np.square(probabilities - labels).mean(axis=0)
            return float((squares / np.where(spread > 0, spread, 1.0)).mean())
        if task is MULTI_LABEL:
            return multi_label_log_loss(labels, probabilities)
        return log_loss(labels, probabilities)

    def val(self, trial: str) -> Predicted:
        """What the trial predicted of its validation split; raises `CannotBeError` without."""
        found = self._split(VAL).get(trial)
        if found is None:
            raise CannotBeError(
                f"the trial {trial} has no predictions on a validation split, and validation must "
                "choose; trials of earlier versions kept none"
            )
        return found

    def test(self, trial: str) -> Predicted:
        """What the trial predicted of the test split."""
        found = self._split(TEST).get(trial)
        if found is None:
            raise CannotBeError(f"the trial {trial} has no predictions on the test split")
        return found

    def _split(self, split: str) -> dict[str, Predicted]:
        if split not in self._known:
            frame = self.run.predictions if split == TEST else self.run.val_predictions
            self._known[split] = predicted_by_trial(frame)
        return self._known[split]

    def open(self, trial: str) -> TrainedModel:
        """The trial's trained network; raises `BenchError` where its weights are not to be had."""
        from bench.prediction.load import open_trial

        found = self.trials.set_index("trial", drop=False).loc[trial]
        row = {str(name): value for name, value in found.to_dict().items()}
        return open_trial(
            self.run, Chosen(row=row, label=trial, why="It is a member."), device=self.device
        )

    def data(self, trial: str) -> TrialData:
        """The data that the trial saw."""
        return self._data_of(trial)
