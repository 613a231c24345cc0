"""Registries of named functions: strategies, schedules, augmentations, data sets, heads, metrics.

An entry is one function. Its keyword-only parameters are the options that a suite may give; their
annotations (`Annotated[float, Field(gt=0)]`) are the rules they are checked against. What a kind
needs to know besides are its traits, a data class of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from bench.errors import BenchError, nearest

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class NoTraits:
    """The traits of a kind that has none."""


@dataclass(frozen=True, kw_only=True)
class Registered(Generic[F, T]):
    """A registered function with what the catalogue and the suite need to know of it.

    `origin` is the digest of the plugin that it comes from, None for the package's own.
    """

    name: str
    function: F
    options: type[BaseModel]
    traits: T
    origin: str | None = None

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def place(self) -> str:
        """File and line of the function."""
        code = getattr(self.function, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)


class Registry(Generic[F, T]):
    """Named functions of one kind, in order of registration.

    `traits` is the class of what describes an entry. `shared_options` (name → (annotation,
    default)) are accepted by every entry; the layer that calls the entries takes them out before it
    calls the function.
    """

    def __init__(
        self,
        kind: str,
        traits: type[T],
        *,
        shared_options: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None:
        self.kind = kind
        self.shared_options = dict(shared_options or {})
        self._traits = traits
        self._entries: dict[str, Registered[F, T]] = {}

    def register(self, name: str, **traits: Any) -> Callable[[F], F]:
        """Register the decorated function under `name`; `traits` describe it to its callers.

        Raises `BenchError` for a name that is taken, or traits that the kind does not have.
        """

        def decorate(function: F) -> F:
            loading = _LOADING.get()
            try:
                own = self._traits(**traits)
            except TypeError as error:
                raise BenchError(f"{self.kind} {name!r}: {error}") from None
            entry = Registered(
                name=name,
                function=function,
                options=self._options_model(name, function),
                traits=own,
                origin=None if loading is None else loading.origin,
            )
            if name in self._entries:
                first, second = self._entries[name].place, entry.place
                raise BenchError(f"{self.kind} {name!r} is registered twice: {first} and {second}")
            self._entries[name] = entry
            if loading is not None:
                loading.entries.append((self, name))
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

    def get(self, name: str) -> Registered[F, T]:
        """The entry called `name`; raises `BenchError` with the nearest name otherwise."""
        try:
            return self._entries[name]
        except KeyError:
            raise BenchError(
                f"{self.kind} must be a known name, got {name!r}{nearest(name, self._entries)}"
            ) from None

    def forget(self, name: str) -> None:
        """Take an entry out again: what a plugin registered before it failed."""
        self._entries.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """A plugin that is being loaded, and what it has registered so far."""

    origin: str
    entries: list[tuple[Registry[Any, Any], str]]


_LOADING: ContextVar[Loading | None] = ContextVar("loading", default=None)


@contextmanager
def registered_by(origin: str) -> Iterator[Loading]:
    """What is registered in the block comes from a plugin with this digest; an error undoes it."""
    loading = Loading(origin=origin, entries=[])
    token = _LOADING.set(loading)
    try:
        yield loading
    except BaseException:
        for registry, name in loading.entries:
            registry.forget(name)
        raise
    finally:
        _LOADING.reset(token)
