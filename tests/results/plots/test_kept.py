"""Figures that show the same stay; what is on disk always fits the tables."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.results import plots
from bench.results.folder import Run, write_json
from bench.results.plots import TRIAL_PREFIX, write_plots
from bench.results.plots.canvas import save
from tests.made_up_run import made_up_run

NAMES = ("curves", "confusion")
"""The figures of the run that are drawn here, of many."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run with its figures and a cache of its own."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    figures = plots._figures
    monkeypatch.setattr(plots, "_figures", lambda run: {name: figures(run)[name] for name in NAMES})
    run = made_up_run(
        tmp_path / "run", strategies=["linear_probe"], schedules=["cosine"], seeds=2, epochs=2
    )
    write_plots(run, run.folder / "plots")
    return run


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of the figures that are drawn from now on."""
    names: list[str] = []

    def note(figure: object, path: Path) -> None:
        names.append(path.name)
        save(figure, path)  # type: ignore[arg-type]

    monkeypatch.setattr(plots, "save", note)
    return names


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def _as_drawn_elsewhere(run: Run, folder: Path) -> dict[str, bytes]:
    write_plots(run, folder)
    return _content(folder)


def test_nothing_is_drawn_where_nothing_has_changed(run: Run, saved: list[str]) -> None:
    before = _content(run.folder / "plots")
    drawn = write_plots(run, run.folder / "plots")
    assert not saved
    assert _content(run.folder / "plots") == before
    assert {path.relative_to(run.folder / "plots") for path in drawn.files.values()} == {
        Path(name) for name in before
    }
    assert len([name for name in drawn.files if name.startswith(TRIAL_PREFIX)]) == 2


def test_of_a_changed_curve_its_own_figure_and_those_of_the_run_are_drawn(
    run: Run, saved: list[str], tmp_path: Path
) -> None:
    changed = run.curves.copy()
    changed.loc[changed["trial"] == changed["trial"].iloc[0], "loss"] += 0.125
    run = replace(run, curves=changed)
    write_plots(run, run.folder / "plots")
    assert len(saved) == 1 + len(NAMES)
    assert _content(run.folder / "plots") == _as_drawn_elsewhere(run, tmp_path / "elsewhere")


@pytest.mark.campaign
def test_a_changed_chosen_epoch_is_seen(run: Run, saved: list[str], tmp_path: Path) -> None:
    trials = run.trials.copy()
    trials["best_epoch"] = 3 - trials["best_epoch"]
    run = replace(run, trials=trials)
    write_plots(run, run.folder / "plots")
    assert len(saved) == len(_content(run.folder / "plots"))
    assert _content(run.folder / "plots") == _as_drawn_elsewhere(run, tmp_path / "elsewhere")


@pytest.mark.parametrize("harm", ["removed", "cut", "foreign"])
def test_a_figure_that_is_not_as_it_was_written_is_drawn_again(
    run: Run, saved: list[str], harm: str
) -> None:
    before = _content(run.folder / "plots")
    path = run.folder / "plots" / "curves.png"
    if harm == "removed":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        shutil.copy(run.folder / "plots" / "confusion.png", path)
    write_plots(run, run.folder / "plots")
    assert saved == ["curves.png"]
    assert _content(run.folder / "plots") == before


def test_figures_in_a_folder_from_elsewhere_are_not_trusted(
    run: Run, saved: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _content(run.folder / "plots")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "another cache"))
    (run.folder / "plots" / "curves.png").write_bytes(b"forged")
    write_plots(run, run.folder / "plots")
    assert len(saved) == len(before)
    assert _content(run.folder / "plots") == before


def test_what_a_figure_reads_beside_the_tables_counts(run: Run, saved: list[str]) -> None:
    write_json(run.folder / "accounts.json", {"sentence": "Another start."})
    write_plots(run, run.folder / "plots")
    assert sorted(saved) == sorted(f"{name}.png" for name in NAMES)


@pytest.mark.campaign
def test_other_code_draws_everything_again(
    run: Run, saved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.results.plots.kept._code", lambda: "another version")
    write_plots(run, run.folder / "plots")
    assert len(saved) == len(_content(run.folder / "plots"))


@pytest.mark.campaign
def test_a_figure_that_failed_is_tried_again(
    run: Run, saved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.folder / "plots" / "curves.png").unlink()
    with monkeypatch.context() as broken:
        broken.setattr(plots, "mean_curves", lambda *_: 1 / 0)
        assert "curves" in write_plots(run, run.folder / "plots").failed
    drawn = write_plots(run, run.folder / "plots")
    assert saved == ["curves.png"]
    assert not drawn.failed


def test_a_cache_that_cannot_be_written_to_costs_time_only(
    run: Run, saved: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert not write_plots(run, run.folder / "plots").failed
    assert len(saved) == 2 * len(_content(run.folder / "plots"))
