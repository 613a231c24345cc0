"""One Optuna study for each cell: what is tried next, and what came of it.

Everything that several processes must agree on is in Optuna's storage. What a trial suggests
depends on the study's seed, the trial's number and the trials before it, so a study that was cut
short goes on as if it had not been.
"""

from __future__ import annotations

import math
import os
import platform
import random
import statistics
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import Any, Literal

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from bench.errors import MissingExtraError
from bench.keys import derive_seed
from bench.methods.metrics import ACCURACY, metric
from bench.suite import Choices, GoalName, Method, Range, direction
from bench.training.state import EpochRecord, chosen_record
from bench.tuning.cells import ONLY_WITH_SGD, Cell, own_params

REDUCTION = 3
"""A pruner looks after 1, 3, 9 … parts of the epochs and keeps about a third each time."""

BEAT_SECONDS, DEAD_SECONDS = 60.0, 300.0
"""How often a process says that it works on a trial, and how long others wait for it to."""

MEDIAN_STARTUP = 4
TPE_STARTUP = 8
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

Ranges = Mapping[str, Range | Choices]
Records = Sequence[Sequence[EpochRecord]]


@dataclass(kw_only=True)
class Suggestion:
    """Values that are being tried: one training for each tuning seed."""

    study: CellStudy
    trial: optuna.Trial
    params: dict[str, Any]
    records: Records = ()

    @property
    def number(self) -> int:
        """Of the trial in its study, from 0."""
        return self.trial.number


@dataclass(kw_only=True)
class CellStudy:
    """The study of one cell. `ranges` are resolved: no range test is left in them."""

    cell: Cell
    study: optuna.Study
    method: Method
    ranges: Ranges
    epochs: int
    images_per_epoch: int
    _signs: dict[int, tuple[object, float]] = field(default_factory=dict, init=False)

    @property
    def metric(self) -> str:
        """The metric that chooses the epochs of the cell's trials."""
        return self.cell.own[0].settings.metric

    @property
    def stops(self) -> tuple[int, ...]:
        """After how many epochs trials are looked at; the last is the end."""
        if self.method.pruner == "none":
            return (self.epochs,)
        stop, stops = _first_stop(self.epochs), []
        while stop < self.epochs:
            stops.append(stop)
            stop *= REDUCTION
        return (*stops, self.epochs)

    # Asking -----------------------------------------------------------------------------------

    def enqueue_own(self) -> None:
        """Have the suite's own values tried first, as far as the space holds them."""
        if self.study.get_trials(deepcopy=False):
            return
        for trial in self.cell.own:
            params = own_params(trial, self.cell.space)
            if all(_contains(self.ranges[name], value) for name, value in params.items()):
                self.study.enqueue_trial(params, user_attrs={"origin": "suite"})

    def ask(self) -> list[Suggestion]:
        """What to try now: what dead processes left first. Nothing when the budget is spent.

        Only one process at a time may ask.
        """
        left = [trial for trial in self._running() if not self._alive(trial)]
        fresh = min(self.method.batch - len(left), self._wanted())
        suggestions = [self._adopt(trial) for trial in left]
        for _ in range(fresh):
            try:
                suggestions.append(self._fresh())
            except _ExhaustedError:
                break
        return suggestions

    def waiting_for_others(self) -> bool:
        """Whether another process still works on a trial."""
        return any(self._alive(trial) for trial in self._running())

    def _alive(self, trial: FrozenTrial) -> bool:
        """Whether a process works on the trial: one of another machine gives signs of life.

        How long they have failed to come is measured by this process, whatever the machines' clocks
        say.
        """
        host, _, rest = str(trial.user_attrs.get("owner", "")).partition("|")
        if host in ("", platform.node()):
            return bool(host) and _runs_here(rest)
        sign = (trial.user_attrs["owner"], trial.user_attrs.get("beats"))
        known, since = self._signs.get(trial.number, (None, 0.0))
        if sign != known:
            since = time.monotonic()
            self._signs[trial.number] = (sign, since)
        return time.monotonic() - since < DEAD_SECONDS

    def _running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _wanted(self) -> int:
        """How many more trials the budget has room for, at most a batch."""
        trials = self.study.get_trials(deepcopy=False)
        begun = [trial for trial in trials if trial.state != TrialState.WAITING]
        if self.method.trials is not None:
            return min(self.method.batch, self.method.trials - len(begun))
        ended = [trial for trial in begun if trial.state in ENDED]
        if self.method.images is not None:
            cost: float = self.epochs * self.images_per_epoch * len(self.method.seeds)
            spent = sum(trial.user_attrs["images"] for trial in ended)
            left = self.method.images - spent - cost * (len(begun) - len(ended))
        else:
            assert self.method.seconds is not None
            seconds = [trial.user_attrs["seconds"] for trial in ended]
            cost = statistics.mean(seconds) if seconds else 0.0
            left = self.method.seconds - sum(seconds) - cost * (len(begun) - len(ended))
        if left <= 0:
            return 0
        return self.method.batch if not cost else min(self.method.batch, math.ceil(left / cost))

    def _fresh(self) -> Suggestion:
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if self.method.sampler == "grid" and not waiting:
            self.study.enqueue_trial(self._grid_point())
        with _quiet():
            self.study.sampler = self._sampler()
            trial = self.study.ask()
        trial.set_user_attr("owner", owner())
        return self._suggestion(trial)

    def _grid_point(self) -> dict[str, Any]:
        """The first combination that no trial has; the order is drawn from the study's seed.

        Optuna's own sampler for grids ends a study in a way that asking and telling forbids.
        """
        choices = {n: v.values for n, v in self.ranges.items() if isinstance(v, Choices)}
        points = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
        random.Random(derive_seed(self.method.seed, "grid", self.cell.key)).shuffle(points)
        known = [trial.params for trial in self.study.get_trials(deepcopy=False)]
        for point in points:
            if point not in known:
                return point
        raise _ExhaustedError

    def _adopt(self, left: FrozenTrial) -> Suggestion:
        with _quiet():
            self.study.sampler = self._sampler(left.number)
            trial = optuna.Trial(self.study, left._trial_id)
        trial.set_user_attr("owner", owner())
        return self._suggestion(trial)

    def _suggestion(self, trial: optuna.Trial) -> Suggestion:
        params: dict[str, Any] = {}
        for name, values in self.ranges.items():
            optimizer = params.get("optimizer", self.cell.own[0].settings.optimizer)
            if name in ONLY_WITH_SGD and optimizer != "sgd":
                continue
            with _quiet():
                params[name] = _suggest(trial, name, values, self.cell.space[name].whole)
        return Suggestion(study=self, trial=trial, params=params)

    def _sampler(self, number: int | None = None) -> optuna.samplers.BaseSampler:
        """A sampler for one trial; its draws depend on the trial's number alone."""
        if number is None:
            trials = self.study.get_trials(deepcopy=False)
            number = sum(trial.state != TrialState.WAITING for trial in trials)
        study_seed = derive_seed(self.method.seed, "tune", self.cell.key)
        return make_sampler(
            self.method.sampler,
            seed=derive_seed(study_seed, number) % 2**32,
            study_seed=study_seed % 2**32,
        )

    # Telling ----------------------------------------------------------------------------------

    def take(self, suggestion: Suggestion, records: Records, *, stop: int) -> bool:
        """Note how a suggestion went up to epoch `stop`, by tuning seed; whether it is to go on."""
        suggestion.records = records
        stopped_early = all(len(each) < stop for each in records)
        if stop == self.epochs or stopped_early:
            self._tell(suggestion, TrialState.COMPLETE)
            return False
        if self._is_pruned(suggestion, stop):
            self._tell(suggestion, TrialState.PRUNED)
            return False
        return True

    def fail(self, suggestion: Suggestion, error: str, records: Records = ()) -> None:
        """The suggestion could not be trained, or not to the end; `records` are what it cost."""
        suggestion.records = records
        self._tell(suggestion, TrialState.FAIL, error=error)

    def _is_pruned(self, suggestion: Suggestion, stop: int) -> bool:
        known = self.study.get_trials(deepcopy=False)[suggestion.number].intermediate_values
        for epoch in range(1, stop + 1):
            if epoch not in known:
                best = self._scores([each[:epoch] for each in suggestion.records])
                suggestion.trial.report(best[self.method.objective[0]], epoch)
        with _quiet():
            return suggestion.trial.should_prune()

    def _tell(self, suggestion: Suggestion, state: TrialState, *, error: str | None = None) -> None:
        trial, records = suggestion.trial, suggestion.records
        trained = sum(len(each) for each in records)
        attributes: dict[str, Any] = {
            "epochs": max((len(each) for each in records), default=0),
            "images": trained * self.images_per_epoch,
            "seconds": _seconds(records),
            "error": error,
        }
        if error is None:
            attributes |= self._scores(records)
        complete = state == TrialState.COMPLETE
        values = [attributes[name] for name in self.method.objective] if complete else None
        if values is not None and any(map(math.isnan, values)):
            unknown = f"its {self.metric} is not known: a class is missing in the validation split"
            attributes["error"], state, values = unknown, TrialState.FAIL, None
        # Another machine that took this process for dead may have ended the trial, equally.
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            self.study.tell(trial, values, state=state, skip_if_finished=True)

    def _scores(self, records: Records) -> dict[str, Any]:
        """Means over tuning seeds, each at the epoch that counts."""
        settings = self.cell.own[0].settings
        best = [chosen_record(each, settings).validation for each in records]
        goals = {"val_accuracy": ACCURACY, "val_metric": self.metric}
        of = {
            goal: [scores.metrics[name] for scores in best]
            for goal, name in goals.items()
            if all(name in scores.metrics for scores in best)
        }
        return {
            **{name: statistics.fmean(values) for name, values in of.items()},
            **{f"{name}_sd": _deviation(values) for name, values in of.items()},
            "val_loss": statistics.fmean(scores.loss for scores in best),
            "seconds": _seconds(records),
        }

    # Reading ----------------------------------------------------------------------------------

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the best first objective; of equals by the loss, then the first.

        With two objectives it is still the first one that chooses.
        """
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        first: GoalName = self.method.objective[0]
        sign = -1 if directions(self.method, self.metric)[0] == "maximize" else 1

        def rank(trial: FrozenTrial) -> tuple[float, float, int]:
            attributes = trial.user_attrs
            return round(sign * attributes[first], 12), attributes["val_loss"], trial.number

        return min(complete, key=rank, default=None)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of `tuning.parquet`, all but what the cell is."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state not in ENDED:
                continue
            attributes = trial.user_attrs
            measured = (
                "val_accuracy",
                "val_metric",
                "val_accuracy_sd",
                "val_metric_sd",
                "val_loss",
            )
            yield {
                "study": self.cell.label,
                "number": trial.number,
                "state": "failed" if trial.state == TrialState.FAIL else trial.state.name.lower(),
                "origin": attributes.get("origin", "sampler"),
                **{name: attributes.get(name) for name in measured},
                **{name: attributes.get(name) for name in ("seconds", "epochs", "images", "error")},
                "started": _utc(trial.datetime_start),
                "finished": _utc(trial.datetime_complete),
                **{f"param_{name}": value for name, value in trial.params.items()},
            }


class _ExhaustedError(Exception):
    """There is nothing left to suggest."""


# Samplers and pruners -------------------------------------------------------------------------


def make_sampler(name: str, *, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
    """The sampler for one trial; raises `MissingExtraError` where its package is missing.

    Quasi-random points are a sequence of the whole study, so they have its seed; what is not part
    of the sequence (the momentum that only some trials have) is drawn for each trial. The points
    of a grid are enqueued.
    """
    samplers = optuna.samplers
    if name in ("random", "grid"):
        return samplers.RandomSampler(seed=seed)
    if name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=TPE_STARTUP)
    if name == "qmc":
        return samplers.QMCSampler(
            seed=study_seed,
            scramble=True,
            independent_sampler=samplers.RandomSampler(seed=seed),
        )
    if name == "cmaes":
        try:
            import cmaes  # noqa: F401
        except ImportError:
            raise MissingExtraError(
                needed_for="sampler 'cmaes'", package="cmaes", extra="cmaes"
            ) from None
        return samplers.CmaEsSampler(seed=seed)
    return samplers.TPESampler(seed=seed, n_startup_trials=TPE_STARTUP, constant_liar=True)


def make_pruner(name: str, *, epochs: int) -> optuna.pruners.BasePruner:
    """The pruner of a study whose trials have so many epochs."""
    pruners, first_stop = optuna.pruners, _first_stop(epochs)
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=MEDIAN_STARTUP, n_warmup_steps=0)
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=first_stop, reduction_factor=REDUCTION)
    if name == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=first_stop, max_resource=epochs, reduction_factor=REDUCTION
        )
    return pruners.NopPruner()


def _first_stop(epochs: int) -> int:
    """After how many epochs a trial is looked at for the first time."""
    return max(1, epochs // REDUCTION**2)


def _suggest(trial: optuna.Trial, name: str, values: Range | Choices, whole: bool) -> Any:
    if isinstance(values, Choices):
        return trial.suggest_categorical(name, values.values)
    if whole:
        step = 1 if values.step is None else int(values.step)
        return trial.suggest_int(name, int(values.low), int(values.high), step=step, log=values.log)
    step_size = None if values.step is None else float(values.step)
    return trial.suggest_float(
        name, float(values.low), float(values.high), step=step_size, log=values.log
    )


def _contains(values: Range | Choices, value: Any) -> bool:
    if isinstance(values, Choices):
        # True is 1 in Python.
        kinds = [(choice, isinstance(choice, bool)) for choice in values.values]
        return (value, isinstance(value, bool)) in kinds
    if value is None or not values.low <= value <= values.high:
        return False
    return values.step is None or math.isclose((value - values.low) % values.step, 0)


# Scores ---------------------------------------------------------------------------------------


def directions(method: Method, name: str) -> list[Literal["maximize", "minimize"]]:
    """What a study does with each of its goals where the metric called `name` chooses epochs."""
    higher = metric(name).higher_is_better
    return [direction(goal, higher_is_better=higher) for goal in method.objective]


def _deviation(values: Sequence[float]) -> float | None:
    known = len(values) > 1 and all(map(math.isfinite, values))
    return statistics.stdev(values) if known else None


def _seconds(records: Records) -> float:
    return sum(record.train_seconds + record.val_seconds for each in records for record in each)


def _utc(time: datetime | None) -> datetime | None:
    """Optuna's times are local and naive."""
    return None if time is None else time.astimezone(UTC)


# Owners ---------------------------------------------------------------------------------------


def owner() -> str:
    """This process, so that another one can tell whether it still lives."""
    created = psutil.Process().create_time()
    return f"{platform.node()}|{os.getpid()}|{created:.2f}"


@contextmanager
def beating(suggestions: Sequence[Suggestion]) -> Iterator[None]:
    """Within the block, tell processes of other machines that these are being worked on."""
    done = threading.Event()

    def beat() -> None:
        beats = 0
        while not done.wait(BEAT_SECONDS):
            beats += 1
            for suggestion in suggestions:
                # It may have ended, and a database may be away for a moment.
                with suppress(Exception):
                    suggestion.trial.set_user_attr("beats", beats)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _runs_here(process_text: str) -> bool:
    """Whether the process of an `owner` of this machine, without its host, is another that runs."""
    pid, _, created = process_text.partition("|")
    try:
        process = psutil.Process(int(pid))
        return f"{process.create_time():.2f}" == created and process.pid != os.getpid()
    except psutil.Error:
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that parts of Optuna are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
