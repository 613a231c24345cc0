"""VPT: trained tokens among those of the image (Jia et al., Visual Prompt Tuning, 2022).

Of a text they stand behind its first token, are seen by all others, and end with the last block.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.methods.plan import ADAPTER
from bench.models.adapters.base import Adapter, Body

OF_TEXT = ("BertLayer", "RobertaLayer", "XLMRobertaLayer", "ElectraLayer", "TransformerBlock")
"""What transformers calls blocks of networks that add positions in front of the first block.

The other ones tell positions inside of them, and prompts have none. The last is DistilBERT's.
"""


def attach_vpt(body: Body, *, tokens: int, deep: bool) -> bool:
    """In front of the first block of a plain transformer that reads a class token; or of each."""
    blocks = body.blocks()
    of_text = bool(blocks) and type(blocks[0].block).__name__ in OF_TEXT
    lead = 1 if of_text else _leading_tokens(body.model)
    if not lead:
        return False
    for at, block in enumerate(blocks if deep else blocks[:1]):
        patch = 0 if of_text else _patch(body.model)
        prompts = Prompts(block.channels, tokens, patch=patch, lead=lead, first=at == 0)
        block.block.add_module(ADAPTER, prompts.to(next(block.block.parameters()).device))
        if not of_text:
            block.block.register_forward_pre_hook(_prompted)
    if of_text:
        for block in blocks:
            block.block.register_forward_pre_hook(partial(_prompted_text, count=tokens))
        blocks[-1].block.register_forward_hook(partial(_without_prompts, count=tokens))
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


def _prompted_text(block: nn.Module, inputs: tuple[Any, ...], *, count: int) -> tuple[Any, ...]:
    """Tokens with prompts among them, and the mask `[n, 1, queries, keys]`, if there is one."""
    tokens, mask, *others = inputs
    if hasattr(block, ADAPTER):
        tokens = getattr(block, ADAPTER)(tokens, tokens)
    return (tokens, None if mask is None else _wider(mask, count), *others)


def _wider(mask: Tensor, count: int) -> Tensor:
    """The mask where so many tokens behind the first see, and are seen, as the first."""
    for axis in (-2, -1):
        if mask.shape[axis] > 1:  # else it says the same of all
            first, others = mask.tensor_split([1], dim=axis)
            mask = torch.cat([first, *[first] * count, others], dim=axis)
    return mask


def _without_prompts(block: nn.Module, inputs: Any, tokens: Tensor, *, count: int) -> Tensor:
    return torch.cat([tokens[:, :1], tokens[:, 1 + count :]], dim=1)


def _leading_tokens(model: Any) -> int:
    """How many tokens stand in front of those of the patches; 0 where no class token is read."""
    if getattr(model, "class_token", None) is not None:  # torchvision
        return 1
    visual = getattr(model, "visual", None)
    if visual is not None:  # open_clip
        pooled = getattr(visual, "attn_pool", None) is not None
        return int(not pooled and getattr(visual, "pool_type", "") == "tok")
    reads = getattr(model, "cls_token", None) is not None and model.global_pool == "token"  # timm
    return int(model.num_prefix_tokens) if reads else 0


def _patch(model: Any) -> int:
    """The side of a patch in pixels."""
    owner = getattr(model, "visual", model)
    patch = owner.patch_size if hasattr(owner, "patch_size") else owner.patch_embed.patch_size
    return int(patch if isinstance(patch, int) else patch[0])
