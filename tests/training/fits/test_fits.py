"""Heads that are fitted at once: gold values, scikit-learn's numbers, what each can learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.methods.target_tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION, TargetTask
from bench.models.fitted_head import FLOOR, FittedHead
from bench.training.fits import FITS, Candidate, Samples
from bench.training.fits.logistic import INVERSE_PENALTIES
from bench.training.fits.ridge import PENALTIES

Y = np.arange(12) % 3
F = np.sin(0.37 * np.arange(1, 49) ** 2).reshape(12, 4) + np.eye(3, 4)[Y]

PATHS: dict[str, dict[str, Any]] = {
    "knn": {"k": None, "temperature": 0.07},
    "ridge": {"l2": None},
    "logistic": {"c": None},
    "svm": {"kernel": "rbf", "c": None},
}
ALL: dict[str, dict[str, Any]] = {
    **PATHS,
    "class_mean": {"temperature": 0.07},
    "forest": {"trees": 10, "min_leaf": 1},
    "linear_sweep": {"steps": 60, "batch": 16},
}


def samples_of(
    features: Any,
    targets: Any,
    *,
    task: TargetTask = CLASSIFICATION,
    outputs: int = 3,
    weights: Any = None,
) -> Samples:
    return Samples(
        features=torch.from_numpy(np.asarray(features, np.float32)),
        targets=np.asarray(targets),
        outputs=outputs,
        task=task,
        weights=weights,
    )


def drawn(classes: int = 3, count: int = 60, width: int = 6, *, apart: float = 1.0) -> Samples:
    """Classes around points of their own."""
    draw = np.random.default_rng(0)
    labels = np.arange(count) % classes
    points = apart * draw.normal(size=(classes, width))
    return samples_of(points[labels] + draw.normal(size=(count, width)), labels, outputs=classes)


def candidates(name: str, samples: Samples, **options: Any) -> list[Candidate]:
    return list(FITS[name](samples, **{**ALL[name], **options}))


def scores(candidate: Candidate, features: Any, outputs: int = 3) -> Tensor:
    inputs = torch.as_tensor(np.asarray(features), dtype=torch.float32)
    head = FittedHead(inputs.shape[1], outputs)
    head.hold(candidate.tensors)
    found: Tensor = head(inputs)
    return found


GOLD = samples_of(F[:6], Y[:6])


def test_gold_of_neighbours() -> None:
    (found,) = candidates("knn", GOLD, k=3)
    shares = scores(found, F[6:]).softmax(dim=1)
    assert shares.argmax(dim=1).tolist() == [0, 1, 0, 0, 1, 2]
    assert shares[0].tolist() == pytest.approx([0.916912, 0, 0.083088], abs=2 * FLOOR)


def test_gold_of_class_means() -> None:
    (found,) = candidates("class_mean", GOLD)
    assert scores(found, F[6:]).argmax(dim=1).tolist() == [0, 1, 0, 0, 1, 2]


def test_gold_of_ridge() -> None:
    (found,) = candidates("ridge", GOLD, l2=1.0)
    assert scores(found, F[6:7])[0].tolist() == pytest.approx(
        [1.174532, -1.343506, -0.831010], abs=2e-6
    )


@pytest.mark.campaign
@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_what_each_value_gives_alone(name: str) -> None:
    samples = drawn()
    whole = candidates(name, samples)
    (option,) = whole[0].chosen
    for candidate in whole[:: 1 + len(whole) // 4]:
        (alone,) = candidates(name, samples, **{option: candidate.chosen[option]})
        assert alone.chosen == candidate.chosen
        first, second = (scores(each, samples.features) for each in (candidate, alone))
        if name == "logistic":  # which starts elsewhere, and of large scores ends nearby
            first, second = first.softmax(dim=1), second.softmax(dim=1)
        assert torch.allclose(first, second, atol=1e-4 if name == "logistic" else 1e-6)


@pytest.mark.campaign
def test_paths_begin_with_what_is_regularised_most() -> None:
    samples = drawn()
    ends = {name: (c[0].chosen, c[-1].chosen) for name in ALL if (c := candidates(name, samples))}
    assert ends["knn"] == ({"k": 20}, {"k": 10})
    assert ends["ridge"] == ({"l2": 2.0**19}, {"l2": 2.0**-10})
    assert ends["logistic"] == ({"c": 1e-6}, {"c": pytest.approx(1e5)})
    assert ends["svm"] == ({"c": 1e-6}, {"c": 1e3})
    assert ends["linear_sweep"] == ({"lr": 1e-5}, {"lr": 0.1})
    assert (len(PENALTIES), len(INVERSE_PENALTIES)) == (30, 45)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("count", [8, 60])
def test_logistic_is_scikit_learns(classes: int, count: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    samples = drawn(classes, count, width=12)
    features = samples.features.double().numpy()
    for c in (1e-3, 0.1, 10.0):
        model = linear_model.LogisticRegression(C=c, max_iter=10_000, tol=1e-8)
        expected = model.fit(features, samples.targets).predict_proba(features)
        (found,) = candidates("logistic", samples, c=c)
        shares = scores(found, features, classes).softmax(dim=1)
        assert np.abs(shares.numpy() - expected).max() < 1e-4


def test_ridge_is_scikit_learns() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(0)
    features = draw.normal(size=(30, 5)).astype(np.float32)
    values = features @ draw.normal(size=(5, 2)) + draw.normal(size=(30, 2))
    weights = draw.uniform(0.5, 2, 30)
    samples = samples_of(features, values, task=REGRESSION, outputs=2, weights=weights)
    (found,) = candidates("ridge", samples, l2=8.0)
    wide = features.astype(np.float64)
    mean = np.average(wide, axis=0, weights=weights)
    deviation = np.sqrt(np.average((wide - mean) ** 2, axis=0, weights=weights)) + 1e-5
    inputs = np.column_stack([(wide - mean) / deviation, np.full(30, 100.0)])
    model = linear_model.Ridge(alpha=8.0, fit_intercept=False)
    expected = model.fit(inputs, values, sample_weight=weights).predict(inputs)
    assert np.abs(scores(found, features, 2).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("task", [CLASSIFICATION, REGRESSION, MULTI_LABEL])
def test_a_forest_of_tensors_is_the_forest(task: TargetTask) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    draw = np.random.default_rng(0)
    features = draw.normal(size=(80, 5)).astype(np.float32).round(1)  # many are equal
    above = features[:, :3] + draw.normal(size=(80, 3)) > 0
    targets = {
        CLASSIFICATION: above.argmax(axis=1),
        REGRESSION: features[:, :3] ** 2,
        MULTI_LABEL: above.astype(np.float32),
    }[task]
    (found,) = candidates("forest", samples_of(features, targets, task=task))
    kind = "RandomForestClassifier" if task.has_classes else "RandomForestRegressor"
    model = getattr(ensemble, kind)(10, max_features="sqrt", random_state=0).fit(features, targets)
    fresh = draw.normal(size=(200, 5)).astype(np.float32).round(1)
    ours = scores(found, fresh)
    if task.has_classes:
        assert np.abs(ours.exp().numpy() - model.predict_proba(fresh)).max() < 2 * FLOOR
        return
    means = ours.sigmoid() if task is MULTI_LABEL else ours
    assert np.abs(means.numpy() - model.predict(fresh)).max() < 3e-6


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("classes", [2, 3])
def test_support_vectors_are_scikit_learns(kernel: str, classes: int) -> None:
    sklearn_svm = pytest.importorskip("sklearn.svm")
    samples = drawn(classes)
    (found,) = candidates("svm", samples, kernel=kernel, c=1.0)
    features = samples.features.double().numpy()
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-5)
    ours = scores(found, features, classes)
    for label in range(classes):
        model = sklearn_svm.SVC(kernel=kernel, C=1.0, gamma=1 / 6)
        expected = model.fit(scaled, samples.targets == label).decision_function(scaled)
        own = ours[:, label] * (2 if classes == 2 else 1)  # of two, halves of the difference
        assert np.abs(own.numpy() - expected).max() < 1e-2  # libsvm ends at 1e-3


@pytest.mark.campaign
def test_heads_of_a_sweep_are_those_of_torch() -> None:
    samples = drawn(apart=2.0)
    found = candidates("linear_sweep", samples)[9]
    rates, size = found.chosen["lr"], 16
    from bench.keys import derive_seed
    from bench.training.fits.linear_sweep import _order

    generator = torch.Generator().manual_seed(derive_seed(0, "start") % 2**63)
    layer = torch.nn.Linear(6, 3)
    with torch.no_grad():
        layer.weight.copy_(0.01 * torch.randn(3, 6, generator=generator))
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=rates * size / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    order = _order(60, size, 0)
    for _ in range(60):
        rows = torch.from_numpy(next(order))
        optimizer.zero_grad()
        labels = torch.from_numpy(samples.targets)[rows]
        torch.nn.functional.cross_entropy(layer(samples.features[rows]), labels).backward()
        optimizer.step()
        schedule.step()
    assert torch.allclose(found.tensors["weight"], layer.weight, atol=1e-5)
    assert torch.allclose(found.tensors["bias"], layer.bias, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "option", "value", "grows"),
    [
        ("knn", "k", 60, 1.0),
        ("class_mean", "temperature", 0.1, 0.0),
        ("ridge", "l2", 4.0, 1.0),
        ("logistic", "c", 0.1, -1.0),
        ("svm", "c", 0.1, -1.0),
    ],
)
def test_a_weight_of_two_is_two_of_the_sample(
    name: str, option: str, value: float, grows: float
) -> None:
    """Weights are 1 in the mean, and penalties go with the number of samples."""
    samples = drawn(apart=0.5)
    counts = 1 + np.arange(60) % 2
    rows = np.repeat(np.arange(60), counts)
    weighted = Samples(**{**vars(samples), "weights": counts / counts.mean()})
    repeated = samples_of(samples.features[rows], samples.targets[rows])
    (first,) = candidates(name, weighted, **{option: value})
    (second,) = candidates(name, repeated, **{option: value * counts.mean() ** grows})
    ours, theirs = (scores(each, samples.features) for each in (first, second))
    assert torch.allclose(ours, theirs, atol=1e-3)


def rings(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Four heaps, of which those opposite to each other are one class."""
    draw = np.random.default_rng(1)
    corner = np.arange(count) % 4
    signs = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]])[corner]
    return 2 * signs + 0.5 * draw.normal(size=(count, 2)), corner // 2


def stripe(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A small difference in one direction, under much larger ones in others."""
    draw = np.random.default_rng(1)
    labels = np.arange(count) % 2
    features = 10 * draw.normal(size=(count, 8))
    features[:, 0] = 2 * labels - 1 + 0.2 * draw.normal(size=count)
    return features, labels


def test_each_learns_what_its_rival_cannot() -> None:
    def accuracy(name: str, data: Any, **options: Any) -> float:
        features, labels = data(240)
        samples = samples_of(features[:120], labels[:120], outputs=2)
        found = candidates(name, samples, **options)[-1]
        right = scores(found, features[120:], 2).argmax(dim=1).numpy() == labels[120:]
        return float(right.mean())

    for name, options in (("knn", {"k": 10}), ("svm", {"c": 1.0}), ("forest", {})):
        assert accuracy(name, rings, **options) > 0.95, name
    for name, options in (("ridge", {"l2": 1.0}), ("logistic", {"c": 1.0}), ("class_mean", {})):
        assert accuracy(name, rings, **options) < 0.8, name
    assert accuracy("logistic", stripe, c=1.0) > 0.95
    assert accuracy("knn", stripe, k=10) < 0.8
