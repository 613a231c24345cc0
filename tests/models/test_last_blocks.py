"""Features of the last blocks: what they are, and that the first ones are those of the head."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from bench.methods.plan import HEAD, Term
from bench.models import build_network, describe_weights
from bench.models.evaluation import Trunk
from bench.models.families import FAMILIES
from bench.models.last_blocks import with_last_blocks
from bench.models.network import Network, layer_group
from bench.suite import Entry

VIT = "timm/test_vit"


def built(backbone: str, blocks: int | None) -> Network:
    return build_network(
        backbone,
        weights=describe_weights(backbone, Entry(name="none")),
        head=Entry(name="fitted"),
        num_classes=3,
        seed=0,
        image_size=32,
        adapter=None
        if blocks is None
        else Term(name="linear_sweep", options=(("blocks", blocks),)),
    ).eval()


def images(size: int) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def outputs(model: Any, layers: list[Any], batch: Tensor) -> list[Tensor]:
    """What the layers give on the way."""
    found: list[Tensor] = []
    hooks = [each.register_forward_hook(lambda *args: found.append(args[2])) for each in layers]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return found


def test_a_cnn_gives_the_means_of_its_last_groups() -> None:
    plain, wide = built("shufflenet_v2_x0_5", None), built("shufflenet_v2_x0_5", 3)
    batch = images(32)
    model: Any = plain.model
    stage3, stage4 = outputs(plain, [model.stage3, model.stage4], batch)
    with torch.no_grad():
        first, found = plain(batch), wide(batch)
    assert torch.equal(found[:, :1024], first)
    means = [stage4.mean(dim=(2, 3)), stage3.mean(dim=(2, 3))]
    assert torch.equal(found[:, 1024:], torch.cat(means, dim=1))
    assert wide.fitted_head is not None
    head = wide.fitted_head[1]
    assert head.features == found.shape[1]
    assert [(each.blocks, each.pieces) for each in head.columns] == [
        (1, ((0, 1024),)),
        (3, ((0, None),)),
    ]
    (fused,) = Trunk(wide, HEAD, precision="fp32", parallel_batches=1)([batch])
    assert torch.allclose(fused, found, atol=1e-4)


def check_tokens(wide: Network, plain: Any, norm: nn.Module, blocks: Any, size: int) -> None:
    batch, width = images(size), norm.weight.shape[0]
    given = outputs(plain, list(blocks[-2:]), batch)
    with torch.no_grad():
        before, last = (norm(tokens) for tokens in given)
        found = wide(batch, stop=HEAD)
    assert torch.equal(found[:, :width], plain(batch, stop=HEAD))
    assert torch.equal(found[:, width : 2 * width], before[:, 0])
    assert torch.equal(found[:, 2 * width :], last[:, 1:].mean(dim=1))
    (fused,) = Trunk(wide, HEAD, precision="fp32", parallel_batches=1)([batch])
    assert torch.allclose(fused, found, atol=1e-4)


def test_a_transformer_of_torchvision_gives_tokens() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VisionTransformer(16, 8, 3, 2, 16, 32, num_classes=3)
    groups = FAMILIES["vit"](model)
    plain = Network(model, groups, image_size=16).eval()
    wider, columns = with_last_blocks(model, groups, count=2, width=16)
    wide = Network(model, wider, image_size=16).eval()
    with torch.no_grad():
        check_tokens(wide, plain, model.encoder.ln, model.encoder.layers, 16)
    assert [(each.blocks, each.average, each.pieces) for each in columns] == [
        (1, False, ((0, 16),)),
        (1, True, ((0, 16), (32, None))),
        (2, False, ((0, 32),)),
        (2, True, ((0, 32), (32, None))),
    ]


def test_a_transformer_of_timm_gives_tokens() -> None:
    pytest.importorskip("timm")
    plain, wide = built(VIT, None), built(VIT, 2)
    model: Any = plain.model
    with torch.no_grad():
        check_tokens(wide, plain, model.norm, model.blocks, 32)


def test_a_perceptron_has_nothing_beside_what_flows_into_its_head() -> None:
    layers = {name: nn.Linear(8, 8) for name in ("stem", "block", HEAD)}
    model = nn.Sequential(OrderedDict(layers))
    groups = tuple(layer_group(name, name) for name in layers)
    wider, _ = with_last_blocks(model, groups, count=4, width=8)
    network, plain = (Network(model, each, image_size=8).eval() for each in (wider, groups))
    batch = torch.randn(3, 8)
    with torch.no_grad():
        assert torch.equal(network(batch, stop=HEAD), plain(batch, stop=HEAD))
