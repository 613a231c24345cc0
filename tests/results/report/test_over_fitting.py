"""The report's section "Where training and validation part"."""

from __future__ import annotations

from pathlib import Path

from bench.results.grid import read_grid
from bench.results.report.markdown import render_markdown
from bench.results.report.over_fitting import over_fitting_section
from tests.results.analysis.test_over_fitting import FALLING, VALLEY, Curves, a_run
from tests.results.report.rendered import table_with

FROZEN = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]


def section(folder: Path, losses: Curves, epochs: int = len(FALLING)) -> str:
    run = a_run(folder, losses, epochs=epochs)
    return render_markdown(over_fitting_section(run, read_grid(run.trials, run.metric)))


def test_what_over_fits_is_told_with_numbers_and_what_parts_less(tmp_path: Path) -> None:
    text = section(tmp_path, {"all_free": (FALLING, VALLEY), "frozen": (FALLING, FROZEN)})
    assert "Here it is 1 of 2 configs" in text
    (row,) = table_with(text, "lowest after").to_dict("records")
    assert (row["lowest after"], row["of epochs"], row["gap"]) == ("3", "6", "+40.0")
    assert "after epoch 3 of 6" in text
    assert "from 0.500 to 0.900" in text
    assert "Smaller ones in this grid: strategy frozen +20.0 points (validation accuracy" in text


def test_nothing_is_advised_that_the_grid_has_not_tried(tmp_path: Path) -> None:
    text = section(tmp_path, {"alone": (FALLING, VALLEY)})
    assert "Here it is the only config" in text
    assert "Nothing that this grid varies has a smaller gap" in text


def test_a_run_that_does_not_over_fit_says_so(tmp_path: Path) -> None:
    assert "No config of this run does" in section(tmp_path, {"frozen": (FALLING, FROZEN)})


def test_one_epoch_has_no_section(tmp_path: Path) -> None:
    assert section(tmp_path, {"short": (FALLING[:1], VALLEY[:1])}, epochs=1).strip() == ""
