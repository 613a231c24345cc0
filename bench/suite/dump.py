"""A checked suite back to YAML with everything filled in: what a run folder keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from bench.suite.claims import Claims
from bench.suite.limits import Limits
from bench.suite.schema import (
    AXES,
    DEFAULT_AXES,
    WRITTEN_IF_SET,
    AxisEntry,
    Entry,
    GridRule,
    Settings,
    Suite,
)


def dump_suite(suite: Suite) -> str:
    """YAML text that loads to the same trials wherever it lies: defaults and paths are resolved."""
    written = {
        key: values
        for key, values in suite.settings.items()
        if key not in WRITTEN_IF_SET or values != (WRITTEN_IF_SET[key],)
    }
    return _text(suite, written, whole=True)


def dump_compact(suite: Suite) -> str:
    """YAML text as one would write it: what has its default is left out."""
    defaults = dict(Settings())
    written = {
        key: values
        for key, values in suite.settings.items()
        if values != DEFAULT_AXES.get(key, (defaults[key],))
    }
    return _text(suite, written, whole=False)


def _text(suite: Suite, settings: Mapping[str, tuple[Any, ...]], *, whole: bool) -> str:
    entry = _entry if whole else _written
    data: dict[str, Any] = {"name": suite.name, "dataset": entry(suite.dataset)}
    for axis in AXES:
        data[axis] = _one_or_list([_axis_entry(item, entry) for item in suite.axes[axis]])
    for key, values in settings.items():
        data[key] = _one_or_list([entry(v) if isinstance(v, Entry) else v for v in values])
    for key in ("exclude", "include"):
        rules: tuple[GridRule, ...] = getattr(suite, key)
        if rules:
            data[key] = [_rule(rule) for rule in rules]
    if suite.tune is not None:
        data["tune"] = suite.tune.written
    if suite.claims != Claims():
        data["claims"] = suite.claims.model_dump()
    if suite.resources.limited:
        data["resources"] = suite.resources.model_dump(exclude_none=True)
    if suite.limits != Limits():
        data["limits"] = suite.limits.model_dump()
    if suite.checkpoints != "all":
        data["checkpoints"] = suite.checkpoints
    if suite.after:
        data["after"] = [entry(each) for each in suite.after]
    if suite.split_check:
        data["split_check"] = suite.split_check
    return yaml.dump(data, Dumper=SuiteDumper, sort_keys=False, allow_unicode=True)


class SuiteDumper(yaml.SafeDumper):
    """Indents lists, quotes what YAML 1.1 readers would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _entry(entry: Entry) -> Any:
    if entry.name == "file" and "path" in entry.options:
        facts = {key: item for key, item in entry.options.items() if key != "path"}
        return {"file": entry.options["path"], **_plain(facts)}
    if not entry.options:
        return entry.name
    return {"name": entry.name, **_plain(entry.options)}


def _axis_entry(item: AxisEntry, entry: Callable[[Entry], Any]) -> Any:
    """The entry with its settings; `entry` says how an entry is written."""
    settings = {
        key: _one_or_list([entry(v) if isinstance(v, Entry) else v for v in values])
        for key, values in item.settings.items()
    }
    plain = entry(item.entry)
    if not settings:
        return plain
    return {**(plain if isinstance(plain, dict) else {"name": plain}), **settings}


def _rule(rule: GridRule) -> dict[str, Any]:
    # A rule matches on the options it names, so only those may be written out.
    entries = {axis: _axis_entry(item, _written) for axis, item in rule.entries.items()}
    settings = {
        key: _one_or_list([_written(v) if isinstance(v, Entry) else v for v in values])
        for key, values in rule.settings.items()
    }
    return {**entries, **settings}


def _written(entry: Entry) -> Any:
    """The entry with the options that were written out."""
    return _entry(entry.model_copy(update={"options": {k: entry.options[k] for k in entry.given}}))


def _one_or_list(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
