"""One Optuna study for each cell: what is tried next, and what came of it.

Everything that several processes must agree on is in Optuna's storage. What a trial suggests
depends on the study's seed, the trial's number and the trials before it, so a study that was cut
short goes on as if it had not been.

A study asks in rounds of `batch` trials. Before each, it looks where the best value so far lies: at
an edge, the first trials of the round try the end of the range, or what lies a step beyond it, with
the other values of the best; the rest of the round draws from the wider range.
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
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from bench.errors import MissingExtraError
from bench.keys import derive_seed
from bench.methods.metrics import ACCURACY, metric
from bench.results.analysis.studies import is_number, number_text
from bench.results.analysis.tuning import LR, Edge, edges_at
from bench.suite import Choices, GoalName, Method, Range, direction
from bench.training.state import EpochRecord, chosen_record
from bench.tuning.cells import ONLY_WITH_SGD, Cell, own_params
from bench.tuning.widening import ends_of, is_range, setting_of, widened, wider_ends

REDUCTION = 3
"""A pruner looks after 1, 3, 9 … parts of the epochs and keeps about a third each time."""

BEAT_SECONDS, DEAD_SECONDS = 60.0, 300.0
"""How often a process says that it works on a trial, and how long others wait for it to."""

MEDIAN_STARTUP = 4
TPE_STARTUP = 8

LEAST_ENDED = 4
"""Of fewer trials it is not told where the best value lies."""

SUITE, EARLIER, AT_EDGE = "suite", "earlier", "edge"
"""Whose values a trial has that the sampler did not draw."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

Ranges = Mapping[str, Range | Choices]
Records = Sequence[Sequence[EpochRecord]]


@dataclass(frozen=True, kw_only=True)
class First:
    """Values that the earlier run in the folder `run` found, as far as they fit."""

    params: Mapping[str, Any]
    run: str


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The values of the best trial but for one, at an end of a range; `why` the end is new."""

    params: Mapping[str, Any]
    why: str | None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a round draws from, and what it tries first."""

    ranges: Ranges
    probes: tuple[Probe, ...] = ()


@dataclass(kw_only=True)
class Suggestion:
    """Values that are being tried: one training for each tuning seed.

    `why` says which range was widened for them.
    """

    study: CellStudy
    trial: optuna.Trial
    params: dict[str, Any]
    records: Records = ()
    why: str | None = None

    @property
    def number(self) -> int:
        """Of the trial in its study, from 0."""
        return self.trial.number


@dataclass(kw_only=True)
class CellStudy:
    """The study of one cell. `ranges` are those asked for, without a range test in them."""

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

    def enqueue_first(self, earlier: Sequence[First] = ()) -> bool:
        """Have the suite's own values tried first, as far as the space holds them, then `earlier`.

        The sampler draws what these lack, and ranges are widened to hold them. False, and nothing
        is done, if the study has begun.
        """
        if self.study.get_trials(deepcopy=False):
            return False
        known: list[Mapping[str, Any]] = []
        for trial in self.cell.own:
            params = own_params(trial, self.cell.space)
            if all(contains(self.ranges[name], value) for name, value in params.items()):
                self.study.enqueue_trial(params, user_attrs={"origin": SUITE})
                known.append(params)
        for first in earlier:
            if first.params not in known:
                about = {"origin": EARLIER, "reach": dict(first.params)}
                self.study.enqueue_trial(dict(first.params), user_attrs=about)
                known.append(first.params)
        self.study.set_user_attr(EARLIER, sorted({first.run for first in earlier}))
        return True

    def started_from(self) -> set[str]:
        """The earlier runs whose values were to be among the first."""
        return set(self.study.user_attrs.get(EARLIER, ()))

    def _firsts(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.user_attrs.get("origin") in (SUITE, EARLIER)]

    def ask(self) -> list[Suggestion]:
        """What to try now: what dead processes left first. Nothing when the budget is spent.

        Only one process at a time may ask.
        """
        left = [trial for trial in self._running() if not self._alive(trial)]
        begun = len(self._begun())
        first = min((_round_of(trial) for trial in left), default=begun)
        fresh = min(first + self.method.batch - begun, self._wanted())
        suggestions = [self._adopt(trial) for trial in left]
        if fresh <= 0:
            return suggestions
        look = self.look(first)
        for number in range(begun, begun + fresh):
            try:
                suggestions.append(self._fresh(look, first, number))
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

    def _begun(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != TrialState.WAITING]

    def _waiting(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _wanted(self) -> int:
        """How many more trials the budget has room for, at most a batch."""
        begun = self._begun()
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

    def _fresh(self, look: Look, first: int, number: int) -> Suggestion:
        why = None
        if not self._waiting():
            if number - first < len(look.probes):
                probe = look.probes[number - first]
                self.study.enqueue_trial(dict(probe.params), user_attrs={"origin": AT_EDGE})
                why = probe.why
            elif self.method.sampler == "grid":
                point = self._grid_point(look.ranges, self._begun())
                if point is None:
                    raise _ExhaustedError
                self.study.enqueue_trial(point)
        with _quiet():
            self.study.sampler = self._sampler(number, look.ranges)
            trial = self.study.ask()
        trial.set_user_attr("owner", owner())
        trial.set_user_attr("round", first)
        return self._suggestion(trial, look.ranges, why)

    def _grid_point(self, ranges: Ranges, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
        """The first combination that none of the trials has; the order is the study's own.

        Optuna's own sampler for grids ends a study in a way that asking and telling forbids.
        """
        choices = {n: v.values for n, v in ranges.items() if isinstance(v, Choices)}
        points = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
        random.Random(derive_seed(self.method.seed, "grid", self.cell.key)).shuffle(points)
        known = [trial.params for trial in trials]
        return next((point for point in points if point not in known), None)

    def _adopt(self, left: FrozenTrial) -> Suggestion:
        ranges = self.look(_round_of(left)).ranges
        with _quiet():
            self.study.sampler = self._sampler(left.number, ranges)
            trial = optuna.Trial(self.study, left._trial_id)
        trial.set_user_attr("owner", owner())
        return self._suggestion(trial, ranges, left=left)

    def _suggestion(
        self,
        trial: optuna.Trial,
        ranges: Ranges,
        why: str | None = None,
        left: FrozenTrial | None = None,
    ) -> Suggestion:
        params: dict[str, Any] = {}
        for name in self.ranges:
            optimizer = params.get("optimizer", self.cell.own[0].settings.optimizer)
            if name in ONLY_WITH_SGD and optimizer != "sgd":
                continue
            distribution = self._distribution(name, ranges[name])
            with _quiet():
                if left is not None and name in left.params:
                    self._draw_again(trial, left, name, distribution)
                params[name] = _suggest(trial, name, distribution)
        return Suggestion(study=self, trial=trial, params=params, why=why)

    def _draw_again(
        self, trial: optuna.Trial, left: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> None:
        """Let the sampler stand where it stood after this value, which the trial was left with.

        Those of other samplers are one draw of all values.
        """
        fixed = left.system_attrs.get("fixed_params", {})
        if self.method.sampler not in ("tpe", "random", "gp"):
            return
        if name not in fixed and name not in trial.relative_params and not distribution.single():
            self.study.sampler.sample_independent(self.study, left, name, distribution)

    def _sampler(self, number: int, ranges: Ranges) -> optuna.samplers.BaseSampler:
        """A sampler for one trial; its draws depend on the trial's number alone."""
        study_seed = derive_seed(self.method.seed, "tune", self.cell.key)
        sampler = make_sampler(
            self.method.sampler,
            seed=derive_seed(study_seed, number) % 2**32,
            study_seed=study_seed % 2**32,
        )
        if ranges == self.ranges or self.method.sampler in ("random", "tpe", "grid"):
            return sampler
        wider = {name: self._distribution(name, values) for name, values in ranges.items()}
        return _OnWiderRanges(sampler, wider)

    # Widening ---------------------------------------------------------------------------------

    def look(self, first: int) -> Look:
        """What the round that begins with this number draws from: it knows the trials before it."""
        before = [trial for trial in self._begun() if trial.number < first]
        ended = [trial for trial in before if trial.state in ENDED]
        ranges = self._ranges_of(before)
        best = self._best_of(ended)
        if best is None or not self.method.widen:
            return Look(ranges=ranges)
        if self.method.sampler == "grid":
            ready = self._grid_point(ranges, before) is None  # it is walked first
        else:
            ready = len(ended) >= LEAST_ENDED
        ready &= all(trial.number < first for trial in self._firsts())
        if not ready:
            return Look(ranges=ranges)
        probes: list[Probe] = []
        for edge in self._edges_of(best, ended, ranges):
            probe = self._probe(edge, best, before, ranges)
            if probe is not None and len(probes) < max(1, self.method.batch // 2):
                probes.append(probe)
                ranges = self._with(ranges, edge.setting.name, probe.params)
        return Look(ranges=ranges, probes=tuple(probes))

    def edges(self) -> list[Edge]:
        """Where the best value of all trials lies at an edge, that of the learning rate first."""
        trials = [trial for trial in self._begun() if trial.state in ENDED]
        best = self._best_of(trials)
        return [] if best is None else self._edges_of(best, trials, self.reached)

    @property
    def reached(self) -> Ranges:
        """The ranges that trials were drawn from, as wide as they have become."""
        return self._ranges_of(self._begun())

    def _ranges_of(self, trials: Sequence[FrozenTrial]) -> Ranges:
        firsts = self._firsts()
        return {name: self._reached(name, trials, firsts) for name in self.ranges}

    @property
    def has_ranges(self) -> bool:
        """Whether there is something to widen."""
        return any(map(self._is_range, self.ranges))

    def _reached(
        self, name: str, trials: Sequence[FrozenTrial], firsts: Sequence[FrozenTrial]
    ) -> Range | Choices:
        values = self.ranges[name]
        if not self._is_range(name):
            return values
        drawn = [trial.distributions[name] for trial in trials if name in trial.distributions]
        lows, highs = [ends_of(values)[0]], [ends_of(values)[1]]
        for each in drawn:
            assert isinstance(each, FloatDistribution | IntDistribution)
            lows.append(each.low)
            highs.append(each.high)
        if isinstance(values, Range):
            given = [trial.user_attrs.get("reach", {}) for trial in firsts]
            known = [reach[name] for reach in given if name in reach]
            lows, highs = lows + known, highs + known
        return widened(self.cell.space[name], values, (min(lows), max(highs)))

    def _is_range(self, name: str) -> bool:
        """Whether it has ends that can be moved: lists that an earlier version searched do not."""
        values = self.ranges[name]
        if not is_range(self.cell.space[name], values, self.method.sampler):
            return False
        if isinstance(values, Range):
            return True
        drawn = [trial.distributions.get(name) for trial in self.study.get_trials(deepcopy=False)]
        return not any(isinstance(each, CategoricalDistribution) for each in drawn)

    def _edges_of(
        self, best: FrozenTrial, trials: Sequence[FrozenTrial], ranges: Ranges
    ) -> list[Edge]:
        found = []
        for name in sorted(ranges, key=lambda name: name != LR):
            value = best.params.get(name)
            tried = [trial.params[name] for trial in trials if name in trial.params]
            if value is None or not is_number(value):
                continue
            setting = setting_of(self.cell.space[name], ranges[name], asked=self.ranges[name])
            found += edges_at(self.cell.label, setting, float(value), tried, len(trials))
        return found

    def _probe(
        self, edge: Edge, best: FrozenTrial, trials: Sequence[FrozenTrial], ranges: Ranges
    ) -> Probe | None:
        """What to try at the edge; None where the end may not be moved, or a trial has that."""
        name, lower = edge.setting.name, edge.side == "lower"
        if not self._is_range(name):
            return None
        value, why = ends_of(ranges[name])[0 if lower else 1], None
        if edge.end:
            ends = wider_ends(
                self.cell.space[name], self.ranges[name], lower=lower, times=self.method.widen
            )
            beyond = [end for end in ends if (end < value if lower else end > value)]
            if not beyond:
                return None
            value = beyond[0]
            why = f"{edge.text}: {name} {number_text(float(value))} is tried too"
        params = {**best.params, name: value}
        known = any(trial.params == params for trial in trials)
        return None if known else Probe(params=params, why=why)

    def _with(self, ranges: Ranges, name: str, params: Mapping[str, Any]) -> Ranges:
        """The ranges with that of one setting as far as its value."""
        low, high = ends_of(ranges[name])
        ends = min(low, params[name]), max(high, params[name])
        return {**ranges, name: widened(self.cell.space[name], self.ranges[name], ends)}

    def _distribution(self, name: str, values: Range | Choices) -> BaseDistribution:
        if isinstance(values, Choices):
            if not self._is_range(name):
                return CategoricalDistribution(values.values)
            low, high = ends_of(values)
            values = Range(low=low, high=high)
        if self.cell.space[name].whole:
            step = 1 if values.step is None else int(values.step)
            return IntDistribution(int(values.low), int(values.high), step=step, log=values.log)
        width = None if values.step is None else float(values.step)
        return FloatDistribution(float(values.low), float(values.high), step=width, log=values.log)

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
        return self._best_of(self.study.get_trials(deepcopy=False))

    def _best_of(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
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


def _suggest(trial: optuna.Trial, name: str, drawn: BaseDistribution) -> Any:
    if isinstance(drawn, CategoricalDistribution):
        return trial.suggest_categorical(name, drawn.choices)
    if isinstance(drawn, IntDistribution):
        return trial.suggest_int(name, drawn.low, drawn.high, step=drawn.step, log=drawn.log)
    assert isinstance(drawn, FloatDistribution)
    return trial.suggest_float(name, drawn.low, drawn.high, step=drawn.step, log=drawn.log)


def contains(values: Range | Choices, value: Any) -> bool:
    """Whether a search of these values may come upon this one."""
    if isinstance(values, Choices):
        # True is 1 in Python.
        kinds = [(choice, isinstance(choice, bool)) for choice in values.values]
        return (value, isinstance(value, bool)) in kinds
    if value is None or not values.low <= value <= values.high:
        return False
    return values.step is None or math.isclose((value - values.low) % values.step, 0)


def _round_of(trial: FrozenTrial) -> int:
    """The number of the trial that its round began with.

    A process that died before it said so has asked for this one as the last of its round.
    """
    return int(trial.user_attrs.get("round", trial.number))


class _OnWiderRanges(optuna.samplers.BaseSampler):
    """A sampler that takes what it searches from earlier trials, on ranges that are wider by now.

    What it has learned stays in place relative to the ends.
    """

    def __init__(
        self, sampler: optuna.samplers.BaseSampler, ranges: Mapping[str, BaseDistribution]
    ) -> None:
        self._sampler = sampler
        self._ranges = ranges

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What the sampler searches, and what it left out because its range has changed."""
        found = self._sampler.infer_relative_search_space(study, trial)
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        everywhere = [name for name in self._ranges if all(name in t.params for t in trials)]
        changed = [
            name
            for name in everywhere
            if trials and not isinstance(self._ranges[name], CategoricalDistribution)
        ]
        names = list(found) if set(changed) <= set(found) else sorted({*found, *changed})
        return {name: self._ranges[name] for name in names}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


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
