"""Texts to try things with: a tiny transformer in a folder as others write it, and sentences."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import TextDataset
from bench.system.cache import cache_root

GOOD, BAD = ("good", "great", "fine", "lovely"), ("bad", "awful", "poor", "dull")
FILLERS = ("the", "film", "was", "and", "plot", "quite", "actor", "very", "a", "of", "scene", "end")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLERS)
WIDTH = 16
SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "dim": WIDTH,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 32,
    "n_embd": WIDTH,
    "n_layer": 2,
    "n_head": 2,
    "embedding_size": WIDTH,
    "head_dim": 8,
    "vocab_size": len(VOCABULARY),
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
}
"""What configs of transformers call the sizes of a model, and the tokens that it knows."""


def sentences(count: int, *, seed: int = 0) -> TextDataset:
    """So many texts of 2 to 30 words; the class is that of the one word of praise or blame."""
    draw = np.random.default_rng(seed)
    texts, labels = [], []
    for index in range(count):
        label = index % 2
        words = list(draw.choice(FILLERS, draw.integers(1, 30)))
        words.insert(int(draw.integers(len(words) + 1)), str(draw.choice((BAD, GOOD)[label])))
        texts.append(" ".join(words))
        labels.append(label)
    return TextDataset(
        name="sentences",
        classes=("bad", "good"),
        sample_ids=tuple(f"text-{index:03d}" for index in range(count)),
        labels=np.array(labels, np.int64),
        splits=np.full(count, -1, np.int8),
        fingerprint=f"sentences of {count}, {seed}",
        texts=tuple(texts),
    )


def tokenizer() -> str:
    """A tokenizer of whole words with BERT's marks at both ends, as JSON."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: at for at, word in enumerate(VOCABULARY)}, "[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return str(made.to_str())


def bert_folder(folder: Path, **changes: Any) -> Path:
    """A BERT of two narrow blocks with random values, as `save_pretrained` writes it."""
    transformers = pytest.importorskip("transformers")
    import torch

    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(
        **{
            **sizes,
            "intermediate_size": 2 * WIDTH,
            "vocab_size": len(VOCABULARY),
            "max_position_embeddings": 64,
            **changes,
        }
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer(), encoding="utf-8")
    return folder


def small_model(kind: str, **changes: Any) -> Any:
    """A model of two narrow blocks, of the kind that transformers calls so, with random values."""
    transformers = pytest.importorskip("transformers")
    usual = transformers.AutoConfig.for_model(kind)
    own = {name: value for name, value in SMALL.items() if hasattr(usual, name)}
    config = transformers.AutoConfig.for_model(kind, **{**own, **changes})
    return transformers.AutoModel.from_config(config)


@cache
def text_backbone() -> str:
    """The name of a tiny BERT, in the cache of who asks first."""
    folder = cache_root() / "tiny-bert"
    return f"hf/{folder if folder.is_dir() else bert_folder(folder)}"


def with_config(folder: Path, **changes: Any) -> None:
    """Change what the folder's config says."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
