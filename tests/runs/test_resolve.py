"""What is wrong with data and weights is told with the place in the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import DataError, SuiteError
from bench.runs.resolve import resolve_run, view_read
from tests.tiny import SMOKE_SUITE

LINES = """\
backbone: resnet18
strategy:
  - from_scratch
  - {name: linear_probe,
     weights: IMAGENET1K_V9}
precision: fp32
"""


def suite(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_folder_that_is_not_there_is_told_with_file_and_line(tmp_path: Path) -> None:
    path = suite(tmp_path, f"{LINES}dataset:\n  name: folder\n  path: ./nowhere\n")
    with pytest.raises(DataError) as caught:
        resolve_run(path, out=tmp_path)
    assert str(caught.value).startswith(f"there is no folder {tmp_path / 'nowhere'}")
    assert str(caught.value).endswith(f"({path}:9)")


def test_an_override_is_told_as_such(tmp_path: Path) -> None:
    path = suite(tmp_path, SMOKE_SUITE)
    with pytest.raises(DataError, match=r"\(--set dataset=./nowhere/at/all\)$"):
        resolve_run(path, out=tmp_path, overrides=["dataset=./nowhere/at/all"])


def test_weights_that_there_are_not_are_told_where_they_stand(tmp_path: Path) -> None:
    path = suite(tmp_path, f"{LINES}dataset: {{name: fractals, image_size: 32}}\nweights: none\n")
    with pytest.raises(SuiteError) as caught:
        resolve_run(path, out=tmp_path)
    (problem,) = caught.value.problems
    assert "got 'IMAGENET1K_V9'; did you mean 'IMAGENET1K_V1'?" in problem.message
    assert problem.line == 5


def test_few_shots_read_views_of_all_where_others_do(tmp_path: Path) -> None:
    shots = ["shots=[2, 3, all]", "augmentation=[none, flip]", "strategy=linear_probe"]
    found = resolve_run(suite(tmp_path, SMOKE_SUITE), out=tmp_path, overrides=shots)
    assert len(found.trials) > 3
    assert all(view_read(each.trial) in found.views_of_all for each in found.trials)
    few = resolve_run(tmp_path / "mine.yaml", out=tmp_path, overrides=["shots=[2, 3]"])
    assert not few.views_of_all


def test_results_go_below_the_home_folder_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    suite(tmp_path, SMOKE_SUITE)
    assert resolve_run("~/mine.yaml", out="~/out").folder == tmp_path / "out" / "tiny"
