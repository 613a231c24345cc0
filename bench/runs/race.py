"""A run that stops when it is decided: rounds of trainings, and a look at the verdict after each.

The folder knows where a race stands. Parts say which seeds each strategy has, `looks.json` which
of them the last look has seen. What that look decided follows from these again, so an interrupted
round goes on, and a race that is over is found to be over, with no look more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.results.analysis import Verdict, read_verdict
from bench.results.folder import Run, RunStore
from bench.results.folder.looks import read_looks
from bench.results.grid import SHOTS, Grid, complete_trials, read_grid
from bench.runs.decide import MAX_SEEDS, Step, next_step
from bench.runs.options import RunOptions
from bench.runs.race_text import end_text, round_text, start_text
from bench.runs.resolve import ResolvedRun, ResolvedTrial, in_order, was_tried
from bench.suite import is_selected

if TYPE_CHECKING:
    import pandas as pd

Train = Callable[[ResolvedRun], None]
"""Trains what is pending."""

SEED_LIMIT = 2**31


def race_notes(resolved_run: ResolvedRun, options: RunOptions) -> Iterator[str]:
    """What is to be told of `--decide` before anything is trained."""
    further = resolved_run.further
    if further is not None:
        yield start_text(further.suite, further.first, most_seeds(resolved_run, options))
    elif options.decide:
        yield "--decide has nothing to decide: all trials are of one config; they are run as usual"


def most_seeds(resolved_run: ResolvedRun, options: RunOptions) -> int:
    """How many seeds a strategy may have at most."""
    assert resolved_run.further is not None
    return options.max_seeds or max(MAX_SEEDS, len(resolved_run.further.first))


class Race:
    """Adds seeds to those in the contest, round by round.

    `train` writes parts, `tables` makes the tables of all trials so far and reads them, `keep` is
    told that a look has been written down, `tell` is told of each look. `started` is when the run
    began, by the monotonic clock.
    """

    def __init__(
        self,
        resolved_run: ResolvedRun,
        options: RunOptions,
        *,
        train: Train,
        tables: Callable[[], Run],
        keep: Callable[[], None],
        tell: Callable[[str], None],
        started: float,
    ) -> None:
        assert resolved_run.further is not None
        self._run = resolved_run
        self._further = resolved_run.further
        self._options = options
        self._train = train
        self._tables = tables
        self._keep = keep
        self._tell = tell
        self._started = started
        self._store = RunStore(resolved_run.folder)
        self._seen: set[str] = set()
        self._tried = {each.id for each in resolved_run.trials if was_tried(self._store, each.id)}

    def run(self) -> None:
        """Go on until the verdict is decided, or seeds cannot decide it, or a limit is reached."""
        run = self._tables()
        verdict = self._last_look(run)
        while True:
            step, trials = self._next(verdict, run)
            if not trials and self._unseen(run):
                # Trials of a round that the last look, judged anew, would not have asked for.
                verdict = self._look(run)
                continue
            if not trials:
                self._tell(end_text(verdict, step, self._counts(run)))
                return
            self._tell(round_text(verdict, step, len(trials), self._length(run, trials)))
            self._round(trials)
            before, run = run, self._tables()
            if len(complete_trials(run.trials)) == len(complete_trials(before.trials)):
                failed = Step(stopped=step.stopped, ended="failed")
                self._tell(end_text(verdict, failed, self._counts(run)))
                return
            verdict = self._look(run)

    # Looks --------------------------------------------------------------------------------------

    def _look(self, run: Run) -> Verdict:
        verdict = read_verdict(run)
        # On a disk that takes no more, the folder does not know of it.
        self._seen |= set(complete_trials(run.trials)["trial"])
        self._keep()
        return verdict

    def _last_look(self, run: Run) -> Verdict:
        """The verdict as it was last seen; a look now where that saw not all of the start."""
        unseen = self._unseen(run)
        first = {
            each.id for each in self._run.trials if each.trial.settings.seed in self._further.first
        }
        if not unseen or unseen & first:
            return self._look(run)
        return read_verdict(replace(run, trials=run.trials[~run.trials["trial"].isin(unseen)]))

    def _unseen(self, run: Run) -> set[str]:
        seen = {trial for look in read_looks(run.folder) for trial in look}
        return set(complete_trials(run.trials)["trial"]) - seen - self._seen

    # Rounds -------------------------------------------------------------------------------------

    def _next(self, verdict: Verdict, run: Run) -> tuple[Step, list[ResolvedTrial]]:
        """What follows from a look, and what is to be trained for it."""
        racers = self._racers(run, verdict.size)
        judged = self._tried - self._unseen(run)
        step = next_step(
            verdict,
            {
                each.name: self._number(racers.get(each.name, ()), judged)
                for each in verdict.contenders
            },
            max_seeds=most_seeds(self._run, self._options),
            selected=racers,
        )
        trials = [
            trial
            for name in step.racing
            for each in racers[name]
            for trial in self._of_config(each, step.seeds)
            if trial.id not in self._tried
        ]
        minutes = self._options.minutes
        if trials and minutes is not None:
            length = self._length(run, trials) or 0.0
            if time.monotonic() + length > self._started + 60 * minutes:
                return Step(stopped=step.stopped, ended="minutes"), []
        return step, trials

    def _round(self, trials: list[ResolvedTrial]) -> None:
        """Train these beside what is there, which stays as it is."""
        there = (replace(each, complete=True, reuse=True) for each in self._run.trials)
        self._run = replace(self._run, trials=tuple(in_order((*there, *trials))))
        self._train(self._run)
        self._tried |= {each.id for each in trials}

    def _racers(self, run: Run, size: str | None) -> dict[str, list[ResolvedTrial]]:
        """Value of the leading axis → a trial of each config that may get further seeds.

        A config that has never come to an end stands for nothing. Where the number of training
        images varies, the verdict is at one `size`, and seeds at the others would not settle it.
        """
        grid: Grid = read_grid(run.trials, run.metric)
        able = set(complete_trials(run.trials)["config"])
        found: dict[str, list[ResolvedTrial]] = {}
        configs = {each.trial.config: each for each in reversed(self._run.trials)}
        for config, each in configs.items():
            cell = grid.cells.get(config, {})
            judged = size is None or cell.get(SHOTS) == size
            if config in able and judged and self._is_selected(each):
                found.setdefault(cell[grid.lead], []).append(each)
        return found

    def _is_selected(self, each: ResolvedTrial) -> bool:
        """Whether `--only` leaves the config further seeds."""
        further = each.with_seed(self._seeds(len(self._further.first) + 1)[-1]).trial
        return is_selected(further, self._run.selected)

    def _number(self, configs: Sequence[ResolvedTrial], trials: Collection[str]) -> int:
        """How many seeds all of the configs have among these trials."""
        number = len(self._further.first)
        while configs and all(
            self._of_config(each, number + 1)[-1].id in trials for each in configs
        ):
            number += 1
        return number

    def _of_config(self, each: ResolvedTrial, number: int) -> list[ResolvedTrial]:
        """The config's trials of further seeds, where each strategy has so many."""
        seeds = self._seeds(number)
        return [replace(each.with_seed(seed), skip_reason=None) for seed in seeds]

    def _seeds(self, number: int) -> tuple[int, ...]:
        seeds = self._further.up_to(number)
        if seeds and seeds[-1] >= SEED_LIMIT:
            raise BenchError(
                f"there is no seed above {SEED_LIMIT - 1}: give the suite smaller seeds"
            )
        return seeds

    # Time and count -----------------------------------------------------------------------------

    def _length(self, run: Run, trials: list[ResolvedTrial]) -> float | None:
        """About how many seconds these take, as earlier trials of the same configs did."""
        complete = complete_trials(run.trials)
        seconds = complete.groupby("config")["train_seconds"].mean()
        total = float(complete["train_seconds"].sum())
        if not total:
            return None
        asked = sum(float(seconds.get(each.trial.config, 0.0)) for each in trials)
        # What stands around the trainings, and how many ran at once.
        return asked * _busy(complete) / total

    def _counts(self, run: Run) -> tuple[int, int, int]:
        """Trainings, those with as many seeds for all as one has, and how many seeds that is."""
        complete = complete_trials(run.trials)
        most = int(complete.groupby("config")["seed"].nunique().max()) if len(complete) else 0
        return len(complete), most * complete["config"].nunique(), most


def _busy(trials: pd.DataFrame) -> float:
    """Seconds in which at least one of the trials was trained."""
    spans = sorted(
        (started.timestamp(), finished.timestamp())
        for started, finished in zip(trials["started"], trials["finished"], strict=True)
        if started == started and finished == finished  # NaT is not itself
    )
    total, end = 0.0, float("-inf")
    for start, stop in spans:
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
