"""Masked tokens: which are hidden and how, and that what is hidden is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.data.text.tokens import Tokens
from bench.models.randomness import keyed_initialisation
from bench.models.text.encoder import Encoder
from bench.system.token_rows import PADDING
from bench.training.masked_tokens import Masking, Recipe, hide, pretrain_masked

MASKING = Masking(mask=1, first=2, words=12)


def sentences(count: int) -> Tokens:
    """The second word tells the fourth, the first and the third tell nothing."""
    draws = np.random.default_rng(0)
    rows = np.full((count, 6), PADDING, np.int32)
    rows[:, [0, 2]] = draws.integers(2, 7, (count, 2))
    rows[:, 1] = draws.integers(2, 7, count)
    rows[:, 3] = rows[:, 1] + 5
    return rows


def test_tokens_are_hidden_as_in_bert() -> None:
    rows = np.tile(np.array([5, 6, 7, 8, PADDING], np.int32), (50_000, 1))
    shown, chosen = hide(rows, MASKING, seed=0, epoch=0)
    assert not chosen[:, -1].any()
    np.testing.assert_array_equal(shown[~chosen], rows[~chosen])
    told, truth = shown[chosen], rows[chosen]
    # Another token is by chance the same in one of ten cases. Bounds are five standard deviations.
    assert chosen[:, :4].mean() == pytest.approx(0.15, abs=0.004)
    assert (told == MASKING.mask).mean() == pytest.approx(0.8, abs=0.012)
    assert (told == truth).mean() == pytest.approx(0.1 + 0.1 / 10, abs=0.01)
    assert set(told.tolist()) == set(range(1, 12))


def test_what_is_hidden_depends_on_seed_epoch_and_row() -> None:
    rows = sentences(40)
    whole = hide(rows, MASKING, seed=3, epoch=1)
    for one, part in zip(whole, hide(rows[:7], MASKING, seed=3, epoch=1), strict=True):
        np.testing.assert_array_equal(one[:7], part)
    for other in ({"seed": 4, "epoch": 1}, {"seed": 3, "epoch": 2}):
        assert (hide(rows, MASKING, **other)[1] != whole[1]).any()


def pretrained(rows: Tokens, *, epochs: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    with keyed_initialisation(0, "test"):
        body = Encoder(words=12, width=16, blocks=1, heads=2, positions=6)
    done: list[int] = []
    losses = pretrain_masked(
        body,
        body.word_embeddings,
        rows,
        masking=MASKING,
        recipe=Recipe(epochs=epochs, lr=0.02, batch_size=64, seed=0),
        on_epoch=done.append,
    )
    assert done == list(range(1, epochs + 1))
    return losses, body.state_dict()


def test_what_words_tell_of_each_other_is_learned() -> None:
    losses, _ = pretrained(sentences(512), epochs=10)
    # Every word is one of five, if nothing else is known; two of four tell each other.
    assert losses[-1] < 0.9 * np.log(5)
    assert losses[0] > np.log(5)


def test_the_same_bits_whatever_was_drawn_before(two_threads: None) -> None:
    rows = sentences(64)
    first = pretrained(rows, epochs=2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = pretrained(rows, epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2
    assert first[0] == again[0]
    assert all(torch.equal(first[1][name], again[1][name]) for name in first[1])
