"""Which text backbones there are, without importing torch: one entry a family of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.models.text import hugging_face, language, minilm
from bench.suite.registry import remembered


@dataclass(frozen=True, kw_only=True)
class TextWeights:
    """Weights that come with a text backbone: what they are by their content, and their making.

    `save` writes them with the names of the backbone's own model to a safetensors file.
    """

    fingerprint: str
    save: Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class TextFamily:
    """Text backbones that are made alike; functions take the backbone's name.

    `config` describes the network, as a text that checkpoints keep, so that `build` makes it
    again without the files that the name stands for: a module that turns token ids `[n, length]`
    into logits, with a linear layer `classifier` as its last one. `groups` are its layer groups.
    `tokenizer` is JSON of the library `tokenizers`, `max_length` how many tokens a text has where
    nothing else is said, `most_tokens` how many it can have (None: any number). `weights` are those
    that come with it; None where there are none. Others are `made` where they are first needed, by
    these names.
    """

    config: Callable[[str], str]
    build: Callable[[str], Any]
    groups: Callable[[Any], Sequence[Any]]
    tokenizer: Callable[[str], str]
    max_length: Callable[[str], int]
    most_tokens: Callable[[str], int | None]
    weights: Callable[[str], TextWeights | None]
    made: tuple[str, ...] = ()


def _transformers_model(config: str) -> Any:
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
        tokenizer=lambda name: hugging_face.read_tokenizer(folder(name)),
        max_length=lambda name: hugging_face.usual_length(folder(name)),
        most_tokens=lambda name: hugging_face.most_positions(folder(name)),
        weights=weights,
    )


def _save(folder: Path, destination: Path) -> None:
    from bench.models.text.transformers_models import save_weights

    save_weights(folder, destination)


def _language_model(config: str) -> Any:
    from bench.models.text.encoder import build

    return build(config)


_LANGUAGE = TextFamily(
    config=lambda _: language.config(),
    build=_language_model,
    groups=_transformers_groups,
    tokenizer=lambda _: language.tokenizer(),
    max_length=lambda _: language.LENGTH,
    most_tokens=lambda _: language.LENGTH,
    weights=lambda _: None,
    made=(language.WEIGHTS,),
)

NAMED: dict[str, TextFamily] = {
    language.NAME: _LANGUAGE,
    minilm.NAME: _of_folder(lambda _: minilm.folder()),
}
"""Families of a single backbone, by its name."""

PREFIXED: dict[str, TextFamily] = {
    hugging_face.PREFIX: _of_folder(lambda name: hugging_face.folder_of(name)),
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
