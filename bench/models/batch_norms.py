"""Which batch norms cannot train on a single sample."""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import nn

from bench.methods.plan import Term
from bench.models.catalogue import sample_shape
from bench.models.flops import arbitrary_network


@cache
def single_value_norms(
    backbone: str, image_size: int, adapter: Term | None = None
) -> frozenset[str]:
    """The addresses of the batch norms that see one value per channel of a single sample.

    Torch trains none of them on a batch of one: a variance needs two values. Branches that run in
    training only are not looked at. Raises `BenchError` for an unknown backbone or an impossible
    image size.
    """
    try:
        return _found(backbone, image_size, adapter, device="meta")
    except (NotImplementedError, RuntimeError):  # a few models of timm compute with values
        return _found(backbone, image_size, adapter, device="cpu")


def _found(backbone: str, image_size: int, adapter: Term | None, *, device: str) -> frozenset[str]:
    network = arbitrary_network(backbone, image_size, 2, adapter, device=device)
    network.eval()
    found: set[str] = set()

    def look(address: str, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        (seen,) = inputs
        if seen[0].numel() == seen.shape[1]:
            found.add(address)

    for address, module in network.norm_layers():
        module.register_forward_pre_hook(partial(look, address))
    activations = torch.zeros(1, *sample_shape(backbone, image_size), device=device)
    with torch.no_grad(), torch.device(device):
        network(activations)
    return frozenset(found)
