"""Training in fp16: losses are scaled, as a written-out definition says; where it is refused."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bench.errors import BenchError
from bench.methods.objectives import recorded_loss
from bench.system import machine
from bench.system.machine import half_precision
from bench.training.loop import Branch, isolated, train_step
from bench.training.precision import resolve_precision
from bench.training.state import StateStore
from bench.training.trial import EpochInputs, Step, Training, apply_stage, batch_order
from tests.emulated_device import emulated_device
from tests.tiny import make_trial, tiny_training

INTERVAL = 2
"""Steps without an overflow after which the scale is doubled."""


def _training(scale: float) -> Training:
    settings = {"backbone": "shufflenet_v2_x0_5", "batch_size": 4, "grad_clip_norm": 1.0}
    training = replace(tiny_training(make_trial(**settings)), precision="fp16")
    training.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=INTERVAL)
    apply_stage(training.network, training.plan.stages[0])
    return training


def test_steps_are_those_of_the_definition() -> None:
    """Micikevicius et al., "Mixed Precision Training", 2018, with a scale that adapts."""
    scale = 2.0**30  # too large at first
    training = _training(scale)
    network = deepcopy(training.network)
    apply_stage(network, training.plan.stages[0])
    parameters = list(network.parameters())
    momenta: list[Tensor | None] = [None] * len(parameters)
    lr, momentum = training.settings.lr, training.settings.momentum
    decay = training.settings.weight_decay
    inputs = EpochInputs(
        training, None, training.views, 0, among=training.splits.train, pristine=False
    )
    scales, good = [], 0
    with isolated(1):
        for number, samples in enumerate(batch_order(training, 0) * 4):
            train_step(training, Step(inputs=inputs, samples=samples, number=number))
            with torch.autocast("cpu", torch.float16):
                features = network(inputs.of(samples), stop="head")
            logits = network(features.float(), start="head")
            loss = recorded_loss(logits, torch.from_numpy(training.data.labels[samples]))
            gradients = [g / scale for g in torch.autograd.grad(loss * scale, parameters)]
            norm = torch.stack([g.norm() for g in gradients]).norm()
            if norm.isfinite():
                good += 1
                for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                    own = gradient * (1 / (norm + 1e-6)).clamp(max=1)
                    own = own + decay * parameter.detach()
                    before = momenta[i]
                    momenta[i] = own if before is None else momentum * before + own
                    parameter.data -= lr * momenta[i]
            scale, good = _next(scale, good, finite=bool(norm.isfinite()))
            scales.append(scale)
            assert training.scaler is not None
            assert training.scaler.get_scale() == scale
    assert max(scales) > min(scales), "it never grew"
    assert scales[0] < 2.0**30, "it never overflowed"
    for mine, expected in zip(training.network.parameters(), parameters, strict=True):
        assert torch.allclose(mine, expected, rtol=1e-3, atol=1e-4)


def _next(scale: float, good: int, *, finite: bool) -> tuple[float, int]:
    """Half of the scale after an overflow, twice after enough steps without one."""
    if not finite:
        return scale / 2, 0
    return (scale * 2, 0) if good == INTERVAL else (scale, good)


def test_the_scale_is_kept_with_the_state() -> None:
    training = _training(2.0**12)
    with isolated(1):
        branch = Branch(training=training)
        branch.train_epoch()
        store = StateStore(None)
        store.save("key", branch.state())
        state = store.load("key")
        assert state is not None
        again = Branch(training=_training(1.0))
        again.restore(state)
        assert training.scaler is not None
        assert again.training.scaler is not None
        assert again.training.scaler.state_dict() == training.scaler.state_dict()
        assert again.train_epoch().train == branch.train_epoch().train


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_it_needs_a_cuda_device(device: str) -> None:
    with pytest.raises(BenchError, match="precision: fp16 needs a CUDA device"):
        resolve_precision(make_trial(precision="fp16"), 32, device)


def test_cards_without_bf16_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_native_bf16", lambda device: False)
    assert half_precision("cpu") is None
    with emulated_device():
        for capability, expected in (((7, 5), "fp16"), ((6, 1), None)):
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
            assert half_precision("cuda") == expected
