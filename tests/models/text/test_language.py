"""The backbone of the embedded language: its tokenizer and its network."""

from __future__ import annotations

import json

import pytest
import torch

from bench.data.text.tokens import tokenise
from bench.errors import BenchError
from bench.models import build_network, describe_weights, layer_group_names
from bench.models.text import language
from bench.models.text.encoder import build
from bench.models.weights import with_pooling
from bench.suite import Entry

TEXTS = ["the soup is not bland", "The soup, they find, is Good", "the soups are", ""]


def rows(texts: list[str], length: int = language.LENGTH) -> torch.Tensor:
    pytest.importorskip("tokenizers")
    return torch.from_numpy(tokenise(texts, language.tokenizer(), length=length).ids)


def test_a_token_is_a_word_or_a_comma() -> None:
    found = rows(TEXTS, length=8)
    words = [[language.WORDS[at] for at in row if at >= 0] for row in found]
    assert words == [
        ["the", "soup", "is", "not", "bland"],
        ["the", "soup", ",", language.UNKNOWN, "find", ",", "is", "good"],
        ["the", "soups", "are"],
        [],
    ]


def test_a_vector_depends_on_its_own_text_alone() -> None:
    model = build(language.config()).eval()
    found = rows(TEXTS)
    with torch.no_grad():
        together = model.features(found)
        alone = torch.cat([model.features(row[None]) for row in found])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
        states = model.body(input_ids=found[:1, :5], attention_mask=found[:1, :5] >= 0)
    torch.testing.assert_close(alone[0], states.last_hidden_state[0].mean(dim=0))
    assert (together[0] - together[2]).abs().max() > 0.01


def test_layer_groups_and_their_order() -> None:
    names = layer_group_names(language.NAME)
    assert names == ("embeddings", "block1", "block2", "norm", "head")


def test_the_network_is_that_of_its_version() -> None:
    said = json.loads(language.config())
    other = {**said, "config": {**said["config"], "words": 10**12}}
    with pytest.raises(BenchError, match="this version of bench has another language_tiny"):
        build(json.dumps(other))


def test_pooling_is_as_the_suite_says() -> None:
    random = describe_weights(language.NAME, Entry(name="none"))
    weights = with_pooling(language.NAME, random, "last")
    network = build_network(
        language.NAME,
        weights=weights,
        head=Entry(name="linear"),
        num_classes=2,
        seed=0,
        image_size=language.LENGTH,
    )
    assert network.model.pooling == "last"
