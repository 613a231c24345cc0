"""What a strategy can learn and another cannot, whatever its learning rate: by construction.

The trunks forget two things. Their features are even in the first channel, as they add up what they
find at a value and at its opposite: it takes any shift or scale to tell signs. And they do not look
at the second channel at all: it takes other weights to see it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.methods.plan import LayerGroups, Plan
from bench.methods.strategies import STRATEGIES
from bench.models import Network
from bench.models.adapters import Body, attach
from bench.models.network import LayerGroup, layer_group
from bench.suite import Settings
from bench.training.trial import apply_stage, make_optimizer

pytestmark = pytest.mark.campaign

SIDE, STEPS, ENOUGH = 16, 100, 0.05
POINTS = torch.tensor([[x, z] for x in (-1.5, -1.0, 1.0, 1.5) for z in (-1.0, 1.0)])
TASKS = {"sign": 0, "unseen": 1}
"""Classes are the signs of that channel."""

Made = tuple[nn.Module, tuple[LayerGroup, ...], Tensor]
"""A trunk with a head, its groups, and all images."""
Cases = dict[str, tuple[dict[str, Any], tuple[str, ...]]]
CNN: Cases = {
    "linear_probe": ({}, ()),
    "full_finetune": ({}, ("sign", "unseen")),
    "surgical": ({"group": 1}, ("sign", "unseen")),
    "partial_finetune": ({"top": 1}, ("sign",)),
    "freeze_embed": ({}, ("sign",)),
    "bitfit": ({}, ("sign",)),
    "norm_only": ({}, ("sign",)),
    "ssf": ({}, ("sign",)),
    "lora": ({}, ("sign", "unseen")),
    "side_tuning": ({}, ("sign", "unseen")),
}
TRANSFORMER: Cases = {
    "linear_probe": ({}, ()),
    "full_finetune": ({}, ("sign", "unseen")),
    # Tokens have both channels, and norms divide by the size of all: who moves the second shows it.
    "freeze_embed": ({}, ("sign", "unseen")),
    "bitfit": ({}, ("sign", "unseen")),
    "ssf": ({}, ("sign", "unseen")),
    "houlsby": ({"width": 4}, ("sign", "unseen")),
    "norm_only": ({}, ("sign",)),
    "vpt": ({"tokens": 2}, ("sign",)),
    "lora": ({}, ("sign", "unseen")),
    "adaptformer": ({"width": 4, "scale": 1.0, "dropout": 0.0}, ("sign", "unseen")),
    "side_tuning": ({}, ("sign", "unseen")),
}


def _cnn() -> Made:
    """Rectified values and opposites of the first channel, then the sums of such pairs."""
    stem = [nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    body = [nn.Conv2d(4, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Flatten()]
    layers = {"stem": nn.Sequential(*stem), "body": nn.Sequential(*body), "head": nn.Linear(2, 2)}
    model = nn.Sequential(OrderedDict(layers))
    with torch.no_grad():
        stem[0].weight.zero_()
        stem[0].weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0, 0.5, -0.5])
        body[0].weight.copy_(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])[..., None, None])
    groups = tuple(layer_group(name, name) for name in layers)
    return model, groups, F.pad(POINTS, (0, 1))[..., None, None]


def _transformer() -> Made:
    """Tokens `[x, −x, z, −z, f, −f, 1, −1]`: f is what MLPs find, from x, and all that is read.

    All have the same attention, which passes on x and f. So norms subtract nothing.
    """
    from timm import create_model

    from bench.models.timm_models import timm_groups

    sizes = {"img_size": SIDE, "patch_size": 8, "embed_dim": 8, "depth": 2, "num_heads": 1}
    model: Any = create_model("vit_tiny_patch16_224", num_classes=2, mlp_ratio=0.25, **sizes)
    ends = torch.tensor([1.0, -1.0])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("head.") and "norm" not in name:
                parameter.zero_()
        for tokens in (model.cls_token[0, 0], model.patch_embed.proj.bias):
            tokens[6:] = ends
        for channel in (0, 1):
            place = slice(2 * channel, 2 * channel + 2)
            model.patch_embed.proj.weight[place, channel, 0, 0] = ends
        for block in model.blocks:
            for at in (0, 1, 4, 5):
                block.attn.qkv.weight[16 + at, at] = block.attn.proj.weight[at, at] = 1.0
            block.mlp.fc1.weight[:, 0] = ends
            block.mlp.fc2.weight[4:6] = ends[:, None]
        model.norm.weight[:4] = 0.0
    images = F.pad(POINTS, (0, 1))[..., None, None].expand(-1, -1, SIDE, SIDE)
    return model, timm_groups(model), images


def _learned(made: Made, strategy: str, task: str, **options: Any) -> Tensor:
    """Logits after training on the whole task, which is all that there is."""
    model, groups, images = made
    network = Network(model, groups, image_size=SIDE)
    plan: Plan = STRATEGIES.get(strategy).function(_names(network), STEPS, **options)
    if plan.adapter is not None:
        groups = attach(model, groups, plan.adapter, backbone="made up", seed=0)
        network = Network(model, groups, image_size=SIDE)
    apply_stage(network, plan.stages[0])
    optimizer = make_optimizer(network, plan, Settings(optimizer="adam", lr=0.05))
    classes = (POINTS[:, TASKS[task]] > 0).long()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), classes)
        if loss < ENOUGH:
            break
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return network.eval()(images)


def _names(network: Network) -> LayerGroups:
    norms = dict(Body(network.model, network.groups).norms())
    own = [f"{name}.{part}" for name in norms for part in ("weight", "bias")]
    names = (group.name for group in network.groups)
    return LayerGroups(names, map(network.address_of, norms), map(network.address_of, own))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("made", "strategy", "options", "tasks"),
    [
        pytest.param(made, name, *case, id=f"{name} of a {kind}")
        for kind, made, cases in (("CNN", _cnn, CNN), ("transformer", _transformer, TRANSFORMER))
        for name, case in cases.items()
    ],
)
def test_a_strategy_learns_what_its_parameters_can_tell(
    made: Callable[[], Made],
    strategy: str,
    options: dict[str, Any],
    tasks: Sequence[str],
    task: str,
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits = _learned(made(), strategy, task, **options)
    classes = (POINTS[:, TASKS[task]] > 0).long()
    loss = F.cross_entropy(logits, classes).item()
    if task in tasks:
        assert loss < 0.1
    else:
        assert loss > math.log(2) - 1e-4
