"""Registries of named functions: strategies, schedules, augmentations, data sets, heads, metrics.

An entry is one function. Its keyword-only parameters are the options that a suite may give; their
annotations (`Annotated[float, Field(gt=0)]`) are the rules they are checked against. What a kind
needs to know besides are its traits, a data class of its own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Generic, ParamSpec, TypeVar, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from bench.errors import BenchError, PluginError, nearest

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = __name__.partition(".")[0]
"""The name of this package."""


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
    def checked_origin(self) -> str | None:
        """`origin`; raises `PluginError` for what neither this package nor a plugin registers.

        Nothing would tell its versions apart, and no other process would have it.
        """
        if self.origin is None and self.function.__module__.partition(".")[0] != PACKAGE:
            raise PluginError(
                f"{self.name!r} is registered outside of a plugin ({self.place}); put it into a "
                "file of its own, and load that with --plugin or bench.load_plugin"
            )
        return self.origin

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def facts(self) -> Mapping[str, str]:
        """What else is told of it, by what it is, where its traits have something to tell."""
        told: Mapping[str, str] = getattr(self.traits, "facts", {})
        return told

    @property
    def place(self) -> str:
        """File and line of the function."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)


class Registry(Generic[F, T]):
    """Named functions of one kind, in order of registration.

    `traits` is the class of what describes an entry, `takes` are the positional parameters of every
    function. `shared_options` (name → (annotation, default)) are accepted by every entry; the layer
    that calls the entries takes them out before it calls the function.
    """

    def __init__(
        self,
        kind: str,
        traits: type[T],
        *,
        takes: tuple[str, ...] | None = None,
        shared_options: Mapping[str, tuple[Any, Any]] | None = None,
    ) -> None:
        self.kind = kind
        self.shared_options = dict(shared_options or {})
        self._traits = traits
        self._takes = takes
        self._entries: dict[str, Registered[F, T]] = {}

    @property
    def shared_model(self) -> type[BaseModel]:
        """The options that every entry accepts, as a model."""
        return create_model("shared", **self.shared_options)  # type: ignore[call-overload,no-any-return]

    def register(self, name: str, **traits: Any) -> Callable[[F], F]:
        """Register the decorated function under `name`; `traits` describe it to its callers.

        Raises `PluginError` for a name that is taken, traits or parameters that the kind does not
        have, an option without an annotation, and a function without a docstring.
        """
        module = sys._getframe(1).f_globals.get("__name__", "")
        loading = _LOADING.get()

        def decorate(function: F) -> F:
            try:
                own = self._traits(**traits)
            except TypeError as error:
                raise PluginError(f"{self.kind} {name!r}: {error}") from None
            entry = Registered(
                name=name,
                function=function,
                options=self._options_model(name, function),
                traits=own,
                origin=None if loading is None else loading.origin_of(module),
            )
            if name in self._entries:
                first, second = self._entries[name].place, entry.place
                raise PluginError(f"{self.kind} {name!r} is registered twice: {first} and {second}")
            self._check(name, function)
            self._entries[name] = entry
            if loading is not None and entry.origin is not None:
                loading.entries.append((self, name))
            return function

        return decorate

    def _check(self, name: str, function: F) -> None:
        """What of a function would only show when it is listed or called."""
        if not inspect.getdoc(function):
            raise PluginError(f"{self.kind} {name!r} needs a docstring: what `bench list` shows")
        signature = inspect.signature(function)
        kinds = [(each.name, each.kind) for each in signature.parameters.values()]
        positional = [name for name, kind in kinds if kind in _POSITIONAL]
        collects = any(kind in _COLLECTING for _, kind in kinds)
        if self._takes is not None and (len(positional) != len(self._takes) or collects):
            expected = ", ".join((*self._takes, "*", "option: type = default"))
            raise PluginError(f"{self.kind} {name!r} must take ({expected}), got {signature}")

    def _options_model(self, name: str, function: F) -> type[BaseModel]:
        fields: dict[str, Any] = dict(self.shared_options)
        parameters = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        for parameter in parameters:
            if parameter.annotation is inspect.Parameter.empty:
                raise PluginError(
                    f"{self.kind} {name!r}: option {parameter.name} has no annotation"
                )
            if parameter.name in fields:
                raise PluginError(
                    f"{self.kind} {name!r}: every entry has an option {parameter.name}"
                )
        # The other parameters may be of types that are imported for type checkers alone.
        options = SimpleNamespace(__annotations__={p.name: p.annotation for p in parameters})
        names = getattr(function, "__globals__", {})
        hints = get_type_hints(options, globalns=names, include_extras=True)
        for parameter in parameters:
            required = parameter.default is inspect.Parameter.empty
            default = ... if required else parameter.default
            if not required and not _is_plain(default):
                raise PluginError(
                    f"{self.kind} {name!r}: the default of option {parameter.name} must be what "
                    f"YAML can say (text, numbers, lists; Literal for a choice), got {default!r}"
                )
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
        for clear in _CLEARS:
            clear()

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _is_plain(value: Any) -> bool:
    """Whether suites can say the value, and processes that have no plugin yet can read it."""
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, (*value, *value.values())))
    return value is None or type(value) in (str, int, float, bool)


_CLEARS: list[Callable[[], None]] = []


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """The function, asked once for the same names: until an entry is forgotten.

    Its name may come back with other code.
    """
    cached = lru_cache(maxsize=65536)(function)
    _CLEARS.append(cached.cache_clear)
    return cast(Callable[P, R], cached)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """A plugin of some modules that is being loaded, and what it has registered so far."""

    origin: str
    modules: Collection[str]
    entries: list[tuple[Registry[Any, Any], str]]

    def origin_of(self, module: str) -> str | None:
        """The plugin's digest; None where a module of this package registers, which the plugin may
        be the first to import."""
        own = module.partition(".")[0] == PACKAGE and module not in self.modules
        return None if own else self.origin


_LOADING: ContextVar[Loading | None] = ContextVar("loading", default=None)


@contextmanager
def registered_by(origin: str, modules: Collection[str]) -> Iterator[Loading]:
    """What is registered in the block comes from a plugin with this digest; an error undoes it."""
    loading = Loading(origin=origin, modules=modules, entries=[])
    token = _LOADING.set(loading)
    try:
        yield loading
    except BaseException:
        for registry, name in loading.entries:
            registry.forget(name)
        raise
    finally:
        _LOADING.reset(token)
