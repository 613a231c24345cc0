"""Gradients in a fixed order on a GPU; a network that has none trains all the same, and says so."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from bench.training import one_device
from bench.training.loop import Branch, isolated
from tests.emulated_device import emulated_device
from tests.test_emulated_trials import case

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real device")


def _branch(device: str) -> Branch:
    branch = Branch(training=case(batch_size=4).training(device))
    branch.train_epoch()
    return branch


def test_any_other_order_is_refused_in_a_step_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warns: list[bool] = []
    plain = one_device.loss_and_logits

    def spy(*args: Any, **kwargs: Any) -> Any:
        assert torch.are_deterministic_algorithms_enabled()
        warns.append(torch.is_deterministic_algorithms_warn_only_enabled())
        return plain(*args, **kwargs)

    monkeypatch.setattr(one_device, "loss_and_logits", spy)
    with emulated_device(), isolated(1, "cuda"):
        _branch("cuda")
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert warns == [False] * 4
    with isolated(1):
        _branch("cpu")
    assert warns == [False] * 4 + [True] * 4


@pytest.mark.filterwarnings("ignore:put_ does not have")
def test_a_network_without_one_is_told_of_and_trains_as_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with emulated_device(), isolated(1, "cuda"):
        expected = _branch("cuda")
    plain = one_device.loss_and_logits

    def unordered(*args: Any, **kwargs: Any) -> Any:
        loss, logits = plain(*args, **kwargs)
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))  # refused where order must be fixed
        return loss, logits

    monkeypatch.setattr(one_device, "loss_and_logits", unordered)
    with caplog.at_level(logging.WARNING), emulated_device(), isolated(1, "cuda"):
        found = _branch("cuda")
    assert not found.training.fixed_order
    assert expected.training.fixed_order
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "order of additions" in caplog.text
    assert found.records[0].train == expected.records[0].train
    assert found.records[0].val == expected.records[0].val


def test_other_errors_are_no_matter_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(one_device, "loss_and_logits", fail)
    with (
        emulated_device(),
        isolated(1, "cuda"),
        pytest.raises(RuntimeError, match="out of memory"),
    ):
        _branch("cuda")
