"""VPT: trained tokens among those of the image (Jia et al., Visual Prompt Tuning, 2022)."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.methods.plan import ADAPTER
from bench.models.adapters.base import Adapter, Body


def attach_vpt(body: Body, *, tokens: int, deep: bool) -> bool:
    """In front of the first block of a plain transformer that reads a class token; or of each."""
    lead = _leading_tokens(body.model)
    blocks = [block.block for block in body.blocks()] if lead else []
    for at, block in enumerate(blocks if deep else blocks[:1]):
        patch, size = _patch(body.model), _size(body.model)
        prompts = Prompts(size, tokens, patch=patch, lead=lead, first=at == 0)
        block.add_module(ADAPTER, prompts.to(next(block.parameters()).device))
        block.register_forward_pre_hook(_prompted)
    return bool(blocks)


class Prompts(Adapter):
    """So many `tokens` behind the `lead` first ones, new or in the place of earlier prompts."""

    def __init__(self, channels: int, tokens: int, *, patch: int, lead: int, first: bool) -> None:
        super().__init__()
        self.lead, self.first = lead, first
        self.tokens = nn.Parameter(torch.empty(tokens, channels))
        bound = math.sqrt(6 / (3 * patch**2 + channels))
        nn.init.uniform_(self.tokens, -bound, bound)

    def forward(self, inputs: Tensor, output: Tensor) -> Tensor:
        """The tokens `[n, all, channels]` of a block with prompts among them."""
        begin, rest = self.lead, self.lead if self.first else self.lead + len(self.tokens)
        prompts = self.tokens.to(inputs.dtype).expand(inputs.shape[0], -1, -1)
        return torch.cat([inputs[:, :begin], prompts, inputs[:, rest:]], dim=1)


def _prompted(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    tokens = cast(Tensor, inputs[0])
    return (getattr(block, ADAPTER)(tokens, tokens), *inputs[1:])


def _leading_tokens(model: Any) -> int:
    """How many tokens stand in front of those of the patches; 0 where no class token is read."""
    if getattr(model, "class_token", None) is not None:  # torchvision
        return 1
    reads = getattr(model, "cls_token", None) is not None and model.global_pool == "token"  # timm
    return int(model.num_prefix_tokens) if reads else 0


def _size(model: Any) -> int:
    """The channels of a token."""
    return int(model.hidden_dim if hasattr(model, "hidden_dim") else model.embed_dim)


def _patch(model: Any) -> int:
    """The side of a patch in pixels."""
    patch = model.patch_size if hasattr(model, "patch_size") else model.patch_embed.patch_size
    return int(patch if isinstance(patch, int) else patch[0])
