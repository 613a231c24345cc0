"""The surroundings change no figure, and one that fails costs itself only."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from bench.results import plots
from bench.results.plots import ranked_configs
from bench.results.plots.canvas import save
from bench.results.report import write_report
from tests.made_up_run import made_up_run

_SETTINGS: dict[str, Any] = {
    "lines.linewidth": 9.0,
    "savefig.bbox": "tight",
    "savefig.dpi": 40.0,
    "savefig.facecolor": "red",
    "axes.facecolor": "red",
    "axes.formatter.use_locale": True,
    "axes.formatter.limits": (0, 0),
    "font.family": ["serif"],
    "text.usetex": True,
    "path.sketch": (1.0, 100.0, 2.0),
}


def _one(folder: Path, **options: Any) -> Any:
    return made_up_run(folder, strategies=["a", "b"], schedules=["s"], epochs=2, **options)


def test_settings_of_the_process_change_nothing(tmp_path: Path) -> None:
    run = _one(tmp_path / "r")
    pictures = []
    for settings in ({}, _SETTINGS):
        with mpl.rc_context(settings):
            figure = ranked_configs(run.trials)
            assert figure is not None
            save(figure, tmp_path / "figure.png")
        pictures.append((tmp_path / "figure.png").read_bytes())
    assert pictures[0] == pictures[1]


_DRAW = """
import os, sys
from pathlib import Path
from bench.results.folder import read_run
from bench.results.plots import ranked_configs
from bench.results.plots.canvas import save
folder = Path(sys.argv[1])
save(ranked_configs(read_run(folder).trials), folder / "elsewhere.png")
print(os.environ["MPLBACKEND"], Path.cwd().name)
"""


def test_surroundings_that_matplotlib_refuses_cost_nothing(tmp_path: Path) -> None:
    run = _one(tmp_path / "r")
    figure = ranked_configs(run.trials)
    assert figure is not None
    save(figure, run.folder / "here.png")
    hostile = tmp_path / "work"
    hostile.mkdir()
    (hostile / "matplotlibrc").write_bytes(b"lines.linewidth: \xff\n")
    done = subprocess.run(
        [sys.executable, "-c", _DRAW, str(run.folder)],
        cwd=hostile,
        env={**os.environ, "MPLBACKEND": "a_kernel_of_another_environment", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["a_kernel_of_another_environment", "work"]
    written = (run.folder / name for name in ("here.png", "elsewhere.png"))
    assert len({path.read_bytes() for path in written}) == 1


def test_a_figure_that_fails_costs_itself_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _one(tmp_path / "r", seeds=1)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such\ncolour")

    monkeypatch.setattr(plots, "mean_curves", fail)
    monkeypatch.setattr(plots, "trial_curves", fail)
    write_report(run)
    drawn = {path.stem for path in (run.folder / "plots").rglob("*.png")}
    assert {"test_accuracy", "confusion", "learning_rates"} <= drawn
    assert "curves" not in drawn
    for name in ("report.md", "report.html"):
        report = html.unescape((run.folder / name).read_text(encoding="utf-8"))
        assert "RuntimeError: no such colour" in report
        assert "could not be drawn" in report
        assert "plots/curves.png" not in report


def test_a_file_that_cannot_be_written_whole_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = ranked_configs(_one(tmp_path / "r", seeds=1).trials)
    assert figure is not None

    def tear(path: Path, **_: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(figure, "savefig", tear)
    with pytest.raises(OSError, match="No space"):
        save(figure, tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()
