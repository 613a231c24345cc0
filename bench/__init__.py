"""Benchmark transfer-learning strategies fairly: one suite file in, curves and a report out.

run = bench.run("suites/smoke.yaml")
run.trials, run.curves, run.predictions     # pandas data frames

Every command is a call of the same name with the same options: it returns a value and prints
nothing. A suite is a file, YAML text or a mapping. What a user can mend is raised as a
`bench.errors.BenchError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Unpack

from bench.runs.options import (
    DEFAULTS,
    ProcessKeywords,
    RunKeywords,
    RunOptions,
    SelectionKeywords,
    lists_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.prediction.classify import Predictions
    from bench.prediction.export import Exported
    from bench.prediction.model import TrainedModel
    from bench.results.audit import Audit
    from bench.results.folder import Advice, Run, ScoreRow
    from bench.results.rebuild import RebuiltReport
    from bench.results.report.changes import Changes
    from bench.results.report.notebook import ShownRun
    from bench.results.report.shown import Shown
    from bench.runs.check import CheckedSuite
    from bench.runs.doctor import Checkup
    from bench.runs.init.write import WrittenSuite
    from bench.runs.listing import Row
    from bench.runs.lr_find import LrFindings
    from bench.runs.plan import RunPlan
    from bench.runs.reporter import Reporter
    from bench.suite import SuiteSource
    from bench.suite.plugins import load_plugin
    from bench.system.cache_content import CacheContent

__all__ = [
    "Run",
    "RunOptions",
    "advise",
    "audit",
    "cache",
    "compare",
    "doctor",
    "export",
    "init",
    "list",
    "load",
    "load_plugin",
    "lr_find",
    "plan",
    "predict",
    "read_run",
    "report",
    "run",
    "schema",
    "serve",
    "show",
    "transfer_scores",
    "tune",
    "why",
]

_HOMES = {"Run": "bench.results.folder", "load_plugin": "bench.suite.plugins"}


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing torch takes seconds, and `bench --help` must not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


# Suites ---------------------------------------------------------------------------------------


@lists_options(RunKeywords)
def run(
    suite: SuiteSource,
    *,
    track: str | Sequence[str] = (),
    reporter: Reporter | None = None,
    **options: Unpack[RunKeywords],
) -> ShownRun:
    """Train the trials that are not complete, write tables, plots and a report; return the run.

    The options are those of `RunOptions`. `track` names trackers that get the results too:
    `tensorboard`, `mlflow`. `reporter` receives the progress; a notebook shows it by itself.

    Raises `BenchError` if nothing can run, and `MachineError` if the disk is full or the system or
    an object store refuses access. A trial that fails is in the tables with its error.
    """
    from bench.results.trackers import known_trackers

    trackers = known_trackers(track)
    checked = _checked(suite, options)
    from bench.results.report.notebook import shows_itself
    from bench.runs.run import run as run_suite

    return shows_itself(
        run_suite(checked, track=trackers, reporter=reporter or _reporter(), **options)
    )


@lists_options(ProcessKeywords)
def tune(
    suite: SuiteSource,
    *,
    trials: int | None = None,
    storage: str | None = None,
    reporter: Reporter | None = None,
    **options: Unpack[ProcessKeywords],
) -> ShownRun:
    """Search settings for every cell with equal budgets, then run the suite with the best ones.

    Returns that run. The suite itself is run first, to compare with. The search uses the tuning
    seeds and never the test split. `trials` replaces the suite's budget; `storage` is a URL of
    Optuna's (default: a journal in the run folder), which several processes may share, though not
    where `out` is an object store. An interrupted search goes on where it was.

    Raises `BenchError` as `run` does, and where the suite has no section `tune`.
    """
    checked = _checked(suite, options)
    from bench.runs.check import tune_section

    tune_section(checked.loaded.suite, trials)
    from bench.results.report.notebook import shows_itself
    from bench.tuning import tune as tune_suite

    reporter = reporter or _reporter()
    tuned = tune_suite(checked, trials=trials, storage=storage, reporter=reporter, **options)
    return shows_itself(tuned)


@lists_options(RunKeywords)
def plan(
    suite: SuiteSource, *, reporter: Reporter | None = None, **options: Unpack[RunKeywords]
) -> RunPlan:
    """What a run would do, what is reused or skipped, and about how long it takes.

    Trains nothing but a few batches, which are timed. Raises `BenchError` as `run` does.
    """
    checked = _checked(suite, options, trains=False)
    from bench.tuning.plan import plan as plan_suite

    return plan_suite(checked, reporter=reporter or _reporter(), **options)


@lists_options(SelectionKeywords)
def lr_find(
    suite: SuiteSource,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    reporter: Reporter | None = None,
    **options: Unpack[SelectionKeywords],
) -> LrFindings:
    """Test each cell over a range of learning rates, and suggest one: the LR range test.

    The learning rate grows from `low` to `high` in `steps` steps. A cell that cannot be tested is
    in the findings with the reason. Raises `BenchError` for what concerns all cells.
    """
    checked = _checked(suite, options, trains=False)
    from bench.runs.lr_find import lr_find as find

    reporter = reporter or _reporter()
    return find(checked, low=low, high=high, steps=steps, reporter=reporter, **options)


@lists_options(SelectionKeywords)
def transfer_scores(
    suite: SuiteSource,
    *,
    reporter: Reporter | None = None,
    **options: Unpack[SelectionKeywords],
) -> tuple[ScoreRow, ...]:
    """Score how well each backbone may suit the data, from one pass of its training split.

    One row a backbone, layer group and score; they also go into the run folder, whose report shows
    them. Nothing is trained but weights that are to be made. A score that a backbone does not have
    is in the rows with the reason. Raises `BenchError` for what concerns all backbones.
    """
    checked = _checked(suite, options, trains=False)
    from bench.runs.transfer_scores import score_suite

    return score_suite(checked, reporter=reporter or _reporter(), **options)


@lists_options(SelectionKeywords)
def advise(
    what: SuiteSource,
    *,
    reporter: Reporter | None = None,
    **options: Unpack[SelectionKeywords],
) -> Advice:
    """Tell from the training split what may be worth training, what to expect and what it costs.

    `what` is a suite, or a folder of samples: then of the suite that `init` proposes for it, which
    is not kept. Transfer scores and `advice.json` go into the run folder; the test split is not
    looked at. Raises `BenchError` as `run` does, and for tasks without classes.
    """
    import os
    from pathlib import Path

    folder = os.path.expanduser(what) if isinstance(what, (str, Path)) else ""
    if os.path.isdir(folder):  # False for a suite as text, however long it is
        checked = _proposed(Path(folder), options, reporter)
    else:
        checked = _checked(what, options, trains=False)
    from bench.runs.advise import advise as tell

    return tell(checked, reporter=reporter or _reporter(), **options)


@lists_options(ProcessKeywords)
def audit(
    what: SuiteSource,
    *,
    reporter: Reporter | None = None,
    **options: Unpack[ProcessKeywords],
) -> Audit:
    """Name what is likely wrong with the data of a run: labels above all.

    `what` is a run folder (or its URL), of which the files alone are read, or a suite. Of a suite,
    linear probes on frozen features run first, with folds over all images, into `OUT/NAME-audit`.
    Label errors are found by confident learning (Northcutt et al., 2021) on predictions of images
    that were not trained on. Table, JSON and contact sheet go into the folder `audit` of the run.

    Raises `BenchError` as `read_run` and `run` do, and where there are no such predictions.
    """
    from bench.results.audit import audit_run, is_run

    if is_run(what):
        _refuse_options("the audit of a run", options)
        return audit_run(what)
    checked = _checked(what, options)
    from bench.runs.audit import audit as audit_suite

    return audit_suite(checked, reporter=reporter or _reporter(), **options)


def init(
    folder: str | Path,
    *,
    output: str | Path | None = None,
    force: bool = False,
    minutes: float = 10.0,
    reporter: Reporter | None = None,
) -> WrittenSuite:
    """Look at a folder or table of images or texts, and write a suite for it, ready to run.

    `output` is the suite's file (default: named like the folder, in the current one); `force`
    replaces one that exists. The suite takes about `minutes` to train on this machine.
    Raises `DataError` for a folder that is missing or unusable.
    """
    from bench.runs.init.write import write_suite

    reporter = reporter or _reporter()
    if reporter is None:
        return write_suite(folder, output, force=force, minutes=minutes)
    return write_suite(
        folder,
        output,
        force=force,
        minutes=minutes,
        progress=reporter.progress,
        status=reporter.status,
    )


# Runs -----------------------------------------------------------------------------------------


def read_run(run: str | Path) -> ShownRun:
    """Read a run folder, or one at a URL; raises `BenchError` if it is not one, or damaged."""
    from bench.results.folder import read_run as read
    from bench.results.report.notebook import shows_itself

    return shows_itself(read(run))


def report(
    run: str | Path,
    *,
    format: str | Sequence[str] = ("md", "html"),
    track: str | Sequence[str] = (),
) -> RebuiltReport:
    """Rebuild plots and report from the files of a run folder.

    `format` names `md`, `html`, `csv` or `latex`, `track` trackers as in `run`. Raises `BenchError`
    for unknown names, and if the folder is no run or damaged.
    """
    from bench.results.rebuild import rebuild_report

    return rebuild_report(run, formats=format, trackers=track)


def show(run: str | Path, trial: str | None = None) -> Shown:
    """A run, or the trial whose id begins with `trial`, as text for a terminal or a notebook.

    Raises `BenchError` if the folder is no run or damaged, or no trial or several are meant.
    """
    from bench.results.report.shown import show as show_folder

    return show_folder(run, trial)


def why(run: str | Path, trial: str) -> tuple[str, ...]:
    """Sentences that say why a trial was trained, kept, shared, skipped or failed.

    Raises `BenchError` as `show` does.
    """
    from bench.results.folder import read_run as read
    from bench.results.report import reasons

    found = read(run)
    return tuple(reasons.why(found, reasons.find_trial(found, trial)))


def compare(run: str | Path, *others: str | Path) -> Changes:
    """Compare later runs with a first one, config by config: what changed more than by chance.

    Raises `BenchError` if one of them is no run or damaged.
    """
    from bench.results.report.changes import compare as compare_folders

    return compare_folders(run, others)


def load(run: str | Path, trial: str | None = None, *, device: str = "auto") -> TrainedModel:
    """Open a trained trial: the one that `trial` names as in `why`, else the one to use.

    That is the trial with the best seed on validation, of the config that the verdict recommends
    (otherwise of the config that is best on validation). It needs neither the cache nor the data of
    the run.

    Raises `BenchError` if there is no such trial or no checkpoint of it.
    """
    from bench.prediction import load as open_run

    return open_run(run, trial, device=device)


def predict(
    run: str | Path,
    what: Any,
    *,
    trial: str | None = None,
    column: str | None = None,
    out: str | Path | None = None,
    min_confidence: float = 0.0,
    device: str = "auto",
) -> Predictions:
    """Classify images or texts with a trained trial of a run, chosen as `load` does.

    `what` is one path or several (image files, folders with their subfolders, zip archives, CSV
    files with a column of paths, `-` for paths on standard input), or the images themselves. For a
    trial of texts it is a text or several; a string that names a folder, or a file (.txt with a
    text a line, .csv, .tsv or .jsonl with texts in `column`), stands for the texts in it. With
    `out` (.csv, .parquet or .jsonl), memory does not grow with the number of files. A class that is
    less probable than `min_confidence` becomes `unsure`. Files that cannot be read are named in the
    result, and the rest is classified.

    Raises `BenchError` as `load` does, and for a path that does not exist.
    """
    from bench.prediction.classify import predict as classify

    return classify(
        run,
        what,
        trial=trial,
        column=column,
        out=out,
        min_confidence=min_confidence,
        device=device,
    )


def export(
    run: str | Path,
    trial: str | None = None,
    *,
    format: str = "onnx",
    out: str | Path | None = None,
    preprocessing: str | None = None,
    dtype: str = "fp32",
) -> Exported:
    """Write a trained trial, chosen as `load` does, as a file for other programs, with its card.

    `format` is `safetensors` (values for the library's plain network), `torch-export` or `onnx`;
    `out` is the folder (default: `export/FORMAT` in the run folder). `preprocessing` is `inside`
    (the file takes RGB images uint8 [batch, height, width, 3] of any size, or such of other
    channels) or `beside` (it takes tensors as `preprocessing.json` describes); the default is
    `beside` for safetensors and values of 16 bits, and `inside` for all else. `dtype` is `fp32` or
    `fp16`. Before it is kept, the file is run in its own runtime and compared with the trial; the
    result has the figures.

    Raises `BenchError` as `load` does, for a network that cannot be exported, and for a file that
    differs from the trial by more than rounding; such a file is not kept.
    """
    from bench.prediction.export import export as write

    return write(run, trial, format=format, out=out, preprocessing=preprocessing, dtype=dtype)


def serve(
    run: str | Path,
    *,
    trial: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    device: str = "auto",
    tell: Callable[[str], None] | None = None,
    **limits: Any,
) -> None:
    """Answer requests with a trained trial, chosen as `load` does, until a signal comes.

    `GET /` is a page where one drops or photographs an image, or writes a text, `POST /predict` is
    for programs, and `/docs`, `/healthz` and `/metrics` are there. Clients must send `token`, if
    there is one.
    `limits` are those of `bench.prediction.serve.Limits`. `tell` receives the messages.

    Raises `BenchError` as `load` does, where the address cannot be had, and for the missing extra.
    """
    from bench.prediction.serve import Limits
    from bench.prediction.serve.run import serve as answer

    answer(
        run,
        trial=trial,
        host=host,
        port=port,
        token=token,
        limits=Limits(**limits),
        device=device,
        tell=tell,
    )


# This installation ----------------------------------------------------------------------------


def doctor() -> Checkup:
    """Check this machine: packages, devices, memory, cache."""
    from bench.runs.doctor import doctor as check

    return check()


def cache(*, empty: str | Sequence[str] = ()) -> CacheContent:
    """What the cache folder holds, by kind, and how large it is; after emptying it, if asked.

    `empty` names kinds that are removed first: `states`, `features`, `data`, `downloads`,
    `weights`, `other`, or `all`. A later run makes or downloads again what it needs of them. Raises
    `BenchError` for an unknown kind.
    """
    from bench.system.cache_content import cache_content

    return cache_content(empty=empty)


def list(kind: str | None = None) -> Mapping[str, tuple[Row, ...]]:
    """What a suite may name: rows of (name, options, meaning) by kind.

    `kind` asks for one kind only, such as `strategy` or `strategies`; raises `BenchError` if there
    is none of that name.
    """
    from bench.runs.listing import listing

    return listing(kind)


def schema() -> str:
    """The JSON Schema of suites as text, for completion and checks in editors."""
    from bench.runs.catalogue import catalogue
    from bench.suite.json_schema import schema_text

    return schema_text(catalogue())


# What verbs share -----------------------------------------------------------------------------


def _checked(
    suite: SuiteSource,
    options: RunKeywords | ProcessKeywords | SelectionKeywords,
    *,
    trains: bool = True,
) -> CheckedSuite:
    """The suite, refused before anything heavy is imported; then processes may begin to do that."""
    from bench.runs.check import check_suite, import_for

    given = RunOptions(**options)
    checked = check_suite(suite, given)
    if trains:
        import_for(checked, given)
    return checked


def _proposed(folder: Path, options: SelectionKeywords, reporter: Reporter | None) -> CheckedSuite:
    """The suite that `init` proposes for the folder; its file is gone when this returns."""
    from tempfile import TemporaryDirectory

    from bench.runs.init.write import safe_name

    with TemporaryDirectory() as place:
        name = safe_name(folder.resolve().name)
        written = init(folder, output=f"{place}/{name}.yaml", reporter=reporter)
        return _checked(written.path, options, trains=False)


def _refuse_options(verb: str, options: ProcessKeywords) -> None:
    """Raise `BenchError` for an option with another value than its default: it has no effect."""
    given = [name for name, value in options.items() if value != DEFAULTS[name] and value != []]
    if given:
        from bench.errors import BenchError

        flag = "--set" if given[0] == "overrides" else f"--{given[0]}"
        raise BenchError(f"{flag} has no effect in {verb}, which trains nothing; leave it out")


def _reporter() -> Reporter | None:
    """Lines below the cell of a notebook; nothing elsewhere."""
    from bench.runs.progress import notebook_reporter

    return notebook_reporter()
