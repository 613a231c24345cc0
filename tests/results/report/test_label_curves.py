"""The report's section "How much labelling pays"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.results.folder import Run
from bench.results.report import Findings, document, render_markdown
from tests.made_up_run import made_up_run
from tests.results.label_models import sized_run
from tests.results.report.rendered import table_with

SHARES = {
    "early": (0.70, 0.72, 0.73, 0.74),
    "late": (0.50, 0.60, 0.75, 0.92),
    "law": tuple(1 - 0.5 * n**-0.5 for n in (2, 6, 20, 96)),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    samples = np.linspace(0, 1, 400, endpoint=False)
    rng = np.random.default_rng(0)
    run = sized_run(
        tmp_path_factory.mktemp("labels"),
        {
            (name, size): samples + 0.03 * rng.normal(size=(3, 400)) < share
            for name, own in SHARES.items()
            for size, share in zip((2, 6, 20, None), own, strict=True)
        },
    )
    return _markdown(run)


def _markdown(run: Run) -> str:
    return render_markdown(document(Findings(run=run), {}))


def test_the_verdict_says_at_which_size_it_compares(report: str) -> None:
    assert "**Use:** with all training images: law." in report
    assert "half of the error for this size and half for all others" in report


def test_each_size_has_what_to_use_there(report: str) -> None:
    rows = table_with(report, "use").to_dict("records")
    assert [row["images a class"] for row in rows] == ["2", "6", "20", "all (96)"]
    assert [row["use"] for row in rows] == ["early", "law", "law", "law"]
    assert "late" in rows[0]["worse"]
    assert "early" in rows[-1]["worse"]


def test_figures_stand_by_strategy_and_size(report: str) -> None:
    table = table_with(report, "all (96)").set_index("strategy")
    assert list(table.columns) == ["2", "6", "20", "all (96)"]
    for name, own in SHARES.items():
        for cell, share in zip(table.loc[name], own, strict=True):
            figure, _, interval = cell.partition(" ")
            low, high = interval.strip("()").split("–")
            assert float(figure) == pytest.approx(100 * share, abs=1.5)
            assert float(low) < float(figure) < float(high)


def test_crossings_are_told_with_what_is_shown_of_them(report: str) -> None:
    rows = table_with(report, "is overtaken").to_dict("records")
    late = next(row for row in rows if (row["overtakes"], row["is overtaken"]) == ("late", "early"))
    assert late["95 %"] == "6 to 96"
    assert late["claim"] == "early is better with 6, late with 96"
    assert late["at images a class"].startswith("about ")


def test_a_forecast_is_given_where_the_law_predicts(report: str) -> None:
    rows = table_with(report, "likely").to_dict("records")
    row = next(each for each in rows if each["strategy"] == "law")
    assert row["images a class"] == "192"
    assert float(row["likely"]) == pytest.approx(100 * (1 - 0.5 * 192**-0.5), abs=1)
    assert "a power law did not miss the next by at most half as much as the last value" in report
    assert "early (off by" in report


@pytest.mark.parametrize(
    ("shares", "seeds", "wanted"),
    [
        ({"a": (0.5, 0.9), "b": (0.6, 0.95)}, 3, "No two of these curves cross."),
        ({"a": (0.9, 0.5), "b": (0.6, 0.95)}, 2, "Nothing can be claimed of it"),
        ({"a": (0.5, 0.9)}, 3, "a power law can be tried from four sizes on: a."),
    ],
)
def test_what_cannot_be_said_is_told(
    tmp_path: Path, shares: dict[str, tuple[float, ...]], seeds: int, wanted: str
) -> None:
    right = {
        (name, size): np.tile(np.arange(100) < 100 * share, (seeds, 1))
        for name, own in shares.items()
        for size, share in zip((2, None), own, strict=True)
    }
    assert wanted in _markdown(sized_run(tmp_path, right))


def test_a_run_of_one_size_has_no_such_section(tmp_path: Path) -> None:
    assert "labelling" not in _markdown(made_up_run(tmp_path, epochs=1))
