"""YAML scalars, lines, limits and overrides."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.suite.yaml_file import apply_overrides, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-2.", -2.0),
        ("12", 12),
        ("010", 10),
        ("0x10", 16),
        ("+7", 7),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("null", None),
        ("~", None),
        ("none", "none"),
        ("None", "None"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("'1'", "1"),
        (".inf", math.inf),
        ("-.inf", -math.inf),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    parsed = parse_yaml(f"a: {text}").data["a"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_nan() -> None:
    assert math.isnan(parse_yaml(".nan").data)


def test_every_value_has_its_line() -> None:
    yaml_file = parse_yaml("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", path=Path("s.yaml"))
    assert yaml_file.data == {"a": 1, "b": ["x", {"c": 2, "d": 3}]}
    assert {key: yaml_file.lines[key] for key in [("a",), ("b",), ("b", 0), ("b", 1, "d")]} == {
        ("a",): 1,
        ("b",): 2,
        ("b", 0): 3,
        ("b", 1, "d"): 5,
    }
    assert str(yaml_file.problem(("b", 1, "unknown"), "wrong")) == "wrong (s.yaml:4)"


def test_anchors_and_merge_keys_work_and_own_keys_win() -> None:
    yaml_file = parse_yaml("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\n")
    assert yaml_file.data["use"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "key 'a' is given twice"),
        ("a: [1, 2\n", "not valid YAML"),
        ("a: !!python/object:os.system x\n", "the tag .*os.system. means nothing in a suite"),
        ("{[1]: 2}\n", "a key must be a plain word"),
        ("a: &x [*x]\n", "a suite may hold at most"),
        ("[" * 200 + "]" * 200, "a suite may hold at most"),
        ("[" * 100_000, "nested deeper|not valid YAML"),
        ("a: \x07\n", "not valid YAML"),
    ],
)
def test_bad_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        parse_yaml(text, path=Path("s.yaml"))


def test_an_alias_bomb_is_refused_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        items = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{items}]")
    with pytest.raises(SuiteError, match="aliases counted"):
        parse_yaml("\n".join(lines))


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("a: 1")
    with pytest.raises(SuiteError, match=r"no such suite file; suites in that folder: .*other"):
        read_yaml(tmp_path / "missing.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(SuiteError, match=r"UTF-8 text \(.*bytes.yaml:2\)"):
        read_yaml(tmp_path / "bytes.yaml")
    with pytest.raises(SuiteError, match="cannot read the suite"):
        read_yaml(tmp_path)


def test_overrides_reach_into_the_suite() -> None:
    yaml_file = parse_yaml("dataset: fractals\nstrategy: [a, {name: b, lr: 1}]\nlr: 0.1\n")
    changed = apply_overrides(
        yaml_file, ["dataset.classes=3", "strategy.1.lr=1e-2", "strategy.0=c", "seed=[4, 5]"]
    )
    assert changed.data == {
        "dataset": {"name": "fractals", "classes": 3},
        "strategy": ["c", {"name": "b", "lr": 0.01}],
        "lr": 0.1,
        "seed": [4, 5],
    }
    assert yaml_file.data["dataset"] == "fractals"
    problem = changed.problem(("dataset", "classes"), "wrong")
    assert str(problem) == "wrong (--set dataset.classes=3)"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "an override must read key=value, got 'lr'"),
        ("=1", "an override must read key=value"),
        ("a..b=1", "an override must read key=value"),
        ("strategy.5=x", "strategy has 1 entry, got '5'"),
        ("lr=[1", "not valid YAML"),
    ],
)
def test_bad_overrides_are_refused(override: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        apply_overrides(parse_yaml("strategy: [a]\n"), [override])
