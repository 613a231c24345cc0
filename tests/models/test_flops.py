"""Costs agree with closed forms and with what torchvision publishes for its models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import get_model_weights

from bench.errors import BenchError
from bench.methods.plan import HEAD, Term
from bench.models import layer_group_names
from bench.models.flops import epoch_flops, group_flops

FLOPS = {"stem": 1, "layer1": 10, "layer2": 100, "head": 1000}


@pytest.mark.parametrize(
    ("backbone", "image_size", "giga_macs"),
    [("resnet18", 224, 1.81), ("mobilenet_v2", 224, 0.30), ("resnet50", 224, 4.09)],
)
def test_published_forward_costs(backbone: str, image_size: int, giga_macs: float) -> None:
    total = sum(group_flops(backbone, image_size, 1000).values())
    assert total == pytest.approx(2e9 * giga_macs, rel=0.01)


@pytest.mark.parametrize(
    ("backbone", "image_size"),
    [
        ("densenet121", 224),
        ("efficientnet_v2_s", 384),
        ("googlenet", 224),
        ("inception_v3", 299),
        ("maxvit_t", 224),
        ("regnet_y_400mf", 224),
        ("swin_v2_t", 256),
        ("vgg11", 224),
        ("vit_b_16", 224),
    ],
)
def test_torchvisions_own_figures(backbone: str, image_size: int) -> None:
    giga_macs = get_model_weights(backbone).DEFAULT.meta["_ops"]
    total = sum(group_flops(backbone, image_size, 1000).values())
    assert total / 2e9 == pytest.approx(giga_macs, abs=0.001)


def test_groups_of_resnet18_in_closed_form() -> None:
    size, classes = 64, 7
    flops = group_flops("resnet18", size, classes)
    assert tuple(flops) == layer_group_names("resnet18")
    after_stem = (size // 4) ** 2
    assert flops["stem"] == 2 * (size // 2) ** 2 * 64 * 3 * 7**2
    assert flops["layer1"] == 4 * 2 * after_stem * 64 * 64 * 3**2
    first, others, shortcut = 64 * 128 * 9, 3 * 128 * 128 * 9, 64 * 128
    assert flops["layer2"] == 2 * (after_stem // 4) * (first + others + shortcut)
    assert flops[HEAD] == 2 * 512 * classes


def test_a_side_network_that_is_a_copy_costs_the_backbone_once_more() -> None:
    alone = group_flops("resnet18", 32, 2)
    both = group_flops("resnet18", 32, 2, Term(name="side_tuning", options=(("side", "copy"),)))
    body = sum(alone.values()) - alone[HEAD]
    assert both == {**alone, "stem": alone["stem"] + body}


def test_the_head_has_as_many_classes_as_asked_for() -> None:
    few, many = group_flops("mobilenet_v2", 64, 2), group_flops("mobilenet_v2", 64, 200)
    assert (few[HEAD], many[HEAD]) == (2 * 1280 * 2, 2 * 1280 * 200)
    assert {**few, HEAD: 0} == {**many, HEAD: 0}


def test_branches_cost_nothing_and_small_images_have_none() -> None:
    assert group_flops("inception_v3", 299, 2)["aux"] == 0
    assert group_flops("inception_v3", 75, 2)["aux"] == 0


def test_vision_transformers_of_another_size() -> None:
    flops = group_flops("vit_b_16", 64, 2)
    tokens, width = (64 // 16) ** 2 + 1, 768
    attention = 4 * width**2 + 2 * tokens * width
    assert flops["block1"] == 2 * tokens * (attention + 2 * width * 4 * width)
    assert flops["patch_embedding"] == 2 * (tokens - 1) * width * 3 * 16**2


def test_groups_that_run_within_another_get_their_share() -> None:
    pytest.importorskip("timm")
    flops = group_flops("timm/vit_tiny_patch16_224", 64, 2)
    tokens, width = (64 // 16) ** 2 + 1, 192
    attention = 4 * width**2 + 2 * tokens * width
    assert flops["stem"] == 2 * (tokens - 1) * width * 3 * 16**2
    assert flops["blocks.11"] == 2 * tokens * (attention + 2 * width * 4 * width)
    assert flops[HEAD] == 2 * width * 2


def test_the_same_whether_or_not_gradients_are_on_and_draws_nothing() -> None:
    state = torch.get_rng_state()
    with torch.no_grad():
        without = group_flops.__wrapped__("vit_b_32", 64, 2)
    assert without == group_flops("vit_b_32", 64, 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_models_that_need_values_are_counted_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.models import flops as costs

    made: list[str] = []
    make = costs.arbitrary_network

    def needs_values(*arguments: Any, device: str) -> object:
        made.append(device)
        if device == "meta":
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        return make(*arguments, device=device)

    monkeypatch.setattr(costs, "arbitrary_network", needs_values)
    assert group_flops.__wrapped__("resnet18", 32, 2) == group_flops("resnet18", 32, 2)
    assert made[:2] == ["meta", "cpu"]


def test_impossible_images_are_refused() -> None:
    with pytest.raises(BenchError, match="multiple of 16"):
        group_flops("vit_b_16", 65, 2)


def _epoch(trained: tuple[str, ...], *, from_boundary: bool = False) -> int:
    return epoch_flops(
        FLOPS, trained, from_boundary=from_boundary, train_samples=10_000, eval_samples=1
    )


def test_full_training_costs_three_forward_passes_less_the_gradient_of_the_images() -> None:
    assert _epoch(tuple(FLOPS)) == 10_000 * (3 * 1111 - 1) + 1111


def test_a_probe_costs_a_forward_pass_and_the_heads_weights() -> None:
    assert _epoch(("head",)) == 10_000 * (1111 + 1000) + 1111


def test_from_the_boundary_only_what_comes_after_it_runs() -> None:
    assert _epoch(("head",), from_boundary=True) == 10_000 * 2 * 1000 + 1000
    layers = ("layer2", "head")
    assert _epoch(layers, from_boundary=True) == 10_000 * (3 * 1100 - 100) + 1100
    assert _epoch(tuple(FLOPS), from_boundary=True) == _epoch(tuple(FLOPS))


def test_frozen_groups_after_a_trained_one_only_pass_gradients_on() -> None:
    assert _epoch(("layer1", "head")) == 10_000 * (1111 + 1010 + 1100) + 1111


def test_where_nothing_trains_there_is_no_backward_pass() -> None:
    assert _epoch(()) == 10_001 * 1111
    assert _epoch((), from_boundary=True) == 0
