"""`split_check`: the same configs under a random split, to see by how much that flatters them.

It is a run folder of its own inside that of the run. The report reads it, and nothing that chooses,
tunes or claims does.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.errors import counted
from bench.results.analysis import Verdict, read_verdict
from bench.results.analysis.choice import Choice, chosen_config
from bench.results.folder import Run
from bench.results.folder.split_check import FOLDER
from bench.results.grid import PIPELINE, Grid, complete_trials, read_grid
from bench.runs.check import CheckedSuite
from bench.runs.options import RunKeywords
from bench.runs.resolve import ResolvedRun
from bench.runs.time_estimate import duration
from bench.suite import LoadedSuite, Suite, Trial


def checked_split(resolved_run: ResolvedRun, result: Run) -> CheckedSuite | None:
    """The suite that trains once more what stands for each strategy, or everything.

    The splits are drawn image by image, with the same fractions and seeds. None where no trial is
    complete.
    """
    loaded = resolved_run.loaded
    grid = read_grid(result.trials, result.metric)
    wanted = set(grid.cells)
    if loaded.suite.split_check != "all":
        wanted = _standing(read_verdict(result), grid)
    suite = _at_random(loaded.suite)
    trials = [
        trial.model_copy(update={"suite": suite.name, "dataset": suite.dataset})
        for trial in _trained(resolved_run, result, wanted)
    ]
    if not trials:
        return None
    return CheckedSuite(
        loaded=LoadedSuite(suite=suite, yaml_file=loaded.yaml_file),
        written=(),  # notes on what is written are told of the run
        trials=tuple(trials),
        selected=(),
    )


def options_within(resolved_run: ResolvedRun, options: RunKeywords) -> RunKeywords:
    """The options of the run that hold for its check too."""
    own: RunKeywords = {"overrides": (), "only": (), "advise": False}
    kept: RunKeywords = {**options, "out": resolved_run.folder, **own}
    for name in ("decide", "margin", "max_seeds", "minutes"):
        kept.pop(name, None)  # type: ignore[misc]
    return kept


def check_sentence(suite: Suite, trials: list[Trial], seconds: float) -> str | None:
    """What it will train and about how long that takes, if training `trials` takes `seconds`."""
    if not suite.split_check or not trials:
        return None
    configs = {trial.config for trial in trials}
    values = {trial.strategy.label for trial in trials}
    number = len(trials)
    what = f"all {counted(len(configs), 'config')}"
    if suite.split_check != "all":
        number = round(len(trials) * len(values) / len(configs))
        what = "one config of each strategy, as validation chooses,"
    share = seconds * number / len(trials)
    time = f", about {duration(share)} more" if share else ""
    return (
        f"split_check: after that {what} once more under a random split that takes no notice of "
        f"groups ({counted(number, 'training')}{time})"
    )


def _standing(verdict: Verdict, grid: Grid) -> set[str]:
    """What validation chooses of each strategy; where there is one, what the verdict names."""
    if grid.lead not in ("strategy", PIPELINE):
        name = verdict.recommended or verdict.leader
        return set() if name is None else {chosen_config(verdict.contender(name).choices, grid)}
    by_strategy: dict[str, dict[str, Choice]] = {}
    for each in verdict.contenders:
        config = chosen_config(each.choices, grid)
        own = by_strategy.setdefault(grid.cells[config]["strategy"], {})
        own |= {f"{each.name} · {block}": choice for block, choice in each.choices.items()}
    return {chosen_config(own, grid) for own in by_strategy.values()}


def _trained(resolved_run: ResolvedRun, result: Run, wanted: set[str]) -> Iterator[Trial]:
    """The complete trials of these configs, further seeds among them."""
    first = {each.trial.config: each.trial for each in reversed(resolved_run.trials)}
    complete = complete_trials(result.trials)
    for config, seed, fold in zip(
        complete["config"], complete["seed"], complete["fold"], strict=True
    ):
        if config in wanted and config in first:
            trial = first[config].with_settings(seed=int(seed))
            in_fold = None if trial.settings.folds is None else int(fold) - 1
            yield trial.model_copy(update={"fold": in_fold})


def _at_random(suite: Suite) -> Suite:
    options = {**suite.dataset.options, "split": None}
    given = tuple(name for name in suite.dataset.given if name != "split")
    return suite.model_copy(
        update={
            "name": FOLDER,
            "dataset": suite.dataset.model_copy(update={"options": options, "given": given}),
            "split_check": False,
            "after": (),
            "checkpoints": "none",
        }
    )
