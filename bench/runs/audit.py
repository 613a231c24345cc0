"""`bench audit SUITE`: a cheap run that predicts every image by trainings that have not seen it."""

from __future__ import annotations

from typing import Unpack

from bench.data.target_data import WITHOUT_LABELS
from bench.errors import BenchError, counted
from bench.execution.engine import make_training
from bench.results.analysis.audit import check_audited
from bench.results.analysis.outliers import local_outlier_factors
from bench.results.audit import Audit, audit_run
from bench.results.folder import Run, write_outliers, write_thumbnails
from bench.results.grid import complete_trials
from bench.results.report import pictured_samples
from bench.runs.check import CheckedSuite, check_suite
from bench.runs.options import FAILED, ProcessKeywords, RunOptions
from bench.runs.prepare import PreparedSets, StartingWeights, make_job
from bench.runs.reporter import Reporter, SilentReporter
from bench.runs.resolve import ResolvedRun, resolve_run
from bench.runs.run import run
from bench.runs.transfer_scores import PROBE
from bench.suite import AxisEntry, Settings, Suite, Trial, dump_compact
from bench.suite.claims import Claims
from bench.system.cache import cache_root
from bench.system.object_store import is_url
from bench.training.frozen_features import FeatureStore
from bench.training.trial import starting_features

ENDING = "-audit"
"""What the name of an audit run has after that of the suite."""
MAX_NAME = 100
FOLDS, SEEDS = 5, 3
"""The folds of a suite that has none, and the most seeds."""
KEPT = ("image_size", "resize", "precision", "threads")
"""Settings that are as in the suite."""
DRAWN = ("val_fraction", "test_fraction", "split_seed")
"""Options of data sets that say how splits are drawn; with folds only the first has an effect."""


def audit(
    checked: CheckedSuite, *, reporter: Reporter | None = None, **options: Unpack[ProcessKeywords]
) -> Audit:
    """Run the audit run of a suite into `OUT/NAME-audit`, or what is missing of it, and audit it.

    Raises `BenchError` as `run` and `audit_run` do, and without pretrained weights.
    """
    (task,) = checked.loaded.suite.settings["task"]
    check_audited(task, f"the suite {checked.loaded.suite.name}")
    reporter = reporter or SilentReporter()
    own = audit_suite(checked)
    options["overrides"] = ()  # they are in the suite
    given = RunOptions(**options)
    place = f"{str(given.out).rstrip('/')}/{own.name}"
    reporter.note(f"{_told(own)} into {place}")
    checked_own = check_suite(dump_compact(own), given)
    # An audit needs all folds of a seed, so what failed before is tried again.
    result = run(checked_own, reporter=reporter, retry=FAILED, advise=False, **options)
    failed = result.trials[result.trials["status"] == "failed"]
    if len(failed) == len(result.trials):
        raise BenchError(f"no trial of the audit run could be trained: {failed['error'].iloc[0]}")
    reporter.status("comparing the features of all samples")
    try:
        _measure_outliers(resolve_run(checked_own, progress=reporter.progress, **options), result)
    except (BenchError, RuntimeError) as error:  # torch's own, such as too little memory
        reporter.note(f"note: samples unlike all others cannot be looked for: {error}")
    try:
        return audit_run(place if is_url(given.out) else result.folder, failed=len(failed))
    except BenchError as error:
        if failed.empty:
            raise
        raise BenchError(
            f"{counted(len(failed), 'trial')} of the audit run failed, the first with: "
            f"{failed['error'].iloc[0]}; what is left cannot be audited: {error}"
        ) from None


def _measure_outliers(resolved_run: ResolvedRun, result: Run) -> None:
    """Keep how unlike all others each sample is, and pictures of what is named for it.

    By what the trunk that all trials share makes of it, which a run keeps in the cache.
    """
    known = set(complete_trials(result.trials)["trial"])
    first = next(each for each in resolved_run.trials if each.id in known)
    sets = PreparedSets(resolved_run, None)
    job = make_job(resolved_run, first, StartingWeights(resolved_run, None), sets)
    if isinstance(job, BenchError):
        raise job
    data = sets.data(first)
    features = FeatureStore(cache_root() if resolved_run.reuse else None)
    training = make_training(job, data, sets.splits(first), features=features)
    factors = local_outlier_factors(starting_features(training))
    write_outliers(result.folder, data.sample_ids, factors)
    write_thumbnails(result.folder, data.pictures(pictured_samples(result)))


def audit_suite(checked: CheckedSuite) -> Suite:
    """Linear probes on frozen features, over folds of all images, with the suite's data.

    Backbone and weights are those of its first trial with pretrained weights, folds and seeds its
    own (without folds `FOLDS`, at most `SEEDS` seeds).
    """
    suite = checked.loaded.suite
    first = _pretrained(checked)
    seeds: tuple[int, ...] = suite.settings["seed"][:SEEDS]
    settings = Settings(
        weights=first.settings.weights,
        optimizer="adamw",
        lr=0.001,
        batch_size=32,
        epochs=30,
        choose="last",
        folds=suite.settings["folds"][0] or FOLDS,
        **{name: getattr(first.settings, name) for name in KEPT},
    )
    axes = {"backbone": first.backbone, **PROBE}
    dataset = suite.dataset.model_copy(
        update={
            "options": {
                **suite.dataset.options,
                "val_fraction": 0.0,
                **dict.fromkeys(WITHOUT_LABELS),
            },
            "given": (
                *(n for n in suite.dataset.given if n not in (*DRAWN, *WITHOUT_LABELS)),
                "val_fraction",
            ),
        }
    )
    return suite.model_copy(
        update={
            "name": suite.name[: MAX_NAME - len(ENDING)] + ENDING,
            "dataset": dataset,
            "axes": {axis: (AxisEntry(entry=entry),) for axis, entry in axes.items()},
            "settings": {name: (value,) for name, value in settings} | {"seed": seeds},
            "exclude": (),
            "include": (),
            "tune": None,
            "claims": Claims(),
            "checkpoints": "none",
            "after": (),
            "split_check": False,
        }
    )


def _pretrained(checked: CheckedSuite) -> Trial:
    """The first trial with pretrained weights, else the first with those that the suite names."""
    for trial in checked.trials:
        if trial.settings.weights.name != "none":
            return trial
    named = [each for each in checked.loaded.suite.settings["weights"] if each.name != "none"]
    if not named:
        raise BenchError(
            "an audit run trains linear probes on frozen features, which needs pretrained weights, "
            "and the suite has none; name some (--set weights=imagenet)"
        )
    return checked.trials[0].with_settings(weights=named[0])


def _told(suite: Suite) -> str:
    """What is about to run, in words."""
    (folds,), seeds = suite.settings["folds"], suite.settings["seed"]
    backbone = suite.axes["backbone"][0].entry.label
    return (
        f"an audit needs predictions of samples that were not trained on: "
        f"{counted(folds * len(seeds), 'linear probe')} ({folds} folds × "
        f"{counted(len(seeds), 'seed')}) on frozen features of {backbone} go"
    )
