"""What networks that were not trained on a sample predict of it, as the files of a run tell it.

In a run with folds each seed tests every image once, by a training that has not seen it. Otherwise
the test and the validation split of each training are what it has not seen; the rest is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BenchError, bounded, counted
from bench.methods.metrics import Labels, Probabilities
from bench.results.analysis.choice import Choice, preferred
from bench.results.analysis.predicted import class_arrays
from bench.results.analysis.verdict import read_verdict
from bench.results.folder.columns import PROBABILITY_PREFIX, class_names
from bench.results.grid import has_folds, read_grid

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Samples in the order of their ids, with the mean probabilities of those that held them out.

    `labels` are indices of `classes`, `probabilities` is `[samples, classes]`. `name` is what made
    the predictions, over `seeds`. `folds` is None where there are none: then `tested` samples are
    of the test split and `validated` of the validation splits. `images` is how many the data set
    has, 0 if it is not known.
    """

    name: str
    seeds: tuple[int, ...]
    samples: tuple[str, ...]
    labels: Labels
    probabilities: Probabilities
    classes: tuple[str, ...]
    images: int
    tested: int
    validated: int
    folds: int | None = None

    @property
    def agreement(self) -> float:
        """The share of the labels that are the most probable class too."""
        return float((self.probabilities.argmax(axis=1) == self.labels).mean())


def held_out(run: Run) -> HeldOut:
    """The predictions of what the verdict recommends, else of the leader on validation.

    Raises `BenchError` where there are none, and where the folds of a seed are no partition: an
    image that two of them test was trained on for one of its predictions.
    """
    name, choice = _chosen(run)
    trials = choice.all_trials
    test = run.predictions[run.predictions["trial"].isin(trials)]
    folds = None
    if has_folds(run.trials):
        problem = next(_overlaps(test, choice.trials, run.data.get("tested_images")), None)
        if problem is not None:
            raise _unusable(run, problem)
        folds = len(next(iter(choice.trials.values())))
        val = run.val_predictions.iloc[:0]
    else:
        val = run.val_predictions[run.val_predictions["trial"].isin(trials)]
    return _means(run, name, choice, test, val, folds)


def _chosen(run: Run) -> tuple[str, Choice]:
    if run.predictions.empty:
        raise BenchError(
            f"{run.folder} has no predictions to audit, because no trial of it is complete; run "
            "its suite (again) first"
        )
    verdict = read_verdict(run)
    if not verdict.contenders:
        raise BenchError(
            f"no seed of {run.folder} has all its folds, so no image has been held out from each "
            "of its trainings; run its suite again: finished trials are kept"
        )
    name = verdict.recommended or verdict.leader or verdict.contenders[0].name
    grid = read_grid(run.trials, run.metric)
    choice = preferred(verdict.contender(name).choices, grid)
    if not run.predictions["trial"].isin(choice.all_trials).any():
        raise BenchError(f"{run.folder} has no predictions of {name}; run its suite again")
    return f"{name} on {grid.cells[choice.config]['backbone']}", choice


def _unusable(run: Run, problem: str) -> BenchError:
    return BenchError(
        f"{run.folder / 'predictions.parquet'} cannot be audited: {problem}. Run the suite again; "
        "if that does not mend it, into another folder (--out)"
    )


def _overlaps(
    test: pd.DataFrame, trials: Mapping[int, Sequence[str]], images: int | None
) -> Iterator[str]:
    """Why the folds of some seed do not part all images."""
    tested_by = {str(trial): own["sample"] for trial, own in test.groupby("trial", sort=False)}
    every: set[str] | None = None
    for seed, own in trials.items():
        fold_of: dict[str, int] = {}
        for fold, trial in enumerate(own, start=1):
            for sample in tested_by.get(trial, ()):
                if sample in fold_of:
                    shown = bounded(repr(sample), 200)
                    yield f"folds {fold_of[sample]} and {fold} of seed {seed} both test {shown}"
                fold_of[sample] = fold
        every = set(fold_of) if every is None else every
        if set(fold_of) != every:
            first = next(iter(trials))
            yield f"the folds of seed {seed} test other images than those of seed {first}"
        if images is not None and len(fold_of) != images:
            yield (
                f"the folds of seed {seed} test {counted(len(fold_of), 'image')} of "
                f"{images:,}, and not each of them once"
            )


def _means(
    run: Run, name: str, choice: Choice, test: pd.DataFrame, val: pd.DataFrame, folds: int | None
) -> HeldOut:
    import pandas as pd

    rows = pd.concat([test, val], ignore_index=True)
    columns = [PROBABILITY_PREFIX + each for each in class_names(rows)]
    # A training that diverged knows nothing of its samples.
    rows = rows[np.isfinite(rows[columns].to_numpy(float)).all(axis=1)]
    labels = rows[["sample", "label"]].drop_duplicates()
    twice = labels.loc[labels["sample"].duplicated(), "sample"]
    if len(twice):
        raise _unusable(run, f"it gives {bounded(repr(twice.iloc[0]), 200)} two labels")
    if rows.empty:
        raise BenchError(
            f"{run.folder} has no predictions to audit: all probabilities of {name} are unknown, "
            "as its trainings diverged; a smaller lr mends that"
        )
    means = rows.groupby("sample", sort=True)[columns].mean()
    means = means.join(labels.set_index("sample")).reset_index()
    indices, probabilities = class_arrays(means)
    return HeldOut(
        name=name,
        seeds=tuple(choice.trials),
        samples=tuple(map(str, means["sample"])),
        labels=indices,
        probabilities=probabilities,
        classes=tuple(class_names(means)),
        images=run.data.get("tested_images") or sum(map(run.images, ("train", "val", "test"))),
        tested=test["sample"].nunique(),
        validated=len(set(val["sample"]) - set(test["sample"])),
        folds=folds,
    )
