"""Inputs that want to break something, made from valid ones by a given random generator."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd

NASTY_TEXTS = (
    "", " ", "\n", "\0", "\x1b[2J", "\x1b]8;;http://x.example\x07link\x1b]8;;\x07", "\u202etxt.exe",
    "<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "[bold]b[/bold]", "[/]", "\\",
    "$x^2$", "$\\frac", "*b* _i_ `c` | #h", "{{7*7}}", "%s%n", "../../x", "~", "/dev/zero",
    "x" * 300,
    "null", "true", "1e999", ".nan", "0x10", "&a", "*a", "<<", "!!int", "!!python/name:os.system",
    "NaN", "résumé", "日本語", "🧪", "a.b", "=1+1", "-", "---", "...", "\ufeff", "\u2028",
)  # fmt: skip
NASTY_NUMBERS = (
    0, -1, 1, 2, 10**6, 10**12, 2**31, 2**63, 10**30, 0.5, 1e-300, 1e300, float("nan"),
    float("inf"), float("-inf"), -0.0,
)  # fmt: skip
NASTY_SYNTAX = (
    *"&*!%@`|>-?:,[]{}#'\"\\\t\n\r\0", "<<: ", "&a ", "*a ", "!!int ", "!x ", "? ", "- ", "---\n",
    "%YAML 1.1\n", "\n  ", "\\ud800", "\\U00110000", "[[[[", "{{{{", "9" * 120,
)  # fmt: skip


def mutated_text(text: str, rng: random.Random) -> str:
    """`text` with one to five pieces left out, doubled, moved or replaced."""
    for _ in range(rng.randint(1, 5)):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.choice((0, 1, 2, 5, 20)))
        elsewhere = rng.randint(0, len(text))
        piece = rng.choice((
            "", rng.choice(NASTY_SYNTAX), rng.choice(NASTY_TEXTS), chr(rng.randint(0, 0xD7FF)),
            text[elsewhere : elsewhere + 20], str(rng.choice(NASTY_NUMBERS)),
        ))  # fmt: skip
        text = text[:start] + piece + text[end:]
    return text


def mutated_tree(tree: Any, rng: random.Random) -> Any:
    """Nested mappings and lists with one to three values replaced, renamed or left out."""
    for _ in range(rng.randint(1, 3)):
        tree = _mutated(tree, rng)
    return tree


def _mutated(tree: Any, rng: random.Random) -> Any:
    """One change somewhere: the deeper a value, the less likely it is."""
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        key = rng.choice(list(tree))
        what = rng.random()
        if what < 0.1:
            return {k: v for k, v in tree.items() if k != key}
        if what < 0.2:
            return {**tree, nasty_value(rng, flat=True): tree[key]}
        return {**tree, key: _mutated(tree[key], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.85:
        index = rng.randrange(len(tree))
        if rng.random() < 0.2:
            return [*tree, rng.choice((tree[index], nasty_value(rng)))]
        return [*tree[:index], _mutated(tree[index], rng), *tree[index + 1 :]]
    return nasty_value(rng)


def nasty_value(rng: random.Random, *, flat: bool = False) -> Any:
    """Anything that may stand where something else is meant."""
    kinds = [rng.choice(NASTY_TEXTS), rng.choice(NASTY_NUMBERS), None, True]
    if not flat:
        kinds += [[], {}, [nasty_value(rng, flat=True)], {"name": nasty_value(rng, flat=True)}]
    return rng.choice(kinds)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """`content` with one to eight bytes or runs changed, or cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if not data:
            break
        # Headers stand at the beginning (parquet's at the end), and decide most.
        place = rng.random() ** rng.choice((1, 4))
        start = int((place if rng.random() < 0.7 else 1 - place) * (len(data) - 1))
        what = rng.random()
        if what < 0.4:
            data[start] ^= 1 << rng.randrange(8)
        elif what < 0.6:
            data[start] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif what < 0.75:
            data[start : start + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")
            )
        elif what < 0.85:
            del data[start : start + rng.choice((1, 2, 16, 200))]
        elif what < 0.95:
            data[start:start] = rng.randbytes(rng.choice((1, 4, 32)))
        else:
            del data[start + 1 :]
    return bytes(data)


def changed_cells(frame: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    """One to four cells changed to something of the same type, a row left out or doubled."""
    frame = frame.astype(object)
    for _ in range(rng.randint(1, 4)):
        row, column = rng.randrange(len(frame)), rng.randrange(frame.shape[1])
        old = frame.iat[row, column]
        if rng.random() < 0.2:
            new = None
        elif isinstance(old, str):
            new = rng.choice((*NASTY_TEXTS, frame.iat[rng.randrange(len(frame)), column]))
        else:
            new = rng.choice(NASTY_NUMBERS)
        frame.iat[row, column] = new
    if rng.random() < 0.2:
        frame = frame.drop(index=rng.randrange(len(frame)))
    return frame
