"""What a run keeps of its test texts: lengths, and the words that count for its mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.results.analysis import confident_mistakes
from bench.results.folder.texts import read_texts
from bench.runs.texts import MOST_PARTS, NAMED, parts_of
from tests.prediction.texts import LENGTH, TEXTS, trained_on_texts

pytestmark = pytest.mark.xdist_group("texts")


def test_words_and_letters_are_parts_and_long_texts_have_larger_ones() -> None:
    text = "It's a film, 很好!"
    assert [text[start:end] for start, end in parts_of(text)] == ["It's", "a", "film", "很", "好"]
    words = [f"w{number}" for number in range(3 * MOST_PARTS - 1)]
    found = list(parts_of(" ".join(words)))
    assert len(found) == MOST_PARTS
    start, end = found[0]
    assert " ".join(words)[start:end] == "w0 w1 w2"
    assert list(parts_of(" !? ")) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> bench.Run:
    """Barely trained, so that something is wrong."""
    folder = tmp_path_factory.mktemp("barely")
    return trained_on_texts(folder, strategy=["linear_probe"], epochs=1, lr=1e-4)


def test_lengths_and_mistakes_are_those_of_the_chosen_trial(run: bench.Run) -> None:
    found = read_texts(run.folder)
    assert found is not None
    assert found.trial == run.trials["trial"].iloc[0]
    texts = {sample: TEXTS.texts[int(sample) - 1] for sample in run.predictions["sample"]}
    assert found.most == LENGTH
    words = {sample: len(text.split()) for sample, text in texts.items()}
    assert found.tokens == {sample: min(LENGTH, count) for sample, count in words.items()}
    assert set(found.cut) == {sample for sample, count in words.items() if count > LENGTH}
    mistakes = confident_mistakes(run.predictions, [found.trial], count=10)
    assert mistakes
    assert [each.sample for each in found.shown] == [each.sample for each in mistakes]


def test_a_word_counts_by_what_leaving_it_out_changes(run: bench.Run) -> None:
    """Against each word left out by itself, as one would do it."""
    found = read_texts(run.folder)
    assert found is not None
    model = bench.load(run.folder, device="cpu")
    rows = run.predictions.set_index("sample")
    for each in found.shown[:3]:
        text = TEXTS.texts[int(each.sample) - 1]
        column = model.classes.index(rows.loc[each.sample, "predicted"])
        falls = []
        for match in re.finditer(r"\w+", text):
            without = text[: match.start()] + text[match.end() :]
            pair = model.probabilities([text, without])[:, column]
            falls.append(float(pair[0] - pair[1]))
        largest = sorted(map(abs, falls), reverse=True)[:NAMED]
        assert [abs(own.falls) for own in each.parts] == pytest.approx(largest, abs=1e-6)


@pytest.mark.campaign
def test_without_checkpoints_lengths_are_those_of_the_data(tmp_path: Path) -> None:
    run = trained_on_texts(tmp_path, strategy=["linear_probe"], epochs=1, checkpoints="none")
    found = read_texts(run.folder)
    assert found is not None
    assert max(found.tokens.values()) == LENGTH
    assert not any(each.parts for each in found.shown)
    assert np.array_equal(sorted(found.tokens), sorted(run.predictions["sample"]))
