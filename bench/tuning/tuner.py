"""`bench tune`: the suite as it is, the search, and the tuned suite, each on its own seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Unpack

from filelock import FileLock, Timeout

from bench.errors import system_errors_told
from bench.execution.executors import Where
from bench.results.folder import (
    Run,
    copy_advice,
    copy_untuned,
    pushing,
    refuse_links,
    run_folder,
    write_tuning,
)
from bench.runs.catalogue import catalogue
from bench.runs.check import CheckedSuite, check_suite, tune_section
from bench.runs.options import ProcessKeywords, RunOptions
from bench.runs.reporter import Reporter, SilentReporter
from bench.runs.resolve import OpenSuite, open_suite
from bench.runs.run import run
from bench.runs.threads import with_threads
from bench.suite import (
    BUDGETS,
    Choices,
    Method,
    Range,
    Searched,
    SuiteSource,
    Trial,
    Tune,
    dump_compact,
    expand,
    load_suite,
)
from bench.suite.plugins import plugin_errors_told
from bench.system.cache import atomic_file
from bench.system.cache_mirror import CacheUploads
from bench.tuning.cells import Cell
from bench.tuning.earlier import read_earlier
from bench.tuning.search import Search, database_errors_told
from bench.tuning.studies import CellStudy, directions
from bench.tuning.tuned import SUFFIX, tuned_suite
from bench.tuning.widening import setting_of


@system_errors_told()
@plugin_errors_told()
def tune(
    suite: SuiteSource | CheckedSuite,
    *,
    trials: int | None = None,
    storage: str | None = None,
    reporter: Reporter | None = None,
    **options: Unpack[ProcessKeywords],
) -> Run:
    """Search settings for every cell of the suite, and run the tuned suite; returns that run.

    The suite itself is run first, to compare with. The search uses the tuning seeds and never the
    test split; the found values are then trained with the suite's own seeds. `trials` replaces the
    suite's budget; `storage` is a URL of Optuna's (default: a journal in the run folder), which
    several processes may share, though not where `out` is an object store. An interrupted search
    goes on where it was.

    Raises `BenchError` as `run` does, and where the suite has no section `tune`.
    """
    reporter = reporter or SilentReporter()
    given = RunOptions(**options)
    checked = check_suite(suite, given)
    own_folder, _ = run_folder(given.out, checked.loaded.suite.name)
    checked = with_threads(checked, given, own_folder)
    opened = open_suite(checked, device=given.device, progress=reporter.progress)
    section = tune_section(opened.loaded.suite, trials)
    earlier = [read_earlier(place) for place in section.earlier]
    folder, remote = run_folder(given.out, opened.loaded.suite.name + SUFFIX)
    where = Where(name=given.executor, workers=given.workers, address=given.address)
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder)
    with _alone(folder, reporter):
        untuned = run(checked, reporter=reporter, **options)
    with ExitStack() as held:
        held.enter_context(database_errors_told(storage))
        push = held.enter_context(pushing(remote, reporter.note))
        search = Search(
            opened,
            section,
            folder=folder,
            storage=storage,
            where=where,
            push=push,
            reporter=reporter,
            earlier=earlier,
        )
        with closing(search), CacheUploads(reporter.note):
            search.run()
        with _alone(folder, reporter):
            _write(search, opened, section, folder, untuned)
            held.close()  # `run` takes the folder itself
            # The tuned suite has the values that overrides gave.
            tuned_options: ProcessKeywords = {**options, "overrides": ()}
            return run(folder / "tuned.yaml", reporter=reporter, **tuned_options)


@contextmanager
def _alone(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Wait until no other process that tunes the suite runs one of its grids."""
    lock = FileLock(folder / ".grid.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.note("waiting for another process that runs the grid")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write(search: Search, opened: OpenSuite, section: Tune, folder: Path, untuned: Run) -> None:
    """`tuned.yaml`, `tuning.parquet`, and what the untuned run left and was told before."""
    studies = {study.cell.key: study for study in search.studies}
    chosen = [_chosen(cell, studies.get(cell.key)) for cell in search.cells]
    tuned = tuned_suite(opened.loaded.suite, chosen)
    place = folder / "tuned.yaml"
    with atomic_file(place) as temporary:
        header = f"# Found by bench tune for the suite {opened.loaded.suite.name}.\n"
        temporary.write_text(header + dump_compact(tuned), encoding="utf-8")
    _check(place, chosen)
    copy_untuned(untuned.folder, folder)
    copy_advice(untuned.folder, folder)
    configs = {cell.key: trial.config for cell, trial in zip(search.cells, chosen, strict=True)}
    rows = [
        {**_axes(study.cell, opened), **row} for study in search.studies for row in study.rows()
    ]
    write_tuning(folder, rows, _description(search, section.method, opened, configs))


def _chosen(cell: Cell, study: CellStudy | None) -> Trial:
    """The cell's trial with the best values; its own where nothing was searched or has ended."""
    own, best = cell.own[0], None if study is None else study.best
    return own if best is None else cell.trial(best.params, seed=own.settings.seed)


def _check(place: Path, chosen: Sequence[Trial]) -> None:
    """The written suite must mean the chosen trials and no others."""
    names = catalogue()
    written = {trial.config for trial in expand(load_suite(place, names), names)}
    assert written == {trial.config for trial in chosen}, f"{place} does not say what was found"


def _axes(cell: Cell, opened: OpenSuite) -> dict[str, Any]:
    trial = cell.own[0]
    return {
        "dataset": opened.dataset.name,
        "backbone": trial.backbone.label,
        "weights": opened.loaded.suite.weights_label(trial.settings.weights),
        "strategy": trial.strategy.label,
        "schedule": trial.schedule.label,
        "augmentation": trial.augmentation.label,
    }


def _description(
    search: Search, method: Method, opened: OpenSuite, configs: dict[str, str]
) -> dict[str, Any]:
    (metric,) = opened.loaded.suite.settings["metric"]
    return {
        "suite": opened.loaded.suite.name,
        "objectives": [
            {"name": name, "direction": each}
            for name, each in zip(method.objective, directions(method, metric), strict=True)
        ],
        "sampler": method.sampler,
        "pruner": method.pruner,
        "widen": method.widen,
        "seeds": list(method.seeds),
        "budget": method.model_dump(include=set(BUDGETS), exclude_none=True),
        "studies": {
            study.cell.label: {
                "space": {
                    name: _space(study.cell.space[name], values, study.ranges[name])
                    for name, values in study.reached.items()
                },
                "best": None if study.best is None else study.best.number,
                "untuned_config": study.cell.own[0].config,
                "tuned_config": configs[study.cell.key],
            }
            for study in search.studies
        },
    }


def _space(item: Searched, values: Range | Choices, asked: Range | Choices) -> dict[str, Any]:
    limits = setting_of(item, values, asked).limits
    return {
        **_values(values),
        **({} if limits is None else {"limits": list(limits)}),
        **({} if values == asked else {"asked": _values(asked)}),
    }


def _values(values: Range | Choices) -> dict[str, Any]:
    if isinstance(values, Choices):
        return {"choices": list(values.values)}
    return {"low": values.low, "high": values.high, "log": values.log}
