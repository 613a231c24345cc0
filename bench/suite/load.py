"""A suite file to a checked `Suite`: every mistake is found before anything runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from bench.errors import MAX_PROBLEMS, Problem, SuiteError, nearest
from bench.suite.claims import Claims
from bench.suite.limits import Limits
from bench.suite.load_tune import TuneChecker
from bench.suite.registry import Registry
from bench.suite.resources import Resources
from bench.suite.rules import METRIC_NAME, broken_rule
from bench.suite.schema import (
    ARCHIVE_SUFFIXES,
    AXES,
    DEFAULT_AXES,
    PATH_OPTIONS,
    WHERE_PATHS_START,
    AxisEntry,
    Checkpoints,
    Entry,
    FileWeights,
    FractalWeights,
    GridRule,
    LanguageWeights,
    Settings,
    SplitCheck,
    Suite,
    reader_of,
)
from bench.suite.sections import Unnested, unnested
from bench.suite.source import SuiteSource, read_source
from bench.suite.synonyms import meant, nearest_key, value_meant
from bench.suite.tune import Tune
from bench.suite.value_hints import name_hint, value_hint
from bench.suite.yaml_file import Location, YamlFile, apply_overrides

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_VALUES = 1000
"""Values of one axis, and rules of one kind: each is compared with each."""
KEYS = (
    "name",
    "dataset",
    *AXES,
    *Settings.model_fields,
    "exclude",
    "include",
    "tune",
    "claims",
    "resources",
    "limits",
    "checkpoints",
    "after",
    "split_check",
)
LEAST = "{dataset: ./photos, backbone: resnet18, strategy: [linear_probe, full_finetune]}"
OF_RUN = frozenset({"task", "metric", "choose", "folds", "diagnose"})
"""Settings that all trials of a suite have in common."""
DEFAULT_ENTRIES = {"schedule": "constant", "augmentation": "flip_crop"}
ENTRIES_OF_TEXTS = {"augmentation": "none"}


def _adapter(rule: Any) -> TypeAdapter[Any]:
    return TypeAdapter(rule, config=ConfigDict(strict=True, allow_inf_nan=False))


_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    name: _adapter(Annotated[field.annotation, field])
    for name, field in Settings.model_fields.items()
    if name not in ("weights", "head")
}


_Section = TypeVar("_Section", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The names that a suite may use: one registry a kind, and the rule for backbones.

    `target_tasks` says of each what chooses epochs and is minimised by default.
    """

    strategy: Registry[Any, Any]
    schedule: Registry[Any, Any]
    augmentation: Registry[Any, Any]
    mix: Registry[Any, Any]
    head: Registry[Any, Any]
    dataset: Registry[Any, Any]
    metric: Registry[Any, Any]
    objective: Registry[Any, Any]
    penalty: Registry[Any, Any]
    after: Registry[Any, Any]
    target_tasks: Mapping[str, Any]
    backbones: Sequence[str]
    is_backbone: Callable[[str], bool]
    is_text_backbone: Callable[[str], bool]
    is_image_text_backbone: Callable[[str], bool]


@dataclass(frozen=True, kw_only=True)
class LoadedSuite:
    """A checked suite with the yaml_file that places later problems."""

    suite: Suite
    yaml_file: YamlFile


def load_suite(
    source: SuiteSource, catalogue: Catalogue, overrides: Sequence[str] = ()
) -> LoadedSuite:
    """Read and check a suite; raises `SuiteError` with all mistakes at once.

    A suite that is no file needs a `name`; its relative paths start at the current folder.
    """
    yaml_file = apply_overrides(read_source(source), overrides)
    flat = unnested(yaml_file, KEYS)
    if flat is not None:
        raise SuiteError(_of_sections(yaml_file, flat, catalogue))
    suite = _Checker(yaml_file, catalogue).suite()
    return LoadedSuite(suite=suite, yaml_file=yaml_file)


def _of_sections(yaml_file: YamlFile, flat: Unnested, catalogue: Catalogue) -> list[Problem]:
    """One problem for all sections, with the suite as it should be, and what else is wrong."""
    names = list(dict.fromkeys(map(repr, flat.sections)))
    named = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    rule = f"all keys of a suite stand at its top level, not inside {named}"
    first = yaml_file.problem((), rule)
    if flat.text is None:
        return [first]
    try:
        _Checker(flat.yaml_file, catalogue).suite()
        rest: tuple[Problem, ...] = ()
    except SuiteError as error:
        rest = error.problems
    more = ", and what else is wrong with it" if rest else ""
    message = f"{rule}; the same suite with its keys there follows{more}"
    return [replace(first, message=message, detail=flat.text), *rest]


def selection(texts: Sequence[str], catalogue: Catalogue) -> tuple[GridRule, ...]:
    """`--only key=value[,key=value]` texts to rules; raises `SuiteError` with all mistakes.

    A trial is selected when any of the rules matches it.
    """
    return tuple(_selection(text, catalogue) for text in texts)


def _selection(text: str, catalogue: Catalogue) -> GridRule:
    place = Path(f"--only {text}")
    empty = YamlFile(data={}, path=None, lines={}, overrides={})
    try:
        data = apply_overrides(empty, text.split(",")).data
    except SuiteError as error:
        raise SuiteError([Problem(message=p.message, path=place) for p in error.problems]) from None
    yaml_file = YamlFile(data=data, path=place, lines={}, overrides={})
    checker = _Checker(yaml_file, catalogue, selects=True)
    rule = checker.rule(data, ())
    if checker.problems:
        raise SuiteError(checker.problems)
    return rule


class _Checker:
    def __init__(self, yaml_file: YamlFile, catalogue: Catalogue, *, selects: bool = False) -> None:
        self.yaml_file = yaml_file
        self.catalogue = catalogue
        self._folder = Path() if yaml_file.path is None else yaml_file.path.parent
        self._selects = selects
        self._of_texts = self._of_images_and_texts = False
        self.problems: list[Problem] = []

    def suite(self) -> Suite:
        data = self.yaml_file.data
        if not isinstance(data, dict):
            self._report((), f"{_no_mapping(data)}; the least that a suite needs: {LEAST}")
            raise SuiteError(self.problems)
        self._refuse_unknown_keys(data)
        self._of_texts = self._names_only(data, self.catalogue.is_text_backbone)
        self._of_images_and_texts = self._names_only(data, self.catalogue.is_image_text_backbone)
        axes = {axis: self._axis(data, axis) for axis in AXES}
        settings = self._all_settings(data)
        suite = Suite(
            name=self._name(data),
            dataset=self._dataset(data),
            axes=axes,
            settings=settings,
            exclude=self._rules(data, "exclude"),
            include=self._rules(data, "include"),
            tune=self._tune(data, axes, settings),
            claims=self._section("claims", Claims, data, "{margin: 0.01, cost: train_seconds}"),
            resources=self._section("resources", Resources, data, "{minutes: 30, memory_gib: 4}"),
            limits=self._section("limits", Limits, data, "{megapixels: 400}"),
            checkpoints=(kept := self._checkpoints(data)),
            after=self._after(data, settings, kept),
            split_check=self._split_check(data),
        )
        if self.problems:
            raise SuiteError(self.problems)
        return suite

    @staticmethod
    def _names_only(data: Mapping[str, Any], kind: Callable[[str], bool]) -> bool:
        """Whether all backbones are of a kind which other defaults suit."""
        given = data.get("backbone")
        entries = given if isinstance(given, list) else [given]
        names = [each.get("name") if isinstance(each, dict) else each for each in entries]
        return all(isinstance(name, str) and kind(name) for name in names)

    def _report(self, location: Location, message: str) -> None:
        self.problems.append(self.yaml_file.problem(location, message))
        if len(self.problems) >= MAX_PROBLEMS:
            raise SuiteError(self.problems)

    def _refuse_unknown_keys(self, data: Mapping[str, Any]) -> None:
        """All valid keys are listed once, for the first key that is like none of them."""
        listed = ""
        for key, value in data.items():
            if key in KEYS:
                continue
            hint, known = nearest_key(key, KEYS), meant(key, KEYS)
            if known is not None and value_meant(key, value) != value:
                hint += f" write {known}: {json.dumps(value_meant(key, value))}"
            if hint == listed:
                hint = ""
            elif not hint.startswith("; did you mean"):
                listed = hint
            self._report((key,), f"unknown key {key!r}{hint}")

    def _require(self, data: Mapping[str, Any], key: str, rule: str) -> None:
        """Tell that a key is missing, unless it stands there under another name, which is told."""
        if all(meant(given, KEYS) != key for given in data):
            self._report((), rule)

    def _name(self, data: Mapping[str, Any]) -> str:
        path = self.yaml_file.path
        if "name" not in data and path is None:
            self._report(
                (), "name is required for a suite that is not a file: the run folder gets that name"
            )
            return ""
        name = data["name"] if path is None else data.get("name", path.stem)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            rule = "name must be letters, digits, '.', '_' or '-' and start with a letter or digit"
            where = ""
            if "name" not in data:
                mend = re.sub(r"[^A-Za-z0-9._-]+", "-", str(name)).strip("-._")[:100]
                where = (
                    ", the name of the file, which is that of the suite and its run folder; "
                    f"rename the file or add: name: {mend or 'mine'}"
                )
            self._report(("name",), f"{rule}, got {name!r}{where}")
        return str(name)

    def _checkpoints(self, data: Mapping[str, Any]) -> Checkpoints:
        kept = data.get("checkpoints", "all")
        if kept not in get_args(Checkpoints):
            names = "'all', 'best' or 'none'"
            self._report(("checkpoints",), f"checkpoints must be {names}, got {kept!r}")
            return "all"
        chosen: Checkpoints = kept
        return chosen

    def _split_check(self, data: Mapping[str, Any]) -> SplitCheck:
        wanted = data.get("split_check", False)
        if isinstance(wanted, bool):
            return wanted
        if wanted == "all":
            return "all"
        self._report(("split_check",), f"split_check must be true, false or 'all', got {wanted!r}")
        return False

    # Entries -------------------------------------------------------------------------------

    def _axis(self, data: Mapping[str, Any], axis: str) -> tuple[AxisEntry, ...]:
        if axis not in data and axis in DEFAULT_ENTRIES:
            usual = {**DEFAULT_ENTRIES, **(ENTRIES_OF_TEXTS if self._of_texts else {})}
            default = self._entry(getattr(self.catalogue, axis), usual[axis], (axis,))
            return (AxisEntry(entry=default, location=(axis,)),)
        if axis not in data:
            self._require(data, axis, f"{axis} is required")
            return ()
        entries: list[AxisEntry] = []
        for location, value in self._items(data[axis], (axis,)):
            entry = self._axis_entry(axis, value, location)
            if any(_same(entry, other) for other in entries):
                label = entry.entry.label
                self._report(location, f"{axis} {label!r} is given twice: a duplicate cell")
            entries.append(entry)
        return tuple(entries)

    def _items(self, value: Any, location: Location) -> list[tuple[Location, Any]]:
        if not isinstance(value, list):
            return [(location, value)]
        if not value:
            self._report(location, f"{location[-1]} must not be empty, got []")
        if len(value) > MAX_VALUES:
            rule = f"{location[-1]} may have at most {MAX_VALUES:,} values"
            self._report(location, f"{rule}, got {len(value):,}")
            value = value[:1]
        return [((*location, index), item) for index, item in enumerate(value)]

    def _axis_entry(self, axis: str, value: Any, location: Location) -> AxisEntry:
        name, rest = self._name_and_rest(value, location, kind=axis)
        settings = {key: rest.pop(key) for key in list(rest) if key in Settings.model_fields}
        self._refuse_of_run(settings, location)
        entry: Entry
        if axis == "backbone":
            entry = self._backbone(name, rest, location)
        else:
            if axis == "augmentation":
                name, rest = self._split_mix(name, rest)
            registry: Registry[Any, Any] = getattr(self.catalogue, axis)
            entry = self._checked(registry, name, rest, location, also=tuple(Settings.model_fields))
        return AxisEntry(
            entry=entry,
            settings={
                key: self._setting(key, given, (*location, key)) for key, given in settings.items()
            },
            location=location,
        )

    def _name_and_rest(
        self, value: Any, location: Location, *, kind: str
    ) -> tuple[str, dict[str, Any]]:
        if isinstance(value, str) and value:
            return value, {}
        if isinstance(value, dict) and isinstance(value.get("name"), str) and value["name"]:
            return value["name"], {k: v for k, v in value.items() if k != "name"}
        rule = f"{kind} must be a name, or a mapping with 'name' and its options"
        self._report(location, f"{rule}, got {value!r}{name_hint(value, self._names(kind))}")
        return "", {}

    def _names(self, kind: str) -> Callable[[str], bool]:
        """Whether a name is one of the kind."""
        if kind == "weights":
            return lambda name: name == "none"
        registry: Collection[str] = getattr(self.catalogue, kind, ())
        return registry.__contains__

    def _backbone(self, name: str, rest: dict[str, Any], location: Location) -> Entry:
        if name and not self.catalogue.is_backbone(name):
            hint = nearest(name, self.catalogue.backbones)
            self._report(location, f"backbone must be a known name, got {name!r}{hint}")
        for key in rest:
            hint = nearest_key(key, Settings.model_fields)
            self._report((*location, key), f"unknown key {key!r} for a backbone{hint}")
        return Entry(name=name)

    def _split_mix(self, name: str, rest: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """`standard+mixup` and `mixup` to an augmentation with the option `mix`."""
        base, plus, mix = name.partition("+")
        if plus and base:
            return base, {"mix": mix, **rest}
        if name in self.catalogue.mix:
            return "none", {"mix": name, **rest}
        return name, rest

    def _entry(self, registry: Registry[Any, Any], value: Any, location: Location) -> Entry:
        name, rest = self._name_and_rest(value, location, kind=registry.kind)
        return self._checked(registry, name, rest, location)

    def _checked(
        self,
        registry: Registry[Any, Any],
        name: str,
        options: dict[str, Any],
        location: Location,
        also: Sequence[str] = (),
    ) -> Entry:
        if name not in registry:
            if name:
                hint = name_hint(name, registry.__contains__) or nearest(name, registry)
                self._report(location, f"{registry.kind} must be a known name, got {name!r}{hint}")
            return Entry(name=name)
        model = registry.get(name).options
        return self._with_options(model, name, options, location, also=also)

    def _with_options(
        self,
        model: type[BaseModel],
        name: str,
        options: dict[str, Any],
        location: Location,
        also: Sequence[str] = (),
    ) -> Entry:
        try:
            # In JSON mode a strict model takes a list for a tuple: YAML knows lists only.
            checked = model.model_validate_json(json.dumps(options))
        except ValidationError as error:
            for detail in error.errors():
                key = tuple(detail["loc"])
                valid = (*model.model_fields, *also)
                if detail["type"] == "missing" and self._names_cells(location):
                    continue
                message = _message(detail, prefix=name, valid=valid, model=model)
                self._report((*location, *key), message)
            return Entry(name=name, options=_tuples(options), given=tuple(options))
        return Entry(name=name, options=checked.model_dump(), given=tuple(options))

    def _names_cells(self, location: Location) -> bool:
        """Whether an entry here only selects cells, so that it may leave options out."""
        return self._selects or location[0] == "exclude"

    # Data set and weights ------------------------------------------------------------------

    def _dataset(self, data: Mapping[str, Any]) -> Entry:
        location = ("dataset",)
        if "dataset" not in data:
            rule = "dataset is required: a name, or the path of a folder of images"
            self._require(data, "dataset", rule)
            return Entry(name="")
        value = data["dataset"]
        if isinstance(value, dict) and "name" not in value and "path" in value:
            value = {"name": reader_of(value["path"], self._folder), **value}
        name, options = self._name_and_rest(value, location, kind="dataset")
        if name not in self.catalogue.dataset and name:
            library, colon, member = name.partition(":")
            if colon and library in self.catalogue.dataset:
                name, options = library, {"dataset": member, **options}
            elif self._looks_like_path(name):
                name, options = reader_of(name, self._folder), {"path": name, **options}
        options.update(self._resolved_paths(options, location))
        target = options.get("target_data")
        target = {"path": target} if isinstance(target, str) else target
        if isinstance(target, dict):
            known = {}
            if name == "text" or "path" in target:
                of_path = reader_of(target.get("path"), self._folder)
                known = {"name": name if name == "text" else of_path}
            paths = self._resolved_paths(target, (*location, "target_data"))
            options["target_data"] = {**known, **target, **paths}
        return self._checked(self.catalogue.dataset, name, options, location)

    def _resolved_paths(self, options: Mapping[str, Any], location: Location) -> dict[str, Any]:
        """Those of the options of a data set that are paths, or have paths by name."""
        paths: dict[str, Any] = {}
        for key in PATH_OPTIONS:
            given = options.get(key)
            if isinstance(given, str):
                paths[key] = str(self._resolve(given, (*location, key)))
            elif isinstance(given, dict):
                paths[key] = {
                    part: str(self._resolve(path, (*location, key, part)))
                    if isinstance(path, str) else path
                    for part, path in given.items()
                }  # fmt: skip
        return paths

    def _looks_like_path(self, name: str) -> bool:
        if "/" in name or "\\" in name or name.startswith((".", "~")):
            return True
        if reader_of(name) == "table" or name.lower().endswith(ARCHIVE_SUFFIXES):
            return True
        try:
            return (self._folder / name).is_dir()
        except (OSError, ValueError):
            return False

    def _resolve(self, path: str, location: Location) -> Path:
        """Relative paths in a suite file start at the file's own folder."""
        try:
            resolved = (self._folder / Path(path).expanduser()).resolve()
            resolved.exists()
        except (OSError, ValueError, RuntimeError) as error:
            self._report(location, f"not a usable path: {path!r} ({error})")
            return Path()
        return resolved

    def _weights(self, value: Any, location: Location) -> Entry:
        if isinstance(value, dict) and "file" in value:
            return self._weights_file(value, location)
        name, options = self._name_and_rest(value, location, kind="weights")
        if name == "fractals":
            return self._with_options(FractalWeights, name, options, location)
        if name == "language":
            return self._with_options(LanguageWeights, name, options, location)
        if name == "file":
            self._report(location, "weights from a file must read {file: PATH}")
        if name.lower() in ("none", "null", "off", "no", "false") and name != "none":
            hint = name_hint(name, self._names("weights"))
            self._report(location, f"weights must be a known name, got {name!r}{hint}")
        for key in options:
            self._report((*location, key), f"unknown key {key!r} for weights {name!r}")
        return Entry(name=name)

    def _weights_file(self, value: dict[str, Any], location: Location) -> Entry:
        path = self._resolve(str(value["file"]), (*location, "file"))
        if path != Path() and not path.is_file():
            message = f"no such weights file: {path} ({WHERE_PATHS_START})"
            self._report((*location, "file"), message)
        told = {key: item for key, item in value.items() if key != "file"}
        known = self._with_options(FileWeights, "weights", told, location, also=("file",))
        # What is not known has no part in the entry: it is neither labelled nor hashed.
        facts = {key: known.options[key] for key in told if known.options[key] is not None}
        options = {"path": str(path), **facts}
        return Entry(name="file", options=options, given=tuple(options))

    # Settings and rules --------------------------------------------------------------------

    def _all_settings(self, data: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        defaults = Settings()
        settings = {}
        for key in Settings.model_fields:
            if key in data:
                settings[key] = self._setting(key, data[key], (key,))
            elif key == "head":
                settings[key] = (self._entry(self.catalogue.head, defaults.head.name, (key,)),)
            elif key == "weights" and (self._of_texts or self._of_images_and_texts):
                settings[key] = (Entry(name="pretrained"),)
            elif key == "metric":
                settings[key] = (self._default_metric(settings["task"][0]),)
            else:
                settings[key] = DEFAULT_AXES.get(key, (getattr(defaults, key),))
        self._check_metric(settings["metric"][0], settings["task"][0])
        return settings

    def _default_metric(self, task: Any) -> str:
        known = self.catalogue.target_tasks.get(str(task))
        return Settings().metric if known is None else str(known.metric)

    def _check_metric(self, name: str, task: Any) -> None:
        """Whether the metric can be measured of what the suite predicts."""
        metrics = self.catalogue.metric
        if name not in metrics or str(task) not in self.catalogue.target_tasks:
            return  # which is told
        of = metrics.get(name).traits.target_task
        if of != task:
            own = [each for each in metrics if metrics.get(each).traits.target_task == task]
            self._report(
                ("metric",),
                f"metric {name!r} is one of {of}, and the suite's task is {task}; choose one of "
                f"{', '.join(own)}",
            )

    def _refuse_of_run(self, settings: Mapping[str, Any], location: Location) -> None:
        """What holds for all trials, as they are compared by it, cannot be said of some."""
        for key in OF_RUN & settings.keys():
            message = f"{key} holds for the whole suite: give it at the top"
            self._report((*location, key), message)

    def _setting(self, key: str, value: Any, location: Location) -> tuple[Any, ...]:
        if key in OF_RUN and isinstance(value, list):
            kind = "name" if key == "metric" else "value"
            self._report(location, f"{key} must be one {kind}, as trials are compared by it")
            value = value[0] if value else ""
        values: list[Any] = []
        for place, item in self._items(value, location):
            checked = self._setting_value(key, item, place)
            if checked in values:
                self._report(place, f"{key} {item!r} is given twice: a duplicate cell")
            values.append(checked)
        return tuple(values)

    def _setting_value(self, key: str, value: Any, location: Location) -> Any:
        if key == "weights":
            return self._weights(value, location)
        if key == "head":
            return self._entry(self.catalogue.head, value, location)
        if key == "metric":
            return self._metric(value, location)
        try:
            return _ADAPTERS[key].validate_python(value)
        except ValidationError as error:
            hint = value_hint(value, _accepts(_ADAPTERS[key]))
            self._report(location, _message(error.errors()[0], prefix=key, valid=()) + hint)
            return value

    def _metric(self, value: Any, location: Location) -> str:
        name = self._entry(self.catalogue.metric, value, location).name
        if name in self.catalogue.metric and not METRIC_NAME.fullmatch(name):
            rule = "the name of a metric names columns too: letters, digits, '_', not 'loss', 'lr'"
            self._report(location, f"{rule}, got {name!r}")
        return name

    def _after(
        self, data: Mapping[str, Any], settings: Mapping[str, tuple[Any, ...]], kept: Checkpoints
    ) -> tuple[Entry, ...]:
        if "after" not in data:
            return ()
        if settings["folds"] != (None,):
            self._report(
                ("after",),
                "after and folds cannot be combined: after needs one test "
                "split for all seeds; remove one of the two",
            )
        entries: list[Entry] = []
        for location, value in self._items(data["after"], ("after",)):
            entry = self._entry(self.catalogue.after, value, location)
            if any(entry.identity() == other.identity() for other in entries):
                self._report(location, f"after {entry.label!r} is given twice")
            if kept != "all" and self._needs_weights(entry):
                rule = f"after {entry.label!r} needs the weights of all trials (checkpoints: all)"
                self._report(location, f"{rule}, got checkpoints: {kept}")
            entries.append(entry)
        return tuple(entries)

    def _needs_weights(self, entry: Entry) -> bool:
        known = self.catalogue.after
        return entry.name in known and bool(known.get(entry.name).traits.needs_weights)

    def _rules(self, data: Mapping[str, Any], key: str) -> tuple[GridRule, ...]:
        value = data.get(key, [])
        if not isinstance(value, list):
            self._report((key,), f"{key} must be a list of mappings, got {value!r}")
            return ()
        if len(value) > MAX_VALUES:
            self._report((key,), f"{key} may have at most {MAX_VALUES:,} rules, got {len(value):,}")
            return ()
        return tuple(self.rule(item, (key, index)) for index, item in enumerate(value))

    def _tune(
        self,
        data: Mapping[str, Any],
        axes: Mapping[str, Sequence[AxisEntry]],
        settings: Mapping[str, tuple[Any, ...]],
    ) -> Tune | None:
        if "tune" not in data:
            return None
        entries = {axis: [item.entry.name for item in axes[axis]] for axis in AXES}
        heads = [head.name for head in settings["head"] if isinstance(head, Entry)]
        checker = TuneChecker(
            settings=_ADAPTERS,
            options=self._option_rules,
            entries={**entries, "head": heads},
            seeds=[seed for seed in settings["seed"] if isinstance(seed, int)],
            metric=settings["metric"][0],
            place=lambda path, at: path if "://" in path else str(self._resolve(path, at)),
            report=self._report,
            message=_message,
        )
        return checker.check(data["tune"])

    def _section(
        self, key: str, model: type[_Section], data: Mapping[str, Any], such: str
    ) -> _Section:
        own = data.get(key, {})
        if not isinstance(own, dict):
            self._report((key,), f"{key} must be a mapping such as {such}, got {own!r}")
            return model()
        try:
            return model.model_validate(own)
        except ValidationError as error:
            for detail in error.errors():
                valid = tuple(model.model_fields)
                message = _message(detail, prefix=key, valid=valid, model=model)
                self._report((key, *detail["loc"]), message)
            return model()

    def _option_rules(self, axis: str, name: str) -> dict[str, TypeAdapter[Any]]:
        registry: Registry[Any, Any] = getattr(self.catalogue, axis)
        if name not in registry:
            return {}
        fields = registry.get(name).options.model_fields
        return {key: _adapter(Annotated[f.annotation, f]) for key, f in fields.items()}

    def rule(self, value: Any, location: Location) -> GridRule:
        entries: dict[str, AxisEntry] = {}
        settings: dict[str, tuple[Any, ...]] = {}
        if not isinstance(value, dict) or not value:
            rule = "a rule must be a mapping such as {strategy: from_scratch}"
            self._report(location, f"{rule}, got {value!r}")
            value = {}
        for key, item in value.items():
            place = (*location, key)
            if key in AXES:
                entries[key] = self._axis_entry(key, item, place)
            elif key in Settings.model_fields:
                self._refuse_of_run({key: item}, location)
                settings[key] = self._setting(key, item, place)
            else:
                hint = nearest_key(key, (*AXES, *Settings.model_fields))
                self._report(place, f"unknown key {key!r} in a rule{hint}")
        return GridRule(entries=entries, settings=settings, location=location)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _same(a: AxisEntry, b: AxisEntry) -> bool:
    return a.entry.identity() == b.entry.identity() and a.settings == b.settings


def _no_mapping(data: Any) -> str:
    """What is wrong with a whole suite that is no mapping."""
    if data is None:
        return "the suite is empty: a suite must be a mapping of keys to values"
    kind = "a list" if isinstance(data, list) else repr(data)
    return f"a suite must be a mapping of keys to values, got {kind}"


def _accepts(rule: TypeAdapter[Any]) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        try:
            rule.validate_python(value)
        except ValidationError:
            return False
        return True

    return accepts


def _message(
    detail: Any, *, prefix: str, valid: Sequence[str], model: type[BaseModel] | None = None
) -> str:
    """The mistake in words; with the `model`, also what a refused value may have meant."""
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        if key in KEYS and key not in valid:
            return f"unknown key {key!r} for {prefix!r}; it stands at the top level of the suite"
        return f"unknown key {key!r} for {prefix!r}{nearest_key(key, valid)}"
    if detail["type"] == "missing":
        return f"{prefix!r} needs the option {key!r}"
    subject = f"{prefix}: {key}" if key else prefix
    rule = broken_rule(detail["msg"])
    hint = ""
    if model is not None and key in model.model_fields:
        field = model.model_fields[key]
        hint = value_hint(detail["input"], _accepts(_adapter(Annotated[field.annotation, field])))
    return f"{subject} {rule[0].lower()}{rule[1:]}, got {detail['input']!r}{hint}"
