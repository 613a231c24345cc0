"""Poolings of word vectors, against their definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.models.text.word_vectors import SIF_A, WordVectorModel, build, groups
from bench.system.token_rows import SHARE_ONE

WORDS, WIDTH = 6, 4
TEXTS = ([0, 1, 1, 2], [3, 6, 0], [6], [], [4, 4, 5])
"""Word 6 has no vector."""


def rows(texts: Sequence[Sequence[int]], width: int = 5) -> Tensor:
    return torch.tensor([[*text, *[-1] * (width - len(text))] for text in texts], dtype=torch.int32)


def model(pooling: str) -> WordVectorModel:
    made = WordVectorModel(WORDS, WIDTH, pooling=pooling)
    table = torch.sin(torch.arange(WORDS * WIDTH) ** 2.0).view(WORDS, WIDTH)
    made.load_state_dict({"embedding.weight": table}, strict=False)
    return made


def vectors(made: WordVectorModel, text: Sequence[int]) -> np.ndarray:
    own = made.embedding.weight.detach().double().numpy()
    return own[[word for word in text if word < WORDS]]


def test_the_mean_leaves_out_words_without_a_vector() -> None:
    made = model("mean")
    wanted = [
        own.mean(axis=0) if len(own) else np.zeros(WIDTH)
        for own in (vectors(made, text) for text in TEXTS)
    ]
    np.testing.assert_allclose(made.features(rows(TEXTS)).detach(), wanted, atol=1e-6)
    assert not made.learned_buffers


def test_rare_words_count_more() -> None:
    made, train = model("tfidf"), TEXTS[:3]
    made.load_state_dict(made.learned(rows(train)), strict=False)
    having = np.array([2, 1, 1, 1, 0, 0])
    rarity = np.log((1 + 3) / (1 + having)) + 1
    np.testing.assert_allclose(made.word_weights, rarity, rtol=1e-6)
    weights = rarity[[0, 1, 1, 2]]
    wanted = weights @ vectors(made, TEXTS[0]) / weights.sum()
    found = made.features(rows(TEXTS)).detach()
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)
    assert not found[2:4].any()


def test_smooth_inverse_frequency_leaves_out_what_is_common() -> None:
    made, train = model("sif"), TEXTS
    made.load_state_dict(made.learned(rows(train)), strict=False)
    counts = np.array([2, 2, 1, 1, 2, 1])
    weights = SIF_A / (SIF_A + counts / counts.sum())
    means = np.stack(
        [
            (weights[known := [word for word in text if word < WORDS], None] * vectors(made, text))
            .sum(axis=0) / max(len(known), 1)
            for text in train
        ]
    )  # fmt: skip
    first = np.linalg.svd(means)[2][0]
    wanted = means - np.outer(means @ first, first)
    np.testing.assert_allclose(made.features(rows(train)).detach(), wanted, atol=1e-7)


@pytest.mark.parametrize("pooling", ["mean", "tfidf", "sif"])
def test_neither_companions_nor_padding_change_a_bit(pooling: str) -> None:
    generator = torch.Generator().manual_seed(0)
    made = WordVectorModel(500, 30, pooling=pooling)
    ids = torch.randint(-1, 510, (40, 64), generator=generator, dtype=torch.int32)
    if made.learned_buffers:
        made.load_state_dict(made.learned(ids), strict=False)
    together = made.features(ids)
    wider = torch.cat([ids, torch.full((40, 24), -1, dtype=torch.int32)], dim=1)
    assert torch.equal(made.features(wider)[7:9], together[7:9])
    assert torch.equal(made.features(ids[11:12]), together[11:12])


def test_a_mixture_lies_between_its_two_texts() -> None:
    made, ids = model("mean"), rows(TEXTS)
    shares = torch.full_like(ids, SHARE_ONE // 4)
    alone = made.features(ids)
    mixed = made.features(torch.stack([ids, ids.roll(1, 0), shares], dim=1))
    wanted = alone / 4 + 3 * alone.roll(1, 0) / 4
    np.testing.assert_allclose(mixed.detach(), wanted.detach(), atol=1e-6)


def test_only_training_texts_with_words_say_what_is_common() -> None:
    made = model("sif")
    assert not made.learned(rows([[6], []]))["common"].any()
    with pytest.raises(ValueError, match="got 'cls'"):
        WordVectorModel(2, 2, pooling="cls")


def test_a_description_makes_the_same_network() -> None:
    made = build('{"dimensions": 4, "pooling": null, "words": 6}')
    assert made.pooling == "mean"
    with pytest.raises(ValueError, match="at most 1,000,000,000 values"):
        build('{"dimensions": 1000, "pooling": null, "words": 10000000}')
    assert made.embedding.weight.shape == (WORDS, WIDTH)
    assert [group.name for group in groups(made)] == ["embeddings", "head"]
