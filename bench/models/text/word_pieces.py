"""Small BERTs that start at random, with a WordPiece vocabulary from the texts of the data set.

The networks are those of Turc et al., Well-Read Students Learn Better, 2019; no torch here.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from bench.errors import import_extra
from bench.keys import content_hash
from bench.system.cache import atomic_file, cache_lock, cache_root
from bench.system.machine import installed_versions

VOCABULARY_VERSION = 1
"""Names the cached vocabularies: raise it with every change that alters one."""

BLOCKS_AND_WIDTH = {"bert_tiny": (2, 128), "bert_mini": (4, 256)}
HEAD_WIDTH = 64

PADDING, UNKNOWN, FIRST, LAST, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""By their ids."""
INSIDE = "##"
"""In front of a token that does not begin a word."""

MOST_TOKENS = 8000
LEAST_COUNT = 2
"""How often a token of several characters has to occur."""
MOST_CHARACTERS = 6000
"""Of more, the rarest are unknown: of a character there are up to two tokens."""
LONGEST_WORD = 100

USUAL_LENGTH, MOST_POSITIONS = 256, 512


def config(backbone: str, tokens: int = MOST_TOKENS) -> str:
    """What describes the network for a vocabulary of so many `tokens`, as JSON."""
    blocks, width = BLOCKS_AND_WIDTH[backbone]
    bert = {
        "model_type": "bert",
        "vocab_size": tokens,
        "hidden_size": width,
        "num_hidden_layers": blocks,
        "num_attention_heads": width // HEAD_WIDTH,
        "intermediate_size": 4 * width,
        "max_position_embeddings": MOST_POSITIONS,
        "pad_token_id": SPECIAL.index(PADDING),
    }
    # The first token of a network that starts at random says nothing of the others yet.
    return json.dumps({"config": bert, "pooling": "mean"}, sort_keys=True)


def made_from(backbone: str, texts: Sequence[str]) -> tuple[str, str]:
    """The tokenizer with a vocabulary from `texts`, and the config of a network for it."""
    tokenizer = vocabulary_tokenizer(texts)
    return tokenizer, config(backbone, len(json.loads(tokenizer)["model"]["vocab"]))


def vocabulary_tokenizer(texts: Sequence[str]) -> str:
    """JSON of the library `tokenizers` for a WordPiece vocabulary from `texts`, in any order.

    It is made once and kept in the cache. Raises `MissingExtraError` without the library.
    """
    digest = hashlib.sha256()
    for each in sorted(hashlib.sha256(text.encode()).digest() for text in texts):
        digest.update(each)
    facts = [VOCABULARY_VERSION, installed_versions("tokenizers"), digest.hexdigest()]
    path = cache_root() / "vocabularies" / f"{content_hash(facts, digits=32)}.json"
    with cache_lock(path.with_suffix(".lock")):
        if not path.is_file():
            vocabulary = _vocabulary(texts)
            with atomic_file(path) as temporary:
                temporary.write_text(_described(vocabulary), encoding="utf-8")
    return path.read_text(encoding="utf-8")


@cache
def without_texts() -> str:
    """The tokenizer that knows no word."""
    return _described(SPECIAL)


def _vocabulary(texts: Sequence[str]) -> tuple[str, ...]:
    """The tokens by their ids."""
    tokenizers = import_extra("tokenizers", needed_for="a vocabulary from texts", extra="text")
    cutter = tokenizers.Tokenizer.from_str(without_texts())
    counts = Counter(word for text in texts for word in _words(cutter, text))
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        characters.update({character: count * word.count(character) for character in set(word)})
    by_count = sorted(characters, key=lambda character: (-characters[character], character))
    kept = set(by_count[:MOST_CHARACTERS])
    words = sorted(word for word in counts if len(word) <= LONGEST_WORD and kept.issuperset(word))
    # The library gives single characters their ids in the order of a hash map, which differs from
    # process to process and decides between equal counts: told as special tokens, they have ids.
    alphabet = sorted({word[0] for word in words})
    alphabet += sorted({INSIDE + character for word in words for character in word[1:]})
    learner = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token=UNKNOWN))
    learner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=max(MOST_TOKENS, len(SPECIAL) + len(alphabet)),
        min_frequency=LEAST_COUNT,
        special_tokens=[*SPECIAL, *alphabet],
        continuing_subword_prefix=INSIDE,
        show_progress=False,
    )

    def repeated() -> Iterator[str]:
        for word in words:
            yield f"{word} " * counts[word]

    learner.train_from_iterator(repeated(), trainer)
    found: dict[str, int] = learner.get_vocab(with_added_tokens=True)
    longer = sorted(set(found) - {*SPECIAL, *alphabet})
    return (*SPECIAL, *alphabet, *longer)


def _words(cutter: Any, text: str) -> Iterator[str]:
    """The words of a text as BERT sees them: each Chinese character is one."""
    normal = cutter.normalizer.normalize_str(text)
    return (word for word, _ in cutter.pre_tokenizer.pre_tokenize_str(normal))


def _described(vocabulary: Sequence[str]) -> str:
    ends: list[dict[str, Any]] = [
        {"SpecialToken": {"id": FIRST, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": LAST, "type_id": 0}},
    ]
    said: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        # A text that says [MASK] means these letters: what is added is added by its id alone.
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": ends,
            "pair": ends,
            "special_tokens": {
                token: {"id": token, "ids": [SPECIAL.index(token)], "tokens": [token]}
                for token in (FIRST, LAST)
            },
        },
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": INSIDE,
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": {token: at for at, token in enumerate(vocabulary)},
        },
    }
    return json.dumps(said, ensure_ascii=False)
