"""Alignment: what unlabelled target data adds to what a training on source data minimises.

Features `[n, features]` are what a head gets, logits `[n, classes]` what it gives. None of these
looks at a label of the target data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

KERNEL_WIDTHS = tuple(2.0**k for k in range(-3, 2))
"""σ² of the Gaussians of `multi_kernel_discrepancy`, times the mean squared distance."""
CONFUSION_TEMPERATURE = 2.5


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
