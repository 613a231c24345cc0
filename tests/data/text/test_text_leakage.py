"""Leakage of texts: the repeats that are there are found, and the ones that are not are not."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import Splits, TextData, open_dataset
from bench.data.text.leakage import NEAR_JACCARD, compared, jaccard, near_pairs, text_leakage

WORDS = [f"{a}{b}" for a in ("ka", "mo", "tri", "lun", "ves") for b in ("dar", "pel", "oth", "ist")]
NEAR = "the room was clean and quiet and the staff were friendly"
CHINESE = "房间很干净，服务也很周到，早餐种类不多，位置离地铁站很近，下次还会再来的"


def sentence(draws: random.Random, count: int = 12) -> str:
    return " ".join(draws.choice(WORDS) for _ in range(count))


def data_of(folder: Path, texts: Sequence[str], labels: Sequence[str], **more: Any) -> TextData:
    dataset = open_dataset("text", {"lists": {"text": list(texts), "label": list(labels), **more}})
    nothing = np.zeros((len(dataset), 1), np.int32)
    return TextData(
        folder=folder, name="texts", texts=dataset.texts, tokens=nothing, words=nothing,  # type: ignore[attr-defined]
        tokenizer="", labels=dataset.labels, given_splits=dataset.splits,
        sample_ids=dataset.sample_ids, classes=dataset.classes, fingerprint="",
        test_sets=dataset.test_sets,
    )  # fmt: skip


def halves(data: TextData) -> list[Splits]:
    """The first half trains, the second is tested."""
    middle = len(data) // 2
    return [Splits(np.arange(middle), np.arange(0), np.arange(middle, len(data)))]


def issues_of(data: TextData, splits: list[Splits] | None = None) -> dict[str, Any]:
    return {issue.kind: issue for issue in text_leakage(data, splits or halves(data))}


def test_repeats_across_splits_are_named_and_those_within_one_are_not(tmp_path: Path) -> None:
    draws = random.Random(0)
    texts = ["So good!", "so  GOOD!", sentence(draws), sentence(draws), "SO good!", sentence(draws)]
    found = issues_of(data_of(tmp_path, texts, "aabaab"))
    issue = found["leakage-exact"]
    assert issue.count == 2
    assert issue.message == (
        "2 pairs of identical texts on different sides of a split, for example 000001 (train) and "
        "000005 (test), 000002 (train) and 000005 (test)."
    )
    assert set(found) <= {"leakage-exact", "leakage-not-searched"}


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (NEAR, NEAR.replace("friendly", "friendly indeed")),
        (NEAR, NEAR.replace("clean", "clear")),
        (NEAR, f"{NEAR}!!"),
        (CHINESE, CHINESE.replace("种类", "品类")),
    ],
)
def test_near_repeats_are_named_whatever_their_language(
    tmp_path: Path, text: str, changed: str
) -> None:
    pytest.importorskip("datasketch")
    draws = random.Random(1)
    texts = [text, sentence(draws), sentence(draws), changed]
    found = issues_of(data_of(tmp_path, texts, "abba"))
    assert set(found) == {"leakage-near"}
    assert found["leakage-near"].message.startswith(
        "1 pair of nearly identical texts on different sides of a split, for example 000001 (train)"
    )


def test_equal_texts_with_different_labels_are_told_wherever_they_lie(tmp_path: Path) -> None:
    draws = random.Random(2)
    texts = [NEAR, NEAR, CHINESE, f"{CHINESE}!", sentence(draws), sentence(draws)]
    splits = [Splits(np.arange(6), np.arange(0), np.arange(0))]
    found = issues_of(data_of(tmp_path, texts, "abbaab"), splits)
    assert "1 text under different labels, for example 000001 (a) and 000002 (b)" in (
        found["label-conflict"].message
    )
    if importlib.util.find_spec("datasketch"):
        assert found["label-conflict-near"].count == 1


def test_what_is_reported_is_what_a_comparison_of_all_pairs_finds() -> None:
    pytest.importorskip("datasketch")
    draws = random.Random(3)
    texts = [sentence(draws, draws.randint(3, 20)) for _ in range(60)]
    for text in texts[:40]:
        words = text.split()
        for _ in range(draws.randint(1, 3)):
            words[draws.randrange(len(words))] = draws.choice(WORDS)
        texts.append(" ".join(words))
    texts = list(dict.fromkeys(texts))
    expected = {
        (i, j)
        for i, j in combinations(range(len(texts)), 2)
        if jaccard(texts[i], texts[j]) >= NEAR_JACCARD
    }
    pairs, all_found = near_pairs(texts)
    assert len(expected) > 10
    assert set(map(tuple, pairs.tolist())) == expected
    assert all_found


def test_too_many_proposals_end_the_search_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasketch")
    monkeypatch.setattr("bench.data.text.leakage.MAX_PROPOSED", 3)
    data = data_of(tmp_path, [f"{NEAR} {'!' * n}" for n in range(8)], "abababab")
    splits = [Splits(np.arange(0, 8, 2), np.arange(0), np.arange(1, 8, 2))]
    found = issues_of(data, splits)
    assert found["leakage-near"].message.startswith("At least ")
    assert "the search was ended" in found["leakage-not-searched"].message
    assert list(tmp_path.iterdir()) == [], "what is not whole is not kept"


def test_the_search_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasketch")
    data = data_of(tmp_path, [NEAR, CHINESE, f"{NEAR}!", f"{CHINESE}!"], "abab")
    first = text_leakage(data, halves(data))
    monkeypatch.setattr("bench.data.text.leakage.near_pairs", None)
    assert text_leakage(data, halves(data)) == first


def test_without_the_package_only_equal_texts_are_looked_for_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = issues_of(data_of(tmp_path, [NEAR, CHINESE, NEAR, f"{CHINESE}!"], "abab"))
    assert set(found) == {"leakage-exact", "leakage-not-searched"}
    assert 'pip install "bench[text]"' in found["leakage-not-searched"].message


def test_several_test_sets_are_told_apart(tmp_path: Path) -> None:
    texts, splits = [NEAR, CHINESE, NEAR, CHINESE, NEAR, "else"], ["train", "train"]
    sets = [*splits, "test:a", "test:a", "test:b", "test:b"]
    data = data_of(tmp_path, texts, "ababab", split=sets)
    given = [Splits(np.arange(2), np.arange(0), np.arange(2, 6))]
    assert issues_of(data, given)["leakage-exact"].message.endswith(
        "Of these between test sets and what is trained or chosen by: a 2, b 1."
    )


def test_what_is_compared() -> None:
    assert compared("Ｆｕｌｌ  Width\n①") == "full width 1"
    assert jaccard("abc", "abc") == 1
    assert jaccard("abcde", "abcdf") == pytest.approx(1 / 3)


@pytest.mark.campaign
def test_no_two_real_reviews_are_taken_for_repeats() -> None:
    """What the limit was set by, on every fifth of them."""
    pytest.importorskip("datasketch")
    folder = os.environ.get("BENCH_TEXTS")
    if not folder or not (path := Path(folder) / "movies.csv").is_file():
        pytest.skip("BENCH_TEXTS does not name a folder with movies.csv")
    texts = [compared(text) for text in open_dataset("text", {"path": str(path)}).texts[::5]]  # type: ignore[attr-defined]
    pairs, all_found = near_pairs(texts)
    assert all_found
    assert len(pairs) == 0
