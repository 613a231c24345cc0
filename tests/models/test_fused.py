"""Fused frozen groups: what the library's layers compute, within rounding, from a copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.methods.plan import HEAD
from bench.models import Network
from bench.models.evaluation import FROZEN_BATCH, Trunk, autocast
from bench.models.fused import FusedGroups, _Reader, fuses
from bench.models.network import layer_group
from tests.models.small import SMALL, random_images, small_network

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(not fuses(CPU, "fp32"), reason="this processor does not fuse")
needs_bf16 = pytest.mark.skipif(not fuses(CPU, "bf16"), reason="this processor has no bfloat16")

USUAL = ("resnet18", "mobilenet_v2", "efficientnet_lite0", "timm/vit_tiny_patch16_224")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def lively(model: nn.Module) -> None:
    """Give norms and vectors values that training could have given them."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def lively_network(backbone: str, size: int) -> Network:
    network = small_network(backbone, image_size=size).eval()
    lively(network.model)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def images(size: int, count: int = 2) -> Tensor:
    return random_images(size, count=count).contiguous(memory_format=torch.channels_last)


def distance(found: Tensor, wanted: Tensor) -> float:
    """Of all values together, relative."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def kinds(fused: FusedGroups) -> set[type]:
    """The layers that are called and not fused."""
    assert fused._fused is not None
    return {
        type(module)
        for name, module in fused._fused.named_modules()
        if name and not name.startswith("fused") and not list(module.children())
    }


# Whole networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", USUAL)
def test_in_fp32_it_differs_by_rounding(backbone: str) -> None:
    network = lively_network(backbone, 32)
    fused = FusedGroups(network, HEAD, torch.float32)
    batch = images(32)
    found, usual = fused(batch), network(batch, stop=HEAD)
    exact = network.double()(batch.double(), stop=HEAD)
    assert found.dtype == torch.float32
    assert found.shape == usual.shape
    assert distance(found, exact) < 2 * distance(usual, exact) + 1e-7
    assert distance(found, usual) < 4e-6
    assert not kinds(fused) & {nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GELU}


@needs_bf16
@pytest.mark.parametrize("backbone", USUAL)
def test_in_bf16_it_is_as_exact_as_autocast(backbone: str) -> None:
    network = lively_network(backbone, 32)
    batch = images(32)
    exact = network(batch, stop=HEAD)
    with autocast(CPU, "bf16"):
        usual = network(batch, stop=HEAD)
        found = FusedGroups(network, HEAD, torch.bfloat16)(batch)
    assert found.dtype == usual.dtype
    assert distance(found, exact) < 1.2 * distance(usual, exact)


@pytest.mark.campaign
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("backbone", SMALL)
def test_every_family(backbone: str, precision: str) -> None:
    if not fuses(CPU, precision):
        pytest.skip(f"this processor does not fuse in {precision}")
    network = lively_network(backbone, SMALL[backbone])
    batch = images(SMALL[backbone])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    exact = network(batch, stop=HEAD)
    with autocast(CPU, precision):
        usual = network(batch, stop=HEAD)
        found = FusedGroups(network, HEAD, dtype)(batch)
    assert distance(found, exact) < 1.6 * distance(usual, exact) + 4e-6


@pytest.mark.parametrize("boundary", ["layer2", "layer4"])
def test_a_part_of_the_groups(boundary: str) -> None:
    network = lively_network("resnet18", 32)
    batch = images(32)
    found = FusedGroups(network, boundary, torch.float32)(batch)
    torch.testing.assert_close(found, network(batch, stop=boundary), rtol=1e-4, atol=1e-5)


def test_the_network_stays_as_it_is() -> None:
    network = lively_network("mobilenet_v2", 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modules = list(network.modules())
    outside = network(images(32))
    FusedGroups(network, HEAD, torch.float32)(images(32))
    after = network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [id(module) for module in modules] == [id(module) for module in network.modules()]
    assert torch.equal(network(images(32)), outside)


# Layers -------------------------------------------------------------------------------------------


def network_of(*layers: nn.Module) -> Network:
    """One group that runs `layers`, and a head."""
    model = nn.Sequential()
    model.body = nn.Sequential(*layers)
    model.fc = nn.Linear(4, 2)
    lively(model)
    groups = (layer_group("body", "body"), layer_group(HEAD, "fc"))
    return Network(model.eval(), groups, image_size=9).eval()


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of this file are read like those of known packages."""
    monkeypatch.setattr("bench.models.fused._READABLE", ("bench", "torch", "tests", "timm"))


def both(network: Network, batch: Tensor) -> tuple[Tensor, Tensor]:
    """What the fused group gives at its second call, and what the group gives."""
    fused = FusedGroups(network, HEAD, torch.float32)
    first = fused(batch.clone())
    second = fused(batch.clone())
    assert torch.equal(first, second)
    return second, network(batch.clone(), stop=HEAD)


def convolution(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, padding=1, **options)


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        nn.SiLU(inplace=True),
        nn.Hardswish(),
        nn.GELU(),
        nn.GELU(approximate="tanh"),
    ],
    ids=repr,
)
def test_activations(activation: nn.Module) -> None:
    network = network_of(convolution(bias=False), nn.BatchNorm2d(3), activation, nn.Linear(9, 4))
    fused = FusedGroups(network, HEAD, torch.float32)
    batch = 4 * images(9)
    torch.testing.assert_close(fused(batch), network(batch, stop=HEAD), rtol=1e-4, atol=1e-5)
    assert kinds(fused) == set()


@pytest.mark.parametrize(
    "layers",
    {
        "norm without weights": [convolution(), nn.BatchNorm2d(3, affine=False), nn.ReLU()],
        "dilation": [convolution(dilation=2, stride=2), nn.BatchNorm2d(3)],
        "groups": [nn.Conv2d(3, 6, (1, 3), groups=3), nn.BatchNorm2d(6), nn.Dropout(0.5)],
        "other activation": [convolution(), nn.Tanh(), nn.LeakyReLU()],
        "norm in front": [nn.BatchNorm2d(3), nn.ReLU(inplace=True), convolution()],
        "padding by name": [nn.Conv2d(3, 3, 3, padding="same")],
        "padding with what is there": [convolution(padding_mode="reflect"), nn.ReLU()],
    }.items(),
    ids=lambda item: item[0],
)
def test_kinds_of_convolutions(layers: tuple[str, list[nn.Module]]) -> None:
    found, wanted = both(network_of(*layers[1]), images(9))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_padding_as_tensorflow_does(kernel: int, stride: int, size: int) -> None:
    layers = pytest.importorskip("timm.layers")
    padded = layers.Conv2dSame(3, 3, (kernel, 3), stride=stride, groups=3)
    network = network_of(padded, nn.ReLU())
    found, wanted = both(network, images(size))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


class Residual(nn.Module):
    """A convolution, and what `joined` makes of (its input, its output)."""

    def __init__(self, joined: Callable[[Tensor, Tensor], Tensor], groups: int = 1) -> None:
        super().__init__()
        self.convolution = convolution(groups=groups)
        self.joined = joined

    def forward(self, activations: Tensor) -> Tensor:
        return self.joined(activations, self.convolution(activations))


def _in_place(x: Tensor, y: Tensor) -> Tensor:
    y += x
    return y.relu()


def _input_in_place(x: Tensor, y: Tensor) -> Tensor:
    before = x * 1
    x += y
    return before + x


def _changed_before(x: Tensor, y: Tensor) -> Tensor:
    x = F.relu(x, inplace=True)
    return y + x


JOINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda x, y: x + y,
    "the other way, with ReLU": lambda x, y: F.relu(y + x),
    "another activation": lambda x, y: F.silu(y + x),
    "in place": _in_place,
    "the input in place": _input_in_place,
    "the input changes first": _changed_before,
    "twice itself": lambda x, y: y + y,
    "also used elsewhere": lambda x, y: (y + x) * y,
    "of another shape": lambda x, y: F.relu(x.mean((2, 3), keepdim=True) + y),
    "with a number": lambda x, y: y + 1,
    "with a factor": lambda x, y: torch.add(y, x, alpha=2),
    "wider": lambda x, y: y + x.double(),
}


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("joined", JOINED)
def test_residuals(joined: str) -> None:
    found, wanted = both(network_of(Residual(JOINED[joined])), images(9))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@needs_bf16
@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_residuals_of_both_formats_in_bf16(dtype: torch.dtype, groups: int) -> None:
    network = network_of(Residual(lambda x, y: F.relu(y + x.to(dtype)), groups))
    with autocast(CPU, "bf16"):
        found = FusedGroups(network, HEAD, torch.bfloat16)(images(9))
        wanted = network(images(9), stop=HEAD)
    assert found.dtype == wanted.dtype == dtype
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)


# What is not fused --------------------------------------------------------------------------------


class Doubling(nn.Module):
    """Looks at values, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = convolution()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, activations: Tensor) -> Tensor:
        activations = self.norm(self.convolution(activations))
        return activations if activations.sum() > 0 else 2 * activations


def _shrunk(model: nn.Module, activations: Tensor) -> Tensor:
    return activations / (1 if len(activations) == 3 else 2)


def test_code_from_outside_is_called_as_it_is() -> None:
    model = nn.Sequential()
    model.outside = Doubling()
    model.fc = nn.Linear(9, 2)
    lively(model)
    groups = (layer_group("body", "outside", _shrunk), layer_group(HEAD, "fc"))
    network = Network(model, groups, image_size=9).eval()
    for sign in (1, -1):
        found, wanted = both(network, sign * images(9))
        assert torch.equal(found, wanted)


@pytest.mark.usefixtures("readable")
def test_parts_that_cannot_be_read_are_called_between_fused_ones() -> None:
    network = network_of(convolution(), nn.ReLU(), Doubling(), nn.Linear(9, 4), nn.GELU())
    fused = FusedGroups(network, HEAD, torch.float32)
    for sign in (1, -1):
        batch = sign * images(9)
        torch.testing.assert_close(fused(batch), network(batch, stop=HEAD), rtol=1e-4, atol=1e-5)
    assert kinds(fused) == {nn.Conv2d, nn.BatchNorm2d}  # those within


def test_hooks_and_parametrisations_are_kept() -> None:
    weighted = nn.utils.parametrizations.weight_norm(convolution())
    hooked = nn.BatchNorm2d(3)
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    network = network_of(weighted, nn.ReLU(), convolution(), hooked)
    found, wanted = both(network, images(9))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_norm_that_learns_is_not_folded() -> None:
    network = network_of(convolution(), nn.BatchNorm2d(3))
    network.train()
    fused = FusedGroups(network, HEAD, torch.float32)
    fused(images(9))
    assert nn.BatchNorm2d in kinds(fused)


def test_only_processors_with_its_operations_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not fuses(torch.device("cuda"), "fp32")
    assert not fuses(torch.device("mps"), "bf16")
    assert not fuses(CPU, "fp16")
    network = lively_network("shufflenet_v2_x0_5", 32)
    batch = images(32, FROZEN_BATCH)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    assert not fuses(CPU, "fp32")
    (found,) = Trunk(network, HEAD, precision="fp32", parallel_batches=1)([batch])
    assert torch.equal(found, network(batch, stop=HEAD))


# Lifetime -----------------------------------------------------------------------------------------


def test_weights_that_change_are_noticed() -> None:
    network = lively_network("shufflenet_v2_x0_5", 32)
    fused = FusedGroups(network, HEAD, torch.float32)
    before = fused(images(32))
    network.load({"conv1.1.running_mean": torch.ones(24)})
    after = fused(images(32))
    assert not torch.equal(after, before)
    assert torch.equal(after, FusedGroups(network, HEAD, torch.float32)(images(32)))
    # Those behind the boundary do not count.
    made = fused._fused
    network.load({"fc.bias": torch.ones(3)})
    fused(images(32))
    assert fused._fused is made


def test_large_copies_are_freed_after_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lively_network("shufflenet_v2_x0_5", 32)
    trunk = Trunk(network, HEAD, precision="fp32", parallel_batches=1)
    assert trunk._fused is not None
    kept = next(trunk([images(32)]))
    assert trunk._fused._fused is not None
    monkeypatch.setattr("bench.models.fused.KEPT_BYTES", 1000)
    for _ in range(2):
        (found,) = trunk([images(32)])
        assert torch.equal(found, kept)
        assert trunk._fused._fused is None


def test_other_threads_compute_while_a_network_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lively_network("shufflenet_v2_x0_5", 32)
    expected = network(images(32))
    found = []

    def elsewhere() -> None:
        with torch.no_grad():
            found.append(network(images(32)))

    reads = _Reader.is_leaf_module

    def meanwhile(reader: _Reader, module: nn.Module, name: str) -> bool:
        if len(found) < 3:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        return reads(reader, module, name)

    monkeypatch.setattr(_Reader, "is_leaf_module", meanwhile)
    fused = FusedGroups(network, HEAD, torch.float32)(images(32))
    assert len(found) == 3
    assert all(torch.equal(each, expected) for each in found)
    torch.testing.assert_close(fused, network(images(32), stop=HEAD), rtol=1e-4, atol=1e-5)
