"""The JSON Schema (2020-12) of suites, made from the models and registries that check them.

It is never stricter than the loader. What needs more than one value to judge (a grid without cells,
two budgets, a name that may be a folder) is left to the loader.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from bench.suite.claims import Claims
from bench.suite.keys import FROM, MEANINGS, SPACE, Key
from bench.suite.limits import Limits
from bench.suite.load import DEFAULT_ENTRIES, MAX_VALUES, NAME, OF_RUN, Catalogue
from bench.suite.registry import Registry
from bench.suite.resources import Resources
from bench.suite.schema import (
    AXES,
    DEFAULT_AXES,
    Checkpoints,
    FileWeights,
    FractalWeights,
    LanguageWeights,
    Settings,
)
from bench.suite.tune import SEARCHABLE, SEARCHABLE_AXES, FoundRange, Method, Range

Schema = dict[str, Any]

REQUIRED = ("dataset", "backbone", "strategy")
WITH_OPTIONS = (
    "strategy", "schedule", "augmentation", "head", "dataset", "objective", "penalty", "after",
)  # fmt: skip
DEFINITIONS = "#/$defs/"


def suite_schema(catalogue: Catalogue) -> Schema:
    """The schema of a suite that may use the names of `catalogue`."""
    return _SuiteSchema(catalogue).whole()


def schema_text(catalogue: Catalogue) -> str:
    """The same as the text of a file."""
    return json.dumps(suite_schema(catalogue), indent=1, ensure_ascii=False) + "\n"


class _Untitled(GenerateJsonSchema):
    """Without titles: they repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class _SuiteSchema:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._registries = {kind: getattr(catalogue, kind) for kind in WITH_OPTIONS}
        models: list[type[BaseModel]] = [
            Settings, FileWeights, FractalWeights, LanguageWeights, Claims, Resources, Limits,
            Method, Range, FoundRange,
            *(registry.get(name).options for registry in self._registries.values()
              for name in registry),
        ]  # fmt: skip
        places, found = models_json_schema(
            [(model, "validation") for model in models],
            ref_template=DEFINITIONS + "{model}",
            schema_generator=_Untitled,
        )
        self._definitions: dict[str, Schema] = dict(found.get("$defs", {}))
        self._names = {model: place["$ref"] for (model, _), place in places.items()}

    def whole(self) -> Schema:
        """The schema with the definitions that it uses."""
        self._define_settings()
        self._define_named_options()
        for axis in AXES:
            self._definitions[f"{axis}.entry"] = self._entry(axis)
        properties = {
            "name": {"type": "string", "pattern": f"^(?:{NAME.pattern})$"},
            "dataset": self._dataset(),
            **{axis: _one_or_more(_ref(f"{axis}.entry")) for axis in AXES},
            **self._all_settings(),
            "exclude": _rules(self._rule(selects=True)),
            "include": _rules(self._rule()),
            "tune": self._tune(),
            "claims": self._model(Claims),
            "resources": self._model(Resources),
            "limits": self._model(Limits),
            "checkpoints": {"enum": list(get_args(Checkpoints)), "default": "all"},
            "after": _one_or_more({"anyOf": list(self._named("after"))}),
            "split_check": {"enum": [True, False, "all"], "default": False},
        }
        for key, meaning in MEANINGS.items():
            properties[key] |= _documented(meaning)
        for axis, name in DEFAULT_ENTRIES.items():
            properties[axis]["default"] = name
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "A suite of bench",
            **_mapping(properties, REQUIRED),
        }
        return {**schema, "$defs": self._used_by(schema)}

    def _used_by(self, schema: Any) -> dict[str, Schema]:
        used: dict[str, Schema] = {}
        waiting = list(_references(schema))
        for name in waiting:
            if name not in used:
                used[name] = self._definitions[name]
                waiting += _references(used[name])
        return {name: used[name] for name in self._definitions if name in used}

    def _model(self, model: type[BaseModel]) -> Schema:
        """The schema of a model, without what its docstring tells programmers."""
        schema = dict(self._definitions[self._names[model].removeprefix(DEFINITIONS)])
        for key in ("title", "description"):
            schema.pop(key, None)
        return schema

    # Settings -----------------------------------------------------------------------------------

    def _define_settings(self) -> None:
        """`KEY.value` for one value of a setting, `KEY.values` for one or a list."""
        fields = self._model(Settings)["properties"]
        fields["weights"] = _with_annotations_of(
            fields["weights"], self._weights(), default="imagenet"
        )
        fields["head"] = _with_annotations_of(
            fields["head"], {"anyOf": list(self._named("head"))}, default="linear"
        )
        fields["metric"]["enum"] = list(self._catalogue.metric)
        for key, field in fields.items():
            annotations = _annotations(field)
            if key in DEFAULT_AXES:
                annotations["default"] = list(DEFAULT_AXES[key])
            self._definitions[f"{key}.value"] = _bare(field)
            value = _ref(f"{key}.value")
            values = {"allOf": [value]} if key in OF_RUN else _one_or_more(value)
            self._definitions[f"{key}.values"] = {**annotations, **values}
        for key in SEARCHABLE:
            own = [_ref("found_range")] if key == "lr" else []
            self._definitions[f"{key}.searched"] = _searched(_ref(f"{key}.value"), *own)
        self._definitions["range"] = self._model(Range)
        self._definitions["found_range"] = self._model(FoundRange)

    def _all_settings(self) -> dict[str, Schema]:
        return {key: _ref(f"{key}.values") for key in Settings.model_fields}

    def _weights(self) -> Schema:
        made: dict[str, type[BaseModel]] = {"fractals": FractalWeights, "language": LanguageWeights}
        facts = self._model(FileWeights)["properties"]
        other = {"type": "string", "minLength": 1, "not": {"enum": [*made, "file"]}}
        # A path is read as text, whatever YAML takes it for.
        file = {"type": ["string", "number", "boolean", "null"]}
        return {
            "anyOf": [
                {"enum": ["none", "imagenet", *made]},
                other,
                _mapping({"file": file, **facts}, ["file"]),
                *(
                    _mapping(
                        {"name": {"const": name}, **self._model(recipe)["properties"]}, ["name"]
                    )
                    for name, recipe in made.items()
                ),
                _mapping({"name": other}, ["name"]),
            ]
        }

    # Entries ------------------------------------------------------------------------------------

    def _define_named_options(self) -> None:
        """`option.KEY` for the options of a whole kind of entries whose values name others."""
        null: Schema = {"type": "null"}
        self._definitions |= {
            "option.penalty": {"anyOf": [self._penalties(), null]},
            "option.objective": {"anyOf": [*self._named("objective"), null]},
            "option.mix": {"enum": [*self._catalogue.mix, None]},
        }

    def _penalties(self) -> Schema:
        """Options by the name of the penalty, or in short its option `weight`."""
        registry = self._registries["penalty"]
        penalties = {}
        for name in registry:
            options = self._options(registry, name)
            own = options["properties"]
            short = [_bare(own["weight"])] if "weight" in own else []
            penalties[name] = {
                "description": registry.get(name).summary,
                "anyOf": [*short, _mapping(own, options.get("required", []))],
            }
        return {**_mapping(penalties), "minProperties": 1}

    def _options(self, registry: Registry[Any, Any], name: str) -> Schema:
        """The options of an entry, those that name others with the names that there are."""
        options = self._model(registry.get(name).options)
        properties = {
            key: {**_annotations(field), **_ref(f"option.{key}")}
            if key in registry.shared_options and f"option.{key}" in self._definitions
            else field
            for key, field in options.get("properties", {}).items()
        }
        return {**options, "properties": properties}

    def _entry(self, axis: str, *, selects: bool = False) -> Schema:
        """One entry of an axis with its settings; what only selects cells may leave options out."""
        if axis == "backbone":
            name: Schema = {
                "type": "string",
                "anyOf": [{"enum": list(self._catalogue.backbones)}, {"pattern": "^[^/]+/."}],
            }
            return {"anyOf": [name, _mapping({"name": name, **self._all_settings()}, ["name"])]}
        return {"anyOf": list(self._named(axis, self._all_settings(), selects=selects))}

    def _named(
        self, kind: str, settings: Mapping[str, Schema] | None = None, *, selects: bool = False
    ) -> Iterator[Schema]:
        """Every entry of a kind as its bare name, and as a mapping."""
        registry = self._registries[kind]
        mappings = []
        for name in registry:
            options = self._options(registry, name)
            required = [] if selects else options.get("required", [])
            spellings = self._spellings(kind, name)
            summary = {"description": registry.get(name).summary}
            if not required:
                yield from ({"const": spelling, **summary} for spelling in spellings)
            names = {"enum": spellings} if len(spellings) > 1 else {"const": name}
            properties = {"name": names, **options["properties"], **(settings or {})}
            mappings.append(summary | _mapping(properties, ["name", *required]))
        yield from mappings

    def _spellings(self, kind: str, name: str) -> list[str]:
        if kind != "augmentation":
            return [name]
        mixes = list(self._catalogue.mix)
        mixed = [f"{name}+{mix}" for mix in mixes]
        return [name, *mixed, *(mixes if name == "none" else ())]

    def _dataset(self) -> Schema:
        registry: Registry[Any, Any] = self._catalogue.dataset
        folder = self._model(registry.get("folder").options)["properties"]
        table = self._model(registry.get("table").options)["properties"]
        torchvision = self._model(registry.get("torchvision").options)["properties"]
        path = {"type": "string", "minLength": 1, "not": {"enum": list(registry)}}
        member = {"type": "string", "pattern": "^torchvision:"}
        return {
            "anyOf": [
                *self._named("dataset"),
                {
                    **path,
                    "description": "The path of a folder of images or of a table of labels, or "
                    "torchvision:NAME.",
                },
                _mapping(folder, ["path"]),
                _mapping(table, ["path"]),
                _mapping({"name": member, **torchvision}, ["name"]),
                _mapping({"name": path, **folder}, ["name"]),
            ]
        }

    def _rule(self, *, selects: bool = False) -> Schema:
        axes = {axis: _ref(f"{axis}.entry") for axis in AXES}
        for axis in AXES if selects else ():
            selected = self._entry(axis, selects=True)
            if selected != self._definitions[f"{axis}.entry"]:
                axes[axis] = selected
        return {**_mapping({**axes, **self._all_settings()}), "minProperties": 1}

    # Tuning -------------------------------------------------------------------------------------

    def _tune(self) -> Schema:
        fields = self._model(Method)["properties"]
        for key in ("seeds", "objective"):
            field = fields[key]
            several = {k: field.pop(k) for k in list(field) if k not in _ANNOTATIONS}
            field["anyOf"] = [several["items"], several]
        del fields["seeds"]["default"]  # it depends on the suite's seeds
        fields["space"] = {
            **_documented(SPACE),
            **_mapping(
                {
                    **{key: _ref(f"{key}.searched") for key in SEARCHABLE},
                    **{axis: self._space_of(axis) for axis in SEARCHABLE_AXES},
                }
            ),
            "minProperties": 1,
        }
        folder = {"type": "string", "minLength": 1}
        several = {"type": "array", "items": folder}
        fields["from"] = {**_documented(FROM), "anyOf": [folder, several]}
        return _mapping(fields, ["space"])

    def _space_of(self, axis: str) -> Schema:
        settings = {key: _ref(f"{key}.searched") for key in SEARCHABLE}
        registry = self._registries[axis]
        return _mapping(
            {
                name: {
                    **_mapping({**self._searched_options(registry, name), **settings}),
                    "minProperties": 1,
                }
                for name in registry
            }
        )

    def _searched_options(self, registry: Registry[Any, Any], name: str) -> dict[str, Schema]:
        fields: dict[str, Schema] = self._options(registry, name)["properties"]
        return {key: _searched(_bare(field)) for key, field in fields.items()}


_ANNOTATIONS = ("description", "examples", "default")


def _annotations(field: Schema) -> Schema:
    return {k: v for k, v in field.items() if k in _ANNOTATIONS}


def _bare(field: Schema) -> Schema:
    return {k: v for k, v in field.items() if k not in _ANNOTATIONS}


def _ref(name: str) -> Schema:
    return {"$ref": DEFINITIONS + name}


def _mapping(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _one_or_more(value: Schema) -> Schema:
    several = {
        "type": "array",
        "items": value,
        "minItems": 1,
        "maxItems": MAX_VALUES,
        "uniqueItems": True,
    }
    return {"anyOf": [value, several]}


def _searched(value: Schema, *others: Schema) -> Schema:
    """Choices or a range of what `value` describes."""
    ends = {"properties": {"low": value, "high": value}}
    # Without uniqueItems: to the loader, 1 and 1.0 are two choices.
    choices = {"type": "array", "items": value, "minItems": 2}
    return {"anyOf": [choices, {"allOf": [_ref("range"), ends]}, *others]}


def _rules(rule: Schema) -> Schema:
    return {"type": "array", "items": rule, "maxItems": MAX_VALUES}


def _documented(key: Key) -> Schema:
    return {"description": key.meaning, "examples": list(key.examples)}


def _with_annotations_of(field: Schema, schema: Schema, *, default: str) -> Schema:
    return {**{k: field[k] for k in ("description", "examples")}, **schema, "default": default}


def _references(schema: Any) -> Iterator[str]:
    """The names of the definitions that a schema refers to."""
    if isinstance(schema, Mapping):
        target = schema.get("$ref")
        if isinstance(target, str):
            yield target.removeprefix(DEFINITIONS)
        schema = schema.values()
    elif not isinstance(schema, list):
        return
    for item in schema:
        yield from _references(item)
