"""Reports of regression and of several labels an image: what they show, and never speak of."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench.errors import BenchError
from bench.results.analysis import (
    compare_runs,
    confident_label_mistakes,
    find_suspects,
    largest_residuals,
    read_verdict,
)
from bench.results.analysis.mistakes import NOT
from bench.results.folder import Run, read_run
from bench.results.plots import (
    LABEL_CURVES,
    Look,
    captions,
    contact_sheet,
    label_matrices,
    predicted_against_true,
    residual_sheet,
)
from bench.results.report import Findings, document, render_html, render_markdown
from bench.results.report.reasons import why
from bench.results.report.tables import render_csv, render_latex, tables
from bench.results.report.terminal import show_comparison, show_run, show_trial
from tests.made_up_targets import NAMES, target_run
from tests.results.report.rendered import table_with

TASKS = tuple(NAMES)
OF_CLASSES = re.compile(r"accura|confus|calibrat|\bclass(es)?\b|temperature", re.IGNORECASE)


@pytest.fixture(scope="module", params=TASKS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return target_run(tmp_path_factory.mktemp("runs") / request.param, request.param)


def _terminal(run: Run) -> str:
    console = Console(width=200, record=True, quiet=True)
    trial = {str(key): value for key, value in run.trials.iloc[0].to_dict().items()}
    parts = [*show_run(run), *show_trial(run, trial), *why(run, trial)]
    for part in (*parts, *show_comparison(compare_runs(run, run))):
        console.print(part)
    return console.export_text()


def _words(text: str) -> str:
    """Without the attributes and the style of a page."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"<[^>]*>", " ", body)


def test_no_page_speaks_of_classes(run: Run) -> None:
    found = Findings(run=run)
    blocks = list(document(found, {}))
    pages = [render_markdown(blocks), _words(render_html(blocks, found, {})), _terminal(run)]
    pages += [text for name, text in captions(run.metric).items() if name != LABEL_CURVES]
    pages += [render_csv(each) + render_latex(each) for each in tables(blocks)]
    for page in pages:
        said = OF_CLASSES.search(page)
        assert said is None, page[max(0, said.start() - 80) : said.end() + 80]


def test_the_verdict_names_the_best(run: Run) -> None:
    verdict = read_verdict(run)
    assert verdict.recommended == "full_finetune"
    assert verdict.against("full_finetune")["from_scratch"].verdict == "better"
    best = verdict.contender("full_finetune")
    assert best.interval[0] < best.figure < best.interval[1]
    by_trial = run.trials.set_index("strategy")[run.metric.test]
    assert best.figure == pytest.approx(by_trial["full_finetune"].mean(), abs=1e-9)


def test_tables_of_targets_and_of_what_is_predicted_worst(tmp_path: Path) -> None:
    run = target_run(tmp_path / "r", "regression")
    text = render_markdown(document(Findings(run=run), {}))
    own = table_with(text, "sd")
    assert list(own["target"]) == ["angle", "width"]
    predictions = run.predictions[run.predictions["trial"].isin(_best(run))]
    for target, r2, sd in zip(own["target"], own["R²"], own["sd"], strict=True):
        truth, found = (predictions[f"{side}_{target}"] for side in ("target", "predicted"))
        explained = 1 - np.square(truth - found).mean() / truth.var(ddof=0)
        assert float(r2) == pytest.approx(explained, abs=6e-4)
        assert float(sd) == pytest.approx(truth.std(ddof=0), rel=0.2)
    sizes = [float(size) for size in table_with(text, "off by (sd)")["off by (sd)"]]
    assert sizes == sorted(sizes, reverse=True)
    assert "Networks learn standardised targets" in text
    assert list(table_with(text, "mean")["mean"]) == ["90", "0.02"]


def test_table_of_labels(tmp_path: Path) -> None:
    run = target_run(tmp_path / "r", "multi_label")
    text = render_markdown(document(Findings(run=run), {}))
    predictions = run.predictions[run.predictions["trial"].isin(_best(run))]
    for row in _plain_rows(table_with(text, "threshold")):
        has = predictions[f"label_{row['label']}"] > 0
        given = predictions[f"decided_{row['label']}"]
        counts = [(has & given).sum() / 3, (has & ~given).sum() / 3, (~has & given).sum() / 3]
        shown = [float(row[name]) for name in ("found", "missed", "wrong")]
        assert shown == pytest.approx([float(count) for count in counts], abs=0.06)
        f1 = 2 * counts[0] / (2 * counts[0] + counts[1] + counts[2])
        assert float(row["F1"]) == pytest.approx(100 * f1, abs=2.0)
    assert "Images with each label" in text


def _plain_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Without the intervals, whose columns have the same name."""
    return [
        {str(name): value for name, value in row.items()}
        for row in table.loc[:, ~table.columns.duplicated()].to_dict("records")
    ]


def _best(run: Run) -> list[str]:
    return list(run.trials.loc[run.trials["strategy"] == "full_finetune", "trial"])


def test_figures_are_those_of_the_task(run: Run) -> None:
    predictions, trials = run.predictions, _best(run)
    look = Look(colour="#336699", marker="o")
    pictures = {str(name): np.zeros((8, 8, 3), np.uint8) for name in predictions["sample"].unique()}
    names = set(captions(run.metric))
    assert not {"confusion", "calibration"} & names
    if run.target_task == "regression":
        assert {"predicted", "residuals"} <= names
        figure = predicted_against_true(predictions, "full_finetune", trials, look)
        assert figure is not None
        assert len(figure.axes) == 2
        worst = largest_residuals(predictions, trials, count=3)
        assert residual_sheet(worst, pictures, name="x") is not None
        assert residual_sheet(worst, {}, name="x") is None
        assert predicted_against_true(predictions.iloc[:0], "x", trials, look) is None
    else:
        assert {"labels", "mistakes"} <= names
        figure = label_matrices(predictions, "full_finetune", trials)
        assert figure is not None
        assert [ax.get_title(loc="left") for ax in figure.axes if ax.get_visible()] == list(
            NAMES["multi_label"]
        )
        found = confident_label_mistakes(predictions, trials, count=5)
        assert len({each.sample for each in found}) == 5
        for each in found:
            assert {each.label, each.predicted} == {
                each.label.removeprefix(NOT),
                f"{NOT}{each.label.removeprefix(NOT)}",
            }
        assert contact_sheet(found, pictures, name="x", what="label") is not None
        assert label_matrices(predictions.iloc[:0], "x", trials) is None


@pytest.mark.parametrize("task", TASKS)
def test_odd_names(tmp_path: Path, task: str) -> None:
    names = ["a label", "<b>&|", "_x_", "日本"]
    run = target_run(tmp_path / "r", task, names=names, seeds=1, strategies={"a": 0.3, "b": 1.0})
    found = Findings(run=run)
    blocks = list(document(found, {}))
    page = render_html(blocks, found, {})
    assert "<b>&" not in page
    assert "日本" in page
    render_markdown(blocks)


@pytest.mark.parametrize("task", TASKS)
def test_folds(tmp_path: Path, task: str) -> None:
    run = target_run(tmp_path / "r", task, folds=3, seeds=2)
    verdict = read_verdict(run)
    assert verdict.folds == 3
    assert verdict.recommended == "full_finetune"
    render_markdown(document(Findings(run=run), {}))


def test_figures_in_units_have_intervals_and_margins_in_units(tmp_path: Path) -> None:
    """Of a target of a thousandth, a grain of one image would hide every difference."""
    run = target_run(tmp_path / "r", "regression", names=["width"], metric="mae")
    factor = 1e-3
    rows = run.predictions.filter(like="width").columns
    assert list(rows) == ["target_width", "predicted_width"]
    verdict = read_verdict(run)
    truth = run.predictions.drop_duplicates("sample")["target_width"]
    assert verdict.margin == pytest.approx(0.01 * truth.std(ddof=0))
    small = target_run(
        tmp_path / "s", "regression", names=["width"], metric="mae", strategies={"a": 1, "b": 0.3}
    )
    for name in ("target_width", "predicted_width"):
        small.predictions[name] *= factor
    found = read_verdict(small)
    assert found.against("b")["a"].verdict == "better"
    low, high = found.contender("b").interval
    assert 0 < low < high < 30 * factor


def test_runs_of_different_tasks_are_not_compared(tmp_path: Path) -> None:
    one, other = (target_run(tmp_path / task, task, seeds=1) for task in TASKS)
    with pytest.raises(BenchError, match="runs must be of the same task to be compared"):
        compare_runs(one, other)
    renamed = target_run(tmp_path / "r", "regression", names=["angle"], seeds=1)
    with pytest.raises(BenchError, match="runs must predict the same to be compared, got angle, w"):
        compare_runs(one, renamed)


def test_runs_are_compared_on_common_images(tmp_path: Path) -> None:
    one = target_run(tmp_path / "a", "regression")
    other = target_run(tmp_path / "b", "regression", metric="mae")
    found = compare_runs(one, other)
    assert found.metric.name == "r2"
    assert all(change.unchanged for change in found.changes)


@pytest.mark.parametrize("task", TASKS)
def test_an_audit_is_refused_with_the_reason(tmp_path: Path, task: str) -> None:
    run = target_run(tmp_path / "r", task, seeds=1)
    with pytest.raises(BenchError, match=f"cannot be audited \\(task: {task}\\): confident learn"):
        find_suspects(run)
    assert read_run(run.folder).target_task == task
