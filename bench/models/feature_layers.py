"""The layers whose outputs stand for what layer groups make of images, and how to look at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from bench.methods.plan import HEAD
from bench.models.network import LayerGroup, Network

_RESIDUAL = ("BasicBlock", "Bottleneck")
"""What all libraries call the blocks of ResNets, whose last convolution is `conv3` or `conv2`."""


def feature_layers(network: Network) -> dict[str, nn.Module]:
    """A layer for each layer group, by its name, but for the head, branches and the first group.

    That is the last one with parameters, in ResNets the last convolution of the group. A network
    whose first group is all there is in front of its head has that one.
    """
    groups = [group for group in network.groups if not group.branch and group.name != HEAD]
    layers = {group.name: _last_layer(network, group) for group in groups[1:] or groups}
    return {name: layer for name, layer in layers.items() if layer is not None}


def _last_layer(network: Network, group: LayerGroup) -> nn.Module | None:
    own = [module for module in network.modules_of(group) if any(True for _ in module.parameters())]
    if not own:
        return None
    blocks = [module for module in own[-1].modules() if type(module).__name__ in _RESIDUAL]
    if not blocks:
        return own[-1]
    of_block = dict(blocks[-1].named_children())
    return next((of_block[name] for name in ("conv3", "conv2") if name in of_block), own[-1])


@contextmanager
def outputs_of(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """What these layers give while the block runs, by the same names."""
    found: dict[str, Tensor] = {}

    def note(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found[name] = output[0] if isinstance(output, tuple) else output

    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def channels_second(activations: Tensor) -> Tensor:
    """Of any layer `[n, channels, positions]`: maps with channels first or last, tokens, vectors.

    Maps are taken as square, as all images are.
    """
    if activations.ndim == 2:
        return activations[:, :, None]
    if activations.ndim == 3:
        return activations.transpose(1, 2)
    height, width, last = activations.shape[1:]
    if height == width != last:
        activations = activations.movedim(-1, 1)
    return activations.flatten(2)
