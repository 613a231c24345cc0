"""How large networks and their activations are, told without computing anything."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from bench.models import Network
from bench.models.build import HeadEntry, outline_network
from bench.models.catalogue import sample_shape
from bench.models.flops import arbitrary_network
from bench.suite.registry import remembered


def group_bytes(backbone: str, head: HeadEntry, num_classes: int) -> Mapping[str, int]:
    """Bytes of the parameters and buffers of each layer group, the head's last."""
    return _group_bytes(backbone, head.name, tuple(sorted(head.options.items())), num_classes)


@remembered
def _group_bytes(
    backbone: str, head: str, options: tuple[tuple[str, object], ...], num_classes: int
) -> Mapping[str, int]:
    network = outline_network(backbone, head, options, num_classes)
    sizes = dict.fromkeys((group.name for group in network.groups), 0)
    for name, tensor in network.model.state_dict().items():
        sizes[network.group_of(name).name] += tensor.nbytes
    return MappingProxyType(sizes)


@remembered
def activation_bytes(backbone: str, image_size: int) -> Mapping[str, int]:
    """Bytes, in single precision, of what flows into each layer group for one sample.

    Groups that do not run by themselves are left out.
    """
    try:
        return _flowing(arbitrary_network(backbone, image_size, 2, device="meta"), backbone, "meta")
    except (NotImplementedError, RuntimeError):  # a few models of timm compute with values
        return _flowing(arbitrary_network(backbone, image_size, 2, device="cpu"), backbone, "cpu")


def _flowing(network: Network, backbone: str, device: str) -> Mapping[str, int]:
    network.eval()
    sizes = {}
    flowing = torch.zeros(1, *sample_shape(backbone, network.image_size), device=device)
    with torch.no_grad(), torch.device(device):
        for group in network.groups:
            if group.run is None or group.branch:
                continue
            sizes[group.name] = flowing.nbytes
            flowing = group.run(network.model, flowing)
    return MappingProxyType(sizes)
