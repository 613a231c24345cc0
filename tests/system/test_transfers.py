"""Copies to a device have the values, wait for nothing, and are made once where they stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.system.transfers import ResidentRows, on_device
from tests.emulated_device import emulated_device

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real device")

CUDA = torch.device("cuda")


def test_a_copy_is_not_waited_for() -> None:
    values = torch.arange(6).view(2, 3).t()
    with emulated_device() as counts:
        there = on_device(values, CUDA)
        assert not counts.syncs
        assert on_device(there, CUDA) is there
        assert there.stride() == values.stride()
        assert torch.equal(there.cpu(), values)


def test_what_is_there_stays_as_it_is() -> None:
    values = torch.ones(2)
    assert on_device(values, torch.device("cpu")) is values


def test_rows_are_made_and_copied_once() -> None:
    table = torch.arange(20).view(10, 2)
    asked: list[list[int]] = []

    def make(numbers: np.ndarray) -> Tensor:
        asked.append(numbers.tolist())
        return table[torch.from_numpy(numbers)]

    with emulated_device() as counts:
        rows = ResidentRows(10, CUDA)
        for numbers in ([3, 1, 3], [1, 4], [4, 3]):
            found = rows.of(np.array(numbers), make)
            assert counts.syncs.total() == 0
            assert torch.equal(found.cpu(), table[numbers])
            counts.syncs.clear()
    assert asked == [[1, 3], [4]]
