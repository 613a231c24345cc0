"""What trials scored on each test sample: what every claim is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError
from bench.methods.metrics import METRICS, MetricFunction
from bench.results.analysis.influence import SCORED, influence_scores
from bench.results.analysis.predicted import answers_of, class_arrays, output_arrays
from bench.results.folder.columns import target_task_of
from bench.results.grid import has_folds

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run
    from bench.results.metric import Metric

Numbers = npt.NDArray[np.float64]

MAX_BLOCKS = 200
"""Up to so many samples are left out one by one, of more so many blocks of them."""


@dataclass(frozen=True, kw_only=True)
class Folds:
    """How many images a fold tests, and how many train for it."""

    test: int
    train: int


def folds_of(run: Run) -> Folds | None:
    """Those of a run that has some; raises `BenchError` where their sizes are not told."""
    if not has_folds(run.trials):
        return None
    test, train = run.images("test"), run.images("train")
    if not test or not train:
        raise BenchError(
            f"{run.folder / 'data.json'} is damaged (of a run with folds it must count the test "
            "and training images of a fold); run the suite again"
        )
    return Folds(test=test, train=train)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """`values[seed, sample]` of something that was trained with each of `seeds`.

    Their mean over samples is the metric of a seed's test split. With `folds` the columns are
    folds, and their values the metric of each. `in_units`: they are no fractions, but in the units
    of what is predicted.
    """

    seeds: tuple[int, ...]
    samples: tuple[str, ...]
    values: Numbers
    folds: Folds | None = None
    in_units: bool = False

    @cached_property
    def counts(self) -> bool:
        """Whether every sample is right or wrong, 1 or 0."""
        return bool(np.isin(self.values, (0.0, 1.0)).all())

    def at(self, seeds: Sequence[int], samples: Sequence[str]) -> Numbers:
        """The table of some of the seeds and samples, in their order."""
        if samples == self.samples and seeds == self.seeds:
            return self.values
        rows = [self.seeds.index(seed) for seed in seeds]
        places = {sample: column for column, sample in enumerate(self.samples)}
        return np.asarray(self.values[np.ix_(rows, [places[sample] for sample in samples])])


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialScores:
    """A row of `values` for each trial, a column for each of `samples`; NaN where not known.

    `in_units` as of `Scores`.
    """

    rows: Mapping[str, int]
    samples: tuple[str, ...]
    values: Numbers
    in_units: bool = False

    def of(self, trials: Mapping[int, tuple[str, ...]]) -> Scores | None:
        """The scores of a trial a seed, on the samples that all have; None without any."""
        known = {seed: self.rows[trial] for seed, (trial,) in trials.items() if trial in self.rows}
        if not known:
            return None
        values = self.values[list(known.values())]
        whole = np.isfinite(values).all(axis=0)
        if not whole.any():
            return None
        samples = self.samples
        if not whole.all():
            samples = tuple(np.array(self.samples, dtype=object)[whole])
            values = values[:, whole]
        return Scores(seeds=tuple(known), samples=samples, values=values, in_units=self.in_units)


def figure_scores(
    figures: Mapping[str, float],
    trials: Mapping[int, tuple[str, ...]],
    folds: Folds | None,
    *,
    in_units: bool = False,
) -> Scores:
    """Scores from the figures of whole trials: of folds, or of trials without predictions.

    Of a fold its figure is what counts; of a single test split nothing can be claimed so.
    """
    values = np.array([[float(figures[trial]) for trial in own] for own in trials.values()])
    names = tuple(f"fold {1 + index}" for index in range(values.shape[1]))
    return Scores(seeds=tuple(trials), samples=names, values=values, folds=folds, in_units=in_units)


def trial_scores(predictions: pd.DataFrame, metric: Metric) -> TrialScores | None:
    """The scores of all predicted trials; None if the metric's function is not known.

    A metric that is the mean of something over samples scores each sample by that; those of numbers
    and of several labels by how much a sample moves them (`influence`). Of any other, scores are
    jackknife pseudo-values (Tukey, 1958), `n·m − (n − 1)·m₋ᵢ` with `m₋ᵢ` the metric without sample
    i, moved to have the metric as their mean. Of many samples, blocks that are alike in their
    classes are left out instead, and stand as one sample each.
    """
    import pandas as pd

    row, trials = pd.factorize(predictions["trial"])
    column, samples = pd.factorize(predictions["sample"])
    of_classes = target_task_of(predictions) == "classification"
    if metric.name in (_PER_SAMPLE if of_classes else SCORED):
        values = np.full((len(trials), len(samples)), np.nan)
        values[row, column] = _per_sample(predictions, row, metric.name)
        names: Iterable[str] = samples
    else:
        try:
            function = METRICS.get(metric.name).function
        except BenchError:
            return None
        labels, probabilities = _arrays(predictions)
        classes = np.full(len(samples), -1)
        # Alike in nothing where there are no classes: blocks are drawn then.
        classes[column] = labels if of_classes else 0
        block = blocks_of(classes)
        values = np.full((len(trials), block.max(initial=-1) + 1), np.nan)
        for index in range(len(trials)):
            own = row == index
            values[index] = pseudo_values(
                function, labels[own], probabilities[own], block[column[own]], values.shape[1]
            )
        alone = values.shape[1] == len(samples)
        names = samples if alone else (f"block {number}" for number in range(values.shape[1]))
        if alone:
            values = values[:, block]
    rows = {str(trial): index for index, trial in enumerate(trials)}
    return TrialScores(
        rows=rows,
        samples=tuple(map(str, names)),
        values=values,
        in_units=metric.in_target_units,
    )


def _per_sample(predictions: pd.DataFrame, trials: npt.NDArray[np.intp], metric: str) -> Numbers:
    """The score of each row, of which `trials` says whose it is."""
    if target_task_of(predictions) != "classification":
        values = np.empty(len(predictions))
        for trial in range(trials.max(initial=-1) + 1):
            own = trials == trial
            values[own] = influence_scores(metric, answers_of(predictions[own]))
        return values
    if metric == "accuracy":
        hits = predictions["label"] == predictions["predicted"]
        return np.asarray(hits.to_numpy(), dtype=np.float64)
    return sample_scores(metric, *class_arrays(predictions))


def _arrays(predictions: pd.DataFrame) -> tuple[npt.NDArray[Any], Numbers]:
    """What a metric takes of a table."""
    if target_task_of(predictions) == "classification":
        return class_arrays(predictions)
    return output_arrays(predictions)


def sample_scores(
    metric: str, labels: npt.NDArray[np.int64], probabilities: Numbers
) -> npt.NDArray[np.float64]:
    """What each sample adds to the mean that is its log loss or Brier score `[samples]`."""
    if metric == "log_loss":
        right = probabilities[np.arange(len(labels)), labels]
        return -np.log(np.maximum(right, np.finfo(np.float64).tiny))
    return np.asarray(np.square(probabilities - np.eye(probabilities.shape[1])[labels]).sum(axis=1))


_PER_SAMPLE = ("accuracy", "log_loss", "brier")
"""Those that are means over samples."""


def blocks_of(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The block of each sample: of equal sizes but for one sample, and of equal shares of classes.

    Samples are dealt in turn, class by class, in an order that no file name has a part in.
    """
    count = min(MAX_BLOCKS, len(classes))
    order = np.random.default_rng(0).permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    block = np.empty(len(classes), dtype=np.int64)
    block[order] = np.arange(len(classes)) % max(1, count)
    return block


def pseudo_values(
    function: MetricFunction,
    labels: npt.NDArray[Any],
    probabilities: Numbers,
    block: npt.NDArray[np.int64],
    count: int,
) -> Numbers:
    """The jackknife pseudo-value of each of `count` blocks; `block` says which a sample is in."""
    if not np.isfinite(probabilities).all():
        return np.full(count, np.nan)
    whole = function(labels, probabilities)
    left = [
        function(labels[kept], probabilities[kept])
        for kept in (block != number for number in range(count))
    ]
    values = count * whole - (count - 1) * np.array(left, dtype=np.float64)
    return np.asarray(values - values.mean() + whole)
