"""What a suite is given as: a file, YAML text, or plain data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from bench.errors import MAX_PROBLEMS, Problem, SuiteError
from bench.suite.yaml_file import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_NODES,
    Location,
    YamlFile,
    has_surrogates,
    parse_yaml,
    read_yaml,
)

SuiteSource = str | Path | Mapping[str, Any]
"""A suite file, a suite as YAML text, or a suite as a mapping of the same keys and values."""


def read_source(source: SuiteSource) -> YamlFile:
    """The suite as plain data; raises `SuiteError` if it cannot be read.

    A `str` is text if it has several lines, or names no file and reads as a mapping; else it is a
    path. The problems of text name lines, those of a mapping keys such as `strategy.1.lr`.
    """
    if isinstance(source, Mapping):
        return YamlFile(data=_Converter().convert(source, ()), path=None, lines={}, overrides={})
    if isinstance(source, str) and _is_text(source):
        if len(source) > MAX_BYTES:
            message = f"a suite must be at most {MAX_BYTES:,} characters, this text is longer"
            raise SuiteError([Problem(message=message)])
        return parse_yaml(source)
    return read_yaml(Path(os.path.expanduser(source)))


def _is_text(source: str) -> bool:
    if "\n" in source:
        return True
    try:
        is_file = os.path.exists(os.path.expanduser(source))
        return not is_file and isinstance(parse_yaml(source).data, dict)
    except (OSError, ValueError, SuiteError):
        return False


class _Converter:
    """Values of Python to those that YAML has: numbers of NumPy and paths are taken too."""

    def __init__(self) -> None:
        self._nodes = 0
        self._problems: list[Problem] = []

    def convert(self, data: Mapping[str, Any], location: Location) -> dict[str, Any]:
        """The mapping; raises `SuiteError` with everything that is no plain data."""
        converted = self._mapping(data, location)
        if self._problems:
            raise SuiteError(self._problems)
        return converted

    def _mapping(self, data: Mapping[Any, Any], location: Location) -> dict[str, Any]:
        converted = {}
        for key, value in data.items():
            if not isinstance(key, (str, int, float)) or has_surrogates(str(key)):
                self._problem(location, f"a key must be a plain word, got {key!r}")
            else:
                converted[str(key)] = self._value(value, (*location, str(key)))
        return converted

    def _value(self, value: Any, location: Location) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(location) > MAX_DEPTH:
            limit = f"{MAX_NODES:,} values or {MAX_DEPTH} levels"
            self._problem(location[:1], f"a suite may hold at most {limit}")
            raise SuiteError(self._problems)
        if isinstance(value, Mapping):
            return self._mapping(value, location)
        if isinstance(value, (list, tuple, range)):
            return [self._value(item, (*location, index)) for index, item in enumerate(value)]
        return self._scalar(value, location)

    def _scalar(self, value: Any, location: Location) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Integral) and abs(int(value)) < 10**MAX_DIGITS:
            return int(value)
        if isinstance(value, Real) and not isinstance(value, Integral):
            return float(value)
        if isinstance(value, (str, Path)) and not has_surrogates(str(value)):
            return str(value)
        kinds = "text, a number, True, False, None, a list or a mapping"
        self._problem(location, f"a value must be {kinds}, got {value!r}")
        return None

    def _problem(self, location: Location, message: str) -> None:
        self._problems.append(Problem.at_key(location, message))
        if len(self._problems) >= MAX_PROBLEMS:
            raise SuiteError(self._problems)
