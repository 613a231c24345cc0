"""JSON that may be anybody's, as a data class: types and limits are checked before it is used."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.errors import bounded

T = TypeVar("T")


def checked_json(kind: type[T], text: str) -> T:
    """The data class `kind` of a JSON text, lists as its tuples; raises `ValueError`.

    Types are strict, numbers finite, and `Annotated` fields within their limits.
    """
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(first_misfit(error)) from None


def first_misfit(error: ValidationError) -> str:
    """The first thing that does not fit, in a line: where, and what it should be."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return bounded(f"{place}: {first['msg']}" if place else first["msg"], 300)
