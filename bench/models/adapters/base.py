"""What all adapters share: the layers that they may change, and how they change what those give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from bench.methods.plan import ADAPTER, HEAD
from bench.models.network import LayerGroup

ATTENTIONS, MLP, MLP_NORMS = ("attn", "self_attention"), "mlp", ("norm2", "ln_2")
"""What transformer blocks call their attention, their MLP, and the norm in front of the MLP."""


class Adapter(nn.Module):
    """What changes the `output` that a layer makes of `inputs`."""

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The changed output."""
        raise NotImplementedError

    def merge(self, layer: nn.Module) -> bool:
        """Put what it does into the layer's own parameters; False where that cannot be."""
        return False


@dataclass(frozen=True, kw_only=True)
class Block:
    """A transformer block: its attention, its MLP, and the norm in front of the MLP."""

    block: nn.Module
    attention: nn.Module
    mlp: nn.Module
    mlp_norm: nn.Module


class Body:
    """The layers of a model by name, but for those of its head and of branches.

    With `top`, of so many groups below the head alone.
    """

    def __init__(
        self, model: nn.Module, groups: Sequence[LayerGroup], top: int | None = None
    ) -> None:
        below = [group for group in groups if not group.branch and group.name != HEAD]
        chosen = below if top is None else below[-top:]
        apart = [group for group in groups if group not in chosen]
        self.model, self.groups = model, tuple(groups)
        self.layers = {
            name: layer
            for name, layer in model.named_modules()
            if name and not any(group.owns(name) for group in apart)
        }

    def norms(self) -> Iterator[tuple[str, nn.Module]]:
        """Normalisation layers of every kind that have parameters, by name.

        All libraries have `Norm` in the names of their classes.
        """
        for name, layer in self.layers.items():
            if "norm" in type(layer).__name__.lower() and layer._parameters:
                yield name, layer

    def uncalled(self) -> set[nn.Module]:
        """Layers that nobody calls: attention reads their weights and biases.

        That are the last layer of torch's attention, those of Swin in torchvision, and the first of
        attention in timm that adds biases of its own (BEiT, EVA, Swin V2).
        """
        found: set[nn.Module] = set()
        for layer in self.layers.values():
            if isinstance(layer, nn.MultiheadAttention):
                found.add(layer.out_proj)
            elif type(layer).__name__.startswith("ShiftedWindowAttention"):
                found.update(cast(Any, layer).children())
            elif getattr(layer, "q_bias", None) is not None:
                found.add(cast(Any, layer).qkv)
        return found

    def blocks(self) -> list[Block]:
        """The transformer blocks, from input to output: those that work on tokens, not on maps."""
        found = []
        for layer in self.layers.values():
            own = dict(layer.named_children())
            attention = next((own[name] for name in ATTENTIONS if name in own), None)
            norm = next((own[name] for name in MLP_NORMS if name in own), None)
            linear = MLP in own and any(isinstance(each, nn.Linear) for each in own[MLP].modules())
            if attention is not None and norm is not None and linear:
                found.append(Block(block=layer, attention=attention, mlp=own[MLP], mlp_norm=norm))
        return found


def put(layer: nn.Module, adapter: Adapter) -> None:
    """Let the adapter change what the layer gives from now on."""
    if type(layer).forward is nn.Sequential.forward:  # which would call it as one of its layers
        layer.__class__ = _Chain
    keep(layer, adapter)
    layer.register_forward_hook(_adapted)


def keep(layer: nn.Module, adapter: Adapter) -> None:
    """Put the adapter below the layer, which makes use of it by itself."""
    layer.add_module(ADAPTER, adapter.to(next(layer.parameters()).device))


class _Chain(nn.Sequential):
    """Layers one after the other, of which an adapter is none."""

    def forward(self, activations: Tensor) -> Tensor:
        """What the last one gives."""
        for name, layer in self.named_children():
            activations = activations if name == ADAPTER else layer(activations)
        return activations


def _adapted(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """What a layer gives with its adapter; attention gives more than one thing."""
    adapter = getattr(layer, ADAPTER, None)
    if adapter is None:
        return output
    if isinstance(output, tuple):
        return (adapter(inputs[0], output[0]), *output[1:])
    return adapter(inputs[0], output)


def is_standardised(layer: nn.Module) -> bool:
    """Whether a convolution changes its weight before it multiplies by it, as timm's `StdConv2d`.

    What is put into such a weight is not what comes out.
    """
    return "StdConv" in type(layer).__name__


def weight_of(layer: nn.Module) -> Tensor:
    """A layer's own weight, whatever an adapter makes of it."""
    name = "in_proj_weight" if isinstance(layer, nn.MultiheadAttention) else "weight"
    return cast(Tensor, layer._parameters[name])
