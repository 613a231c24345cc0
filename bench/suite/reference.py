"""What settings and options say of themselves: for `bench list` and `docs/settings.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from bench.suite.claims import Claims
from bench.suite.keys import FROM, MEANINGS, SPACE, Key
from bench.suite.limits import Limits
from bench.suite.load import Catalogue
from bench.suite.registry import Registry
from bench.suite.resources import Resources
from bench.suite.schema import (
    DEFAULT_AXES,
    Entry,
    FileWeights,
    FractalWeights,
    LanguageWeights,
    Settings,
)
from bench.suite.tune import FoundRange, Method, Range


@dataclass(frozen=True, kw_only=True)
class Described:
    """A setting or option: which values it may have, its default as YAML, its meaning, examples.

    `default` is empty where a value must be given.
    """

    name: str
    values: str
    default: str
    meaning: str
    examples: tuple[Any, ...]


def described(model: type[BaseModel]) -> list[Described]:
    """Every field of a model."""
    properties = model.model_json_schema()["properties"]
    return [
        Described(
            name=name,
            values=_values(properties[name]),
            default="" if field.is_required() else yaml_text(_plain_default(field.default)),
            meaning=field.description or "",
            examples=tuple(field.examples or ()),
        )
        for name, field in model.model_fields.items()
    ]


def described_settings() -> list[Described]:
    """Every training setting, with the default that it has in a suite."""
    return [
        Described(
            **{
                **vars(item),
                "default": yaml_text(list(DEFAULT_AXES[item.name]))
                if item.name in DEFAULT_AXES
                else item.default,
            }
        )
        for item in described(Settings)
    ]


def yaml_text(value: Any) -> str:
    """The value as a suite would have it, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {yaml_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(yaml_text(item) for item in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _plain_default(value: Any) -> Any:
    return value.name if isinstance(value, Entry) else value


# Rules in words -------------------------------------------------------------------------------

_KINDS: Mapping[str, str] = {
    "null": "null",
    "boolean": "true or false",
    "string": "text",
    "object": "a mapping",
}


def _values(schema: Mapping[str, Any]) -> str:
    """Which values a JSON Schema takes."""
    if "enum" in schema:
        return ", ".join(map(yaml_text, schema["enum"]))
    if "const" in schema:
        return yaml_text(schema["const"])
    if "anyOf" in schema:
        kinds = dict.fromkeys(map(_values, schema["anyOf"]))
        if "number" in kinds:
            kinds.pop("whole number", None)
        return ", ".join(kinds)
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _bounded("whole number" if kind == "integer" else "number", schema)
    if kind == "array":
        return f"list of: {_values(schema['items'])}"
    return _KINDS.get(str(kind), "a name or a mapping")


def _bounded(noun: str, schema: Mapping[str, Any]) -> str:
    low, high = _bound(schema, "inimum"), _bound(schema, "aximum")
    if low and high:
        return f"{low[1]} {low[0]} {noun} {high[0]} {high[1]}"
    if low:
        return f"{noun} {'≥' if low[0] == '≤' else '>'} {low[1]}"
    return f"{noun} {high[0]} {high[1]}" if high else noun


def _bound(schema: Mapping[str, Any], end: str) -> tuple[str, str] | None:
    for sign, key in (("≤", f"m{end}"), ("<", f"exclusiveM{end}")):
        if key in schema:
            return sign, f"{schema[key]:,.10g}"
    return None


# The page ---------------------------------------------------------------------------------------

HEADER = """\
# Settings

Every key, setting and option of a suite. This page is made from the rules that suites are checked
by (`python docs/make_settings.py`), `bench list` shows the same names in the terminal, and editors
that know YAML complete and check suites with the schema that `bench schema` prints:

```yaml
# yaml-language-server: $schema=schema.json
```

as a line of the suite, after `bench schema --out schema.json` beside it.

Any training setting may be a list, which makes it an axis of the grid, and may stand in an entry of
an axis (`{name: linear_probe, lr: 0.01}`), where it holds for the cells of that entry only.
"""


FILE_WEIGHTS = """\
Facts about a weights file of your own. A fact that is not given is unknown: `bench plan` says what
is used instead. Checkpoints of `bench` contain these facts.
"""


def reference_page(catalogue: Catalogue) -> str:
    """The whole page as Markdown."""
    return "\n".join([HEADER, *_sections(catalogue)])


def _sections(catalogue: Catalogue) -> Iterator[str]:
    yield "## Keys of a suite\n"
    yield from _key_table(MEANINGS)
    yield "## Training settings\n"
    yield from _table(described_settings())
    registries: Iterable[tuple[str, Registry[Any, Any], str]] = (
        ("Strategies", catalogue.strategy, ""),
        ("Schedules", catalogue.schedule, ""),
        ("Augmentations", catalogue.augmentation, ""),
        ("Mixes", catalogue.mix, "Of `NAME+MIX`; α is the option `mix_alpha` of the augmentation."),
        ("Heads", catalogue.head, ""),
        ("Data sets", catalogue.dataset, ""),
        ("Metrics", catalogue.metric, ""),
        ("Objectives", catalogue.objective, "The option `objective` of every strategy."),
        ("Penalties", catalogue.penalty, "The option `penalty` of every strategy."),
    )
    for title, registry, remark in registries:
        yield f"## {title}\n"
        if remark:
            yield f"{remark}\n"
        yield from _entries(registry, options=registry is not catalogue.mix)
    yield "## Weights: `{file: PATH, …}`\n"
    yield FILE_WEIGHTS
    yield from _table(described(FileWeights))
    yield "## Weights: `{name: fractals, …}`\n"
    yield from _table(described(FractalWeights))
    yield "## Weights: `{name: language, …}`\n"
    yield from _table(described(LanguageWeights))
    yield "## Claims: `claims`\n"
    yield from _table(described(Claims))
    yield "## Limits: `resources`\n"
    yield from _table(described(Resources))
    yield "## Limits of files: `limits`\n"
    yield from _table(described(Limits))
    yield "## After training: `after`\n"
    yield from _entries(catalogue.after, options=True)
    yield "## Tuning: `tune`\n"
    yield from _key_table({"space": SPACE, "from": FROM})
    yield from _table(described(Method))
    yield "### What is searched\n"
    yield "A list of choices, a range `{low: …, high: …}`, or for `lr` also `{find: …}`.\n"
    yield from _table([*described(Range), *described(FoundRange)])


def _entries(registry: Registry[Any, Any], *, options: bool) -> Iterator[str]:
    yield "| name | option | values | default | meaning |\n| --- | --- | --- | --- | --- |"
    for name in registry:
        entry = registry.get(name)
        facts = (f"{what.capitalize()}: {text}." for what, text in entry.facts.items())
        yield _row([f"`{name}`", "", "", "", " ".join((entry.summary, *facts))])
        for item in described(entry.options) if options else ():
            if item.name not in registry.shared_options:
                yield _row(["", *_cells(item)])
    if registry.shared_options:
        yield _row(["(all)", "", "", "", "options of every entry"])
        shared = described(registry.shared_model)
        yield from (_row(["", *_cells(item)]) for item in shared)
    yield ""


def _table(items: Iterable[Described]) -> Iterator[str]:
    yield "| key | values | default | meaning |\n| --- | --- | --- | --- |"
    yield from (_row(_cells(item)) for item in items)
    yield ""


def _key_table(keys: Mapping[str, Key]) -> Iterator[str]:
    yield "| key | meaning |\n| --- | --- |"
    for name, key in keys.items():
        yield _row([f"`{name}`", f"{key.meaning} {_for_example(name, key.examples)}"])
    yield ""


def _cells(item: Described) -> list[str]:
    default = f"`{item.default}`" if item.default else "required"
    meaning = f"{item.meaning} {_for_example(item.name, item.examples)}"
    return [f"`{item.name}`", item.values, default, meaning]


def _for_example(name: str, examples: Iterable[Any]) -> str:
    return "Example: " + ", ".join(f"`{name}: {yaml_text(value)}`" for value in examples)


def _row(cells: Iterable[str]) -> str:
    bars_kept = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(bars_kept)} |"
