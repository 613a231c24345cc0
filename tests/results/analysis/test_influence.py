"""Scores of single samples by metrics of numbers and of several labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from bench.results.analysis.comparison import compare
from bench.results.analysis.influence import SCORED, Answers, influence_scores
from bench.results.analysis.scores import Scores

reference = pytest.importorskip("sklearn.metrics")

Numbers = npt.NDArray[np.float64]

NUMBERS = ("mae", "rmse", "r2", "spearman")
LABELS = tuple(name for name in SCORED if name not in NUMBERS)


def _answers(metric: str, *, samples: int, outputs: int = 3, ties: bool = False) -> Answers:
    rng = np.random.default_rng([len(metric), samples, outputs])
    hidden = rng.standard_t(5, size=(samples, outputs))
    seen = hidden + rng.normal(size=(samples, outputs))
    if metric in NUMBERS:
        truth, found = hidden * [3.0, 40.0, 0.01][:outputs], seen * [3.0, 40.0, 0.01][:outputs]
        if ties:
            truth, found = (
                np.round(side / [1.5, 20.0, 0.005][:outputs]) for side in (truth, found)
            )
        return Answers(truth=truth, outputs=found, decided=np.zeros(truth.shape, bool))
    found = 1 / (1 + np.exp(-seen))
    if ties:
        found = np.clip(np.round(found, 1), 0.05, 0.95)
    truth = (hidden > [0.0, 1.0, -0.5][:outputs]).astype(float)
    return Answers(truth=truth, outputs=found, decided=found >= [0.5, 0.3, 0.7][:outputs])


def _direct(metric: str, answers: Answers, weights: Numbers | None = None) -> float:
    """The metric as others compute it, of weighted samples."""
    truth, found, given = answers.truth, answers.outputs, answers.decided
    options: dict[str, Any] = {"sample_weight": weights}
    match metric:
        case "mae":
            value = reference.mean_absolute_error(truth, found, **options)
        case "rmse":
            value = reference.root_mean_squared_error(truth, found, **options)
        case "r2":
            value = reference.r2_score(truth, found, **options)
        case "spearman":
            assert weights is None
            pairs = zip(truth.T, found.T, strict=True)
            value = np.mean([stats.spearmanr(*pair).statistic for pair in pairs])
        case "mean_average_precision":
            value = reference.average_precision_score(truth, found, average="macro", **options)
        case "multi_label_macro_f1":
            pairs = zip(truth.T, given.T, strict=True)
            value = np.mean([reference.f1_score(*pair, **options) for pair in pairs])
        case "multi_label_micro_f1":
            each = None if weights is None else np.repeat(weights, truth.shape[1])
            value = reference.f1_score(truth.ravel(), given.ravel(), sample_weight=each)
        case "multi_label_log_loss":
            columns = zip(truth.T, found.T, strict=True)
            value = np.mean([reference.log_loss(*pair, **options) for pair in columns])
    return float(value)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("metric", list(SCORED))
def test_the_mean_of_scores_is_the_metric(metric: str, outputs: int, ties: bool) -> None:
    answers = _answers(metric, samples=80, outputs=outputs, ties=ties)
    scores = influence_scores(metric, answers)
    assert scores.shape == (80,)
    assert scores.mean() == pytest.approx(_direct(metric, answers), rel=1e-9)


@pytest.mark.parametrize("metric", [name for name in SCORED if name != "spearman"])
def test_a_score_says_how_a_weight_moves_the_metric(metric: str) -> None:
    """Against scikit-learn with a little more weight on one sample; ties included."""
    answers = _answers(metric, samples=40, ties=True)
    scores, step = influence_scores(metric, answers), 1e-5
    for sample in range(0, 40, 5):
        one = np.eye(40)[sample]
        low, high = (
            _direct(metric, answers, (1 - change) / 40 + change * one) for change in (-step, step)
        )
        moved = (high - low) / (2 * step)
        expected = scores[sample] - scores.mean()
        assert moved == pytest.approx(expected, rel=1e-4, abs=1e-5 * np.abs(scores).max())


def test_a_score_says_how_a_copy_moves_ranks() -> None:
    """Against scipy: every sample there many times over, and one of them once more."""
    answers, copies = _answers("spearman", samples=30, outputs=1, ties=True), 200
    scores = influence_scores("spearman", answers)
    many = [np.repeat(side[:, 0], copies) for side in (answers.truth, answers.outputs)]
    whole = stats.spearmanr(*many).statistic
    for sample in range(30):
        more = [
            np.append(side, own[sample, 0])
            for side, own in zip(many, (answers.truth, answers.outputs), strict=True)
        ]
        moved = (stats.spearmanr(*more).statistic - whole) * (30 * copies + 1)
        assert moved == pytest.approx(scores[sample] - scores.mean(), abs=2e-3)


@pytest.mark.parametrize(
    "metric", ["r2", "rmse", "spearman", "mean_average_precision", "multi_label_macro_f1"]
)
def test_the_spread_of_scores_is_that_of_the_metric(metric: str) -> None:
    """The standard error against samples left out one by one, and drawn anew."""
    size = 150
    answers = _answers(metric, samples=size, outputs=2)

    def of(rows: npt.NDArray[Any]) -> float:
        own = Answers(
            truth=answers.truth[rows], outputs=answers.outputs[rows], decided=answers.decided[rows]
        )
        return float(influence_scores(metric, own).mean())

    found = influence_scores(metric, answers).std(ddof=1) / np.sqrt(size)
    left = np.array([of(np.delete(np.arange(size), sample)) for sample in range(size)])
    jackknife = np.sqrt((size - 1) / size * np.square(left - left.mean()).sum())
    assert found == pytest.approx(jackknife, rel=0.1)
    rng = np.random.default_rng(1)
    drawn = np.array([of(rng.integers(size, size=size)) for _ in range(400)])
    # A standard deviation of 400 values is known to about 4 %.
    assert found == pytest.approx(drawn.std(ddof=1), rel=0.2)


@pytest.mark.parametrize("metric", list(SCORED))
def test_without_a_known_output_nothing_is_known(metric: str) -> None:
    answers = _answers(metric, samples=20)
    answers.outputs[3, 1] = np.nan
    assert np.isnan(influence_scores(metric, answers)).all()
    none = Answers(truth=np.zeros((0, 2)), outputs=np.zeros((0, 2)), decided=np.zeros((0, 2), bool))
    assert not len(influence_scores(metric, none))


def test_what_does_not_vary_and_what_does_not_occur() -> None:
    answers = _answers("r2", samples=20)
    answers.truth[:, 1] = 7.0
    for metric in ("r2", "spearman"):
        assert np.isnan(influence_scores(metric, answers)).all()
    exact = Answers(truth=answers.truth, outputs=answers.truth, decided=answers.decided)
    assert influence_scores("rmse", exact).tolist() == [0.0] * 20
    several = _answers("mean_average_precision", samples=20)
    several.truth[:, 1] = 0.0
    others = Answers(
        truth=several.truth[:, ::2],
        outputs=several.outputs[:, ::2],
        decided=several.decided[:, ::2],
    )
    found, expected = (
        influence_scores("mean_average_precision", each) for each in (several, others)
    )
    assert found.tolist() == expected.tolist()
    several.truth[:] = 0.0
    assert np.isnan(influence_scores("mean_average_precision", several)).all()
    assert influence_scores("multi_label_macro_f1", several).tolist() == [0.0] * 20


# How often equals are told apart ----------------------------------------------------------------


def _trained(
    rng: np.random.Generator, pool: tuple[Numbers, Numbers], test: Numbers, shown: int
) -> Numbers:
    """Ridge regression on random features, from a part of the pool: a training with its luck."""
    inputs, truth = pool
    rows = rng.choice(len(inputs), size=shown, replace=False)
    weights = rng.normal(size=(inputs.shape[1] + 1, 40))

    def features(x: Numbers) -> Numbers:
        hidden = np.maximum(np.column_stack([x, np.ones(len(x))]) @ weights, 0)
        return np.column_stack([hidden, np.ones(len(x))])

    own = features(inputs[rows])
    solved = np.linalg.solve(own.T @ own + 5 * np.eye(41), own.T @ truth[rows])
    return np.asarray(features(test) @ solved)


def _claims(studies: int, *, seeds: int, samples: int, labels: bool) -> dict[str, float]:
    """The share of studies that claim a difference of two strategies that draw from the same.

    Nothing of it is the model of the test: inputs have heavy tails, errors depend on them, and
    trainings differ by their features and by what they are shown of the pool.
    """
    metrics = LABELS if labels else NUMBERS
    claimed = dict.fromkeys(metrics, 0)
    for study in range(studies):
        rng = np.random.default_rng([study, seeds, samples, labels])
        mixed = rng.normal(size=(5, 2))

        def drawn(
            count: int, rng: np.random.Generator = rng, mixed: Numbers = mixed
        ) -> tuple[Numbers, Numbers]:
            inputs = rng.standard_t(4, size=(count, 5))
            smooth = np.tanh(inputs @ mixed) * [1.0, 5.0]
            noise = rng.normal(size=(count, 2)) * (0.3 + 0.3 * np.abs(inputs[:, :2]))
            return inputs, smooth + noise

        pool, (test, truth) = drawn(120), drawn(samples)
        if labels:
            pool = (pool[0], (pool[1] > [0.0, 2.0]).astype(float))
            truth = (truth > [0.0, 2.0]).astype(float)
        values: dict[str, dict[str, list[Numbers]]] = {m: {"a": [], "b": []} for m in metrics}
        for _ in range(seeds):
            for strategy in ("a", "b"):
                found = _trained(rng, pool, test, shown=90)
                found = np.clip(found, 0.01, 0.99) if labels else found
                answers = Answers(truth=truth, outputs=found, decided=found >= 0.4)
                for metric in metrics:
                    values[metric][strategy].append(influence_scores(metric, answers))
        names = tuple(map(str, range(samples)))
        for metric, own in values.items():
            scores = {
                name: {"": Scores(seeds=tuple(range(seeds)), samples=names, values=np.array(rows))}
                for name, rows in own.items()
            }
            (comparison,) = compare(scores)
            claimed[metric] += comparison.corrected < 0.05
    return {metric: count / studies for metric, count in claimed.items()}


@pytest.mark.campaign
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(("seeds", "samples"), [(3, 150), (5, 400)])
def test_equals_are_seldom_told_apart(seeds: int, samples: int, labels: bool) -> None:
    shares = _claims(400, seeds=seeds, samples=samples, labels=labels)
    # 0.05 of 400 studies, with three standard errors of such a share.
    assert max(shares.values()) < 0.05 + 3 * 0.011, shares


def test_an_interval_of_scores_covers_the_difference_of_equals() -> None:
    """The same in small, where a test that took samples for the only luck would fail."""
    shares: Callable[[bool], dict[str, float]] = lambda labels: _claims(  # noqa: E731
        40, seeds=3, samples=100, labels=labels
    )
    assert max(*shares(False).values(), *shares(True).values()) <= 0.2
