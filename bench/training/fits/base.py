"""What a fit is given, and what it gives: heads, of which validation chooses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import issparse
from torch import Tensor

from bench.errors import MissingExtraError
from bench.methods.target_tasks import TargetTask
from bench.models.fitted_head import AS_IT_IS, LOG, LOGIT

Floats = npt.NDArray[np.float64]

STANDARD_FLOOR = 1e-5
"""What is added to a standard deviation before something is divided by it."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some columns of the features, and what validation chooses with them."""

    chosen: Mapping[str, float]
    columns: npt.NDArray[np.int64]


class TextTower(Protocol):
    """A text tower that stays as it is; products of embeddings times `scale` are logits."""

    @property
    def scale(self) -> float: ...

    @property
    def width(self) -> int:
        """Channels of a token."""

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids `[n, context]`."""

    def embeddings(self, ids: Tensor) -> Tensor:
        """One vector of length 1 a text, `[n, features]`."""

    def with_context(self, context: Tensor) -> AbstractContextManager[None]:
        """Vectors `[n, width]` in the place of the tokens behind the first one of each text."""


class ClassTexts(Protocol):
    """What the classes of a data set are in the eyes of a network that knows texts."""

    @property
    def classes(self) -> Sequence[str]: ...

    def directions(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Of the texts of each class `[classes, features]`: products with features of length 1 are
        logits."""

    def tower(self) -> TextTower:
        """The text tower, where it is one of images and texts."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The training split as the head sees it, on the CPU.

    `features` `[n, features]` in single precision, or sparse rows of n-grams, which fits that
    `READ_NGRAMS` take; `targets` are classes `[n]`, or `[n, outputs]`:
    standardised numbers, or labels (1 and 0). `weights` `[n]` are what each sample counts, 1 in the
    mean; None where all count alike. What is drawn depends on `seed`. `parts` are the columns of
    features that may be used without the others, and what they are; none where all are of one kind.
    `texts` say what classes are, where the network knows texts.
    """

    features: Any
    targets: npt.NDArray[Any]
    outputs: int
    task: TargetTask
    weights: Floats | None = None
    seed: int = 0
    parts: tuple[Part, ...] = ()
    texts: ClassTexts | None = None

    @property
    def doubles(self) -> Any:
        """The features in double precision."""
        return self.features if issparse(self.features) else self.features.double().numpy()

    @property
    def answers(self) -> Floats:
        """`[n, outputs]`: 1 for the class that a sample has and 0 for others, or its targets."""
        if self.task.has_classes:
            return np.asarray(np.eye(self.outputs)[self.targets])
        return self.targets.astype(np.float64)

    @property
    def link(self) -> int:
        """What a head makes of a mean of answers."""
        if self.task.has_classes:
            return LOG
        return AS_IT_IS if self.task.name == "regression" else LOGIT


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A head: `chosen` says what was used that validation may choose, `tensors` are its own."""

    chosen: Mapping[str, float]
    tensors: Mapping[str, Tensor]


Fit = Callable[..., Iterator[Candidate]]
"""From samples and options to candidates, from the most to the least regularised."""


def linear(weight: Floats, bias: Floats) -> dict[str, Tensor]:
    """The tensors of a linear head, from `[outputs, features]` and `[outputs]`."""
    return {"weight": single(weight), "bias": single(bias)}


def of_two(weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """Rows for two classes where there is one for their difference; others stay as they are."""
    if len(weight) > 1:
        return weight, bias
    half = np.array([[-0.5], [0.5]])
    return half * weight, half[:, 0] * bias


def spanned(features: Any) -> tuple[Any, Floats | None]:
    """Coordinates in the space that the samples span, and the way back, where they are few.

    A penalty on squares does not see the rotation: weights times the way back are the same. Sparse
    rows stay as they are.
    """
    if issparse(features) or features.shape[0] >= features.shape[1]:
        return features, None
    left, sizes, back = np.linalg.svd(features, full_matrices=False)
    return left * sizes, back


def single(values: npt.NDArray[Any]) -> Tensor:
    """In the precision in which heads compute."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def whole(values: npt.NDArray[Any] | int) -> Tensor:
    """Indices, or a number that is one."""
    return torch.from_numpy(np.asarray(values, dtype=np.int64))


def standard(features: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each feature, the latter with `STANDARD_FLOOR` added."""
    mean = np.average(features, axis=0, weights=weights)
    variance = np.average((features - mean) ** 2, axis=0, weights=weights)
    return mean, np.sqrt(variance) + STANDARD_FLOOR


def path(given: float | None, values: Sequence[float]) -> Sequence[float]:
    """The values to choose from: one that is given leaves no choice."""
    return values if given is None else (given,)


@contextmanager
def scikit_learn(needed_for: str) -> Iterator[None]:
    """Run what is scikit-learn's, which is told as `needed_for` where it is missing.

    It warns of paths that end before they have converged, which strong values always do.
    """
    check_installed(needed_for)
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def check_installed(needed_for: str) -> None:
    """Raise `MissingExtraError` where scikit-learn is not installed."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise MissingExtraError(needed_for=needed_for, package="scikit-learn", extra="probes")
