"""The section `tune` of a suite to a checked `Tune`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from bench.errors import nearest
from bench.suite.tune import (
    BUDGETS,
    FIRST_SEED,
    SEARCHABLE,
    SEARCHABLE_AXES,
    Choices,
    FoundRange,
    Limit,
    Method,
    Range,
    Searched,
    SearchedValues,
    Tune,
)
from bench.suite.yaml_file import Location

DEFAULT_TRIALS = 20
HERE: Location = ("tune",)

Adapters = Mapping[str, TypeAdapter[Any]]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class TuneChecker:
    """Checks the section against the rest of the suite; every mistake is told to `report`.

    `settings` are the rules of the training settings, `options(axis, entry)` those of an entry's
    options, `entries` the names that the suite has on each axis, `seeds` those of its trials, which
    tuning must not use; `metric` is what chooses epochs; `place` makes the path of a run folder
    one that does not depend on the current folder; `message` words a validation error.
    """

    settings: Adapters
    options: Callable[[str, str], Adapters]
    entries: Mapping[str, Sequence[str]]
    seeds: Sequence[int]
    metric: str
    place: Callable[[str, Location], str]
    report: Callable[[Location, str], None]
    message: Callable[..., str]

    def check(self, data: Any) -> Tune | None:
        """The section; None if it is too wrong to say."""
        if not isinstance(data, dict):
            self.report(HERE, f"tune must be a mapping with 'space', got {data!r}")
            return None
        given = {k: v for k, v in data.items() if k not in ("space", "from")}
        if self.metric != "accuracy":
            given.setdefault("objective", "val_metric")
        method = self._method(given)
        space = tuple(self._space(data.get("space")))
        earlier = tuple(self._earlier(data.get("from", [])))
        if method is None:
            return None
        for item in space:
            if method.sampler == "grid" and not isinstance(item.values, Choices):
                message = f"sampler 'grid' needs lists of values, but {item.name} has a range"
                self.report(HERE, message)
        written = {
            **method.model_dump(mode="json", exclude_none=True),
            **({"from": list(earlier)} if earlier else {}),
            "space": data.get("space"),
        }
        return Tune(space=space, method=method, written=written, earlier=earlier)

    def _earlier(self, data: Any) -> Iterator[str]:
        """The run folders, each once."""
        here: Location = (*HERE, "from")
        listed = data if isinstance(data, list) else [data]
        if not all(isinstance(folder, str) and folder for folder in listed):
            rule = "tune.from must be a run folder or a list of them, such as results/photos"
            self.report(here, f"{rule}, got {data!r}")
            return
        yield from dict.fromkeys(self.place(folder, here) for folder in listed)

    # Method -----------------------------------------------------------------------------------

    def _method(self, given: dict[str, Any]) -> Method | None:
        for key in ("objective", "seeds"):
            if key in given and not isinstance(given[key], list):
                given[key] = [given[key]]
        own = "val_accuracy" if self.metric == "accuracy" else "val_metric"
        given.setdefault("objective", [own])
        given["objective"] = [own if goal == "val_metric" else goal for goal in given["objective"]]
        if "seeds" not in given:
            later = range(FIRST_SEED, FIRST_SEED + len(self.seeds) + 2)
            given["seeds"] = [seed for seed in later if seed not in self.seeds][:2]
        if not set(BUDGETS) & given.keys():
            given["trials"] = DEFAULT_TRIALS
        method = self._validated(Method, given, HERE, prefix="tune", also=("space", "from"))
        if method is None:
            return None
        for key, message in self._contradictions(method):
            self.report((*HERE, key), message)
        return method

    def _contradictions(self, method: Method) -> Iterator[tuple[str, str]]:
        budgets = [name for name in BUDGETS if getattr(method, name) is not None]
        if len(budgets) > 1:
            yield budgets[1], f"tune must have one budget, got {' and '.join(budgets)}"
        both = sorted(set(method.seeds) & set(self.seeds))
        if both:
            rule = "tune.seeds must differ from the suite's own, which measure the result"
            yield "seeds", f"{rule}; both have {', '.join(map(str, both))}"
        for key in ("seeds", "objective"):
            values = getattr(method, key)
            if len(set(values)) < len(values):
                yield key, f"tune.{key} must differ from each other, got {list(values)}"
        if len(method.objective) > 1 and method.pruner != "none":
            yield "pruner", f"pruner {method.pruner!r} needs a single objective"
        if method.objective[0] == "seconds":
            yield "objective", "the first objective must be one of validation, got 'seconds'"

    # Space ------------------------------------------------------------------------------------

    def _space(self, data: Any) -> Iterator[Searched]:
        here: Location = (*HERE, "space")
        if not isinstance(data, dict) or not data:
            example = "{lr: {low: 1e-4, high: 1e-1, log: true}}"
            rule = f"tune.space must name what is searched, such as {example}"
            self.report(here, f"{rule}, got {data!r}")
            return
        for key, value in data.items():
            place = (*here, key)
            if key in SEARCHABLE_AXES:
                yield from self._of_axis(key, value, place)
            elif key in SEARCHABLE:
                yield from self._one(key, value, place, self.settings[key])
            else:
                hint = nearest(key, (*SEARCHABLE, *SEARCHABLE_AXES))
                self.report(place, f"{key!r} cannot be searched{hint}")

    def _of_axis(self, axis: str, data: Any, here: Location) -> Iterator[Searched]:
        if not isinstance(data, dict):
            rule = f"tune.space.{axis} must map names to what is searched of them"
            self.report(here, f"{rule}, got {data!r}")
            return
        for entry, space in data.items():
            place = (*here, entry)
            if entry not in self.entries[axis]:
                hint = nearest(entry, self.entries[axis])
                self.report(place, f"the suite has no {axis} {entry!r}{hint}")
            elif not isinstance(space, dict) or not space:
                self.report(place, f"{axis} {entry!r} must map settings to values, got {space!r}")
            else:
                yield from self._of_entry(axis, entry, space, place)

    def _of_entry(
        self, axis: str, entry: str, space: Mapping[str, Any], here: Location
    ) -> Iterator[Searched]:
        own = self.options(axis, entry)
        for key, value in space.items():
            place = (*here, key)
            if key not in own and key not in SEARCHABLE:
                hint = nearest(key, (*own, *SEARCHABLE))
                self.report(place, f"{axis} {entry!r} has no {key!r} that can be searched{hint}")
                continue
            rule = own[key] if key in own else self.settings[key]
            which = {"axis": axis, "entry": entry, "option": key in own}
            for found in self._one(key, value, place, rule):
                yield found.model_copy(update=which)

    def _one(
        self, key: str, value: Any, here: Location, rule: TypeAdapter[Any]
    ) -> Iterator[Searched]:
        """One searched setting, if it is right."""
        values = self._values(key, value, here)
        if values is None:
            return
        for end in _ends(values):
            try:
                rule.validate_python(end)
            except ValidationError as error:
                self.report(here, self.message(error.errors()[0], prefix=key, valid=()))
                return
        kinds = _kinds(rule)
        whole = all(kind.get("type") == "integer" for kind in kinds)
        if whole and isinstance(values, Range) and isinstance(values.step, float):
            self.report(here, f"{key}: step must be a whole number, got {values.step}")
            return
        yield Searched(
            key=key,
            values=values,
            whole=whole,
            lowest=_limit(kinds, "inimum"),
            highest=_limit(kinds, "aximum"),
        )

    def _values(self, key: str, value: Any, here: Location) -> SearchedValues | None:
        if isinstance(value, list):
            if len(value) < 2 or len({repr(item) for item in value}) < len(value):
                rule = f"{key}: choices must be two values or more, all different"
                self.report(here, f"{rule}, got {value!r}")
                return None
            return self._validated(Choices, {"values": value}, here, prefix=key)
        if not isinstance(value, dict):
            shapes = "a list of choices or {low: …, high: …}"
            self.report(here, f"{key}: what is searched must be {shapes}, got {value!r}")
            return None
        if "find" in value:
            if key == "lr":
                return self._validated(FoundRange, value, here, prefix=key)
            self.report(here, f"{key}: only lr can be looked for with a range test ('find')")
            return None
        found = self._validated(Range, value, here, prefix=key)
        problem = None if found is None else _range_problem(found)
        if problem is not None:
            self.report(here, f"{key}: {problem}")
            return None
        return found

    def _validated(
        self,
        model: type[M],
        given: Any,
        here: Location,
        *,
        prefix: str,
        also: Sequence[str] = (),
    ) -> M | None:
        try:
            # In JSON mode a strict model takes a list for a tuple: YAML knows lists only.
            return model.model_validate_json(json.dumps(given))
        except ValidationError as error:
            valid = (*also, *model.model_fields)
            for detail in error.errors():
                place = (*here, *detail["loc"])
                self.report(place, self.message(detail, prefix=prefix, valid=valid, model=model))
            return None


def _kinds(rule: TypeAdapter[Any]) -> list[Mapping[str, Any]]:
    """The kinds of values that it takes, as JSON Schema has them; null is none."""
    schema = rule.json_schema()
    return [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]


def _limit(kinds: Sequence[Mapping[str, Any]], end: str) -> Limit | None:
    """The `minimum` or `maximum` that every kind has, exclusive or not; None if there is none."""
    found = [
        Limit(value=kind[key], included=included)
        for kind in kinds
        for key, included in ((f"m{end}", True), (f"exclusiveM{end}", False))
        if key in kind
    ]
    return found[0] if found and len(found) == len(kinds) else None


def _ends(values: SearchedValues) -> list[Any]:
    if isinstance(values, Range):
        return [values.low, values.high]
    return list(values.values) if isinstance(values, Choices) else []


def _range_problem(found: Range) -> str | None:
    if not found.low < found.high:
        return f"low must be below high, got {found.low} and {found.high}"
    if found.log and found.low <= 0:
        return f"a log range must start above 0, got {found.low}"
    if found.log and found.step is not None:
        return f"a log range has no step, got {found.step}"
    return None
