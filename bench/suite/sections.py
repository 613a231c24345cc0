"""Suites that are written in sections (`data: …, training: …`), which a suite does not have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml

from bench.errors import MAX_MESSAGE
from bench.suite.dump import SuiteDumper
from bench.suite.schema import Settings
from bench.suite.synonyms import meant, value_meant
from bench.suite.yaml_file import Location, YamlFile

T = TypeVar("T")

_MAX_LEVELS = 4
_ENTRIES = ("backbone", "strategy", "schedule", "augmentation", "head", "weights", "after")
"""Keys whose value may be a mapping with a `name` and options."""
_WHOLE = ("tune", "claims", "resources", "limits", "exclude", "include")
"""Keys with keys of their own."""
_NAMES = ("name", "type")


@dataclass(frozen=True, kw_only=True)
class Unnested:
    """The same suite with its keys at the top: `sections` were left out, `text` is its YAML."""

    sections: tuple[str, ...]
    yaml_file: YamlFile

    @property
    def text(self) -> str | None:
        """The corrected suite; None if it is too long for a message."""
        data = self.yaml_file.data
        nested = any(isinstance(value, (dict, list)) for value in data.values())
        text = yaml.dump(
            data,
            Dumper=SuiteDumper,
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None if nested else False,
            width=100,
        )
        return text.rstrip() if len(text) < MAX_MESSAGE else None


def unnested(yaml_file: YamlFile, keys: Sequence[str]) -> Unnested | None:
    """The suite with its keys at the top; None if it has no sections, or is no mapping.

    What is given twice keeps its first value; what stands for no key of a suite stays.
    """
    if not isinstance(yaml_file.data, Mapping):
        return None
    found = _Unnesting(keys=keys)
    found.add(yaml_file.data, ())
    if not found.sections:
        return None
    if found.dataset:
        found.put("dataset", _dataset(found.dataset), found.places.get("dataset", ()))
    order = {key: index for index, key in enumerate(keys)}
    data = dict(sorted(found.data.items(), key=lambda item: order.get(item[0], len(order))))
    return Unnested(
        sections=tuple(found.sections),
        yaml_file=YamlFile(
            data=data,
            path=yaml_file.path,
            lines=_moved(yaml_file.lines, found.places),
            overrides=_moved(yaml_file.overrides, found.places),
        ),
    )


def _moved(places: Mapping[Location, T], origins: Mapping[str, Location]) -> dict[Location, T]:
    """The places of values that stand at the top now."""
    moved: dict[Location, T] = {(): places[()]} if () in places else {}
    for key, origin in origins.items():
        for place, value in places.items():
            if place[: len(origin)] == origin and origin:
                moved[(key, *place[len(origin) :])] = value
    return moved


@dataclass(kw_only=True)
class _Unnesting:
    """`data` is what has been lifted to the top, `places` says where it stood.

    `dataset` gathers the options of the data set.
    """

    keys: Collection[str]
    data: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)
    places: dict[str, Location] = field(default_factory=dict)

    def add(self, mapping: Mapping[str, Any], place: Location, of: str | None = None) -> None:
        """Lift the content of a section; `of` is the key that the section stands for, if any."""
        for key, value in mapping.items():
            here, known = (*place, key), meant(key, self.keys)
            if of not in (None, "dataset") and key in _NAMES:
                self.put(str(of), value, here)
            elif of == "dataset" and (known in (None, "dataset") or key in _NAMES):
                self._option(key if known != "dataset" else _path_or_name(value), value, here)
            elif self._is_section(known, value, here):
                self.sections.append(key)
                self.add(value, here, known)
            else:
                self.put(known or key, value_meant(key, value), here)

    def put(self, key: str, value: Any, place: Location) -> None:
        """The first value of a key counts."""
        self.data.setdefault(key, value)
        self.places.setdefault(key, place)

    def _option(self, key: str, value: Any, place: Location) -> None:
        own = value if isinstance(value, Mapping) else {key: value}
        self.dataset = {**own, **self.dataset}
        self.places.setdefault("dataset", place)

    def _is_section(self, known: str | None, value: Any, place: Location) -> bool:
        """Whether the value holds keys of a suite, and its own key cannot hold them."""
        if not isinstance(value, Mapping) or len(place) > _MAX_LEVELS or known in _WHOLE:
            return False
        named = any(name in value for name in _NAMES)
        if known in _ENTRIES:
            if known == place[-1] or (named and known != "backbone"):
                return False
        elif known in Settings.model_fields:
            return named or any(meant(key, self.keys) for key in value)
        elif known == "dataset":
            return known != place[-1]
        return self._holds_keys(value)

    def _holds_keys(self, value: Mapping[str, Any], level: int = 0) -> bool:
        return any(
            meant(key, self.keys)
            or (
                isinstance(inner, Mapping)
                and level < _MAX_LEVELS
                and self._holds_keys(inner, level + 1)
            )
            for key, inner in value.items()
        )


def _path_or_name(value: Any) -> str:
    return "path" if isinstance(value, str) and set(value) & set("/\\.~") else "name"


def _dataset(options: Mapping[str, Any]) -> Any:
    """Shorter where there is but one option: `dataset: ./photos`."""
    if set(options) in ({"path"}, {"name"}):
        (only,) = options.values()
        return only
    return dict(options)
