"""Networks for images of other channels than red, green and blue."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.errors import BenchError
from bench.methods.plan import HEAD
from bench.models import check_channels, file_weights
from bench.models.first_layer import adapted
from bench.models.fused import FusedGroups, fuses
from tests.models.small import SMALL, small_network


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
def test_as_timm_does_it(channels: int) -> None:
    manipulate = pytest.importorskip("timm.models._manipulate")
    weight = torch.randn(8, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    expected = manipulate.adapt_input_conv(channels, weight.clone())
    assert torch.equal(adapted(weight, channels), expected)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_equal_channels_leave_the_output_as_it_was(channels: int) -> None:
    weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    grey = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    before = torch.nn.functional.conv2d(grey.expand(2, 3, 9, 9), weight)
    after = torch.nn.functional.conv2d(grey.expand(2, channels, 9, 9), adapted(weight, channels))
    assert torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("backbone", SMALL)
def test_every_family_takes_other_channels(backbone: str) -> None:
    if backbone == "efficientnet_lite0":
        pytest.importorskip("timm")
    check_channels(backbone, 5)


def weights_of(network: Any, tmp_path: Any) -> Any:
    path = tmp_path / "weights.pth"
    torch.save(network.model.state_dict(), path)
    return file_weights(
        path, name="own", fingerprint="own", input_size=32, mean=(0.5,) * 3, std=(0.5,) * 3
    )


def test_weights_are_adapted_and_the_rest_stays(tmp_path: Any) -> None:
    plain = small_network("resnet18", seed=1)
    weights = weights_of(plain, tmp_path)
    four = small_network("resnet18", weights=weights, channels=4)
    expected = adapted(plain.model.conv1.weight.detach(), 4)
    assert torch.equal(four.model.conv1.weight.detach(), expected)
    others = (n for n, _ in plain.model.named_parameters() if n != "conv1.weight" and "fc" not in n)
    for name in others:
        assert torch.equal(four.model.get_parameter(name), plain.model.get_parameter(name))
    same = small_network("resnet18", weights=weights, channels=3)
    assert torch.equal(same.model.conv1.weight, plain.model.conv1.weight)


def test_without_weights_it_is_drawn_with_the_seed() -> None:
    one, again, other = (small_network("resnet18", seed=s, channels=6) for s in (1, 1, 2))
    weight = one.model.conv1.weight.detach()
    assert weight.shape == (64, 6, 7, 7)
    assert torch.equal(weight, again.model.conv1.weight)
    assert not torch.equal(weight, other.model.conv1.weight)
    plain = small_network("resnet18", seed=1).model.conv1.weight.detach()
    ratio = float(weight.std() / plain.std())
    assert ratio == pytest.approx(0.5**0.5, rel=0.05)


def test_frozen_groups_of_other_channels_are_fused() -> None:
    if not fuses(torch.device("cpu"), "fp32"):
        pytest.skip("this processor fuses nothing")
    network = small_network("mobilenet_v2", channels=5).eval()
    batch = torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(batch, stop=HEAD)
        found = FusedGroups(network, HEAD, torch.float32)(batch)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_network_without_such_a_layer_is_refused() -> None:
    from bench.models.first_layer import adapt_first_layer

    network = small_network("resnet18", channels=1)
    with pytest.raises(BenchError, match="images of 4 channels need a backbone"):
        adapt_first_layer(network.model, network.groups, 4, drawn=None)
