"""Suites that want to break something: refused with a message, in bounded time and memory."""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import MAX_MESSAGE, MAX_PROBLEMS, BenchError, SuiteError
from bench.runs.catalogue import catalogue
from bench.suite import expand, load_suite, selection
from bench.suite.yaml_file import MAX_BYTES, apply_overrides, parse_yaml, read_yaml
from tests.hostile import mutated_text, mutated_tree

VALID = """\
name: tiny
dataset: {name: fractals, classes: 2, image_size: 32}
backbone: [resnet18, {name: vgg11, lr: 0.1}]
weights: {name: fractals, classes: 3}
strategy: [from_scratch, {name: two_rates, backbone_multiplier: 0.1}]
schedule: [constant, {name: multistep, milestones: [2, 4], gamma: 0.5}]
augmentation: [none, standard+mixup]
epochs: [2, 4]
lr: [1e-3, 0.01]
seed: [0, 1]
exclude: [{strategy: from_scratch, schedule: multistep}]
include: [{strategy: lp_ft, lr: 0.1}]
tune: {space: {lr: {low: 1e-4, high: 1e-1, log: true}}, trials: 3}
"""


def problems(tmp_path: Path, text: str | bytes, *overrides: str) -> list[str]:
    """What is wrong with a suite, once it is loaded and its grid is made."""
    path = tmp_path / "s.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    try:
        expand(load_suite(path, catalogue(), overrides), catalogue())
    except SuiteError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_the_valid_suite_is_valid(tmp_path: Path) -> None:
    assert problems(tmp_path, VALID) == []


def nested(count: int, line: str) -> str:
    """Anchors of which each repeats the one before ten times."""
    ten = ", ".join(["*a{before}"] * 10)
    levels = [line.format(n=n, ten=ten.format(before=n - 1)) for n in range(1, count)]
    return "\n".join(["a0: &a0 {k0: 1}", *levels])


@pytest.mark.parametrize(
    "line", ["a{n}: &a{n} [{ten}]", "a{n}: &a{n} {{<<: [{ten}], k{n}: 1}}"], ids=["list", "merge"]
)
def test_bombs_of_anchors_are_counted(tmp_path: Path, line: str) -> None:
    (found,) = problems(tmp_path, nested(30, line))
    assert "at most 100,000 values" in found


@pytest.mark.parametrize("text", ["a: &a {<<: *a}", "a: &a {b: *a}", "a: &a [*a]"])
def test_anchors_within_themselves(tmp_path: Path, text: str) -> None:
    (found,) = problems(tmp_path, text)
    assert "at most 100,000 values or 50 levels" in found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!!python/object/apply:os.system [touch TOUCHED]", "the tag"),
        ("!!python/object/new:os.system [touch TOUCHED]", "the tag"),
        ("!!python/name:os x", "the tag"),
        ("!!binary aGk=", "the tag"),
        ("!!timestamp 2026-01-01", "the tag"),
        ("!!set {a}", "the tag"),
        ("!local x", "the tag '!local' means nothing"),
        ("!!int x", "tagged as int must be of that type, got 'x'"),
        ("!!bool x", "tagged as bool must be of that type"),
        ("!!float 1_", "tagged as float must be of that type"),
        ("9" * 5000, "at most 100 digits, got 5,000"),
        ("0x" + "f" * 5000, "at most 100 digits"),
        ("9" * 99, "must be a valid number|must be a finite number|must be less"),
        ("1e999", "finite number"),
        (".nan", "must be"),
        (".inf", "must be"),
        ('"\\ud800"', "without surrogates"),
        ('"\\UFFFFFFFF"', "not valid YAML"),
        ('"\\0"', "must be a valid number"),
    ],
)
def test_values_that_are_no_setting(
    tmp_path: Path, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = VALID.replace("lr: [1e-3, 0.01]", f"lr: [1e-3, {value}]")
    if value == "9" * 99:
        changed = VALID.replace("epochs: [2, 4]", f"epochs: {value}")
        message = "epochs must be less than or equal to 100000"
    found = problems(tmp_path, changed)
    assert found
    assert any(re.search(message, problem) for problem in found), found
    assert all("s.yaml" in problem for problem in found)
    assert not list(tmp_path.glob("TOUCHED*"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 10**12),
        ("batch_size", 10**12),
        ("threads", 10**6),
        ("momentum", float("nan")),
        ("label_smoothing", float("nan")),
        ("seed", 10**30),
        ("strategy", {"name": "two_rates", "backbone_multiplier": float("nan")}),
        ("schedule", {"name": "one_cycle", "start_divisor": float("inf")}),
        ("schedule", {"name": "plateau", "threshold": float("nan")}),
        ("head", {"name": "mlp", "hidden": 10**12}),
        ("weights", {"name": "fractals", "epochs": 10**12}),
    ],
)
def test_numbers_out_of_all_bounds(tmp_path: Path, key: str, value: Any) -> None:
    tree = {**yaml.safe_load(VALID), key: value}
    found = problems(tmp_path, yaml.safe_dump(tree))
    assert any("must be" in problem for problem in found), found


@pytest.mark.parametrize(
    "name", ["../../x", "..", ".hidden", "/etc", "a/b", "a\\b", "x" * 101, "a\n"]
)
def test_a_run_folder_stays_below_out(tmp_path: Path, name: str) -> None:
    tree = {**yaml.safe_load(VALID), "name": name}
    (found,) = problems(tmp_path, yaml.safe_dump(tree))
    assert "name must be letters, digits" in found


def test_a_grid_of_a_milliard_trials_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.suite.grid.MAX_TRIALS", 2_000)  # so many are made
    axes = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.1, "label_smoothing": 0.0, "seed": 0}
    values = {key: [start + (n if key == "seed" else n / 1000) for n in range(100)]
              for key, start in axes.items()}  # fmt: skip
    tree = {**yaml.safe_load(VALID), **values}
    (found,) = problems(tmp_path, yaml.safe_dump(tree))
    assert "at most 2,000 trials" in found
    assert "lr (100)" in found
    included = {**yaml.safe_load(VALID), "include": [{"strategy": "lp_ft", **values}]}
    (found,) = problems(tmp_path, yaml.safe_dump(included))
    assert "at most 2,000 trials" in found
    assert "s.yaml:" in found


def test_long_axes_and_many_rules_are_refused(tmp_path: Path) -> None:
    tree = {**yaml.safe_load(VALID), "seed": list(range(20_000))}
    assert "seed may have at most 1,000 values, got 20,000" in problems(
        tmp_path, yaml.safe_dump(tree)
    )[0]  # fmt: skip
    tree = {**yaml.safe_load(VALID), "exclude": [{"seed": 0}] * 2000}
    assert "exclude may have at most 1,000 rules" in problems(tmp_path, yaml.safe_dump(tree))[0]


def test_mistakes_and_messages_are_bounded(tmp_path: Path) -> None:
    unknown = "".join(f"key{n}: 1\n" for n in range(5000))
    assert len(problems(tmp_path, VALID + unknown)) == MAX_PROBLEMS
    assert len(problems(tmp_path, "a: 1\n" * 5000)) == MAX_PROBLEMS
    long = "x" * 500_000
    found = problems(tmp_path, VALID.replace("name: tiny", f"name: {long}\n{long}: 1"))
    assert found
    assert all(len(problem) < MAX_MESSAGE + 300 for problem in found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "UTF-8 text"),
        (b"name: caf\xe9\n", "UTF-8 text"),
        (b"name: a\0b\n", "not valid YAML"),
        (b"\0" * 1000, "not valid YAML"),
        (b"a: " + b"x" * 10_000_000, f"at most {MAX_BYTES:,} bytes"),
        (b"%YAML 1." + b"9" * 5000 + b"\n---\na", "not valid YAML"),
        (b"{" * 100_000, "nested deeper|not valid YAML"),
        (b"- " * 100_000, "nested deeper|not valid YAML|at most"),
        (b"a: 1\nb: 2\na: 3\n0x10: 1\n16: 2", "key '16' is given twice"),
        (b"<<: 3\n", "only mappings can be merged"),
    ],
    ids=lambda value: str(value[:12]),
)
def test_bytes_that_are_no_suite(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(SuiteError, match=message):
        read_yaml(tmp_path / "s.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.yaml")
    for path in (tmp_path / "s.yaml", Path("/dev/zero")):
        with pytest.raises(SuiteError, match="is a pipe, a socket or a device"):
            read_yaml(path)


@pytest.mark.parametrize(
    "override",
    [
        "a" + ".a" * 60_000 + "=1",
        "strategy.²=x",
        f"strategy.{'9' * 5000}=x",
        "lr=" + "9" * 5000,
        "lr=[" + "[" * 50_000,
        "lr=!!python/object/apply:os.system [x]",
        "lr=&a [*a]",
        "name=../../x",
        "lr=\udcff",
        "epochs=1000000000000",
    ],
    ids=lambda text: text[:16].encode("ascii", "replace").decode(),
)
def test_overrides_of_the_same_kinds(tmp_path: Path, override: str) -> None:
    found = problems(tmp_path, VALID, override)
    assert found
    assert all("--set" in problem for problem in found)
    with pytest.raises(SuiteError):
        selection([override], catalogue())


def test_a_path_may_lead_anywhere_and_is_only_read(tmp_path: Path) -> None:
    """A suite beside its images names them by `../photos`: that is no attack."""
    outside, inside = tmp_path / "photos", tmp_path / "suites"
    outside.mkdir()
    inside.mkdir()
    tree = {**yaml.safe_load(VALID), "dataset": "../photos", "weights": {"file": "../../nothing"}}
    (found,) = problems(inside, yaml.safe_dump(tree))
    assert f"no such weights file: {tmp_path.parent / 'nothing'}" in found
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["photos", "suites", "s.yaml"]


# Fuzzing --------------------------------------------------------------------------------------

FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def ends_well(tmp_path: Path, text: str, overrides: Sequence[str] = ()) -> None:
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(BenchError):
        expand(load_suite(tmp_path / "s.yaml", catalogue(), overrides), catalogue())


@FUZZ
@given(st.randoms(use_true_random=False))
def test_fuzzed_text(tmp_path: Path, rng: random.Random) -> None:
    ends_well(tmp_path, mutated_text(VALID, rng))


@FUZZ
@given(st.randoms(use_true_random=False))
def test_fuzzed_trees(tmp_path: Path, rng: random.Random) -> None:
    tree = mutated_tree(yaml.safe_load(VALID), rng)
    ends_well(tmp_path, yaml.safe_dump(tree, allow_unicode=True))


@FUZZ
@given(st.text(max_size=60))
def test_random_text(tmp_path: Path, text: str) -> None:
    ends_well(tmp_path, VALID, [text, f"lr={text}"])
    ends_well(tmp_path, text)
    with contextlib.suppress(SuiteError):
        parse_yaml(text)
    with contextlib.suppress(SuiteError):
        apply_overrides(parse_yaml("a: [1, {b: 2}]"), [f"{text}=1"])
