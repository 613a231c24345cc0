"""What a value that is refused was meant to be: `None` is `null`, `off` is `false`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

_NOTHING = frozenset({"", "-", "n/a", "na", "never", "nil", "no", "none", "null", "off"})
_NO = frozenset({"disable", "disabled", "false", "n", "no", "off"})
_YES = frozenset({"enable", "enabled", "on", "true", "y", "yes"})
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def value_hint(value: Any, accepts: Callable[[Any], bool]) -> str:
    """A suffix such as `; write null`, of what is like the value and accepted; else nothing."""
    return next((f"; write {_as_yaml(each)}" for each in _candidates(value) if accepts(each)), "")


def name_hint(value: Any, valid: Callable[[str], bool]) -> str:
    """As `value_hint`, where a name is asked for: `augmentation: null` is `none`."""
    said = isinstance(value, str) and value.strip().lower() in _NOTHING | _NO
    nothing = said or value is None or value is False
    return "; write none" if nothing and valid("none") else ""


def _candidates(value: Any) -> Iterator[Any]:
    """What a value may stand for, the likeliest first."""
    if isinstance(value, str):
        yield from _of_text(value.strip())
    elif value is None:
        yield from (False, "none", 0, 0.0)
    elif value is False or value == 0:
        yield from (None, "none", False, 0, 0.0)
    elif value == 1:
        yield from (True, 1)
    elif isinstance(value, float) and value.is_integer():
        yield int(value)
    elif isinstance(value, dict) and len(value) == 1:
        yield from value.values()


def _of_text(text: str) -> Iterator[Any]:
    word = text.lower()
    if word in _NO:
        yield False
    if word in _YES:
        yield True
    if word in _NOTHING or word in _NO:
        yield from (None, "none", 0, 0.0)
    yield from _numbers(text)
    yield word


def _numbers(text: str) -> Iterator[float]:
    """`1_000`, `1,000`, `10 %` and `1/3` as numbers."""
    plain, percent = text.rstrip("% ").replace("_", ""), text.endswith("%")
    if re.fullmatch(r"\d{1,3}(,\d{3})+", plain):
        plain = plain.replace(",", "")
    over = plain.partition("/")
    if over[1] and all(map(_NUMBER.fullmatch, (over[0], over[2]))) and float(over[2]):
        yield float(f"{float(over[0]) / float(over[2]):.6g}")
    elif len(plain) <= 30 and _NUMBER.fullmatch(plain):
        number = float(plain)
        if percent:
            yield float(f"{number / 100:.6g}")
        else:
            if plain.lstrip("+-").isdecimal():
                yield int(plain)
            yield number


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
