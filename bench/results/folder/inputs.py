"""How samples became the inputs of networks, as the files of a run tell it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bench.results.folder.checks import input_problem, plain_json
from bench.results.folder.run import Run
from bench.system.tensor_metadata import tensor_metadata

if TYPE_CHECKING:
    import pandas as pd

SEPARATOR = " · "
_RULE_OF_AUTO = {"fractals": "squash", "folder": "crop", "hymenoptera": "crop"}
"""What `resize: auto` meant for these data sets before `data.json` told what it came to."""


@dataclass(frozen=True, kw_only=True)
class InputRule:
    """What turns samples into inputs for some trials.

    `used_by` are their backbones with weights. `size` is the side of an image in pixels, or the
    length of a vector; `resized_to` the side of which the middle is taken. `native_size` is the
    side of all images where they are squares of one size, `squares` whether they are squares at
    all. `unknown` names what nobody has told of the weights. Images that are not made RGB have so
    many `channels`, and `deep` ones values of so many `bits`. Texts are read in
    a `unit`. None and empty: not told.
    """

    used_by: tuple[str, ...]
    size: int
    kind: str = "image"
    resize: str | None = None
    resized_to: int | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    native_size: int | None = None
    squares: bool = False
    unknown: tuple[str, ...] = ()
    channels: int | None = None
    deep: bool = False
    bits: int = 16
    unit: str = "tokens"

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> InputRule:
        """The rule in an entry of `inputs` in `data.json`, or in what a checkpoint keeps."""
        known = {field.name for field in fields(cls)}
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content.items()
            if name in known
        }
        return cls(**told)


def read_inputs(run: Run) -> tuple[InputRule, ...]:
    """The rules of a run, in the order of its trials.

    Earlier versions did not write them: of their runs they are what checkpoints say, and without
    checkpoints what the settings of the trials do.
    """
    told = run.data.get("inputs")
    if told is not None:
        return tuple(map(InputRule.of, told))
    found: dict[InputRule, dict[str, None]] = {}
    for rule in _earlier(run):
        users = found.setdefault(_without_users(rule), {})
        users.update(dict.fromkeys(rule.used_by))
    return tuple(
        InputRule(**{**vars(rule), "used_by": tuple(users)}) for rule, users in found.items()
    )


def _without_users(rule: InputRule) -> InputRule:
    return InputRule(**{**vars(rule), "used_by": ()})


def _earlier(run: Run) -> Iterator[InputRule]:
    alike = run.trials.groupby(["backbone", "weights", "settings"], sort=False, dropna=False)
    for (backbone, weights, settings), rows in alike:
        user = f"{backbone}{SEPARATOR}{weights}"
        rule = _of_checkpoints(run, rows, user) or _of_settings(run, settings, user)
        if rule is not None:
            yield rule


def _of_checkpoints(run: Run, rows: pd.DataFrame, user: str) -> InputRule | None:
    """What the first checkpoint of the trials says, of those that are there."""
    for trial in rows["trial"]:
        path = run.folder / "checkpoints" / f"{trial}.safetensors"
        try:
            content = plain_json(tensor_metadata(path)["preprocessing"])
        except (OSError, ValueError, KeyError):
            continue
        told = {**content, "used_by": [user]} if isinstance(content, dict) else None
        if input_problem(told) is None:
            return InputRule.of(told or {})
    return None


def _of_settings(run: Run, text: Any, user: str) -> InputRule | None:
    try:
        settings = json.loads(text)
        resize, size = settings["resize"], settings["image_size"]
    except (ValueError, KeyError, TypeError):
        return None
    dataset = run.suite.get("dataset")
    name = dataset.get("name") if isinstance(dataset, Mapping) else dataset
    if resize == "auto":
        resize = _RULE_OF_AUTO.get(str(name))
    told: dict[str, Any] = {"used_by": [user], "kind": "image", "size": size, "resize": resize}
    told["squares"] = name == "fractals"
    return None if input_problem(told) else InputRule.of(told)
