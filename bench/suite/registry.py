"""Registries of named functions: strategies, schedules, augmentations, data sets, heads, weights.

An entry is one function. Its keyword-only parameters are the options that a suite may give; their
annotations (`Annotated[float, Field(gt=0)]`) are the rules they are checked against.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from bench.errors import BenchError, nearest

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Registered(Generic[F]):
    """A registered function with what the catalogue and the suite need to know of it."""

    name: str
    function: F
    options: type[BaseModel]
    traits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


class Registry(Generic[F]):
    """Named functions of one kind, in order of registration.

    `shared_options` (name → (annotation, default)) are accepted by every entry; the layer that
    calls the entries takes them out before it calls the function.
    """

    def __init__(
        self, kind: str, *, shared_options: Mapping[str, tuple[Any, Any]] | None = None
    ) -> None:
        self.kind = kind
        self.shared_options = dict(shared_options or {})
        self._entries: dict[str, Registered[F]] = {}

    def register(self, name: str, **traits: Any) -> Callable[[F], F]:
        """Register the decorated function under `name`; `traits` describe it to its callers."""

        def decorate(function: F) -> F:
            assert name not in self._entries, f"{self.kind} {name!r} is registered twice"
            self._entries[name] = Registered(
                name=name,
                function=function,
                options=self._options_model(name, function),
                traits=traits,
            )
            return function

        return decorate

    def _options_model(self, name: str, function: F) -> type[BaseModel]:
        fields: dict[str, Any] = dict(self.shared_options)
        parameters = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        # The other parameters may be of types that are imported for type checkers alone.
        options = SimpleNamespace(__annotations__={p.name: p.annotation for p in parameters})
        names = getattr(function, "__globals__", {})
        hints = get_type_hints(options, globalns=names, include_extras=True)
        for parameter in parameters:
            required = parameter.default is inspect.Parameter.empty
            default = ... if required else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
        config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
        return create_model(f"{name}_options", __config__=config, **fields)

    def get(self, name: str) -> Registered[F]:
        """The entry called `name`; raises `BenchError` with the nearest name otherwise."""
        try:
            return self._entries[name]
        except KeyError:
            raise BenchError(
                f"{self.kind} must be a known name, got {name!r}{nearest(name, self._entries)}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
