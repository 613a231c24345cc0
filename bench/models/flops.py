"""What training costs in floating-point operations, counted without computing anything."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.methods.plan import Term
from bench.models import HeadShape, LayerGroup, Network, check_image_size, last_blocks
from bench.models.build import (
    _attach,
    _library_model,
    layer_groups,
    parameters_on_meta,
    replace_classifiers,
)
from bench.models.catalogue import is_timm, sample_shape
from bench.models.randomness import keyed_initialisation
from bench.suite.registry import remembered


@remembered
def group_flops(
    backbone: str, image_size: int, num_classes: int, adapter: Term | None = None
) -> Mapping[str, int]:
    """Forward floating-point operations per image of each layer group, input to output.

    Those of an `adapter` belong to the groups that it is in.

    A multiplication and an addition are two; convolutions and matrix products are counted, as is
    customary, and nothing else. The head is linear, with `num_classes` outputs. Where a group runs
    as part of another one, its modules' share is its own. Branches count as 0: they run in training
    only. Raises `BenchError` for an unknown backbone or an impossible image size.
    """
    check_image_size(backbone, image_size)
    try:
        network = arbitrary_network(backbone, image_size, num_classes, adapter, device="meta")
        return _counted(network, sample_shape(backbone, image_size), device="meta")
    except (NotImplementedError, RuntimeError):  # a few models of timm compute with values
        network = arbitrary_network(backbone, image_size, num_classes, adapter, device="cpu")
        return _counted(network, sample_shape(backbone, image_size), device="cpu")


def epoch_flops(
    flops: Mapping[str, int],
    trained: Collection[str],
    *,
    from_boundary: bool,
    train_samples: int,
    eval_samples: int,
) -> int:
    """Floating-point operations of one epoch in which the groups `trained` train.

    `flops` is what `group_flops` gives. The backward pass costs as much as the forward pass for
    each trained group's weights, and as much again for the input of each group after the first
    trained one. With `from_boundary` all images start as the activations in front of the first
    trained group: nothing before it runs. Where nothing trains, that leaves nothing to do.
    """
    names = list(flops)
    unknown = set(trained) - set(names)
    assert not unknown, f"no such layer groups: {sorted(unknown)}"
    first = next((at for at, name in enumerate(names) if name in trained), len(names))
    forward = sum(flops[name] for name in names[first if from_boundary else 0 :])
    weight_gradients = sum(flops[name] for name in names if name in trained)
    input_gradients = sum(flops[name] for name in names[first + 1 :])
    per_image = forward + weight_gradients + input_gradients
    return train_samples * per_image + eval_samples * forward


def arbitrary_network(
    backbone: str,
    image_size: int,
    num_classes: int,
    adapter: Term | None = None,
    *,
    device: str,
) -> Network:
    """A network of arbitrary values, or of none on the meta device.

    Reading the last blocks for a head that is fitted costs nothing of its own, so it is left out.
    """
    with keyed_initialisation(0, "costs"):
        if device == "meta":
            with parameters_on_meta():
                model = _library_model(backbone, image_size)
        else:
            model = _library_model(backbone, image_size)
    groups = layer_groups(backbone, model)
    replace_classifiers(model, groups, HeadShape(), num_classes, seed=0)
    model.to(device)
    if is_timm(backbone):
        from bench.models.timm_models import fit_image_size

        fit_image_size(model, backbone, image_size)
    if adapter is not None and adapter.name != last_blocks.NAME:
        groups = _attach(adapter, model, groups, backbone, seed=0)
    return _as_network(model, groups, image_size=image_size)


def _as_network(model: nn.Module, groups: tuple[LayerGroup, ...], *, image_size: int) -> Network:
    return Network(model, groups, image_size=image_size)


def _counted(network: Network, shape: tuple[int, ...], *, device: str) -> Mapping[str, int]:
    # Evaluation mode takes a single image everywhere; with gradients, attention does not
    # take the fused path that the counter does not know.
    network.eval()
    activations = torch.zeros(1, *shape, device=device)
    flops = dict.fromkeys((group.name for group in network.groups), 0)
    with torch.enable_grad(), torch.device(device), FlopCounterMode(display=False) as counter:
        for group in network.groups:
            if group.run is None or group.branch:
                continue
            before = counter.get_total_flops()
            with _shares(network, counter) as shares:
                activations = group.run(network.model, activations)
            flops[group.name] += counter.get_total_flops() - before - sum(shares.values())
            for name, share in shares.items():
                flops[name] += share
    return MappingProxyType(flops)


@contextmanager
def _shares(network: Network, counter: FlopCounterMode) -> Iterator[Mapping[str, int]]:
    """Operations, within the block, in the modules of each group that does not run by itself."""
    shares: dict[str, int] = defaultdict(int)

    def enter(name: str, *call: object) -> None:
        shares[name] -= counter.get_total_flops()

    def leave(name: str, *call: object) -> None:
        shares[name] += counter.get_total_flops()

    hooks = []
    for group in network.groups:
        for module in network.modules_of(group) if group.run is None else ():
            hooks.append(module.register_forward_pre_hook(functools.partial(enter, group.name)))
            hooks.append(module.register_forward_hook(functools.partial(leave, group.name)))
    try:
        yield shares
    finally:
        for hook in hooks:
            hook.remove()
