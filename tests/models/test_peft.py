"""Adapters against those of the library PEFT: with the same weights they do the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.methods.plan import ADAPTER
from bench.models.adapters import merge
from bench.models.adapters.base import is_transposed, put
from bench.models.adapters.lora import LoRA
from bench.models.adapters.scale_shift import SSF
from tests.models.test_adapters import NETWORKS, attached, inputs_of

# The import alone takes seconds.
pytestmark = [pytest.mark.campaign, pytest.mark.filterwarnings("ignore:LoRA adapter added to Conv")]
R, ALPHA = 2, 3.0
LAYERS = {
    "linear": (nn.Linear(5, 4), (6, 5)),
    "convolution": (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 9, 9)),
    "convolution of single positions": (nn.Conv2d(3, 4, 1, bias=False), (2, 3, 5, 5)),
    "convolution with groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (2, 4, 5, 5)),
}


@pytest.fixture(scope="module")
def peft() -> Any:
    with warnings.catch_warnings(action="ignore"):
        return pytest.importorskip("peft")


def _adapters(model: nn.Module) -> dict[str, Any]:
    found = ((name, getattr(layer, ADAPTER, None)) for name, layer in model.named_modules())
    return {name: adapter for name, adapter in found if adapter is not None}


def _vary(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for adapter in _adapters(model).values():
            for each in adapter.parameters():
                each += 0.3 * torch.randn(each.shape, generator=generator, dtype=each.dtype)


def _at_peft(model: Any, name: str) -> Any:
    """PEFT's layer of that name, which may be in a layer that it has wrapped."""
    for part in name.split("."):
        model = getattr(getattr(model, "base_layer", model), part)
    return model


def _both(
    lora: LoRA, down: Tensor, up: Tensor, own: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Our values, each with where they are in PEFT's matrices.

    Pieces of queries and values are one matrix there, as are the groups of a convolution, which
    leave zeros between them.
    """
    for at, (piece, part) in enumerate(lora.parts.items()):
        r, groups = len(part.down.weight), getattr(part.down, "groups", 1)
        blocks = own(part.down.weight).chunk(groups)
        for group, block in enumerate(blocks):
            rows = slice(at * r + group * len(block), at * r + (group + 1) * len(block))
            columns = slice(group * block.shape[1], (group + 1) * block.shape[1])
            yield block, down[rows, columns]
        yield own(part.up.weight), up.chunk(lora.cuts)[int(piece)][:, at * r : (at + 1) * r]


def _in_peft(peft: Any, model: nn.Module, plain: nn.Module) -> Any:
    """The plain model with PEFT's LoRA where ours has some, and the same values."""
    loras = _adapters(model)
    parts = max(len(lora.parts) for lora in loras.values())
    config = peft.LoraConfig(
        r=R * parts,
        lora_alpha=ALPHA * parts,
        target_modules=list(loras),
        fan_in_fan_out=any(is_transposed(model.get_submodule(name)) for name in loras),
    )
    theirs = peft.inject_adapter_in_model(config, plain)
    for name, lora in loras.items():
        layer = _at_peft(theirs, name)
        down, up = (each["default"].weight.data for each in (layer.lora_A, layer.lora_B))
        down.zero_(), up.zero_()
        for value, place in _both(lora, down, up, lambda each: each.data):
            place.copy_(value)
    return theirs.eval()


def _assert_equal(peft: Any, model: nn.Module, plain: nn.Module, inputs: Tensor) -> None:
    _vary(model)
    theirs = _in_peft(peft, model, deepcopy(plain))
    outputs, expected = model(inputs), theirs(inputs)
    assert torch.allclose(outputs, expected, rtol=1e-9)
    assert not torch.allclose(outputs, plain(inputs), rtol=1e-3)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    loras = _adapters(model)
    for name, lora in loras.items():
        layer = _at_peft(theirs, name)
        down, up = (each["default"].weight.grad for each in (layer.lora_A, layer.lora_B))
        for value, place in _both(lora, down, up, lambda each: each.grad):
            assert value.any()
            assert torch.allclose(value, place, rtol=1e-9)
    merge(model)
    assert torch.allclose(model(inputs), expected, rtol=1e-9)
    for name in loras:
        layer, merged = _at_peft(theirs, name), model.get_submodule(name)
        if getattr(merged, "groups", 1) > 1:  # PEFT cannot merge these
            continue
        layer.merge()
        own = "in_proj_weight" if isinstance(merged, nn.MultiheadAttention) else "weight"
        assert torch.allclose(getattr(merged, own), getattr(layer.get_base_layer(), own))


@pytest.mark.parametrize("name", LAYERS)
def test_lora_of_a_layer(name: str, peft: Any) -> None:
    layer, shape = LAYERS[name]
    plain = nn.Sequential(deepcopy(layer)).double()
    model = deepcopy(plain)
    put(model[0], LoRA(model[0], len(model[0].weight), r=R, alpha=ALPHA, dropout=0.0).double())
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _assert_equal(peft, model, plain, inputs)


# Of the last layer of torch's attention PEFT 0.21 adds twice what it should.
@pytest.mark.parametrize(
    ("network", "layers"),
    [
        *[("torchvision", "auto"), ("timm", "auto"), ("timm", "all")],
        *[(kind, layers) for kind in ("bert", "deberta-v2", "gpt2") for layers in ("auto", "all")],
    ],
)
def test_lora_of_a_network(network: str, layers: str, peft: Any) -> None:
    plain = NETWORKS[network]().eval().double()
    adapted = attached(NETWORKS[network](), "lora", r=R, alpha=ALPHA, layers=layers)
    inputs = inputs_of(plain)
    inputs = inputs if plain.takes_texts else inputs.double()
    _assert_equal(peft, adapted.eval().double().model, plain.model, inputs)


def test_a_scale_without_a_shift_is_ia3(peft: Any) -> None:
    plain = NETWORKS["timm"]().eval().double()
    model = attached(NETWORKS["timm"](), "ssf", spread=0.0).eval().double().model
    layers = {
        name: adapter
        for name, adapter in _adapters(model).items()
        if isinstance(model.get_submodule(name), nn.Linear | nn.Conv2d)
    }
    config = peft.IA3Config(target_modules=list(layers), feedforward_modules=[])
    theirs = peft.inject_adapter_in_model(config, deepcopy(plain.model)).eval()
    generator = torch.Generator().manual_seed(2)
    for name, adapter in layers.items():
        assert isinstance(adapter, SSF)
        scale = 1 + 0.3 * torch.randn(len(adapter.scale), generator=generator).double()
        adapter.scale.data.copy_(scale)
        own = theirs.get_submodule(name).ia3_l["default"].data
        own.copy_(scale.view(own.shape))
    images = torch.randn(2, 3, 16, 16, generator=generator).double()
    outputs, expected = model(images), theirs(images)
    assert torch.allclose(outputs, expected, rtol=1e-9)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    for name, adapter in layers.items():
        gradient = theirs.get_submodule(name).ia3_l["default"].grad
        assert torch.allclose(adapter.scale.grad, gradient.flatten(), rtol=1e-9)
    merge(model)
    for name in layers:
        layer, merged = theirs.get_submodule(name), model.get_submodule(name)
        layer.merge()
        assert torch.allclose(merged.weight, layer.get_base_layer().weight)
        assert torch.allclose(merged.bias, layer.get_base_layer().bias)
