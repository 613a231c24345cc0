"""Tables as files: readers of CSV and LaTeX find in them what the report shows."""

from __future__ import annotations

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


def test_latex_is_escaped() -> None:
    source = render_latex(HOSTILE)
    assert source.splitlines()[:3] == [r"\begin{tabular}{lr}", r"\toprule", r"a \& b & n \\"]
    assert r"100 \% \{a\_b\} & @cmd \\" in source
    assert not re.search(r"(?<!\\)[%#]", source)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex is installed")
def test_latex_compiles(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", seeds=2)
    write_report(run, {}, formats=["latex"])
    inputs = "\n\n".join(path.read_text() for path in (run.folder / "tables").glob("*.tex"))
    start = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{start}{inputs}" + r"\end{document}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
