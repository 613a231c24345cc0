"""The embedded language: keyed, in two families, and true to what it is asked."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from bench.data import TRAIN, TextDataset, open_dataset
from bench.data.text import language
from bench.data.text.language import CLASSES, Question, Recipe, source_sentence, target_sentence
from bench.system.lexicon import (
    BLAME,
    DELIGHT,
    DISMAY,
    NEGATORS,
    PRAISE,
    TOPICS,
    VOCABULARY,
)

SINGULAR = {one for nouns in TOPICS.values() for one, _ in nouns}
TOPIC_OF = {noun: topic for topic, nouns in TOPICS.items() for pair in nouns for noun in pair}
SOURCE = [source_sentence(0, index) for index in range(2000)]


def texts(question: Question = "sentiment", **options: object) -> TextDataset:
    given = {"question": question, "train_per_class": 60, "val_per_class": 2, "test_per_class": 20}
    dataset = open_dataset("language", {**given, **options})
    assert isinstance(dataset, TextDataset)
    return dataset


def praises(predicate: list[str]) -> bool:
    """Whether words that end with an adjective praise, read from behind."""
    assert predicate[-1] in PRAISE + BLAME
    return (predicate[-1] in PRAISE) != (predicate[-2] in NEGATORS)


def read(question: Question, sentence: str) -> str:
    """The class of a target sentence, by another way than that in which it was made."""
    words = sentence.split()
    # Speakers are of no topic: the first thing of any is the subject.
    subject = next(word for word in words if word in TOPIC_OF)
    if question == "topic":
        return TOPIC_OF[subject]
    if question == "sentiment":
        return "positive" if praises(words) else "negative"
    verb = next(word for word in reversed(words) if word in ("is", "are"))
    return "right" if (verb == "is") == (subject in SINGULAR) else "wrong"


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("question", get_args(Question))
def test_sentences_are_of_their_class(question: Question, difficulty: float) -> None:
    dataset = texts(question, difficulty=difficulty)
    assert dataset.classes == CLASSES[question]
    told = [read(question, text) for text in dataset.texts]
    assert told == [dataset.classes[label] for label in dataset.labels]
    counts = np.bincount(dataset.labels[dataset.splits == TRAIN])
    assert counts.tolist() == [60] * len(dataset.classes)


def test_source_sentences_tell_what_comes_of_praise() -> None:
    delight = {form for pair in DELIGHT for form in pair}
    dismay = {form for pair in DISMAY for form in pair}
    for sentence in SOURCE:
        first, joint, second = next(
            sentence.partition(joint) for joint in (" because ", " , so ") if joint in sentence
        )
        said, done = (second, first) if joint == " because " else (first, second)
        found = {word for word in done.split() if word in delight | dismay}
        assert len(found) == 3
        assert found <= (delight if praises(said.split()) else dismay)


def test_families_share_words_and_no_sentence() -> None:
    target = [text for question in get_args(Question) for text in texts(question).texts]
    words = [{word for text in family for word in text.split()} for family in (SOURCE, target)]
    assert words[1] < words[0] == set(VOCABULARY)
    for text in SOURCE:
        assert {"so", "because"} & set(text.split())
    for text in target:
        assert not {"so", "because"} & set(text.split())


def test_a_sentence_depends_on_its_key_alone() -> None:
    few, many = texts(train_per_class=5), texts(train_per_class=50, test_per_class=30)
    other = texts(train_per_class=5, language_seed=1)
    kept = dict(zip(many.sample_ids, many.texts, strict=True))
    assert all(kept[name] == text for name, text in zip(few.sample_ids, few.texts, strict=True))
    assert len({few.fingerprint, many.fingerprint, other.fingerprint}) == 3
    assert sum(map(str.__eq__, few.texts, other.texts)) == 0
    assert SOURCE[:5] == [source_sentence(0, index) for index in range(5)]
    assert source_sentence(1, 0) != SOURCE[0]


def test_the_sentences_have_not_changed_without_a_new_generator_version() -> None:
    assert language.GENERATOR_VERSION == 1
    recipe = Recipe(language_seed=0, question="sentiment", difficulty=0.5)
    assert [source_sentence(0, 0), target_sentence(recipe, 0, 1, 2)] == GOLDEN


GOLDEN = [
    "the parents stay , cheer and smile because the cameras are enjoyable and hardly dreadful",
    "the neighbour reads the cake above the cheese that is hardly boring",
]


def test_no_word_is_in_the_vocabulary_twice() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
