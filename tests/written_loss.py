"""The loss as the documents define it, sample by sample and class by class."""

from __future__ import annotations

import torch
from torch import Tensor


def written_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    gamma: float = 0.0,
) -> Tensor:
    """The mean over a batch with class weights, label smoothing and a focus; keeps gradients."""
    count, classes = logits.shape
    log_p = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    weighted = total = spread = torch.zeros((), dtype=logits.dtype)
    for sample in range(count):
        for label in range(classes):
            share = float(targets[sample] == label) if targets.ndim == 1 else targets[sample, label]
            weight = 1.0 if weights is None else weights[label]
            focus = (1 - log_p[sample, label].exp()) ** gamma
            weighted = weighted - share * weight * focus * log_p[sample, label]
            total = total + share * weight
            spread = spread - log_p[sample, label] / (count * classes)
    return (1 - smoothing) * weighted / total + smoothing * spread
