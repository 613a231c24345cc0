"""Alignment: what unlabelled target data adds to what a training on source data minimises.

Features `[n, features]` are what a head gets, logits `[n, classes]` what it gives. None of these
looks at a label of the target data.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

REVERSAL_RATE = 10.0
"""How fast the reversed gradient grows: it counts 0.46 after a tenth of training, 0.99 at half."""
KERNEL_WIDTHS = tuple(2.0**k for k in range(-3, 2))
"""σ² of the Gaussians of `multi_kernel_discrepancy`, times the mean squared distance."""
CONFUSION_TEMPERATURE = 2.5


def reversal_strength(progress: float) -> float:
    """λ of `reversed_gradient` at a share of training: 2 / (1 + e^(−10 · progress)) − 1.

    As Ganin et al. (2016) have it, so that it reaches its end in short trainings, too. In a
    training of 10,000 steps it is the 2 / (1 + e^(−step/1000)) − 1 that others use by steps.
    """
    return math.tanh(REVERSAL_RATE * progress / 2)


def reversed_gradient(features: Tensor, strength: float) -> Tensor:
    """The same numbers, whose gradient is −`strength` times what comes back (Ganin et al., 2016).

    "Domain-Adversarial Training of Neural Networks": what is behind it learns to tell source from
    target, what is in front of it to make them alike.
    """
    if not features.requires_grad:
        return features
    same = features.view_as(features)
    same.register_hook(lambda gradient: -strength * gradient)  # type: ignore[no-untyped-call]
    return same


def domain_loss(source: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """How badly a discriminator tells its logits `[n]` of source (1) from those of target (0).

    Half the mean cross-entropy of each. `weights` `[n]` of the samples, source first, make these
    weighted means: source and target count alike, whatever their weights add up to.
    """
    import torch
    import torch.nn.functional as F

    each = torch.ones_like(torch.cat([source, target])) if weights is None else weights
    ones, zeros = each[: len(source)], each[len(source) :]
    of_source: Tensor = (F.softplus(-source) * ones).sum() / ones.sum()
    of_target: Tensor = (F.softplus(target) * zeros).sum() / zeros.sum()
    return (of_source + of_target) / 2


def conditioned(
    features: Tensor, logits: Tensor, maps: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Features times probabilities `[n, classes · features]` (CDAN: Long et al., 2018).

    "Conditional Adversarial Domain Adaptation". No gradient flows through the probabilities. With
    random `maps` `[features, width]` and `[classes, width]`, products of what these make of both
    `[n, width]`: their inner products are in expectation those of the whole.
    """
    probabilities = logits.detach().softmax(dim=1)
    if maps is None:
        return (probabilities.unsqueeze(2) * features.unsqueeze(1)).flatten(1)
    of_features, of_classes = maps
    products = (features @ of_features) * (probabilities @ of_classes)
    return products / math.sqrt(of_features.shape[1])


def certainty_weights(logits: Tensor) -> Tensor:
    """Weights of samples `[n]` for `domain_loss`, 1 + e^(−entropy); without gradient (CDAN+E)."""
    log_probabilities = logits.detach().log_softmax(dim=1)
    return 1 + (log_probabilities.exp() * log_probabilities).sum(dim=1).exp()


def multi_kernel_discrepancy(source: Tensor, target: Tensor) -> Tensor:
    """MK-MMD² of features, unbiased within source and within target (DAN: Long et al., 2015).

    "Learning Transferable Features with Deep Adaptation Networks": the sum of five Gaussians, whose
    widths follow the mean squared distance of the batch, through which no gradient flows. Each of
    both needs two samples.
    """
    import torch

    both = torch.cat([source, target])
    squares = (both.unsqueeze(0) - both.unsqueeze(1)).square().sum(dim=2)
    widths = squares.detach().mean().clamp(min=torch.finfo(squares.dtype).tiny)
    kernel = torch.stack([torch.exp(-squares / (2 * w * widths)) for w in KERNEL_WIDTHS]).sum(dim=0)
    n, m = len(source), len(target)

    def within(block: Tensor) -> Tensor:
        return (block.sum() - block.diagonal().sum()) / (len(block) * (len(block) - 1))

    return within(kernel[:n, :n]) + within(kernel[n:, n:]) - 2 * kernel[:n, n:].sum() / (n * m)


def class_confusion(logits: Tensor, temperature: float = CONFUSION_TEMPERATURE) -> Tensor:
    """How much predictions for target samples mix classes (MCC: Jin et al., 2020).

    "Minimum Class Confusion for Versatile Domain Adaptation". It looks at target samples alone;
    those that are more certain count more, and no gradient flows through how much.
    """
    probabilities = (logits / temperature).softmax(dim=1)
    certain = probabilities.detach()
    weights = 1 + (certain * (certain + 1e-5).log()).sum(dim=1).exp()
    weights = weights / weights.mean()
    confusion = (probabilities * weights.unsqueeze(1)).T @ probabilities
    confusion = confusion / confusion.sum(dim=1)
    return (confusion.sum() - confusion.trace()) / len(confusion)
