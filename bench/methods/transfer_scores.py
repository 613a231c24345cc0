"""Transfer scores: how well a backbone may suit a task, told from one pass of its training samples.

They are computed from features `[n, features]`, or from the probabilities `[n, source classes]` of
the classifier that came with the weights, and from class indices `[n]`. The larger, the better the
backbone should transfer. All compute in float64. They rank backbones on one data set: no accuracy
can be read off them, and scores of different data sets cannot be compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError, counted, import_extra

Matrix = npt.NDArray[Any]
"""Features or probabilities, a row a sample."""
Labels = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

TRANSRATE_EPS = 1e-4
GBC_DIMENSIONS, GBC_LEAST_VARIANCE = 64, 1e-4
RIDGE_STRENGTHS = 10.0 ** -np.arange(9)
"""Of the ridge probe, in units of the largest squared singular value."""
NLEEP_VARIANCE, NLEEP_COMPONENTS = 0.8, 5
"""The share of the variance that its features keep, and its components for each class."""

_GRID_STEP, _GRID_MARGIN = 0.25, 20.0
"""Of the logarithm of LogME's ratio: how finely it is tried, and how far beyond what matters."""


class UndefinedScoreError(BenchError):
    """A score has no value, or none that says anything, for these samples."""


class Features:
    """Features `[n, features]` whose decompositions are computed once for all scores.

    Raises `UndefinedScoreError` where they are no finite numbers.
    """

    def __init__(self, values: Matrix) -> None:
        self.values = _finite(values)

    @classmethod
    def of(cls, features: Matrix | Features) -> Features:
        """The features, with what is known of them."""
        return features if isinstance(features, Features) else cls(features)

    @cached_property
    def centred(self) -> Floats:
        """Each minus the mean of all."""
        return np.asarray(self.values - self.values.mean(axis=0))

    @cached_property
    def svd(self) -> tuple[Floats, Floats]:
        """Left singular vectors `[n, rank]` and singular values, without 0."""
        return _svd(self.values)

    @cached_property
    def centred_svd(self) -> tuple[Floats, Floats]:
        """The same of the centred features."""
        return _svd(self.centred)

    @property
    def principal(self) -> Floats:
        """Principal components `[n, rank]`, by falling variance, without those that have none."""
        left, singular = self.centred_svd
        return left * singular


# Of features ------------------------------------------------------------------------------------


def logme(features: Matrix | Features, targets: Labels) -> float:
    """The largest log evidence of a Bayesian linear model of each class against the rest, per
    sample, mean over classes.

    `targets` are class indices `[n]`, or numbers `[n, targets]` to be predicted. The evidence of
    weights from N(0, 1/α) and noise from N(0, 1/β) is a function of the ratio α/β alone, once β is
    the best for it; it is sought on a grid and then refined, so the maximum is the global one.

    You et al., LogME: Practical Assessment of Pre-trained Models for Transfer Learning, 2021.
    Raises `UndefinedScoreError` for targets that the features give without any error, where there
    is no maximum.
    """
    wanted = _one_hot(targets) if targets.ndim == 1 else np.asarray(targets, dtype=np.float64)
    left, singular = Features.of(features).svd
    count, squares = len(left), singular**2
    totals, found = (wanted**2).sum(axis=0), left.T @ wanted
    if not totals.all():
        raise UndefinedScoreError("a target is 0 for all samples")
    rest = np.maximum(totals - (found**2).sum(axis=0), 0.0)
    exact = rest <= count * np.finfo(np.float64).eps * totals
    if len(squares) == count:
        rest = np.zeros_like(rest)
    elif exact.any():
        raise UndefinedScoreError(
            "the features give the targets without any error, so that the evidence has no maximum"
        )

    def evidence(log_ratio: Floats, own: slice = slice(None)) -> Floats:
        """Of targets at each ratio `[targets, ratios]`."""
        ratio = np.exp(log_ratio)[:, None]
        kept = ratio / (ratio + squares)
        error = rest[own, None] + (found[:, own] ** 2).T @ kept.T
        fit = -count / 2 * (np.log(error / count) + 1 + np.log(2 * np.pi))
        return np.asarray(fit + np.log(kept).sum(axis=1) / 2)

    def evidence_of(target: int, log_ratio: float) -> float:
        return float(evidence(np.array([log_ratio]), slice(target, target + 1))[0, 0])

    grid = _log_ratios(squares)
    best = [
        _refined(partial(evidence_of, number), grid, row)
        for number, row in enumerate(evidence(grid))
    ]
    return float(np.mean(best)) / count


def _log_ratios(squares: Floats) -> Floats:
    """The grid: beyond its ends the evidence changes no more, or falls."""
    own = np.log(squares) if len(squares) else np.zeros(1)
    low, high = own.min() - _GRID_MARGIN, own.max() + _GRID_MARGIN
    return np.linspace(low, high, int((high - low) / _GRID_STEP) + 2)


def _refined(function: Callable[[float], float], grid: Floats, values: Floats) -> float:
    """The maximum of `function`, between the neighbours of the best place of the grid."""
    from scipy.optimize import minimize_scalar

    at = int(values.argmax())
    ends = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    found = minimize_scalar(
        lambda place: -function(place), bounds=ends, method="bounded", options={"xatol": 1e-9}
    )
    return float(max(-found.fun, values[at]))


def h_score(features: Matrix | Features, labels: Labels) -> float:
    """tr(cov(F)⁺ cov(E[F|y])): how much of the features' variance lies between classes, whitened.

    In [0, min(features, classes − 1)]. Bao et al., An Information-Theoretic Approach to
    Transferability in Task Transfer Learning, 2019.

    Raises `UndefinedScoreError` where n samples span n − 1 dimensions: it is classes − 1 then,
    whatever the labels are.
    """
    members = _members(labels)
    left, singular = Features.of(features).centred_svd
    if len(singular) == len(left) - 1:
        raise UndefinedScoreError(
            f"{counted(len(left), 'sample')} are too few for so many features: it is "
            f"{len(members) - 1} (classes − 1) for any labels"
        )
    return float(sum(len(own) * (left[own].mean(axis=0) ** 2).sum() for own in members))


def transrate(features: Matrix | Features, labels: Labels) -> float:
    """The coding rate of all features minus the mean of those of each class, ε = 1e-4, in nats.

    R(F) = ½ log det(I + FᵀF / (nε)) of features that are centred once. It depends on their scale.
    Huang et al., Frustratingly Easy Transferability Estimation, 2022.
    """
    members = _members(labels)
    known = Features.of(features).centred
    return _rate(known) - float(np.mean([_rate(known[own]) for own in members]))


def _rate(features: Floats) -> float:
    wide = features.shape[1] > len(features)
    products = features @ features.T if wide else features.T @ features
    scaled = np.eye(len(products)) + products / (len(features) * TRANSRATE_EPS)
    return float(np.linalg.slogdet(scaled)[1]) / 2


def gbc(
    features: Matrix | Features,
    labels: Labels,
    *,
    covariance: Literal["spherical", "diagonal"] = "spherical",
) -> float:
    """Gaussian Bhattacharyya coefficient: minus how much the classes overlap, over ordered pairs.

    Each class is a Gaussian with one variance, or one a dimension, of at least 1e-4; of more than
    64 dimensions the first 64 principal components are taken. In [−C(C−1), 0]. Pándy et al.,
    Transferability Estimation using Bhattacharyya Class Separability, 2022; of spherical ones the
    logarithms of variances count once and not once a dimension, as in the authors' code.
    """
    members = _members(labels)
    own_features = Features.of(features)
    known = own_features.values
    if known.shape[1] > GBC_DIMENSIONS:
        known = own_features.principal[:, :GBC_DIMENSIONS]
    means = np.stack([known[own].mean(axis=0) for own in members])
    variances = np.stack([known[own].var(axis=0) for own in members])
    if covariance == "spherical":
        variances = variances.mean(axis=1, keepdims=True)
    variances = np.maximum(variances, GBC_LEAST_VARIANCE)
    logs = np.log(variances).sum(axis=1)
    overlap = 0.0
    for mean, variance, log in zip(means, variances, logs, strict=True):
        middle = (variances + variance) / 2
        distance = ((means - mean) ** 2 / middle).sum(axis=1) / 8
        distance += (np.log(middle).sum(axis=1) - (logs + log) / 2) / 2
        overlap += float(np.exp(-distance).sum()) - 1  # without the class itself
    return -overlap


def nleep(features: Matrix | Features, labels: Labels, *, seed: int = 0) -> float:
    """LEEP of a Gaussian mixture in the place of source classes: for features without a classifier.

    Of principal components that keep 80 % of the variance, a mixture of 5 components a class, with
    a variance a dimension: full covariances have more parameters than few samples can tell. `seed`
    fixes where the mixture starts. Li et al., Ranking Neural Checkpoints, 2021.

    Raises `MissingExtraError` without scikit-learn, and `UndefinedScoreError` for fewer samples
    than components and for features that are all the same.
    """
    import_extra("sklearn", needed_for="NLEEP", extra="probes", package="scikit-learn")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    components = NLEEP_COMPONENTS * len(_members(labels))
    known = Features.of(features).principal
    if len(known) < components:
        raise UndefinedScoreError(
            f"its mixture has {components} components ({NLEEP_COMPONENTS} a class), which needs as "
            f"many samples, got {counted(len(known), 'sample')}"
        )
    shares = np.cumsum(known.var(axis=0))
    if not shares.size:
        raise UndefinedScoreError("the features of all samples are the same")
    kept = int(np.searchsorted(shares, NLEEP_VARIANCE * shares[-1])) + 1
    fitted = GaussianMixture(components, covariance_type="diag", random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # it is as good as found after 100 iterations
        fitted.fit(known[:, :kept])
    return leep(fitted.predict_proba(known[:, :kept]), labels)


# Of the classifier of the weights ---------------------------------------------------------------


def leep(probabilities: Matrix, labels: Labels) -> float:
    """Mean log likelihood of the labels where p(label | source class) is counted on them.

    `probabilities` are those of source classes `[n, source classes]`. In [−log C, 0]. Nguyen et
    al., LEEP: A New Measure to Evaluate Transferability of Learned Representations, 2020.
    """
    known, wanted = _finite(probabilities), _one_hot(labels)
    joint = wanted.T @ known
    seen = joint.sum(axis=0) > 0
    conditional = joint[:, seen] / joint[:, seen].sum(axis=0)
    predicted = known[:, seen] @ conditional.T
    own = (predicted * wanted).sum(axis=1)
    return float(np.log(np.minimum(own, 1.0)).mean())  # shares of the last digit may exceed 1


def nce(probabilities: Matrix, labels: Labels) -> float:
    """−H(label | most probable source class), in nats. In [−log C, 0].

    Tran et al., Transferability and Hardness of Supervised Classification Tasks, 2019.
    """
    said = _finite(probabilities).argmax(axis=1)
    together = np.unique(said, return_inverse=True)[1]
    joint = np.zeros((together.max() + 1, len(_members(labels))))
    np.add.at(joint, (together, np.unique(labels, return_inverse=True)[1]), 1 / len(labels))
    conditional = joint / joint.sum(axis=1, keepdims=True)
    return float((joint * np.log(np.where(joint > 0, conditional, 1.0))).sum())


def nearest_neighbour(features: Matrix | Features, labels: Labels) -> float:
    """Share of the samples whose nearest other sample, by cosine, is of their class. In [0, 1].

    The accuracy of the nearest neighbour with one sample left out at a time.
    """
    _members(labels)
    values = Features.of(features).values
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    units = values / np.where(lengths > 0, lengths, 1.0)
    alike = units @ units.T
    np.fill_diagonal(alike, -np.inf)
    return float((labels[alike.argmax(axis=1)] == labels).mean())


def ridge_probe(features: Matrix | Features, labels: Labels) -> float:
    """Share of the samples to which a linear model of all others gives their class. In [0, 1].

    Ridge regression of the classes (1 or 0 each) on centred features, with one sample left out at
    a time in closed form (Allen's PRESS): a residual divided by one minus the sample's leverage.
    Of a grid of strengths that with the smallest such squared error counts.

    Raises `UndefinedScoreError` where the features of all samples are the same.
    """
    own = np.unique(labels, return_inverse=True)[1]
    wanted = _one_hot(labels)
    left, singular = Features.of(features).centred_svd
    if not len(singular):
        raise UndefinedScoreError("the features of all samples are the same")
    count, squares = len(left), singular**2
    means = wanted.mean(axis=0)
    found = left.T @ (wanted - means)
    best, right = np.inf, 0.0
    for strength in squares[0] * RIDGE_STRENGTHS:
        kept = squares / (squares + strength)
        leverage = 1 / count + left**2 @ kept
        residuals = wanted - means - (left * kept) @ found
        residuals /= np.maximum(1 - leverage, np.finfo(np.float64).eps)[:, None]
        error = float((residuals**2).mean())
        if error < best:
            best, right = error, float(((wanted - residuals).argmax(axis=1) == own).mean())
    return right


# All of them ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TransferScore:
    """A score as it is listed: what it is computed `of`, and what it says, in half a line.

    Its `function` takes that (features also as `Features`) and the classes; where it is not
    `of_classes` alone, numbers too.
    """

    title: str
    function: Callable[[Any, Labels], float]
    of: Literal["features", "source_probabilities"]
    meaning: str
    of_classes: bool = True


def _gbc_diagonal(features: Matrix | Features, labels: Labels) -> float:
    return gbc(features, labels, covariance="diagonal")


TRANSFER_SCORES: Mapping[str, TransferScore] = {
    "logme": TransferScore(
        title="LogME",
        function=logme,
        of="features",
        meaning="log evidence per sample of a Bayesian linear model of the labels",
        of_classes=False,
    ),
    "h_score": TransferScore(
        title="H-score",
        function=h_score,
        of="features",
        meaning="variance between classes, in units of the features' own; at most classes − 1",
    ),
    "transrate": TransferScore(
        title="TransRate",
        function=transrate,
        of="features",
        meaning="nats to code all features, less those to code each class by itself",
    ),
    "gbc": TransferScore(
        title="GBC",
        function=gbc,
        of="features",
        meaning="minus the overlap of classes as round Gaussians; 0 where none overlap",
    ),
    "gbc_diagonal": TransferScore(
        title="diagonal GBC",
        function=_gbc_diagonal,
        of="features",
        meaning="the same with a variance for each dimension",
    ),
    "nleep": TransferScore(
        title="NLEEP",
        function=nleep,
        of="features",
        meaning="LEEP with the components of a Gaussian mixture as source classes; at most 0",
    ),
    "nearest_neighbour": TransferScore(
        title="nearest neighbour",
        function=nearest_neighbour,
        of="features",
        meaning="share of the samples whose nearest other sample is of their class",
    ),
    "ridge_probe": TransferScore(
        title="ridge probe",
        function=ridge_probe,
        of="features",
        meaning="share of the samples to which a linear model of all others gives their class",
    ),
    "leep": TransferScore(
        title="LEEP",
        function=leep,
        of="source_probabilities",
        meaning="log likelihood of the labels given what the weights' own classifier says; "
        "at most 0",
    ),
    "nce": TransferScore(
        title="NCE",
        function=nce,
        of="source_probabilities",
        meaning="minus the entropy of the labels given the source class it names; at most 0",
    ),
}
"""Every score by its name, in the order in which they are shown."""


# Parts ------------------------------------------------------------------------------------------


def _finite(values: Matrix) -> Floats:
    known = np.asarray(values, dtype=np.float64)
    if not np.isfinite(known).all():
        raise UndefinedScoreError("not all features are finite numbers")
    return known


def _members(labels: Labels) -> list[npt.NDArray[np.intp]]:
    """Which samples each class has that occurs."""
    classes, own = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UndefinedScoreError("it needs samples of two classes or more")
    return [np.flatnonzero(own == number) for number in range(len(classes))]


def _one_hot(labels: Labels) -> Floats:
    found = np.zeros((len(labels), len(members := _members(labels))))
    for number, own in enumerate(members):
        found[own, number] = 1.0
    return found


def _svd(features: Floats) -> tuple[Floats, Floats]:
    """Left singular vectors and singular values, without what is 0 but for rounding."""
    from scipy.linalg import svd

    left, singular, _ = svd(features, full_matrices=False, check_finite=False)
    least = (singular[0] if len(singular) else 0.0) * max(features.shape)
    kept = singular > least * np.finfo(np.float64).eps
    return left[:, kept], singular[kept]
