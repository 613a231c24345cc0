"""How large networks and their activations are, told without computing anything."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from bench.methods.plan import Term
from bench.models import Network
from bench.models.build import HeadEntry, layers_of, outline_network
from bench.models.catalogue import sample_shape
from bench.models.flops import arbitrary_network
from bench.suite.registry import remembered


def tensor_bytes(
    backbone: str, head: HeadEntry, num_classes: int, adapter: Term | None = None
) -> Mapping[str, int]:
    """Bytes of each parameter and buffer, by address."""
    return _tensor_bytes(backbone, *layers_of(head), num_classes, adapter)


@remembered
def _tensor_bytes(
    backbone: str,
    head: str,
    options: tuple[tuple[str, object], ...],
    num_classes: int,
    adapter: Term | None,
) -> Mapping[str, int]:
    network = outline_network(backbone, head, options, num_classes, adapter)
    tensors = network.model.state_dict()
    return MappingProxyType(
        {network.address_of(name): tensor.nbytes for name, tensor in tensors.items()}
    )


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
