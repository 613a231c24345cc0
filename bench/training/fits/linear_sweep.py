"""Linear probes by SGD at many learning rates and on several parts of the features, in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.keys import derive_seed
from bench.training.fits.base import Candidate, Part, Samples

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
"""For batches of 256; others have proportional ones."""
MOMENTUM, SPREAD, RATE_BATCH = 0.9, 0.01, 256


def linear_sweep(samples: Samples, *, steps: int, batch: int) -> Iterator[Candidate]:
    """All rates × parts as DINOv2's linear evaluation has them; the smallest rates come first.

    SGD with momentum 0.9, no weight decay, a cosine to 0. All heads see the same batches and start
    alike on their columns. It ends early for nothing.
    """
    whole = Part(chosen={}, columns=np.arange(samples.features.shape[1]))
    for part in samples.parts or (whole,):
        weights, biases = _trained(samples, part, steps, batch)
        for rate, weight, bias in zip(RATES, weights, biases, strict=True):
            full = torch.zeros(samples.outputs, samples.features.shape[1])
            full[:, part.columns] = weight
            chosen = {"lr": rate, **part.chosen}
            yield Candidate(chosen=chosen, tensors={"weight": full, "bias": bias})


def _trained(samples: Samples, part: Part, steps: int, batch: int) -> tuple[Tensor, Tensor]:
    """Weights `[rates, outputs, columns]` and biases `[rates, outputs]` after all steps."""
    features = samples.features[:, part.columns].contiguous()
    answers = torch.from_numpy(samples.answers).float()
    counted = samples.weights
    if counted is not None:
        answers = answers * torch.from_numpy(counted).float()[:, None]
    size = min(batch, len(features))
    outputs, columns = samples.outputs, features.shape[1]
    generator = torch.Generator().manual_seed(derive_seed(samples.seed, "start") % 2**63)
    start = SPREAD * torch.randn(outputs, columns, generator=generator)
    weight = start.repeat(len(RATES), 1)  # [rates · outputs, columns]
    bias = torch.zeros(len(RATES), outputs)
    rates = torch.tensor(RATES) * size / RATE_BATCH
    speed, bias_speed = torch.zeros_like(weight), torch.zeros_like(bias)
    order = _order(len(features), size, samples.seed)
    for step in range(steps):
        rows = torch.from_numpy(next(order))
        inputs, wanted = features[rows], answers[rows]
        logits = (inputs @ weight.T).view(size, len(RATES), outputs) + bias
        # Of the mean cross-entropy; a weight counts as so many samples.
        total = wanted.sum(dim=1, keepdim=True)
        slope = (logits.softmax(dim=2) * total[:, None] - wanted[:, None]) / size
        speed.mul_(MOMENTUM).addmm_(slope.view(size, -1).T, inputs)
        bias_speed.mul_(MOMENTUM).add_(slope.sum(dim=0))
        lr = rates * (1 + math.cos(math.pi * step / steps)) / 2
        weight.view(len(RATES), -1).sub_(lr[:, None] * speed.view(len(RATES), -1))
        bias.sub_(lr[:, None] * bias_speed)
    return weight.view(len(RATES), outputs, columns), bias


def _order(
    count: int, size: int, seed: int
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Batches of `size` samples without end: each pass in an order of its own, whole batches."""
    draw = np.random.default_rng(derive_seed(seed, "order"))
    while True:
        order = draw.permutation(count)
        for at in range(0, count - size + 1, size):
            yield order[at : at + size]
