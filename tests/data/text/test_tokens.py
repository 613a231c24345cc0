"""Texts as rows of tokens, prepared once; what varies them."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data import TextData, data_fingerprint, open_data, prepare, preprocessing_of
from bench.data.images.augmentations import AUGMENTATIONS
from bench.data.inputs import Preprocessing
from bench.data.text.inputs import TextInputs
from bench.data.text.tokens import row_lengths, tokenise
from bench.errors import DataError
from bench.suite import Entry
from bench.system.token_rows import PADDING, SHARE_ONE, width_for
from bench.testing import check
from tests.texts import VOCABULARY, sentences, tokenizer

LENGTH = 24
OF_TEXTS = [each for each in AUGMENTATIONS if AUGMENTATIONS.get(each).traits.inputs == "text"]


def prepared(count: int = 12) -> TextData:
    data = open_data(prepare(sentences(count), size=LENGTH, resize="auto", tokenizer=tokenizer()))
    assert isinstance(data, TextData)
    return data


def inputs(data: TextData, name: str = "none", **options: object) -> TextInputs:
    entry = Entry(name=name, options=options)
    made = data.inputs(entry, data.preprocessing((), ()), seed=3, device=torch.device("cpu"))
    assert isinstance(made, TextInputs)
    return made


def words_of(row: np.ndarray) -> list[str]:
    return [VOCABULARY[at] for at in row if at != PADDING]


def test_tokens_are_those_of_the_tokenizer_and_what_is_longer_loses_its_end() -> None:
    texts = ["the film was good", "good", ""]
    found = tokenise(texts, tokenizer(), length=5)
    assert [words_of(row) for row in found.ids] == [
        ["[CLS]", "the", "film", "was", "[SEP]"],
        ["[CLS]", "good", "[SEP]"],
        ["[CLS]", "[SEP]"],
    ]
    assert found.words[0].tolist() == [-1, 0, 1, 2, -1]
    assert found.cut.tolist() == [True, False, False]
    assert row_lengths(found.ids).tolist() == [5, 3, 2]


def test_prepared_texts_open_as_they_were_and_tell_what_is_cut() -> None:
    dataset = sentences(12)
    data = prepared()
    assert list(data.texts) == list(dataset.texts)
    assert data.texts[-1] == dataset.texts[-1]
    assert data.texts[2:4] == list(dataset.texts[2:4])
    assert data.labels.tolist() == dataset.labels.tolist()
    kwargs = {"size": LENGTH, "resize": "auto", "tokenizer": tokenizer()}
    assert data.fingerprint == data_fingerprint(dataset, **kwargs)  # type: ignore[arg-type]
    rule = data.preprocessing((), ())
    told = preprocessing_of(
        dataset,
        interpolation="bilinear",
        mean=(),
        std=(),
        **kwargs,  # type: ignore[arg-type]
    )
    assert rule == told
    assert Preprocessing.from_json(rule.to_json()) == rule
    longer = [t for t in dataset.texts if len(t.split()) + 2 > LENGTH]
    (issue,) = data.issues
    assert (issue.kind, issue.count) == ("truncated", len(longer))
    assert 0 < len(longer) < 12


def test_other_lengths_and_tokenizers_are_other_data() -> None:
    dataset, cutter = sentences(4), tokenizer()
    usual = data_fingerprint(dataset, size=LENGTH, resize="auto", tokenizer=cutter)
    changed = cutter.replace("lovely", "lively")
    assert usual != data_fingerprint(dataset, size=LENGTH + 1, resize="auto", tokenizer=cutter)
    assert usual != data_fingerprint(dataset, size=LENGTH, resize="auto", tokenizer=changed)


@pytest.mark.parametrize("file", ["tokens.npy", "texts.bin", "tokenizer.json", "metadata.json"])
def test_damage_is_found_and_mended(file: str) -> None:
    data = prepared()
    path = data.folder / file
    os.utime(path, ns=(0, 0))
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    with pytest.raises(DataError, match="missing or damaged"):
        open_data(data.folder)
    assert list(prepared().texts) == list(sentences(12).texts)


def test_texts_without_a_known_word_are_told() -> None:
    dataset = replace(sentences(3), texts=("good film", "très bon", ""), fingerprint="unknown")
    folder = prepare(dataset, size=LENGTH, resize="auto", tokenizer=tokenizer())
    (issue,) = open_data(folder).issues
    assert (issue.kind, issue.samples) == ("unknown-words", dataset.sample_ids[1:])


def test_a_packed_tokenizer_is_checked() -> None:
    rule = prepared().preprocessing((), ())
    kept = json.loads(rule.to_json())
    assert len(kept["tokenizer"]) < len(tokenizer())
    for wrong, message in (
        (kept["tokenizer"][:-8], "ends too early"),
        ("AAAA", "cannot be unpacked"),
        ("?", "base64|padding"),
    ):
        with pytest.raises(ValueError, match=message):
            Preprocessing.from_json(json.dumps({**kept, "tokenizer": wrong}))


def test_what_is_no_tokenizer_is_told() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(DataError, match="no tokenizer"):
        prepare(sentences(2), size=8, resize="auto", tokenizer="{}")
    rule = Preprocessing(kind="text", size=4, classes=("a",)).to_json()
    with pytest.raises(ValueError, match="of texts alone"):
        Preprocessing.from_json(rule)


@pytest.mark.parametrize("name", OF_TEXTS)
def test_augmentations_keep_their_contract(name: str) -> None:
    check("augmentation", name)


@pytest.mark.parametrize("name", OF_TEXTS)
def test_a_varied_text_has_its_own_marks_and_words(name: str) -> None:
    data, samples = prepared(), np.arange(12)
    varied = inputs(data, name)
    seen, plain = varied.batch(samples, 0).numpy(), inputs(data).batch(samples, 0).numpy()
    assert not np.array_equal(seen, plain)
    assert not np.array_equal(seen, varied.batch(samples, 1).numpy())
    for row, own in zip(seen, plain, strict=True):
        words, before = words_of(row), words_of(own)
        assert (words[0], words[-1]) == ("[CLS]", before[-1])
        assert not Counter(words) - Counter(before)
        if name == "word_swap":
            assert Counter(words) == Counter(before)
        else:
            assert len(words) >= min(3, len(before))


def test_words_are_left_out_whole() -> None:
    pieces = np.array([-1, 0, 0, 0, 1, 2, 2, -1], np.int32)
    transform = AUGMENTATIONS.get("word_deletion").function(8, p=0.5)
    seen = {tuple(transform(pieces, np.random.default_rng(seed))) for seed in range(200)}
    words = [(1, 2, 3), (4,), (5, 6)]
    for kept in seen:
        inside = set(kept[1:-1])
        assert (kept[0], kept[-1]) == (0, 7)
        assert all(inside >= set(word) or not inside & set(word) for word in words)
        assert inside
    assert len(seen) == 2**3 - 1


def test_a_share_of_tokens_is_left_out() -> None:
    words = np.arange(1000, dtype=np.int32)
    transform = AUGMENTATIONS.get("token_dropout").function(1000, p=0.2)
    kept = [len(transform(words, np.random.default_rng(seed))) for seed in range(20)]
    assert np.mean(kept) == pytest.approx(800, abs=4 * np.sqrt(1000 * 0.2 * 0.8 / 20))


def test_a_mixture_names_both_texts_and_weighs_their_labels() -> None:
    data, samples = prepared(), np.arange(6)
    mixing = inputs(data, mix="mixup", mix_alpha=0.4)
    batch = mixing.batch(samples, 0)
    mixed, soft = mixing.mix(batch, torch.from_numpy(data.labels[samples]), epoch=0, step=1)
    assert mixed.shape == (6, 3, LENGTH)
    assert torch.equal(mixed[:, 0], batch)
    assert torch.equal(mixed[1:, 1], batch[:-1])
    share = mixed[0, 2, 0].item() / SHARE_ONE
    own, other = data.labels[0], data.labels[5]
    assert soft[0, own].item() == pytest.approx(share, abs=1e-6)
    assert soft[0, other].item() == pytest.approx(1 - share, abs=1e-6)
    again, _ = mixing.mix(batch, torch.from_numpy(data.labels[samples]), epoch=0, step=1)
    assert torch.equal(mixed, again)


def test_widths_are_few_and_wide_enough() -> None:
    widths = [width_for(length) for length in range(600)]
    assert all(width >= length for length, width in enumerate(widths))
    assert widths == sorted(widths)
    assert len(set(widths[:513])) == 8 + 4 + 4 + 4


def test_the_stored_texts_are_any_texts(tmp_path: Path) -> None:
    texts = ("", "日本語 🙂", "שלום", "a" * 1000)
    dataset = replace(sentences(4), texts=texts, fingerprint="any")
    data = open_data(prepare(dataset, size=LENGTH, resize="auto", tokenizer=tokenizer()))
    assert isinstance(data, TextData)
    assert tuple(data.texts) == texts
