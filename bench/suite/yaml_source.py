"""YAML text to plain data, with the line of every value, and `--set` overrides on top of it.

Scalars follow the YAML 1.2 core schema: `1e-3` is a number, `no` and `on` are strings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.errors import Problem, SuiteError

Location = tuple[str | int, ...]

MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_BYTES = 10_000_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute)


_NULL, _BOOL, _INT, _FLOAT = (
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")
)
_DIGITS = list("-+.0123456789")
_Loader.add_implicit_resolver(_NULL, re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    _BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(_INT, re.compile(r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)$"), _DIGITS)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    _DIGITS,
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_constructor(
    _INT, lambda _, node: int(node.value, 16 if node.value.startswith("0x") else 10)
)
_Loader.add_constructor(
    _FLOAT, lambda _, node: float(re.sub(r"\.(inf|nan)", r"\1", node.value.lower()))
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Plain data with the place of every value: a file and line, or the `--set` that gave it."""

    data: Any
    path: Path | None
    lines: dict[Location, int]
    overrides: dict[Location, str]

    def problem(self, location: Sequence[str | int], message: str) -> Problem:
        """A problem at `location`, or at the nearest enclosing value whose place is known."""
        for end in range(len(location), -1, -1):
            prefix = tuple(location[:end])
            if prefix in self.overrides:
                return Problem(message=message, path=Path(f"--set {self.overrides[prefix]}"))
            if prefix in self.lines:
                return Problem(message=message, path=self.path, line=self.lines[prefix])
        return Problem(message=message, path=self.path)


def read_yaml(path: Path) -> Source:
    """Read one YAML file; raises `SuiteError` when it is missing or not valid YAML."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise SuiteError([_missing_file(path)]) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise SuiteError([Problem(message=f"cannot read the suite: {reason}", path=path)]) from None
    if len(raw) > MAX_BYTES:
        size = f"{len(raw):,} bytes"
        message = f"a suite must be at most {MAX_BYTES:,} bytes, got {size}"
        raise SuiteError([Problem(message=message, path=path)])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        message = "a suite must be UTF-8 text"
        raise SuiteError([Problem(message=message, path=path, line=line)]) from None
    return parse_yaml(text, path=path)


def _missing_file(path: Path) -> Problem:
    folder = path.parent if path.parent.is_dir() else None
    suites = sorted(str(found) for found in folder.glob("*.y*ml")) if folder else []
    listing = f"; suites in that folder: {', '.join(suites[:10])}" if suites else ""
    return Problem(message=f"no such suite file{listing}", path=path)


def parse_yaml(text: str, *, path: Path | None = None) -> Source:
    """Parse YAML text; raises `SuiteError` with every duplicate key, or the syntax error."""
    converter = _Converter(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else converter.convert(loader, node, ())
    except RecursionError:
        message = f"nested deeper than {MAX_DEPTH} levels"
        raise SuiteError([Problem(message=message, path=path)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        message = f"not valid YAML: {error.problem or error.context}"
        raise SuiteError([Problem(message=message, path=path, line=line)]) from None
    except yaml.YAMLError as error:
        message = f"not valid YAML: {error}".replace("\n", " ")
        raise SuiteError([Problem(message=message, path=path)]) from None
    if converter.problems:
        raise SuiteError(converter.problems)
    return Source(data=data, path=path, lines=converter.lines, overrides={})


class _Converter:
    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}
        self.problems: list[Problem] = []
        self._nodes = 0

    def convert(self, loader: _Loader, node: yaml.Node, location: Location) -> Any:
        line = node.start_mark.line + 1
        self.lines[location] = line
        self._nodes += 1
        # Aliases make a small file large ("billion laughs") or endless: both are counted here.
        if self._nodes > MAX_NODES or len(location) > MAX_DEPTH:
            limit = f"{MAX_NODES:,} values or {MAX_DEPTH} levels"
            message = f"a suite may hold at most {limit}, aliases counted"
            raise SuiteError([Problem(message=message, path=self.path, line=line)])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, location)
        if isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return [self.convert(loader, item, (*location, index)) for index, item in items]
        return loader.construct_object(node)

    def _mapping(
        self, loader: _Loader, node: yaml.MappingNode, location: Location
    ) -> dict[str, Any]:
        self._report_duplicates(node)
        loader.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node) if key_node.id == "scalar" else None
            if key is None:
                self._problem(key_node, "a key must be a plain word")
                continue
            # Merged keys come first, so a key of the mapping itself overrides them.
            result[str(key)] = self.convert(loader, value_node, (*location, str(key)))
            self.lines[(*location, str(key))] = key_node.start_mark.line + 1
        return result

    def _report_duplicates(self, node: yaml.MappingNode) -> None:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.id == "scalar" and key_node.value != "<<":
                if key_node.value in seen:
                    self._problem(key_node, f"key {key_node.value!r} is given twice")
                seen.add(key_node.value)

    def _problem(self, node: yaml.Node, message: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(message=message, path=self.path, line=line))


def apply_overrides(source: Source, overrides: Sequence[str]) -> Source:
    """Apply `key=value` overrides (dotted path into the suite, value in YAML) in order.

    A name on the way is widened: `dataset.classes=3` turns `dataset: fractals` into a mapping.
    Raises `SuiteError` with every override that cannot be applied.
    """
    data, places = source.data, dict(source.overrides)
    problems: list[Problem] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        place = Path(f"--set {override}")
        if not equals or not all(key.split(".")):
            message = f"an override must read key=value, got {override!r}"
            problems.append(Problem(message=message, path=place))
            continue
        try:
            value = parse_yaml(text).data
            location = _locate(data, key.split("."))
            data = _replaced(data, location, value)
        except SuiteError as error:
            problems += [Problem(message=p.message, path=place) for p in error.problems]
            continue
        places[location] = override
    if problems:
        raise SuiteError(problems)
    return Source(data=data, path=source.path, lines=source.lines, overrides=places)


def _locate(data: Any, keys: Sequence[str]) -> Location:
    location: list[str | int] = []
    for key in keys:
        if isinstance(data, list):
            if not key.isdigit() or int(key) >= len(data):
                message = f"{'.'.join(map(str, location))} has {len(data)} entries, got {key!r}"
                raise SuiteError([Problem(message=message)])
            location.append(int(key))
            data = data[int(key)]
        else:
            location.append(key)
            data = data.get(key) if isinstance(data, dict) else None
    return tuple(location)


def _replaced(data: Any, location: Location, value: Any) -> Any:
    if not location:
        return value
    key, rest = location[0], location[1:]
    if isinstance(data, list):
        index = int(key)
        return [*data[:index], _replaced(data[index], rest, value), *data[index + 1 :]]
    if isinstance(data, str):
        data = {"name": data}
    elif not isinstance(data, dict):
        data = {}
    return {**data, key: _replaced(data.get(key), rest, value)}
