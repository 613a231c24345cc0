"""A small transformer encoder with norms in front (Xiong et al., On Layer Normalization, 2020).

Its modules are called as those of timm's, so that adapters find their places.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError
from bench.models.text import language
from bench.models.text.transformers_models import TextModel

EMBEDDING_STD = 0.1
MLP_RATIO = 4


class Encoder(nn.Module):
    """So many `blocks` of so many `heads` over embeddings of words and positions.

    It is called, and answers, as models of transformers are and do.
    """

    def __init__(self, *, words: int, width: int, blocks: int, heads: int, positions: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=width)
        self.word_embeddings = nn.Embedding(words, width)
        self.position_embeddings = nn.Embedding(positions, width)
        for embeddings in (self.word_embeddings, self.position_embeddings):
            nn.init.normal_(embeddings.weight, std=EMBEDDING_STD)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """`last_hidden_state` `[n, length, width]` of ids and of a mask, both `[n, length]`."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        states = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        seen = attention_mask.bool()[:, None, None]
        for block in self.blocks:
            states = block(states, seen)
        return SimpleNamespace(last_hidden_state=self.norm(states))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), _Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), _Mlp(width)

    def forward(self, states: Tensor, seen: Tensor) -> Tensor:
        states = states + self.attn(self.norm1(states), seen)
        added: Tensor = states + self.mlp(self.norm2(states))
        return added


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, states: Tensor, seen: Tensor) -> Tensor:
        count, length, width = states.shape
        cut = self.qkv(states).view(count, length, 3, self.heads, width // self.heads)
        queries, keys, values = cut.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        joined: Tensor = self.proj(found.transpose(1, 2).reshape(count, length, width))
        return joined


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = (
            nn.Linear(width, MLP_RATIO * width),
            nn.Linear(MLP_RATIO * width, width),
        )

    def forward(self, states: Tensor) -> Tensor:
        found: Tensor = self.fc2(F.gelu(self.fc1(states)))
        return found


def build(described: str) -> TextModel:
    """The network that `language.config` describes, with random values.

    Raises `BenchError` for the description of another version.
    """
    said, own = json.loads(described), json.loads(language.config())
    if {**said, "pooling": None} != {**own, "pooling": None}:
        raise BenchError(f"this version of bench has another {language.NAME}: train it again")
    return TextModel(Encoder(**own["config"]), pooling=said["pooling"])
