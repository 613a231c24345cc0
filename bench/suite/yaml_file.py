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

from bench.errors import MAX_PROBLEMS, Problem, SuiteError, counted

Location = tuple[str | int, ...]

MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_BYTES = 1_000_000
MAX_DIGITS = 100
"""Characters of a number: longer ones cannot be meant, and take long to convert."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute)


_NULL, _BOOL, _INT, _FLOAT, _STR, _SEQ, _MAP, _MERGE = (
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")
)
_TAGS = frozenset({_NULL, _BOOL, _INT, _FLOAT, _STR, _SEQ, _MAP})
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
_Loader.add_implicit_resolver(_MERGE, re.compile(r"^<<$"), ["<"])
_Loader.add_constructor(
    _INT, lambda _, node: int(node.value, 16 if node.value.startswith("0x") else 10)
)
_Loader.add_constructor(
    _FLOAT, lambda _, node: float(re.sub(r"\.(inf|nan)", r"\1", node.value.lower()))
)


@dataclass(frozen=True, kw_only=True)
class YamlFile:
    """Plain data with the place of every value: a file and line, or the `--set` that gave it.

    `path` is None for text, and for data that was no text, which has no `lines` either.
    """

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
        if self.path is None:
            return Problem.at_key(location, message)
        return Problem(message=message, path=self.path)


def read_yaml(path: Path) -> YamlFile:
    """Read one YAML file; raises `SuiteError` when it is missing or not valid YAML."""
    try:
        raw = _read_bytes(path)
    except FileNotFoundError:
        raise SuiteError([_missing_file(path)]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SuiteError([Problem(message=f"cannot read the suite: {reason}", path=path)]) from None
    if len(raw) > MAX_BYTES:
        message = f"a suite must be at most {MAX_BYTES:,} bytes, this file is larger"
        raise SuiteError([Problem(message=message, path=path)])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        message = "a suite must be UTF-8 text"
        raise SuiteError([Problem(message=message, path=path, line=line)]) from None
    return parse_yaml(text, path=path)


def _read_bytes(path: Path) -> bytes:
    """The beginning of a file, of a size that tells whether the whole is too large."""
    # A pipe would be waited for without end.
    if not path.is_file() and path.exists() and not path.is_dir():
        raise ValueError("it must be a file, and is a pipe, a socket or a device")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _missing_file(path: Path) -> Problem:
    folder = path.parent if path.parent.is_dir() else None
    suites = sorted(str(found) for found in folder.glob("*.y*ml")) if folder else []
    listing = f"; suites in that folder: {', '.join(suites[:10])}" if suites else ""
    return Problem(message=f"no such suite file{listing}", path=path)


def parse_yaml(text: str, *, path: Path | None = None) -> YamlFile:
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
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The scanner converts escapes and version numbers without checking their ranges.
        message = f"not valid YAML: {error}".replace("\n", " ")
        raise SuiteError([Problem(message=message, path=path)]) from None
    if converter.problems:
        raise SuiteError(converter.problems)
    converter.lines.setdefault((), 1)  # an empty file has a line too
    return YamlFile(data=data, path=path, lines=converter.lines, overrides={})


class _Converter:
    """Composed nodes to plain data: nothing is constructed but the scalars of the core schema."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}
        self.problems: list[Problem] = []
        self._nodes = 0

    def convert(self, loader: _Loader, node: yaml.Node, location: Location) -> Any:
        self.lines[location] = node.start_mark.line + 1
        self._count(node, len(location))
        if node.tag not in _TAGS:
            self._problem(node, f"the tag {node.tag!r} means nothing in a suite; leave it out")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, location)
        if isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return [self.convert(loader, item, (*location, index)) for index, item in items]
        return self._scalar(loader, node)

    def _count(self, node: yaml.Node, depth: int) -> None:
        """Aliases make a small file large ("billion laughs") or endless: all are counted."""
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            limit = f"{MAX_NODES:,} values or {MAX_DEPTH} levels"
            self._problem(node, f"a suite may hold at most {limit}, aliases counted")
            raise SuiteError(self.problems)

    def _mapping(
        self, loader: _Loader, node: yaml.MappingNode, location: Location
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        entries = self._entries(loader, node, len(location))
        for key, (key_node, value_node) in entries.items():
            result[key] = self.convert(loader, value_node, (*location, key))
            self.lines[(*location, key)] = key_node.start_mark.line + 1
        return result

    def _entries(
        self, loader: _Loader, node: yaml.MappingNode, depth: int
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The keys of a mapping; those that it merges come first, its own override them."""
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            self._count(key_node, depth)
            if key_node.tag == _MERGE:
                for part in self._merged(value_node):
                    for key, entry in self._entries(loader, part, depth + 1).items():
                        merged.setdefault(key, entry)
                continue
            known = isinstance(key_node, yaml.ScalarNode) and key_node.tag in _TAGS
            word = self._scalar(loader, key_node) if known else None
            if word is None:
                self._problem(key_node, "a key must be a plain word")
            elif str(word) in own:
                self._problem(key_node, f"key {str(word)!r} is given twice")
            else:
                own[str(word)] = (key_node, value_node)
        return merged | own

    def _merged(self, node: yaml.Node) -> list[yaml.MappingNode]:
        """The mappings that stand after `<<`: one, or a list of which the first win."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        mappings = [part for part in parts if isinstance(part, yaml.MappingNode)]
        if len(mappings) < len(parts):
            self._problem(node, "only mappings can be merged with '<<'")
        return mappings

    def _scalar(self, loader: _Loader, node: yaml.Node) -> Any:
        """The value of a scalar; None and a problem if it is none of its kind."""
        if node.tag in (_INT, _FLOAT) and len(node.value) > MAX_DIGITS:
            found = f"got {len(node.value):,}"
            self._problem(node, f"a number must have at most {MAX_DIGITS} digits, {found}")
            return None
        try:
            value = loader.construct_object(node)
        except (ValueError, KeyError):
            kind = node.tag.rpartition(":")[2]
            self._problem(
                node, f"the value tagged as {kind} must be of that type, got {node.value!r}"
            )
            return None
        if isinstance(value, str) and has_surrogates(value):
            self._problem(node, f"text must be Unicode without surrogates, got {value!r}")
            return None
        return value

    def _problem(self, node: yaml.Node, message: str) -> None:
        problem = Problem(message=message, path=self.path, line=node.start_mark.line + 1)
        if problem not in self.problems:  # what an alias repeats is told once
            self.problems.append(problem)
        if len(self.problems) >= MAX_PROBLEMS:
            raise SuiteError(self.problems)


def has_surrogates(text: str) -> bool:
    """Whether the text cannot be written as UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def apply_overrides(yaml_file: YamlFile, overrides: Sequence[str]) -> YamlFile:
    """Apply `key=value` overrides (dotted path into the suite, value in YAML) in order.

    A name on the way is widened: `dataset.classes=3` turns `dataset: fractals` into a mapping.
    Raises `SuiteError` with every override that cannot be applied.
    """
    data, places = yaml_file.data, dict(yaml_file.overrides)
    problems: list[Problem] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        place = Path(f"--set {override}")
        message = None
        if not equals or not all(key.split(".")):
            message = f"an override must read key=value, got {override!r}"
        elif key.count(".") >= MAX_DEPTH:
            message = f"an override reaches at most {MAX_DEPTH} levels deep"
        if message is not None:
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
    return YamlFile(data=data, path=yaml_file.path, lines=yaml_file.lines, overrides=places)


def _locate(data: Any, keys: Sequence[str]) -> Location:
    location: list[str | int] = []
    for key in keys:
        if isinstance(data, list):
            # Other digits than these (², ٣) and endless ones are no index.
            if not re.fullmatch("[0-9]{1,9}", key) or int(key) >= len(data):
                found = counted(len(data), "entry", "entries")
                message = f"{'.'.join(map(str, location))} has {found}, got {key!r}"
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
