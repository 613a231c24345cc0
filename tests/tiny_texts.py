"""Tiny text backbones with random values, in folders of their own, and texts for them."""

from __future__ import annotations

import json
import logging
from functools import cache
from typing import Any

import numpy as np
import pytest

from bench.data import TEST, TRAIN, VAL
from bench.data.text.dataset import TextDataset
from bench.system.cache import cache_root

WORDS = tuple(f"w{number}" for number in range(40))
CHANNELS, LENGTH = 16, 24
"""Channels of a token, and the most tokens of a text."""

_SIZES = {
    "vocab_size": 50,
    "hidden_size": CHANNELS,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 2 * CHANNELS,
    "max_position_embeddings": LENGTH + 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _SIZES,
    "roberta": _SIZES,
    "electra": {**_SIZES, "embedding_size": 8},
    "distilbert": {
        "vocab_size": 50,
        "dim": CHANNELS,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 2 * CHANNELS,
        "max_position_embeddings": LENGTH,
    },
    "deberta-v2": {
        **_SIZES,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "conv_kernel_size": 3,
    },
    "modernbert": {**_SIZES, "cls_token_id": 2, "sep_token_id": 3},
    "mpnet": _SIZES,
    "gpt2": {
        "vocab_size": 50,
        "n_embd": CHANNELS,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": LENGTH,
        "bos_token_id": None,
        "eos_token_id": None,
    },
    "llama": _SIZES,
    "qwen3": {**_SIZES, "head_dim": 8, "num_key_value_heads": 1},
    "gemma2": {**_SIZES, "head_dim": 8, "num_key_value_heads": 1},
}
"""Kinds of models, as transformers calls them, of two blocks."""
PROMPTED = ("bert", "roberta", "electra", "distilbert")


@cache
def tokenizer() -> str:
    """One token a word, as JSON."""
    pytest.importorskip("tokenizers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    made = Tokenizer(WordLevel({name: at for at, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return str(made.to_str())


def library_model(kind: str) -> Any:
    """The model of transformers, with values that depend on the kind alone."""
    transformers = pytest.importorskip("transformers")
    import torch

    logging.getLogger("transformers").setLevel(logging.ERROR)
    config = transformers.CONFIG_MAPPING[kind](**CONFIGS[kind])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config).eval()
    model.pooler = None  # as text backbones have it
    return model


@cache
def text_backbone(kind: str = "bert") -> str:
    """The name of the backbone, whose folder is in the cache of who asks first."""
    folder = cache_root() / f"tiny-{kind}"
    if not (folder / "tokenizer.json").is_file():
        library_model(kind).save_pretrained(folder)
        (folder / "tokenizer.json").write_text(tokenizer(), encoding="utf-8")
        pooling = {"pooling_mode_mean_tokens": True}
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return f"hf/{folder}"


def made_up_texts(
    *, train: int = 6, val: int = 4, test: int = 4, classes: int = 2, seed: int = 0
) -> TextDataset:
    """So many texts a class, of 1 to 30 words; each class prefers words of its own."""
    draw = np.random.default_rng(seed)
    counts = {TRAIN: train, VAL: val, TEST: test}
    rows = [(s, label) for s, n in counts.items() for label in range(classes) for _ in range(n)]
    own = np.array_split(np.array(WORDS), classes)
    texts = []
    for _, label in rows:
        words = np.where(draw.random(30) < 0.3, draw.choice(own[label], 30), draw.choice(WORDS, 30))
        texts.append(" ".join(words[: draw.integers(1, 31)]))
    return TextDataset(
        name="made_up_texts",
        classes=tuple(f"class{label}" for label in range(classes)),
        sample_ids=tuple(f"row{at}" for at in range(len(rows))),
        labels=np.array([label for _, label in rows], np.int64),
        splits=np.array([split for split, _ in rows], np.int8),
        fingerprint=f"made-up texts {sorted(counts.items())} {classes} {seed}",
        texts=tuple(texts),
    )
