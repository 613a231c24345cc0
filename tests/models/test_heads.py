"""Heads: what they are made of, and random numbers that depend on their key alone."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bench.errors import DataError
from bench.models import HEADS, HeadShape, class_members
from bench.models.heads import build_head
from tests.models.small import random_images, small_network


def state_of(network: nn.Module, part: str) -> dict[str, Tensor]:
    return network.get_submodule(f"model.{part}").state_dict()


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_registry() -> None:
    assert list(HEADS) == ["linear", "zero_shot", "mlp"]
    assert all(HEADS.get(name).summary.endswith(".") for name in HEADS)
    with pytest.raises(ValidationError):
        HEADS.get("mlp").options(hidden=0)
    with pytest.raises(ValidationError):
        HEADS.get("mlp").options(dropout=1.0)


def test_mlp() -> None:
    head = small_network(
        "resnet18", head="mlp", options={"hidden": 20, "dropout": 0.25}
    ).model.get_submodule("fc")
    assert isinstance(head, nn.Sequential)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [tuple(parameter.shape) for parameter in head.parameters()] == [
        (20, 512),
        (20,),
        (3, 20),
        (3,),
    ]
    assert head.get_submodule("2").p == 0.25
    default = build_head(HEADS.get("mlp").function(), nn.Linear(9, 1000), num_classes=3, seed=0)
    assert next(default.parameters()).shape == (512, 9)


@pytest.mark.parametrize("name", ["squeezenet1_1", "densenet121", "mobilenet_v3_small"])
def test_mlp_runs_on_every_kind_of_classifier(name: str) -> None:
    network = small_network(name, head="mlp", options={"hidden": 8}).eval()
    size = network.image_size
    with torch.no_grad():
        logits = network(random_images(size))
        assert torch.equal(logits, network.model(random_images(size)))
    assert logits.shape == (2, 3)


def test_architectures_keep_their_own_dropout() -> None:
    rates = {"efficientnet_b0": 0.2, "squeezenet1_1": 0.5, "mnasnet0_5": 0.2}
    for name, rate in rates.items():
        network = small_network(name)
        head = network.groups[-1]
        dropouts = [
            module
            for module_name, module in network.model.named_modules()
            if head.owns(module_name) and isinstance(module, nn.Dropout)
        ]
        assert [(dropout.p, dropout.inplace) for dropout in dropouts] == [(rate, False)]


def test_linear_has_torchs_default_initialisation() -> None:
    layer = build_head(HeadShape(), nn.Linear(512, 9), num_classes=1000, seed=3)
    assert isinstance(layer, nn.Linear)
    bound = 1 / math.sqrt(512)
    weight = layer.weight.detach()
    assert weight.abs().max() <= bound
    # uniform in ±bound: variance bound²/3, and 512 000 draws hit it closely
    assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.01)


def test_head_depends_on_seed_and_widths_alone() -> None:
    first = small_network("resnet18", seed=5)
    torch.rand(7)
    second = small_network("shufflenet_v2_x0_5", seed=5)
    torch.rand(3)
    again = small_network("resnet18", seed=5)
    other = small_network("resnet18", seed=6)
    assert equal(state_of(first, "fc"), state_of(again, "fc"))
    assert not equal(state_of(first, "fc"), state_of(other, "fc"))
    like_resnet = build_head(HeadShape(), nn.Linear(512, 9), num_classes=3, seed=5)
    assert equal(state_of(first, "fc"), like_resnet.state_dict())
    assert state_of(second, "fc")["weight"].shape == (3, 1024)


def test_trunk_depends_on_seed_alone() -> None:
    first = small_network("shufflenet_v2_x0_5", seed=5)
    torch.rand(7)
    more_classes = small_network("shufflenet_v2_x0_5", seed=5, num_classes=9, head="mlp")
    other = small_network("shufflenet_v2_x0_5", seed=6)
    for part in ("conv1", "stage3", "conv5"):
        assert equal(state_of(first, part), state_of(more_classes, part))
        assert not equal(state_of(first, part), state_of(other, part))


def test_auxiliary_classifier_does_not_change_the_trunk_or_the_head() -> None:
    first = small_network("inception_v3", num_classes=3)
    second = small_network("inception_v3", num_classes=4)
    for part in ("Mixed_7c", "AuxLogits.conv1"):
        assert equal(state_of(first, part), state_of(second, part))
    assert state_of(first, "AuxLogits.fc")["weight"].shape == (3, 768)


def test_global_random_state_is_untouched() -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    small_network("shufflenet_v2_x0_5")
    assert torch.equal(torch.rand(4), expected)


def test_class_members() -> None:
    classes = ("tench", "goldfish", "great white shark", "cock")
    found = class_members(
        ("fish", "bird"), {"fish": (1, "tench", "Great_White shark", 0), "bird": ["cock"]}, classes
    )
    assert found == ((0, 1, 2), (3,))


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        (None, "option class_map, for example class_map: {fish: "),
        ({"bird": (0,)}, "no entry for the class 'fish'"),
        ({"fish": ()}, "no entry for the class 'fish'"),
        ({"fish": (3,)}, r"must lie in \[0, 2\], got 3"),
        ({"fish": (-1,)}, "got -1"),
        ({"fish": ("tensh",)}, "'tensh'; did you mean 'tench'"),
        ({"fish": ("crane",)}, r"several classes; use an index of \[1, 2\]"),
    ],
)
def test_wrong_class_maps_are_refused(class_map: dict[str, object] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_members(("fish",), class_map, ("tench", "crane", "Crane"))  # type: ignore[arg-type]
