"""The catalogue as rows, without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from bench.errors import BenchError, nearest
from bench.runs.catalogue import catalogue
from bench.suite import FractalWeights, LanguageWeights
from bench.suite.reference import described_settings
from bench.suite.registry import Registry

Row = tuple[str, str, str]
"""Name, options, meaning."""


def listing(kind: str | None = None) -> dict[str, tuple[Row, ...]]:
    """The rows by kind; raises `BenchError` if there is none that is called `kind`.

    Of one `kind` only if it is given: then options have a line each, and the meaning one for each
    fact and option.
    """
    kinds = listings(in_full=kind is not None)
    chosen = [name for name in kinds if kind in (None, name, plural(name))]
    if not chosen:
        raise BenchError(f"KIND must be a known kind, got {kind!r}{nearest(str(kind), kinds)}")
    return {name: tuple(kinds[name]) for name in chosen}


def listings(*, in_full: bool = False) -> dict[str, list[Row]]:
    """The rows of every kind; `in_full` as for one of them."""
    names = catalogue()
    return {
        "strategy": _rows(names.strategy, in_full),
        "schedule": _rows(names.schedule, in_full),
        "augmentation": _rows(names.augmentation, in_full),
        "mix": _rows(names.mix, in_full),
        "head": _rows(names.head, in_full),
        "metric": _rows(names.metric, in_full),
        "objective": _rows(names.objective, in_full),
        "penalty": _rows(names.penalty, in_full),
        "after": _rows(names.after, in_full),
        "dataset": _rows(names.dataset, in_full),
        "weights": _weights(),
        "backbone": [*((name, "", "") for name in names.backbones), *_NAMED_BY_PREFIX],
        "setting": _settings(),
    }


_NAMED_BY_PREFIX = (
    ("timm/NAME", "", "timm's"),
    ("hf/NAME", "", "text models of transformers, from the hub or a folder"),
    ("vectors/FILE", "", "word vectors: GloVe, word2vec, fastText, or an array with an index"),
    (
        "tfidf/words",
        "",
        "n-grams of words, or of characters (tfidf/characters), or of jieba's words",
    ),
)


def plural(kind: str) -> str:
    """The kind's name for many."""
    if kind.endswith("s") or kind == "after":  # weights, what is made after training
        return kind
    return (
        f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}{'es' if kind.endswith('x') else 's'}"
    )


def _rows(registry: Registry[Any, Any], in_full: bool) -> list[Row]:
    rows, between = [], "\n" if in_full else ", "
    for name in registry:
        entry = registry.get(name)
        own = {
            key: field
            for key, field in entry.options.model_fields.items()
            if key not in registry.shared_options
        }
        lines = [entry.summary]
        if in_full:
            lines += [f"{what}: {text}" for what, text in entry.facts.items()]
            lines += _meanings(own)
        rows.append((name, between.join(_defaults(own)), "\n".join(lines)))
    if registry.shared_options:
        shared = registry.shared_model.model_fields
        lines = ["options of every entry", *(_meanings(shared) if in_full else ())]
        rows.append(("(all)", between.join(_defaults(shared)), "\n".join(lines)))
    return rows


def _defaults(options: Mapping[str, FieldInfo]) -> list[str]:
    return [
        key if field.is_required() else f"{key}={field.default}" for key, field in options.items()
    ]


def _meanings(options: Mapping[str, FieldInfo]) -> list[str]:
    return [f"{key}: {field.description}" for key, field in options.items() if field.description]


def _weights() -> list[Row]:
    of_fractals, of_language = (
        ", ".join(_defaults(recipe.model_fields)) for recipe in (FractalWeights, LanguageWeights)
    )
    return [
        ("none", "", "a random start"),
        ("imagenet", "", "the library's default ImageNet weights"),
        ("IMAGENET1K_V1, …", "", "a weight set that torchvision names"),
        ("{file: PATH}", "", "a state dict or safetensors file"),
        ("fractals", of_fractals, "pretrained here on fractals, once, without any files"),
        ("language", of_language, "language_tiny, pretrained here on sentences, in the same way"),
    ]


def _settings() -> list[Row]:
    return [
        (item.name, f"{item.default} ({item.values})", item.meaning)
        for item in described_settings()
    ]
