"""The options of a run: one data class, and the keywords by which calls take it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast, get_type_hints

from bench.errors import BenchError

FAILED = "failed"
"""The status of a trial that has ended with an error, and what `--retry` may ask for."""

Verb = TypeVar("Verb", bound=Callable[..., Any])

_LIMITS: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "margin": ("lie in (0, 1), such as 0.01 for one point", lambda value: 0 < value < 1),
    # Of fewer seeds nothing can be claimed.
    "max_seeds": ("be a whole number, 3 or more", lambda value: value >= 3 and value % 1 == 0),
    "minutes": ("be above 0", lambda value: 0 < value < math.inf),
}
"""What each limit of `decide` must be."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a call may say beside the suite.

    - `out`: folder that run folders go to, or a URL of an object store, as text.
    - `device`: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
    - `overrides`: texts `key=value` as of `--set`.
    - `workers`: processes at once (None: the cores that the trials' threads leave room for on a
      CPU, 1 on other devices).
    - `executor`: `auto`, `in-process`, `processes` or `ray`; `address` is that of a Ray cluster.
    - `only`: texts `key=value[,key=value]`; a trial is selected if any of them fits it.
    - `reuse`: False trains every trial from its start and alone.
    - `retry`: `failed` also runs trials again that failed before. Trials that failed for an
      external reason, such as a missing file or a full disk, are run again anyway.
    - `decide`: starts with the suite's seeds (at least three) and adds seeds to the strategies that
      are still open, until the verdict is decided or seeds cannot decide it. `margin` replaces the
      suite's `claims.margin`; `max_seeds` is the most seeds of a strategy (None: 20); after
      `minutes` no further seeds are added (None: no limit).
    - `advise`: True writes down what `bench advise` says before anything is trained, False does
      not; None does where that is a small part of the run.

    Raises `BenchError` for an option that is never valid.

    """

    out: str | Path = "results"
    device: str = "auto"
    overrides: Sequence[str] = ()
    workers: int | None = None
    executor: str = "auto"
    address: str | None = None
    only: Sequence[str] = ()
    reuse: bool = True
    retry: str | None = None
    decide: bool = False
    margin: float | None = None
    max_seeds: int | None = None
    minutes: float | None = None
    advise: bool | None = None

    def __post_init__(self) -> None:
        for name, option in (("overrides", self.overrides), ("only", self.only)):
            if isinstance(option, str):
                raise BenchError(f"{name} must be a list of texts such as [{option!r}], got a text")
        if self.retry not in (None, FAILED):
            raise BenchError(f"--retry must be {FAILED}, got {self.retry!r}")
        self._check_limits()

    def _check_limits(self) -> None:
        """Those of `decide`."""
        given = {
            name: value
            for name in ("margin", "max_seeds", "minutes")
            if (value := getattr(self, name)) is not None
        }
        if given and not self.decide:
            first = next(iter(given))
            mend = "give --decide too"
            if first == "margin":
                mend += ", or --set claims.margin=…, which applies to every run"
            raise BenchError(f"{_flag(first)} has no effect without --decide; {mend}")
        for name, (rule, holds) in _LIMITS.items():
            if name in given and not _holds(holds, given[name]):
                raise BenchError(f"{_flag(name)} must {rule}, got {given[name]!r}")

    @property
    def suite_overrides(self) -> tuple[str, ...]:
        """The overrides of the suite, with what `decide` changes of it."""
        margin = () if self.margin is None else (f"claims.margin={self.margin!r}",)
        return (*self.overrides, *margin)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _holds(rule: Callable[[float], bool], value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and rule(value)


class SuiteKeywords(TypedDict, total=False):
    """Options of whatever resolves a suite."""

    out: str | Path
    device: str
    overrides: Sequence[str]


class SelectionKeywords(SuiteKeywords, total=False):
    """Options of whatever looks at some trials of a suite."""

    only: Sequence[str]


class ProcessKeywords(SuiteKeywords, total=False):
    """Options of whatever trains."""

    workers: int | None
    executor: str
    address: str | None


class RunKeywords(ProcessKeywords, SelectionKeywords, total=False):
    """All options."""

    reuse: bool
    retry: str | None
    decide: bool
    margin: float | None
    max_seeds: int | None
    minutes: float | None
    advise: bool | None


DEFAULTS = {field.name: field.default for field in fields(RunOptions)}


def keyword_parameters(keywords: type) -> list[inspect.Parameter]:
    """The keywords of a class above as parameters, with the defaults of `RunOptions`."""
    hints = get_type_hints(keywords)
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name]
        )
        for name, default in DEFAULTS.items()
        if name in hints
    ]


def lists_options(keywords: type) -> Callable[[Verb], Verb]:
    """Let `help` list the options of a call that takes `**options: Unpack[keywords]`.

    It takes no others: what another call would heed is a `TypeError`.
    """

    def decorate(verb: Verb) -> Verb:
        written = inspect.signature(verb)
        own = [p for p in written.parameters.values() if p.kind is not p.VAR_KEYWORD]
        signature = written.replace(parameters=[*own, *keyword_parameters(keywords)])

        @wraps(verb)
        def call(*arguments: Any, **given: Any) -> Any:
            signature.bind(*arguments, **given)
            return verb(*arguments, **given)

        call.__signature__ = signature  # type: ignore[attr-defined]
        return cast(Verb, call)

    return decorate
