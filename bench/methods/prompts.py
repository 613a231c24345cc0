"""What a suite says of its classes in words, for networks that compare samples with texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from bench.errors import DataError, nearest

PLACE = "{}"
"""Where a template has the name of a class."""


def _checked_template(text: str) -> str:
    if text.count(PLACE) != 1:
        raise ValueError(f"must have {PLACE} once, where the name of a class stands")
    return text


Text = Annotated[str, Field(min_length=1, max_length=10_000)]
Templates = Annotated[
    list[Annotated[Text, AfterValidator(_checked_template)]],
    Field(
        min_length=1,
        max_length=1000,
        description="Texts with {} for the name of a class; of several, a class has the mean of "
        "their embeddings.",
        examples=[["a photo of a {}.", "a drawing of a {}."]],
    ),
]
Names = Annotated[
    dict[str, Text],
    Field(
        description="What a class is called in the templates, in any language that the model "
        "knows. Others are called as the data set calls them, with spaces for underscores.",
        examples=[{"ants": "ant", "bees": "bee"}],
    ),
]
Prompts = Annotated[
    dict[str, Annotated[list[Text], Field(min_length=1, max_length=1000)]],
    Field(
        description="Whole texts of a class, in the place of its templates.",
        examples=[{"ants": ["a swarm of ants on bark"]}],
    ),
]

TEMPLATES = ["a photo of a {}."]
"""That of CLIP where nothing is known of the images."""

NO_NAMES: dict[str, str] = {}
NO_PROMPTS: dict[str, list[str]] = {}


def class_names(classes: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """What each class is called."""
    return tuple(names.get(name, name.replace("_", " ")) for name in classes)


def class_texts(
    classes: Sequence[str],
    *,
    templates: Sequence[str],
    names: Mapping[str, str],
    prompts: Mapping[str, Sequence[str]],
) -> tuple[tuple[str, ...], ...]:
    """The texts of each class."""
    called = class_names(classes, names)
    return tuple(
        tuple(prompts.get(own) or [each.replace(PLACE, name) for each in templates])
        for own, name in zip(classes, called, strict=True)
    )


def check_said(classes: Sequence[str], **said: Mapping[str, object]) -> None:
    """Raise `DataError` where an option says something of a class that is not there."""
    for option, of in said.items():
        for name in of:
            if name not in classes:
                raise DataError(
                    f"{option}: the data set has no class {name!r}{nearest(name, classes)}"
                )
