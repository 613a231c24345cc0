"""Which configs of two runs belong together, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.results.grid import AXES, axis_order, is_missing

if TYPE_CHECKING:
    import pandas as pd

GROUP = ("dataset", "strategy", "backbone")
"""What two configs must share to be compared at all."""

FOLLOWS = ("precision",)
"""Columns that follow from the machine: a difference between runs, as versions are."""

SAID_ONCE = ("metric",)
"""Settings that are said once for all configs."""

Cell = Mapping[str, Any]
"""The value of each axis of a config, as it was written."""


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Configs of a first and a second run.

    `joined` are pairs that belong together. In each of `ambiguous` are configs of both runs with
    the same strategy and backbone, of which nothing tells which belongs to which.
    """

    joined: tuple[tuple[str, str], ...]
    ambiguous: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def read_cells(trials: pd.DataFrame) -> dict[str, Cell]:
    """config → its cell, in order of appearance."""
    columns = [*(name for name in GROUP if name not in AXES), *AXES]
    found: dict[str, Cell] = {}
    for row in trials.drop_duplicates("config").to_dict("records"):
        cell = {
            name: None if is_missing(row[name]) else row[name]
            for name in columns
            if name not in FOLLOWS
        }
        settings = {} if is_missing(row["settings"]) else json.loads(row["settings"])
        cell |= {
            name: value
            for name, value in settings.items()
            if name not in SAID_ONCE and name not in cell
        }
        found[str(row["config"])] = cell
    return found


def match_configs(first: Mapping[str, Cell], second: Mapping[str, Cell]) -> Matches:
    """Join the configs of two runs.

    First those that are the same. What is left joins where data set, strategy and backbone are the
    same, and the axes that tell the configs of these apart within the runs match one to one: first
    tried are axes with the same values in both runs. All other axes may differ, and axes that only
    one of the runs knows do not count.
    """
    joined = dict(_identical(first, second))
    axes = sorted(_axes(first) & _axes(second), key=axis_order)
    ambiguous = []
    of_second = _grouped(second)
    for group, names in _grouped(first).items():
        others = of_second.get(group, [])
        keys = _keys([first[name] for name in names], [second[name] for name in others], axes)
        taken = {joined[name] for name in names if name in joined}
        left = [name for name in names if name not in joined]
        right = [name for name in others if name not in taken]
        buckets = _bucketed(right, second, keys)
        unclear = []
        for values, own in _bucketed(left, first, keys).items():
            found = buckets.get(values, [])
            if len(own) == len(found) == 1:
                joined[own[0]] = found[0]
            elif found:
                unclear.append((tuple(own), tuple(found)))
        if not unclear and left and right and not any(name in joined for name in names):
            unclear = [(tuple(left), tuple(right))]
        ambiguous += unclear
    said = {*joined, *(name for own, _ in ambiguous for name in own)}
    answered = {*joined.values(), *(name for _, found in ambiguous for name in found)}
    return Matches(
        joined=tuple((name, joined[name]) for name in first if name in joined),
        ambiguous=tuple(ambiguous),
        only_first=tuple(name for name in first if name not in said),
        only_second=tuple(name for name in second if name not in answered),
    )


def differing_axes(first: Cell, second: Cell) -> list[str]:
    """The axes that both know and in which they differ, most telling first."""
    shared = sorted(first.keys() & second.keys(), key=axis_order)
    return [axis for axis in shared if first[axis] != second[axis]]


def _identical(first: Mapping[str, Cell], second: Mapping[str, Cell]) -> Iterable[tuple[str, str]]:
    places: dict[str, list[str]] = {}
    for name, cell in second.items():
        places.setdefault(_text(cell), []).append(name)
    for name, cell in first.items():
        same = places.get(_text(cell), [])
        if same:
            yield name, same.pop(0)


def _axes(cells: Mapping[str, Cell]) -> set[str]:
    return {axis for cell in cells.values() for axis in cell}


def _grouped(cells: Mapping[str, Cell]) -> dict[str, list[str]]:
    return _bucketed(cells, cells, GROUP)


def _bucketed(
    names: Iterable[str], cells: Mapping[str, Cell], axes: Sequence[str]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_values(cells[name], axes), []).append(name)
    return found


def _keys(first: Sequence[Cell], second: Sequence[Cell], axes: Sequence[str]) -> tuple[str, ...]:
    """The axes by which the configs of a group are matched."""
    sides = (first, second)
    alike = [
        axis
        for axis in axes
        if {_values(cell, [axis]) for cell in first} == {_values(cell, [axis]) for cell in second}
    ]
    keys = _telling(sides, alike)
    if all(len({_values(cell, keys) for cell in side}) == len(side) for side in sides):
        return keys
    return _telling(sides, axes)


def _telling(sides: Sequence[Sequence[Cell]], axes: Sequence[str]) -> tuple[str, ...]:
    """Those of the axes that are needed to tell the configs of either side apart."""
    keys: tuple[str, ...] = ()
    for side in sides:
        for axis in axes:
            apart = len({_values(cell, keys) for cell in side})
            if len({_values(cell, (*keys, axis)) for cell in side}) > apart:
                keys = (*keys, axis)
    return keys


def _values(cell: Cell, axes: Sequence[str]) -> str:
    return json.dumps([cell.get(axis) for axis in axes], default=str)


def _text(cell: Cell) -> str:
    return json.dumps(cell, default=str, sort_keys=True)
