"""Ensembles against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from bench.prediction.combine import Labels, Probabilities, mean_of, select_greedily, votes_of


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def drawn(seed: int, samples: int = 60, classes: int = 4) -> tuple[Labels, list[Probabilities]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    truth = 1.5 * np.eye(classes)[labels]
    return labels, [softmax(truth + rng.normal(size=truth.shape) * 2, axis=1) for _ in range(6)]


def test_equal_members_are_one_member() -> None:
    labels, predictions = drawn(0)
    assert mean_of([predictions[0]] * 5) == pytest.approx(predictions[0])
    found = select_greedily([predictions[0]] * 3, labels, accuracy)
    assert found.counts == (1, 0, 0)
    assert found.merit == accuracy(labels, predictions[0])


@pytest.mark.parametrize("seed", range(10))
def test_the_greedy_ensemble_is_never_worse_than_its_best_member(seed: int) -> None:
    labels, predictions = drawn(seed)
    found = select_greedily(predictions, labels, accuracy)
    best = max(accuracy(labels, each) for each in predictions)
    assert found.merit >= best
    used = [each for each, count in zip(predictions, found.counts, strict=True) if count]
    counts = [count for count in found.counts if count]
    assert accuracy(labels, mean_of(used, counts)) == found.merit


def test_greedy_rounds_are_those_of_the_paper_written_out() -> None:
    """Every round tries all candidates."""
    labels, predictions = drawn(3, samples=40)

    def score(members: tuple[int, ...]) -> tuple[float, float]:
        mean = np.mean([predictions[index] for index in members], axis=0)
        loss = -log_softmax(np.log(mean), axis=1)[np.arange(len(labels)), labels].mean()
        return accuracy(labels, mean), -loss

    taken: tuple[int, ...] = ()
    rounds = []
    for _ in range(4):
        candidates = [(*taken, index) for index in range(len(predictions))]
        taken = max(candidates, key=lambda members: (score(members), -members[-1]))
        rounds.append((score(taken)[0], tuple(taken.count(i) for i in range(len(predictions)))))
    best = max(merit for merit, _ in rounds)
    wanted = next(counts for merit, counts in rounds if merit == best)
    assert select_greedily(predictions, labels, accuracy, rounds=4).counts == wanted


def test_a_vote_is_that_of_the_majority_and_its_ties_go_to_the_mean() -> None:
    """Against counting by hand; with six members of four classes there are ties."""
    _, predictions = drawn(1, samples=400)
    named = np.array([each.argmax(axis=1) for each in predictions])
    shares, mean = votes_of(predictions), np.mean(predictions, axis=0)
    counts = np.array([[list(row).count(c) for c in range(4)] for row in named.T])
    tied = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert 0 < tied.sum() < len(tied)
    expected = [
        max(range(4), key=lambda c: (own[c], each[c]))
        for own, each in zip(counts.tolist(), mean.tolist(), strict=True)
    ]
    assert shares.argmax(axis=1).tolist() == expected
    assert shares.sum(axis=1) == pytest.approx(1)
    assert shares.min() > 0


def test_a_vote_of_equal_members_names_what_one_of_them_does() -> None:
    _, predictions = drawn(2)
    named = votes_of([predictions[0]] * 9).argmax(axis=1)
    assert named.tolist() == predictions[0].argmax(axis=1).tolist()
