"""What a notebook shows of run folders, those of others too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.results.folder import Run
from bench.results.report.changes import compare
from bench.results.report.notebook import PNG, shows_itself
from bench.results.report.shown import show
from tests.made_up_run import made_up_run

HOSTILE = "<img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    names = ["linear_probe", HOSTILE]
    folder = tmp_path_factory.mktemp("runs") / "hostile"
    return made_up_run(folder, strategies=names, schedules=["constant"], seeds=2, epochs=2)


def shown(thing: Any) -> str:
    text = thing._repr_html_()
    assert isinstance(text, str)
    return text


def test_a_run_is_its_answer_and_its_ranking(run: Run) -> None:
    itself = shows_itself(run)
    assert isinstance(itself, Run)
    assert itself.trials is run.trials
    assert itself.folder == run.folder
    html = shown(itself)
    assert "<h1>Results of hostile</h1>" in html
    assert "<strong>Use:</strong>" in html
    assert itself.verdict["sentences"][0].startswith(f"Use: {itself.verdict['recommended']}")
    assert html.count("<table>") == 1
    assert "<td>linear_probe</td>" in html


def test_names_show_as_text(run: Run) -> None:
    for thing in (shows_itself(run), show(run.folder), compare(run.folder, [run.folder])):
        html = shown(thing)
        assert "<img src=x" not in html
        assert "\u202e" not in html
        assert "alert(1)" in html


def test_only_pictures_of_the_run_folder_are_put_in(run: Run, tmp_path: Path) -> None:
    plots = run.folder / "plots"
    plots.mkdir(exist_ok=True)
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG + b"secret")
    curves, lead = plots / "curves.png", plots / "test_accuracy.png"
    found = []
    for make in (
        lambda: curves.write_bytes(PNG + b"drawn"),
        lambda: curves.write_bytes(b"no picture"),
        lambda: curves.symlink_to(secret),
    ):
        curves.unlink(missing_ok=True)
        make()
        found.append(re.findall('src="([^"]*)"', shown(shows_itself(run))))
    assert [len(pictures) for pictures in found] == [1, 0, 0]
    assert found[0][0].startswith("data:image/png;base64,iVBORw0KGgp")
    assert not lead.exists()
    curves.unlink()
    elsewhere = tmp_path / "plots"
    plots.rename(elsewhere)
    (elsewhere / "curves.png").write_bytes(PNG + b"secret")
    plots.symlink_to(elsewhere)
    assert re.findall('src="([^"]*)"', shown(shows_itself(run))) == []
