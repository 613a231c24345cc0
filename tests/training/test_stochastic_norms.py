"""Batch norms that draw how each channel is normalised, against batch norm and torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.models import Network
from bench.models.network import layer_group
from bench.training.loop import Branch, isolated
from bench.training.stochastic_norms import stochastic_norms
from tests.tiny import make_trial, tiny_training

KEY = (0, "dropout", 0, 0)


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 2)


def _network() -> Network:
    torch.manual_seed(0)
    model = _Small().double()
    nn.init.normal_(model.norm.weight)
    model.norm.running_mean.normal_()  # type: ignore[union-attr]
    mean = layer_group("norm", "norm", lambda _, maps: maps.mean(dim=(2, 3)))
    return Network(model, (mean, layer_group("head", "fc")), image_size=4)


IMAGES = torch.randn(5, 6, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _passed(probability: float | None) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """What the norm gives, gradients and buffers of a step."""
    network, images = _network(), IMAGES.clone().requires_grad_()
    norm = network.model.get_submodule("norm")
    with stochastic_norms(network, probability, KEY):
        output: Tensor = norm(images)
    output.sin().sum().backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in norm.named_parameters() if p.grad is not None}
    assert images.grad is not None
    return output.detach(), {**gradients, "images": images.grad}, dict(norm.named_buffers())


def _fixed() -> tuple[Tensor, dict[str, Tensor]]:
    """Frozen statistics, which torch's evaluation mode normalises by."""
    norm, images = _network().model.get_submodule("norm").eval(), IMAGES.clone().requires_grad_()
    output: Tensor = norm(images)
    output.sin().sum().backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in norm.named_parameters() if p.grad is not None}
    assert images.grad is not None
    return output.detach(), {**gradients, "images": images.grad}


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in second)


def test_with_probability_1_it_is_batch_norm_and_with_0_its_statistics_are_fixed() -> None:
    output, gradients, buffers = _passed(None)
    always = _passed(1.0)
    assert torch.equal(always[0], output)
    assert _equal(always[1], gradients)
    assert _equal(always[2], buffers)
    never, fixed = _passed(0.0), _fixed()
    assert torch.equal(never[0], fixed[0])
    assert _equal(never[1], fixed[1])
    assert _equal(never[2], buffers)  # they move as ever


def test_channels_are_drawn_by_the_key_and_each_is_whole() -> None:
    by_batch, fixed = _passed(1.0)[0], _passed(0.0)[0]
    mixed = _passed(0.5)[0]
    assert torch.equal(mixed, _passed(0.5)[0])
    like_batch = [torch.equal(mixed[:, c], by_batch[:, c]) for c in range(6)]
    like_fixed = [torch.equal(mixed[:, c], fixed[:, c]) for c in range(6)]
    assert [not each for each in like_batch] == like_fixed
    assert 0 < sum(like_batch) < 6
    network, share = _network(), []
    for step in range(100):
        with stochastic_norms(network, 0.3, (0, "dropout", 0, step)):
            drawn = network.model.get_submodule("norm")(IMAGES)
        batch = F.batch_norm(IMAGES, None, None, training=True) * network.model.norm.weight.view(  # type: ignore[union-attr]
            1, -1, 1, 1
        )
        share += [torch.allclose(drawn[:, c], batch[:, c]) for c in range(6)]
    assert np.mean(share) == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 600))


def test_gradients_are_right() -> None:
    def output(images: Tensor) -> Tensor:
        network = _network()  # whose statistics have not moved
        with stochastic_norms(network, 0.5, KEY):
            found: Tensor = network.model.get_submodule("norm")(images)
        return found

    assert torch.autograd.gradcheck(output, (IMAGES[:2, :, :2, :2].clone().requires_grad_(),))


@pytest.mark.campaign
def test_a_training_with_probability_1_has_the_bits_of_one_without() -> None:
    ends = []
    for probability in (None, 1.0, 0.5):
        options = {"stoch_norm": probability}
        settings = {
            "backbone": "shufflenet_v2_x0_5",
            "lr": 0.001,
            "batch_size": 16,
            "augmentation": "none",
        }
        branch = Branch(
            training=tiny_training(make_trial("full_finetune", options=options, **settings))
        )
        with isolated(1):
            branch.train_epoch()
        ends.append(branch.training.network.model.state_dict())
    plain, always, half = ends
    assert plain.keys() == always.keys() == half.keys()
    assert _equal(plain, always)
    assert not _equal(plain, half)
