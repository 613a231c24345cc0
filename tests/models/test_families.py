"""The contract of every family: groups cover the model, in the order in which it computes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from bench.errors import BenchError
from bench.methods.plan import HEAD
from bench.models import BACKBONES, HeadShape, Network, layer_group_names
from bench.models.build import (
    LIBRARY_CLASSES,
    layer_groups,
    replace_classifiers,
    structure,
)
from bench.models.families import FAMILIES

CLASSES = 7


def meta_network(name: str) -> Network:
    model = structure(name)
    groups = layer_groups(name, model)
    before = shapes(model)
    replace_classifiers(model, groups, HeadShape(), CLASSES, seed=0)
    # so a library's model made for as many classes loads what we save
    assert {key: swap_classes(shape) for key, shape in before.items()} == shapes(model)
    size = BACKBONES[name].input_size
    network = Network(model, groups, image_size=size)
    return network.to("meta").eval()


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def swap_classes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (CLASSES, *shape[1:]) if shape[:1] == (LIBRARY_CLASSES,) else shape


def test_every_family_is_decomposed() -> None:
    assert set(FAMILIES) == {entry.family for entry in BACKBONES.values()}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.campaign
def test_contract(name: str) -> None:
    if name == "efficientnet_lite0":
        pytest.importorskip("timm")
    network = meta_network(name)
    names = [group.name for group in network.groups]
    assert len(set(names)) == len(names) >= 5
    assert_each_owns_parameters(network)
    assert_library_calls_in_order(network)
    assert_head_is_small(network)


def assert_each_owns_parameters(network: Network) -> None:
    owners = {network.group_of(name).name for name, _ in network.model.named_parameters()}
    assert owners == {group.name for group in network.groups}
    addresses = [network.address_of(name) for name in network.model.state_dict()]
    assert len(set(addresses)) == len(addresses)
    for name, module in network.norm_layers():
        assert isinstance(module, nn.BatchNorm2d)
        assert name.partition("/")[0] in owners


def assert_library_calls_in_order(network: Network) -> None:
    """The library's own `forward` meets the layers group by group, from the first to the last."""
    called: list[int] = []
    for name, module in network.model.named_modules():
        owners = [at for at, group in enumerate(network.groups) if group.owns(name)]
        if owners and next(module.parameters(recurse=False), None) is not None:
            module.register_forward_pre_hook(lambda *_, at=owners[0]: called.append(at))
    images = torch.empty(2, 3, network.image_size, network.image_size, device="meta")
    with torch.no_grad():
        assert network.model(images).shape == (2, CLASSES)
    assert all(earlier <= later for earlier, later in pairwise(called))
    assert set(called) == {at for at, group in enumerate(network.groups) if not group.branch}


def assert_head_is_small(network: Network) -> None:
    head = [n for n, _ in network.model.named_parameters() if network.group_of(n).name == HEAD]
    assert 1 <= len(head) <= 2
    assert network.boundaries[-1] == HEAD
    trunk = [group.name for group in network.groups[1:] if not group.branch]
    assert [name for name in network.boundaries if not name.startswith("aux")] == trunk


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("resnet18", "stem layer1 layer2 layer3 layer4 head"),
        ("vgg16", "block1 block2 block3 block4 block5 fc head"),
        ("inception_v3", "stem mixed5 mixed6 aux mixed7 head"),
        ("vit_b_32", f"patch_embedding {' '.join(f'block{n}' for n in range(1, 13))} norm head"),
        ("mobilenet_v3_large", "stem stage1 stage2 stage3 stage4 stage5 last_conv fc head"),
    ],
)
def test_group_names(name: str, groups: str) -> None:
    assert layer_group_names(name) == tuple(groups.split())


def test_unknown_backbone_has_no_groups() -> None:
    with pytest.raises(BenchError, match="did you mean 'resnet18'"):
        layer_group_names("resnet19")


def test_structure_costs_no_memory() -> None:
    assert {parameter.device.type for parameter in structure("regnet_y_128gf").parameters()} == {
        "meta"
    }
