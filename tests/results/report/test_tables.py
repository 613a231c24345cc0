"""Tables as files: readers of CSV and LaTeX find in them what the report shows."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from bench.results.report import write_report
from bench.results.report.blocks import Link, Table
from bench.results.report.tables import render_csv, render_latex
from tests.made_up_run import made_up_run

HOSTILE = Table(
    "hostile",
    ("a & b", "n"),
    (("=HYPERLINK(1)", "-1.5"), ('say "x", y', "+2.0"), (Link("100 % {a_b}", "x.png"), "@cmd")),
    (1,),
)


def test_csv_is_read_back(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", seeds=3)
    assert write_report(run, {}, formats=["csv"]) == [run.folder / "tables"]
    ranking = pd.read_csv(run.folder / "tables" / "ranking.csv")
    means = 100 * run.trials.groupby(["strategy", "schedule"])["test_accuracy"].mean()
    for row in ranking.to_dict("records"):
        mean = float(row["test"].split(" ± ")[0])
        assert mean == pytest.approx(means[row["strategy"], row["schedule"]], abs=0.051)
    trials = pd.read_csv(run.folder / "tables" / "trials.csv")
    assert set(trials["curves"]) == set(run.trials["trial"])
    assert not (run.folder / "report.md").exists()


def test_no_cell_is_a_formula() -> None:
    lines = render_csv(HOSTILE).splitlines()
    assert lines == ["a & b,n", "'=HYPERLINK(1),-1.5", '"say ""x"", y",+2.0', "100 % {a_b},'@cmd"]


@pytest.mark.parametrize("sign", "=+-@＝＋－＠﹦﹢﹣﹫⁺−")
def test_relatives_of_formulas_are_none(sign: str) -> None:
    for cell in (f"{sign}HYPERLINK(1)", f" {sign}1+1", f"\u3000{sign}A1"):
        (line,) = csv.reader([render_csv(Table("t", (cell,), ())).rstrip()])
        assert line == [f"'{cell}"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_part_of_a_cell_is_a_formula_where_cells_are_parted_otherwise(separator: str) -> None:
    source = render_csv(Table("t", ("a;=1+1", "n"), (("b;@cmd", "1"),)))
    cells = [cell for row in csv.reader(source.splitlines(), delimiter=separator) for cell in row]
    assert [cell for cell in cells if cell[:1] in ("=", "@")] == []


def test_latex_is_escaped() -> None:
    source = render_latex(HOSTILE)
    assert source.splitlines()[:3] == [r"\begin{tabular}{lr}", r"\toprule", r"a \& b & n \\"]
    assert r"100 \% \{a\_b\} & @cmd \\" in source
    assert not re.search(r"(?<!\\)[%#]", source)


def test_no_cell_of_latex_is_an_argument_of_what_stands_before_it() -> None:
    source = render_latex(
        Table("t", ("[2em]", "*"), (("[1pt]", "*x"), ("* a", "[b]"), ("a--b", "|")))
    )
    assert not re.search(r"(\\\\|rule|&)\s*[\[*]", source)
    assert r"{}[2em] & {}*" in source
    assert r"a-{}-b & \textbar{} \\" in source
    assert render_latex(Table("t", ("1–2",), ())).splitlines()[2] == r"1--2 \\"


def test_latex_says_where_pdflatex_would_stop() -> None:
    assert render_latex(Table("t", ("猫",), ())).startswith("% Not for pdfLaTeX")
    assert render_latex(Table("t", ("café",), ())).startswith(r"\begin")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex is installed")
def test_latex_compiles(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", seeds=2)
    write_report(run, {}, formats=["latex"])
    inputs = "\n\n".join(path.read_text() for path in (run.folder / "tables").glob("*.tex"))
    start = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{start}{inputs}" + r"\end{document}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
