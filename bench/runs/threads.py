"""What `threads: auto` comes to: every core works, also where a suite has few trials."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from bench.errors import BenchError
from bench.results.analysis.crossed import LEAST_SEEDS
from bench.runs.catalogue import catalogue
from bench.runs.check import CheckedSuite
from bench.runs.options import RunOptions
from bench.suite import Trial, distinct, written_trials
from bench.suite.rules import Threads
from bench.suite.yaml_file import parse_yaml
from bench.system.machine import resolve_device, usable_cores


def with_threads(checked: CheckedSuite, given: RunOptions, folder: Path) -> CheckedSuite:
    """The suite with a number in the place of `auto`: the one that `folder` has, or a new one.

    It is part of what fixes the bits of a training. So it is chosen once, from the whole suite and
    the cores of this machine, and neither `--only`, `--workers` nor later seeds change it.
    """
    if all(trial.settings.threads != "auto" for trial in checked.trials):
        return checked
    number = _kept(folder)
    if number is None:
        number = _chosen(checked.trials, given)
    loaded = replace(checked.loaded, suite=checked.loaded.suite.with_threads(number))
    written = written_trials(loaded, catalogue())
    return replace(checked, loaded=loaded, written=tuple(written), trials=tuple(distinct(written)))


def threads_note(trials: Iterable[Trial]) -> str | None:
    """Says of trials that have more than one CPU thread how many they have."""
    most = max((trial.settings.cpu_threads for trial in trials), default=1)
    return None if most == 1 else f"a trial trains with up to {most} CPU threads (setting threads)"


def _chosen(trials: tuple[Trial, ...], given: RunOptions) -> int:
    if resolve_device(given.device) != "cpu":
        return 1
    configs = {trial.config for trial in trials}
    racing = given.decide and len(configs) > 1
    at_once = max(len(trials), len(configs) * LEAST_SEEDS) if racing else len(trials)
    processes = max(trial.settings.devices for trial in trials)
    return max(1, usable_cores() // (at_once * processes))


def _kept(folder: Path) -> int | None:
    """The number that the trials of the folder have, if it holds a run."""
    with suppress(OSError, ValueError, BenchError):
        data = parse_yaml((folder / "suite.yaml").read_text(encoding="utf-8")).data
        if isinstance(data, dict):
            return TypeAdapter(Threads).validate_python(data.get("threads"), strict=True)
    return None
