"""Alignment with unlabelled target data: gold values and limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.methods.alignment import class_confusion, multi_kernel_discrepancy

CLASSES = np.arange(12) % 3
FEATURES = torch.from_numpy(
    np.sin(0.37 * np.arange(1, 49) ** 2).reshape(12, 4) + np.eye(3, 4)[CLASSES]
)
SOURCE, TARGET = FEATURES[:6], FEATURES[6:]


def test_discrepancy_has_its_gold_value_and_is_symmetric() -> None:
    value = multi_kernel_discrepancy(SOURCE, TARGET).item()
    assert value == pytest.approx(0.4016701, abs=5e-8)
    assert multi_kernel_discrepancy(TARGET, SOURCE).item() == pytest.approx(value, rel=1e-12)


def test_discrepancy_of_samples_that_are_all_alike_is_0() -> None:
    alike = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    value = multi_kernel_discrepancy(alike, alike.detach())
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert bool(torch.autograd.grad(value, alike)[0].isfinite().all())


def test_confusion_has_its_gold_value() -> None:
    assert class_confusion(FEATURES[:, :3]).item() == pytest.approx(0.6393201, abs=5e-8)


def test_certain_predictions_confuse_nothing() -> None:
    assert class_confusion(1000 * torch.eye(3, dtype=torch.float64)).item() == pytest.approx(0)
