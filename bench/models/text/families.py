"""Which text backbones there are, without importing torch: one entry a family of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.models.described import DescribedFamily
from bench.models.text import (
    hugging_face,
    language,
    minilm,
    ngrams,
    stored_vectors,
    word_pieces,
)
from bench.suite.registry import remembered

LEARNED_POOLINGS = ("tfidf", "sif")
"""Those that depend on the training texts."""


@dataclass(frozen=True, kw_only=True)
class TextWeights:
    """Weights that come with a text backbone: what they are by their content, and their making.

    `save` writes them with the names of the backbone's own model to a safetensors file.
    """

    fingerprint: str
    save: Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class TextFamily(DescribedFamily):
    """Text backbones that are made alike; functions take the backbone's name.

    Their networks turn token ids `[n, length]` into logits. `tokenizer` is JSON of the library
    `tokenizers`, `max_length` how many tokens a text has where nothing else is said, `most_tokens`
    how many it can have (None: any number). `weights` are those that come with it; None where there
    are none. Others are `made` where they are first needed, by these names. `made_from` gives the
    tokenizer and the config that a backbone has with texts; None where all have the same.

    `poolings` are the ways in which it makes one vector a text; none where that is no choice. What
    it calls a token is so short that as many as `per_token` stand for one of other backbones. A
    network that only a head can learn from which is fitted names the `fits`; None where any can. It
    `has_no_values` where there is nothing that weights could be. `remarks` say what of its files is
    not as usual.
    """

    tokenizer: Callable[[str], str]
    max_length: Callable[[str], int]
    most_tokens: Callable[[str], int | None]
    weights: Callable[[str], TextWeights | None]
    poolings: tuple[str, ...] = ("cls", "mean", "last")
    per_token: int = 1
    fits: tuple[str, ...] | None = None
    has_no_values: bool = False
    remarks: Callable[[str], Sequence[str]] = lambda name: ()
    made: tuple[str, ...] = ()
    made_from: Callable[[str, Sequence[str]], tuple[str, str]] | None = None


def _transformers_model(config: str, length: int) -> Any:
    from bench.models.text.transformers_models import build

    return build(config)


def _transformers_groups(model: Any) -> Any:
    from bench.models.text.transformers_models import text_groups

    return text_groups(model)


def _of_folder(folder: Callable[[str], Path]) -> TextFamily:
    """Models of transformers, in a folder as its `save_pretrained` writes it."""

    def weights(name: str) -> TextWeights:
        found = folder(name)
        return TextWeights(
            fingerprint=hugging_face.weights_digest(found),
            save=lambda destination: _save(found, destination),
        )

    return TextFamily(
        config=lambda name: hugging_face.read_config(folder(name)),
        build=_transformers_model,
        groups=_transformers_groups,
        fitted=_in_body,
        tokenizer=lambda name: hugging_face.read_tokenizer(folder(name)),
        max_length=lambda name: hugging_face.usual_length(folder(name)),
        most_tokens=lambda name: hugging_face.most_positions(folder(name)),
        weights=weights,
    )


def _in_body(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A file by the network's names, or of transformers itself, whose pooler has no part in it."""
    if state.keys() & model.state_dict().keys():
        return state
    body = {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
    return {f"body.{name}": tensor for name, tensor in body.items()}


def _save(folder: Path, destination: Path) -> None:
    from bench.models.text.transformers_models import save_weights

    save_weights(folder, destination)


def _word_vectors() -> TextFamily:
    """Files of word vectors."""
    stored = stored_vectors.stored

    def build(described: str, length: int) -> Any:
        from bench.models.text.word_vectors import build

        return build(described)

    def groups(model: Any) -> Any:
        from bench.models.text.word_vectors import groups

        return groups(model)

    return TextFamily(
        config=lambda name: stored(name).described,
        build=build,
        groups=groups,
        tokenizer=lambda name: stored(name).tokenizer,
        max_length=lambda name: stored_vectors.USUAL_LENGTH,
        most_tokens=lambda name: None,
        weights=lambda name: TextWeights(
            fingerprint=stored(name).fingerprint, save=stored(name).save
        ),
        poolings=("mean", *LEARNED_POOLINGS),
        remarks=lambda name: stored(name).remarks,
    )


def _ngrams() -> TextFamily:
    """N-grams with a head that is fitted."""

    def build(described: str, length: int) -> Any:
        from bench.models.text.text_bytes import build

        return build(described, length)

    def groups(model: Any) -> Any:
        from bench.models.text.text_bytes import groups

        return groups(model)

    return TextFamily(
        config=ngrams.describe,
        build=build,
        groups=groups,
        tokenizer=lambda name: ngrams.byte_tokenizer(),
        max_length=lambda name: ngrams.BYTES,
        most_tokens=lambda name: None,
        weights=lambda name: None,
        poolings=(),
        per_token=ngrams.BYTES_PER_TOKEN,
        fits=("logistic",),
        has_no_values=True,
    )


def _language() -> TextFamily:
    """The transformer of the embedded language."""

    def build(described: str, length: int) -> Any:
        from bench.models.text.encoder import build

        return build(described)

    return TextFamily(
        config=lambda _: language.config(),
        build=build,
        groups=_transformers_groups,
        tokenizer=lambda _: language.tokenizer(),
        max_length=lambda _: language.LENGTH,
        most_tokens=lambda _: language.LENGTH,
        weights=lambda _: None,
        made=(language.WEIGHTS,),
    )


def _word_pieces() -> TextFamily:
    """Small BERTs with a vocabulary from the data set."""
    return TextFamily(
        config=word_pieces.config,
        build=_transformers_model,
        groups=_transformers_groups,
        tokenizer=lambda _: word_pieces.without_texts(),
        max_length=lambda _: word_pieces.USUAL_LENGTH,
        most_tokens=lambda _: word_pieces.MOST_POSITIONS,
        weights=lambda _: None,
        made_from=word_pieces.made_from,
    )


NAMED: dict[str, TextFamily] = {
    language.NAME: _language(),
    **dict.fromkeys(word_pieces.BLOCKS_AND_WIDTH, _word_pieces()),
    minilm.NAME: _of_folder(lambda _: minilm.folder()),
    stored_vectors.GLOVE: _word_vectors(),
    ngrams.NAME: _ngrams(),
}
"""Families of a single backbone, by its name."""

PREFIXED: dict[str, TextFamily] = {
    hugging_face.PREFIX: _of_folder(lambda name: hugging_face.folder_of(name)),
    stored_vectors.PREFIX: _word_vectors(),
    f"{ngrams.NAME}/": _ngrams(),
}
"""Families by what the names of their backbones begin with."""


def is_text(name: str) -> bool:
    """Whether the name is one of a text backbone."""
    return name in NAMED or any(name.startswith(prefix) and name != prefix for prefix in PREFIXED)


@remembered
def family_of(name: str) -> TextFamily:
    """The family of a text backbone."""
    if name in NAMED:
        return NAMED[name]
    return next(family for prefix, family in PREFIXED.items() if name.startswith(prefix))
