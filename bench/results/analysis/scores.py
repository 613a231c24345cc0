"""What trials scored on each test sample: what every claim is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError
from bench.methods.metrics import METRICS, MetricFunction, MetricTraits
from bench.results.analysis.influence import SCORED, influence_scores
from bench.results.analysis.predicted import answers_of, class_arrays, groups_of
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


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Samples that are `groups` of images, and whether each of the `images` is right or wrong.

    Images of one patient are often right or wrong together, and tell less than as many others.
    The `largest` group has this share of all images.
    """

    groups: int
    images: int
    largest: float
    counts: bool

    @classmethod
    def of(cls, groups: Sequence[str], *, counts: bool) -> Grouping:
        """That of images with these groups."""
        sizes = np.unique(np.array(groups, dtype=str), return_counts=True)[1]
        largest = float(sizes.max() / sizes.sum())
        return cls(groups=len(sizes), images=len(groups), largest=largest, counts=counts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """`values[seed, sample]` of something that was trained with each of `seeds`.

    Their mean over samples is the metric of a seed's test split. With `folds` the columns are
    folds, and their values the metric of each; with a `grouping` they are groups of images.
    `in_units`: values are no fractions, but in the units of what is predicted.
    """

    seeds: tuple[int, ...]
    samples: tuple[str, ...]
    values: Numbers
    folds: Folds | None = None
    grouping: Grouping | None = None
    in_units: bool = False

    @cached_property
    def counts(self) -> bool:
        """Whether every sample is right or wrong, 1 or 0."""
        return self.grouping is None and bool(np.isin(self.values, (0.0, 1.0)).all())

    @property
    def grain(self) -> float | None:
        """What one image more or less makes, where they are counted: None for that of samples."""
        if self.grouping is not None and self.grouping.counts:
            return 1 / (self.grouping.images + 2)
        return None if self.counts else 0.0

    @property
    def images(self) -> int:
        """How many are tested, of folds by all of them."""
        if self.grouping is not None:
            return self.grouping.images
        return len(self.samples) * (1 if self.folds is None else self.folds.test)

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

    `groups` are those of samples that are images, `grouping` is there if samples are groups;
    `in_units` as of `Scores`.
    """

    rows: Mapping[str, int]
    samples: tuple[str, ...]
    values: Numbers
    groups: tuple[str, ...] | None = None
    grouping: Grouping | None = None
    in_units: bool = False

    def of(self, trials: Mapping[int, tuple[str, ...]]) -> Scores | None:
        """The scores of a trial a seed, on the samples that all have; None without any."""
        known = {seed: self.rows[trial] for seed, (trial,) in trials.items() if trial in self.rows}
        if not known:
            return None
        values = self.values[list(known.values())]
        whole: npt.NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=0))
        if not whole.any():
            return None
        samples, groups = self.samples, self.groups
        if not whole.all():
            samples, values = _some(samples, whole), values[:, whole]
            groups = None if groups is None else _some(groups, whole)
        found = Scores(
            seeds=tuple(known),
            samples=samples,
            values=values,
            grouping=self.grouping,
            in_units=self.in_units,
        )
        return found if groups is None else in_groups(found, groups)


def _some(names: tuple[str, ...], which: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(np.array(names, dtype=object)[which])


def in_groups(scores: Scores, groups: Sequence[str]) -> Scores:
    """The same with groups for samples: `groups` are those of the samples that are images.

    Where no two are of the same group nothing changes.
    """
    names, group = np.unique(np.array(groups, dtype=str), return_inverse=True)
    if len(names) == len(groups):
        return scores
    return Scores(
        seeds=scores.seeds,
        samples=tuple(map(str, names)),
        values=by_group(scores.values, group),
        grouping=Grouping.of(groups, counts=scores.counts),
        in_units=scores.in_units,
    )


def by_group(values: npt.NDArray[Any], group: npt.NDArray[np.int64]) -> Numbers:
    """`values[..., image]` as `[..., group]`, with the same mean over them; `group` from 0 on.

    Each scores by how the mean changes without it (its jackknife pseudo-value), so the spread over
    groups is that of cluster-robust errors of the kind that is safe where a few groups are large
    (Bell and McCaffrey, 2002; MacKinnon, Nielsen and Webb, Fast and reliable jackknife and
    bootstrap methods for cluster-robust inference, 2023).
    """
    sizes = np.bincount(group)
    means = values.mean(axis=-1, dtype=np.float64, keepdims=True)
    if len(sizes) < 2:
        return np.asarray(means)
    rows = values.reshape(-1, values.shape[-1])
    sums = np.stack([np.bincount(group, row) for row in rows])
    sums = sums.reshape(*values.shape[:-1], len(sizes))
    changes = (len(sizes) - 1) * (sums - sizes * means) / (len(group) - sizes)
    return np.asarray(means + changes - changes.mean(axis=-1, keepdims=True))


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


def scores_of_folds(
    run: Run, trials: Mapping[int, tuple[str, ...]], metric: Metric
) -> Scores | None:
    """Scores of trials of a run with folds, from the figures of each; None for one without."""
    folds = folds_of(run)
    if folds is None:
        return None
    figures = dict(zip(run.trials["trial"], run.trials[metric.test], strict=True))
    return figure_scores(figures, trials, folds, in_units=metric.in_target_units)


def trial_scores(predictions: pd.DataFrame, metric: Metric) -> TrialScores | None:
    """The scores of all predicted trials; None if the metric's function is not known.

    A metric that is the mean of something over samples scores each sample by that; those of numbers
    and of several labels by how much a sample moves them (`influence`). Of any other, scores are
    jackknife pseudo-values (Tukey, 1958), `n·m − (n − 1)·m₋ᵢ` with `m₋ᵢ` the metric without sample
    i, moved to have the metric as their mean. Of many samples, blocks that are alike in their
    classes are left out instead, and stand as one sample each. If samples have groups (column
    `group`), a group is a sample, and is left out as a whole.
    """
    import pandas as pd

    row, trials = pd.factorize(predictions["trial"])
    column, samples = pd.factorize(predictions["sample"])
    groups = groups_of(predictions, samples)
    grouping: Grouping | None = None
    of_classes = target_task_of(predictions) == "classification"
    if metric.name in (_PER_SAMPLE if of_classes else SCORED):
        values = np.full((len(trials), len(samples)), np.nan)
        values[row, column] = _per_sample(predictions, row, metric.name)
        names: Iterable[str] = samples
    else:
        try:
            entry = METRICS.get(metric.name)
        except BenchError:
            return None
        labels, probabilities = _arrays(predictions, entry.traits)
        classes = np.full(len(samples), -1)
        # Alike in nothing where there are no classes: blocks are drawn then.
        classes[column] = labels if of_classes else 0
        if groups is None:
            block = blocks_of(classes)
        else:
            block = blocks_of_groups(groups)
            grouping = Grouping.of(groups, counts=False)
        values = np.full((len(trials), block.max(initial=-1) + 1), np.nan)
        for index in range(len(trials)):
            own = row == index
            values[index] = pseudo_values(
                entry.function,
                labels[own],
                probabilities[own],
                block[column[own]],
                values.shape[1],
            )
        alone = values.shape[1] == len(samples)
        names = samples if alone else (f"block {number}" for number in range(values.shape[1]))
        if alone:
            values = values[:, block]
        groups = None
    rows = {str(trial): index for index, trial in enumerate(trials)}
    return TrialScores(
        rows=rows,
        samples=tuple(map(str, names)),
        values=values,
        groups=groups,
        grouping=grouping,
        in_units=metric.in_target_units,
    )


def set_names(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The named test sets of test predictions, sorted; none where there is one test split."""
    if "test_set" not in predictions:
        return ()
    return tuple(sorted(predictions["test_set"].dropna().unique()))


def metric_of_rows(name: str, predictions: pd.DataFrame) -> float:
    """The metric of that name of some predictions of one trial; raises `BenchError` without it."""
    entry = METRICS.get(name)
    return float(entry.function(*_arrays(predictions, entry.traits)))


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


def _arrays(
    predictions: pd.DataFrame, traits: MetricTraits
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """What a metric takes of a table."""
    if target_task_of(predictions) == "classification":
        return class_arrays(predictions)
    answers = answers_of(predictions)
    return answers.truth, answers.decided.astype(float) if traits.decides else answers.outputs


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


def blocks_of_groups(groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """The block of each sample, where no block parts a group."""
    names, group = np.unique(np.array(groups, dtype=str), return_inverse=True)
    block = np.empty(len(names), dtype=np.int64)
    order = np.random.default_rng(0).permutation(len(names))
    block[order] = np.arange(len(names)) % MAX_BLOCKS
    return np.asarray(block[group])


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
    if count < 2:
        return np.full(count, whole)
    left = [
        function(labels[kept], probabilities[kept])
        for kept in (block != number for number in range(count))
    ]
    values = count * whole - (count - 1) * np.array(left, dtype=np.float64)
    return np.asarray(values - values.mean() + whole)
