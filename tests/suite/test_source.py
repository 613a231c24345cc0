"""A suite as a file, as text and as a mapping: the same suite, and mistakes say where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench.errors import SuiteError
from bench.runs.catalogue import catalogue
from bench.suite import Suite, SuiteSource, load_suite
from bench.suite.yaml_file import MAX_BYTES
from tests.tiny import SMOKE_SUITE

DATA: dict[str, Any] = yaml.safe_load(SMOKE_SUITE)


def load(source: SuiteSource, *overrides: str) -> Suite:
    return load_suite(source, catalogue(), overrides).suite


def refused(source: SuiteSource, *overrides: str) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        load(source, *overrides)
    return [str(problem) for problem in caught.value.problems]


def test_file_text_and_mapping_are_the_same_suite(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(SMOKE_SUITE)
    assert load(file) == load(str(file)) == load(SMOKE_SUITE) == load(DATA)
    assert load(DATA, "lr=0.5").settings["lr"] == (0.5,)
    assert DATA["lr"] == 0.01


def test_values_of_python_are_taken_for_those_of_yaml(tmp_path: Path) -> None:
    given = {
        **DATA,
        "lr": (np.float64(0.01), 0.02),
        "seed": range(2),
        "epochs": np.int64(2),
        "dataset": {"path": tmp_path},
    }
    suite = load(given)
    assert suite.settings["lr"] == (0.01, 0.02)
    assert suite.settings["seed"] == (0, 1)
    assert suite.settings["epochs"] == (2,)
    assert suite.dataset.options["path"] == str(tmp_path.resolve())


def test_a_text_of_one_line_that_names_no_file_is_a_suite() -> None:
    text = "{name: one, dataset: fractals, backbone: resnet18, strategy: from_scratch}"
    assert load(text).name == "one"


def test_relative_paths_start_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for dataset in ("photos", {"path": "photos"}):
        suite = load({**DATA, "dataset": dataset})
        assert suite.dataset.options["path"] == str(tmp_path / "photos")


def test_mistakes_in_a_mapping_name_the_key() -> None:
    wrong = {**DATA, "strategy": ["from_scratch", {"name": "linear_probe", "lr": -1}], "epoch": 3}
    assert refused(wrong) == [
        "unknown key 'epoch'; did you mean 'epochs'? (at epoch)",
        "lr must be greater than 0, got -1 (at strategy.1.lr)",
    ]
    assert refused(DATA, "lr=-1") == ["lr must be greater than 0, got -1 (--set lr=-1)"]
    (message,) = refused({**DATA, "strategy": "linear_prob"})
    assert message.endswith("did you mean 'linear_probe'? (at strategy)")


def test_mistakes_in_text_name_the_line() -> None:
    (message,) = refused(SMOKE_SUITE.replace("epochs: 2", "epochs: 0"))
    assert message == "epochs must be greater than or equal to 1, got 0 (line 9)"
    (message,) = refused("name: [\n")
    assert message.startswith("not valid YAML")
    assert message.endswith("(line 2)")


def test_what_is_no_file_needs_a_name() -> None:
    rule = "name is required for a suite that is not a file: the run folder gets that name"
    unnamed = {key: value for key, value in DATA.items() if key != "name"}
    assert refused(unnamed) == [rule]
    assert refused(yaml.safe_dump(unnamed)) == [f"{rule} (line 1)"]


@pytest.mark.parametrize("path", ["missing.yaml", "no/such.yaml", "missing", ""])
def test_a_path_that_is_missing_is_said_to_be(path: str) -> None:
    (message,) = refused(path)
    assert message.startswith(("no such suite file", "cannot read the suite"))


def test_what_is_no_plain_data_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["lr"] = endless
    assert "at most" in refused(endless)[0]
    assert "50 levels" in refused(endless)[0]
    assert "at most 1,000,000 characters" in refused("a: 1\n" * (MAX_BYTES // 5 + 1))[0]
    odd = {**DATA, "lr": {1, 2}, "epochs": 10**200, "name": "\ud800", None: 1}
    messages = refused(odd)
    assert [message.rpartition(" (at ")[2] for message in messages[:3]] == [
        "name)",
        "epochs)",
        "lr)",
    ]
    assert messages[3] == "a key must be a plain word, got None"
