"""What stands in the page before a browser runs it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import pytest

from bench.results.folder import Run
from bench.results.report import write_report
from bench.results.report.evidence import Findings
from bench.results.report.html import page_data
from tests.made_up_run import made_up_run, mirrored_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = made_up_run(
        tmp_path_factory.mktemp("page") / "r", strategies=["a", "b"], seeds=3, epochs=2,
        change=_ties,
    )  # fmt: skip
    write_report(made, {})
    return made


def _ties(row: dict[str, Any], _: dict[str, Any]) -> None:
    # 97.25 lies between two figures of one digit: Python takes the even one, a browser the larger.
    row["test_accuracy"] = 0.9725 if row["seed"] else 0.9625


def _page(run: Run) -> str:
    return (run.folder / "report.html").read_text(encoding="utf-8")


def _policy(page: str) -> str:
    (found,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    return html.unescape(found)


def test_only_the_pages_own_scripts_may_run(run: Run) -> None:
    page = _page(run)
    policy = dict(part.strip().split(" ", 1) for part in _policy(page).split(";"))
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
    script = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    first, library = policy["script-src"].split()
    assert first == f"'sha256-{digest}'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]{44}'", library)
    assert "http" not in "".join(policy.values())


def test_a_page_without_scripts_may_run_none(tmp_path: Path) -> None:
    run = made_up_run(
        tmp_path / "r", strategies=["a"], seeds=1, epochs=1,
        change=lambda row, _: row.update(status="failed", error="x"),
    )  # fmt: skip
    write_report(run, {})
    assert "script-src 'none'" in _policy(_page(run))


def test_the_contents_lead_to_every_section_once(run: Run) -> None:
    page = _page(run)
    (contents,) = re.findall(r"<nav.*?</nav>", page, flags=re.DOTALL)
    targets = re.findall(r'href="#([^"]+)"', contents)
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(targets) <= set(names)
    body = page.split("<main>")[1]
    headings = re.findall(r'<h[23] id="([^"]+)"', body)
    assert [name for name in headings if name != "trials-heading"] == targets
    assert {"s-evidence", "s-ranking", "s-files"} <= set(targets)


def test_figures_read_the_same_on_the_page_and_in_the_report(run: Run) -> None:
    shown = {trial["id"]: trial["shown"] for trial in page_data(Findings(run=run))["trials"]}
    assert {each["test"] for each in shown.values()} == {"97.2", "96.2"}
    report = (run.folder / "report.md").read_text(encoding="utf-8")
    for row in run.trials.to_dict("records"):
        (line,) = (line for line in report.splitlines() if f"| {row['trial']} " in line)
        cells = [cell.strip() for cell in line.split("|")]
        assert shown[row["trial"]]["test"] in cells
        assert shown[row["trial"]]["val"] in cells


def test_the_page_rounds_nothing_that_stands_elsewhere() -> None:
    script = Path(__file__).parents[3].joinpath("bench/results/report/page/app.js").read_text()
    assert not re.findall(r"toFixed|toPrecision|Math\.round|toLocaleString", script)


def test_figures_of_another_metric_and_costs_have_the_digits_of_the_report(tmp_path: Path) -> None:
    run = mirrored_run(tmp_path / "r", strategies=["a", "b"], schedules=["s"], seeds=1, epochs=1)
    data = page_data(Findings(run=run))
    for trial, row in zip(data["trials"], run.trials.to_dict("records"), strict=True):
        assert trial["shown"]["test"] == run.metric.number(row["test_brier"])
        assert trial["shown"]["trainable_params"] == "11,180,000"
