"""What all adapters share: the layers that they may change, and how they change what those give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from bench.methods.plan import ADAPTER, HEAD
from bench.models.network import LayerGroup


class Names(NamedTuple):
    """What a library calls parts of its transformer blocks, from the block on; see `Block`.

    `mlp_input` None: the norm; `projections` None: attention itself has them.
    """

    attention: str
    mlp: str
    norm: str
    mlp_input: str | None = None
    projections: str | None = None


BLOCKS = (
    Names("attn", "mlp", "norm2"),  # timm
    Names("self_attention", "mlp", "ln_2"),  # torchvision
    Names("attn", "mlp", "ln_2"),  # GPT-2, and all that follow, in transformers
    Names("attn", "mlp", "mlp_norm"),  # ModernBERT
    Names("self_attn", "mlp", "pre_feedforward_layernorm"),  # Gemma 2
    Names("self_attn", "mlp", "post_attention_layernorm"),  # Llama, Mistral, Qwen
    Names("attention", "ffn", "output_layer_norm"),  # DistilBERT
    Names("attention.attn", "output.dense", "output.LayerNorm", "intermediate"),  # MPNet
    Names(  # BERT, RoBERTa, ELECTRA, DeBERTa
        "attention.output.dense",
        "output.dense",
        "output.LayerNorm",
        "intermediate",
        "attention.self",
    ),
)
"""The first of which a block has all parts counts."""


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
    """A transformer block of so many `channels`.

    What `attention` and `mlp` give is added to what flows by; `projections` make queries, keys and
    values. What `mlp` takes comes out of `mlp_input`: the norm in front of it, or the first half of
    an MLP in two modules. Where the norm is behind the MLP it may be that one.
    """

    block: nn.Module
    attention: nn.Module
    projections: nn.Module
    mlp: nn.Module
    mlp_input: nn.Module
    channels: int


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
        found = map(_block, self.layers.values())
        return [block for block in found if block is not None]


def _block(layer: nn.Module) -> Block | None:
    """The layer as a transformer block; None where it is none."""
    found = (_named(layer, names) for names in BLOCKS)
    return next((block for block in found if block is not None), None)


def _named(layer: nn.Module, names: Names) -> Block | None:
    """The layer as a block with parts of these names; None where it lacks one."""
    parts = {own: _below(layer, own) for own in names if own is not None}
    norm, mlp = parts[names.norm], parts[names.mlp]
    if None in parts.values() or not any(map(is_linear, cast(nn.Module, mlp).modules())):
        return None
    (weight, *_) = cast(nn.Module, norm).parameters(recurse=False)
    found: dict[str, Any] = {
        "attention": parts[names.attention],
        "projections": parts[names.projections or names.attention],
        "mlp": mlp,
        "mlp_input": parts[names.mlp_input or names.norm],
    }
    return Block(block=layer, channels=len(weight), **found)


def _below(layer: nn.Module, name: str) -> nn.Module | None:
    """The module of that name; None where there is none."""
    found: nn.Module | None = layer
    for part in name.split("."):
        found = None if found is None else found._modules.get(part)
    return found


def put(layer: nn.Module, adapter: Adapter) -> None:
    """Let the adapter change what the layer gives from now on."""
    if type(layer).forward is nn.Sequential.forward:  # which would call it as one of its layers
        layer.__class__ = _Chain
    keep(layer, adapter)
    layer.register_forward_hook(_adapted, with_kwargs=True)


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


def _adapted(
    layer: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any
) -> Any:
    """What a layer gives with its adapter; attention gives more than one thing."""
    adapter = getattr(layer, ADAPTER, None)
    if adapter is None:
        return output
    first = inputs[0] if inputs else named["hidden_states"]  # as transformers calls attention
    if isinstance(output, tuple):
        return (adapter(first, output[0]), *output[1:])
    return adapter(first, output)


def is_standardised(layer: nn.Module) -> bool:
    """Whether a convolution changes its weight before it multiplies by it, as timm's `StdConv2d`.

    What is put into such a weight is not what comes out.
    """
    return "StdConv" in type(layer).__name__


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is linear: torch's, or that of GPT-2, which keeps its weight transposed."""
    return isinstance(layer, nn.Linear) or is_transposed(layer)


def is_transposed(layer: nn.Module) -> bool:
    """Whether a layer is the linear one of GPT-2 in transformers, which is called `Conv1D`."""
    return type(layer).__name__ == "Conv1D"


def weight_of(layer: nn.Module) -> Tensor:
    """A layer's own weight, outputs first, whatever an adapter makes of it."""
    name = "in_proj_weight" if isinstance(layer, nn.MultiheadAttention) else "weight"
    weight = cast(Tensor, layer._parameters[name])
    return weight.T if is_transposed(layer) else weight
