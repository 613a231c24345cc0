"""Simulators of what strategies get right: where the luck lies, and of which shape it is.

Each draws `right[runs, strategies, seeds, samples]` (0 or 1) with known population accuracies, over
all trainings and all images of its kind. In none of them are differences normal, and parts of
variance that the test takes for equal are unequal in some.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.validity.squares import Numbers, Right

Draw = Callable[..., npt.NDArray[np.float32]]


class Model(Protocol):
    """A simulator. `lead` is by how much the first strategy is ahead of the others, all equal.

    `accuracy` lies half-way between.
    """

    @property
    def accuracy(self) -> float: ...

    def draw(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int, int],
        *,
        lead: float = 0.0,
    ) -> Right:
        """`right` of the given shape: runs, strategies, seeds, samples."""


@dataclass(frozen=True, kw_only=True)
class Probit:
    """A training is right on an image where a sum of parts is above 0.

    The parts are standard deviations beside a noise of 1 for each training and image: of images
    (`image`), of what a strategy (`strategy_image`) or a seed (`seed_image`) makes of an image, of
    trainings (`luck`) and of seeds (`seed`). Of the noise the share `stuck` stays the same for all
    seeds of a strategy. The luck of strategy k is `luck × scales(k)`, and one in
    `1 / collapse` trainings loses `COLLAPSE` on all images.
    """

    accuracy: float = 0.9
    image: float = 1.5
    strategy_image: float = 0.5
    seed_image: float = 0.25
    luck: float = 0.06
    seed: float = 0.06
    scales: Callable[[int], Numbers] = np.ones
    heavy: bool = False
    collapse: float = 0.0
    noise: float = 1.0

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int, int, int], *, lead: float = 0.0
    ) -> Right:
        accuracies = np.full(shape[1], self.accuracy - lead / 2)
        accuracies[0] += lead
        return self.drawn(rng, shape, accuracies)

    def drawn(
        self, rng: np.random.Generator, shape: tuple[int, int, int, int], accuracies: Numbers
    ) -> Right:
        """`right` with a population accuracy for each strategy."""
        runs, strategies, seeds, samples = shape
        parts = _student if self.heavy else _normal
        scales = self.scales(strategies)
        middles = _middles(self, tuple(accuracies.tolist()), tuple(scales.tolist()))
        middle = np.array(middles, dtype=np.float32)[:, None, None]
        of_images = self.image * parts(rng, (runs, 1, 1, samples))
        of_images = of_images + self.strategy_image * parts(rng, (runs, strategies, 1, samples))
        of_images += middle
        luck = (self.luck * scales).astype(np.float32)[:, None, None]
        of_trainings = luck * parts(rng, (runs, strategies, seeds, 1))
        of_trainings += self.seed * _normal(rng, (runs, 1, seeds, 1))
        if self.collapse:
            of_trainings -= COLLAPSE * (rng.random(of_trainings.shape) < self.collapse)
        if not self.noise:
            return np.asarray(of_images + of_trainings > 0, dtype=np.float32)
        sums = _normal(rng, shape)
        sums *= self.noise
        if self.seed_image:
            sums += self.seed_image * _normal(rng, (runs, 1, seeds, samples))
        sums += of_images
        sums += of_trainings
        return (sums > 0).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Images of all degrees of difficulty, most of them near 0 or 1, and trainings that spoil some.

    The chance of an image is drawn from a beta distribution, and with probability `own` a strategy
    draws it anew. A training then spoils a share of all images, exponentially distributed with mean
    `spoilt`; a strategy that is ahead mends as many of its wrong ones as needed.
    """

    accuracy: float = 0.9
    concentration: float = 0.7
    own: float = 0.3
    spoilt: float = 0.01

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int, int, int], *, lead: float = 0.0
    ) -> Right:
        runs, strategies, seeds, samples = shape
        whole = (self.accuracy - lead / 2) / (1 - self.spoilt)
        sides = self.concentration * whole, self.concentration * (1 - whole)
        shared = rng.beta(*sides, size=(runs, 1, 1, samples))
        own = rng.random((runs, strategies, 1, samples)) < self.own
        chances = np.where(own, rng.beta(*sides, size=own.shape), shared)
        chances[:, 0] += (1 - chances[:, 0]) * lead / (1 - self.spoilt) / (1 - whole)
        kept = 1 - np.minimum(rng.exponential(self.spoilt, (runs, strategies, seeds, 1)), 1)
        drawn = rng.random(shape, dtype=np.float32)
        return (drawn < (chances * kept).astype(np.float32)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Strategies on several backbones, with the same images and seeds, averaged over backbones.

    On each backbone a strategy is better or worse than on the others by up to `apart`, which
    averages out; `lead` is that of the mean.
    """

    backbones: int = 3
    apart: float = 0.03
    inner: Probit

    @property
    def accuracy(self) -> float:
        return self.inner.accuracy

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int, int, int], *, lead: float = 0.0
    ) -> Right:
        runs, strategies, seeds, samples = shape
        place = np.add.outer(np.arange(strategies), np.arange(self.backbones)) % self.backbones
        accuracies = self.accuracy - lead / 2
        accuracies = accuracies + self.apart * (2 * place / (self.backbones - 1) - 1)
        accuracies[0] += lead
        every = (runs, strategies * self.backbones, seeds, samples)
        right = self.inner.drawn(rng, every, accuracies.ravel())
        parts = right.reshape(runs, strategies, self.backbones, seeds, samples)
        return np.asarray(parts.mean(axis=2, dtype=np.float32))


def one_wild(strategies: int) -> Numbers:
    """The last strategy has six times the luck of the others."""
    return np.where(np.arange(strategies) == strategies - 1, 6.0, 1.0)


def rising(strategies: int) -> Numbers:
    """The luck rises from nothing."""
    return np.linspace(0, 3, strategies)


COLLAPSE = 1.5
MANY = (2_000_000,)

STORED = Probit(image=4.7, strategy_image=1.2, seed_image=0.6, luck=0.14, seed=0.14)
"""Near what `calibrate` finds in stored runs of fine-tuned networks: luck of half a point."""

AGREEING = Probit(image=2.5, strategy_image=0.8, seed_image=0.4, luck=0.085, seed=0.085)
"""Two models of accuracy 0.9 differ on 8 % of all images: between the others and `STORED`."""

MODELS: dict[str, Model] = {
    "probit-60": Probit(accuracy=0.6),
    "probit-75": Probit(accuracy=0.75),
    "probit-90": Probit(),
    "probit-98.5": Probit(accuracy=0.985),
    "agreeing-90": AGREEING,
    "lucky": Probit(luck=0.25),
    "stored-90": STORED,
    "stored-98.5": replace(STORED, accuracy=0.985),
    "alike": replace(STORED, accuracy=0.97, image=6.0, strategy_image=0.2, luck=0.05, seed=0.05),
    "heavy": Probit(heavy=True, luck=0.15),
    "collapse": Probit(collapse=0.1),
    "one-wild": Probit(scales=one_wild),
    "rising": Probit(scales=rising, luck=0.15),
    "no-luck": Probit(luck=0, seed=0, seed_image=0, noise=0, strategy_image=0.9),
    "mixture": Mixture(),
}


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)


def _student(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Student's t with 3 degrees of freedom, scaled to variance 1."""
    return (rng.standard_t(3, shape) / np.sqrt(3)).astype(np.float32)


@lru_cache(maxsize=64)
def _middles(
    model: Probit, accuracies: tuple[float, ...], scales: tuple[float, ...]
) -> tuple[float, ...]:
    """Where the sums of each strategy must lie for its population accuracy."""
    from scipy.stats import norm

    fixed = model.seed**2 + model.noise**2 + (model.seed_image**2 if model.noise else 0)
    of_images = model.image**2 + model.strategy_image**2
    wanted = np.array(accuracies)
    if model.heavy:
        # There is no formula for sums of t: quantiles of many draws, the same in every call.
        rng = np.random.default_rng(0)
        draws = np.sqrt(fixed) * _normal(rng, MANY)
        for part in (model.image, model.strategy_image, model.luck):
            draws = draws + part * _student(rng, MANY)
        return tuple((-np.quantile(draws, 1 - wanted)).tolist())
    spreads = np.sqrt(fixed + of_images + (model.luck * np.array(scales)) ** 2)
    if not model.collapse:
        return tuple((norm.ppf(wanted) * spreads).tolist())
    places = np.linspace(-9, 9, 100_001) * spreads[:, None]
    whole, lost = (norm.cdf((places - low) / spreads[:, None]) for low in (0, COLLAPSE))
    chances = (1 - model.collapse) * whole + model.collapse * lost
    return tuple(
        float(np.interp(accuracy, chance, place))
        for accuracy, chance, place in zip(accuracies, chances, places, strict=True)
    )
