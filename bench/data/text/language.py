"""The data set `language`: sentences of a small grammar, generated on demand.

The grammar has what makes texts hard for who counts words: verbs that agree with a subject at a
distance, adjectives that negation turns round, others that have nothing to say. It speaks in two
families of sentences that have all words and no template in common. The *source family* says of
something what it is like and what people do because of it, so that whoever learns to fill its gaps
learns which words praise, which blame, and what negation does to them. The *target family* says of
something what it is like, in other constructions, and asks: whether that is praise (`sentiment`),
whether the verb agrees with its subject (`agreement`), or what the topic is (`topic`).

Sentence `index` of class `c` in split `s` depends on (seed, s, c, index), the question and the
difficulty alone: asking for more sentences changes none of the earlier ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, TypeAlias, TypeVar

import numpy as np
from pydantic import Field

from bench.data.dataset import DATASETS, SPLIT_NAMES, TEST, TRAIN, VAL
from bench.data.text.dataset import TextDataset
from bench.system.download import OnProgress
from bench.system.lexicon import (
    BE,
    BLAME,
    DELIGHT,
    DISMAY,
    INTENSIFIERS,
    MENTION,
    NEGATORS,
    PEOPLE,
    PRAISE,
    PREPOSITIONS,
    TOPICS,
)

GENERATOR_VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a sentence."""

Question = Literal["sentiment", "agreement", "topic"]
CLASSES: dict[Question, tuple[str, ...]] = {
    "sentiment": ("negative", "positive"),
    "agreement": ("wrong", "right"),
    "topic": tuple(TOPICS),
}

MODIFIED, ATTRIBUTE, NEGATED, INTENSIFIED = 0.4, 0.1, 0.2, 0.25
"""How often a source sentence has something between its subject and verb, an adjective in it, a
negated predicate, an intensified one."""
RELATIVE, STRAY = 0.5, 0.1
"""How often what stands between is a clause, and how often else a thing of any topic."""
SECOND_PREDICATE = 0.6
"""How often a source sentence says two things of its subject."""

_DRAWS = 32
"""More than any sentence needs."""
_SOURCE, _TARGET = 0, 1

T = TypeVar("T")
Words: TypeAlias = list[str]
PerClass: TypeAlias = Annotated[int, Field(ge=1, le=10_000)]


@DATASETS.register("language")
def language(
    progress: OnProgress | None = None,
    /,
    *,
    question: Annotated[
        Question,
        Field(
            description="What is asked of a sentence: whether it praises its subject, whether its "
            "verb agrees with it, or which topic it is of.",
            examples=["sentiment"],
        ),
    ] = "sentiment",
    train_per_class: Annotated[
        PerClass, Field(description="Training sentences of each class.", examples=[100])
    ] = 100,
    val_per_class: Annotated[
        PerClass, Field(description="Validation sentences of each class.", examples=[50])
    ] = 50,
    test_per_class: Annotated[
        PerClass, Field(description="Test sentences of each class.", examples=[300])
    ] = 300,
    difficulty: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How often something stands between subject and verb, and an adjective "
            "in it that is not the subject's; half as often the predicate is negated.",
            examples=[0.7],
        ),
    ] = 0.7,
    language_seed: Annotated[
        int, Field(ge=0, lt=2**32, description="Which sentences are drawn.", examples=[0])
    ] = 0,
) -> TextDataset:
    """Generated sentences whose meaning is more than their words (the target family).

    Nothing is read from disk, so `progress` has nothing to tell. `weights: language` pretrain on
    the source family, which has no sentence in common with it.
    """
    recipe = Recipe(language_seed=language_seed, question=question, difficulty=float(difficulty))
    counts = {TRAIN: train_per_class, VAL: val_per_class, TEST: test_per_class}
    classes = CLASSES[question]
    keys = [
        (split, label, index)
        for split, count in counts.items()
        for label in range(len(classes))
        for index in range(count)
    ]
    facts = [GENERATOR_VERSION, asdict(recipe), sorted(counts.items())]
    return TextDataset(
        name="language",
        classes=classes,
        sample_ids=tuple(
            f"{SPLIT_NAMES[split]}/{classes[label]}/{index}" for split, label, index in keys
        ),
        labels=np.array([label for _, label, _ in keys], np.int64),
        splits=np.array([split for split, _, _ in keys], np.int8),
        fingerprint=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        texts=tuple(target_sentence(recipe, *key) for key in keys),
        generated=True,
    )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What fixes a target sentence besides its key."""

    language_seed: int
    question: Question
    difficulty: float


class _Draws:
    """What is drawn for one sentence, from a generator that depends on its key alone."""

    def __init__(self, seed: int, family: int, key: Sequence[int]) -> None:
        # The lowest counter word is left to the generator itself.
        bits = np.random.Philox(key=[seed, family], counter=[0, *reversed(key)])
        self._uniforms: Iterator[float] = iter(np.random.Generator(bits).random(_DRAWS).tolist())

    def flip(self, probability: float = 0.5) -> bool:
        return next(self._uniforms) < probability

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(next(self._uniforms) * len(choices))]


def source_sentence(seed: int, index: int) -> str:
    """Sentence `index` of the source family: what something is like, and what comes of it."""
    draws = _Draws(seed, _SOURCE, (0, 0, index))
    topic, praised, number = draws.pick(tuple(TOPICS)), draws.flip(), draws.flip()
    said = _subject(draws, topic, number, modified=MODIFIED, attribute=ATTRIBUTE)
    said += [BE[number], *_predicate(draws, praised, negated=NEGATED)]
    if draws.flip(SECOND_PREDICATE):
        said += ["and", *_predicate(draws, praised, negated=NEGATED)]
    if draws.flip():
        return " ".join([*said, ",", "so", *_reaction(draws, praised)])
    return " ".join([*_reaction(draws, praised), "because", *said])


def target_sentence(recipe: Recipe, split: int, label: int, index: int) -> str:
    """Sentence `index` of a class of the target family, in one of its three constructions."""
    draws = _Draws(recipe.language_seed, _TARGET, (split, label, index))
    asked = recipe.question
    topic = tuple(TOPICS)[label] if asked == "topic" else draws.pick(tuple(TOPICS))
    praised = bool(label) if asked == "sentiment" else draws.flip()
    number = draws.flip()
    agrees = asked != "agreement" or bool(label)
    share = recipe.difficulty
    subject = _subject(draws, topic, number, modified=share, attribute=share)
    predicate = _predicate(draws, praised, negated=share / 2)
    verb = BE[number if agrees else not number]
    speakers = draws.flip()
    speaking = ["the", draws.pick(PEOPLE)[speakers], draws.pick(MENTION)[speakers]]
    words = draws.pick(
        (
            [*speaking, "that", *subject, verb, *predicate],
            [*speaking, *subject, "that", verb, *predicate],
            [*subject, ",", *speaking, ",", verb, *predicate],
        )
    )
    return " ".join(words)


def _subject(
    draws: _Draws, topic: str, number: bool, *, modified: float, attribute: float
) -> Words:
    words = ["the", draws.pick(TOPICS[topic])[number]]
    if not draws.flip(modified):
        return words
    other = draws.flip()
    own = [draws.pick(draws.pick((PRAISE, BLAME)))] if draws.flip(attribute) else []
    if draws.flip(RELATIVE):
        clause = [draws.pick(PEOPLE)[other], draws.pick(MENTION)[other]]
        return [*words, "that", "the", *own, *clause]
    beside = draws.pick(tuple(TOPICS)) if draws.flip(STRAY) else topic
    thing = draws.pick(TOPICS[beside])[other]
    return [*words, draws.pick(PREPOSITIONS), "the", *own, thing]


def _predicate(draws: _Draws, praised: bool, *, negated: float) -> Words:
    if draws.flip(negated):
        return [draws.pick(NEGATORS), draws.pick(BLAME if praised else PRAISE)]
    degree = [draws.pick(INTENSIFIERS)] if draws.flip(INTENSIFIED) else []
    return [*degree, draws.pick(PRAISE if praised else BLAME)]


def _reaction(draws: _Draws, praised: bool) -> Words:
    number, verbs = draws.flip(), list(DELIGHT if praised else DISMAY)
    who = draws.pick(PEOPLE)[number]
    first, second, third = (_taken(draws, verbs)[number] for _ in range(3))
    return ["the", who, first, ",", second, "and", third]


def _taken(draws: _Draws, choices: list[T]) -> T:
    chosen = draws.pick(choices)
    choices.remove(chosen)
    return chosen
