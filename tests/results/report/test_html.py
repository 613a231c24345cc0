"""The page in a real browser: what it draws and lists is what the tables say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.results.analysis import mean_interval
from bench.results.folder import Run, write_thumbnails
from bench.results.report import pictured_samples, write_report
from tests.made_up_run import made_up_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("page")]
"""In one process, which starts one browser and writes one report for them.

What the page's text alone shows is tested in `test_page.py`.
"""

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Open a page; when the test ends, it must have had no error and fetched nothing."""
    wrong: list[str] = []
    pages = []

    def open_page(path: Path, **options: Any) -> Any:
        page = browser.new_page(**options)
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith(("file:", "data:", "blob:")) else wrong.append(r.url)
            ),
        )
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert wrong == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _written(tmp_path_factory.mktemp("page") / "made_up", seeds=3, epochs=5)


def _written(folder: Path, **options: Any) -> Run:
    made = made_up_run(folder, **options)
    write_report(made, {})
    return made


def _page(run: Run) -> Path:
    return run.folder / "report.html"


def _traces(page: Any, chart: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        page.evaluate(f"JSON.stringify(document.getElementById('{chart}').data)")
    )
    return found


def _rows(page: Any) -> list[list[str]]:
    found: list[list[str]] = page.evaluate(
        "[...document.querySelectorAll('#trials tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return found


def _column(page: Any, title: str) -> list[str]:
    heads = page.locator("#trials thead th").all_text_contents()
    return [row[heads.index(title)] for row in _rows(page)]


@needs_browser
def test_curves_are_the_means_of_the_table(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    merged = run.curves.merge(run.trials[["trial", "config"]], on="trial")
    val = merged[merged["split"] == "val"]
    means = val.groupby(["config", "epoch"], sort=False)["accuracy"].mean()
    lines = [trace["y"] for trace in _traces(page, "curves") if trace.get("fill") != "toself"]
    assert len(lines) == 8
    for config in run.trials["config"].unique():
        expected = [100 * value for value in means[config]]
        assert any(line == pytest.approx(expected, abs=0.01) for line in lines)


@needs_browser
def test_single_seeds_losses_and_training(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    page.select_option("#metric", "loss")
    page.select_option("#seeds", "each")
    page.check("#training")
    traces = _traces(page, "curves")
    assert len(traces) == 2 * len(run.trials)
    for (trial, _), rows in run.curves.groupby(["trial", "split"]):
        expected = list(rows.sort_values("epoch")["loss"])
        own = [trace["y"] for trace in traces if trace["customdata"][0] == trial]
        assert any(line == pytest.approx(expected, rel=1e-4) for line in own)


@needs_browser
def test_the_ranking_shows_means_and_every_seed(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    dots, *_, means = _traces(page, "ranked")
    assert sorted(dots["x"]) == pytest.approx(sorted(100 * run.trials["test_accuracy"]))
    expected = 100 * run.trials.groupby("config")["test_accuracy"].mean()
    assert means["x"] == pytest.approx(sorted(expected))


@needs_browser
def test_the_table_lists_filters_and_sorts(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    shown = dict(zip(_column(page, "trial"), _column(page, "test %"), strict=True))
    assert shown == {
        row["trial"]: f"{100 * row['test_accuracy']:.1f}" for _, row in run.trials.iterrows()
    }
    best_first = [float(text) for text in _column(page, "test %")]
    assert best_first == sorted(best_first, reverse=True)
    page.click("#trials thead button:text-is('seed')")
    page.click("#trials thead button:text-is('seed')")
    assert [int(text) for text in _column(page, "seed")] == sorted(run.trials["seed"])
    heads = page.locator("#trials th[aria-sort=ascending]").all_text_contents()
    assert heads == ["seed"]
    page.fill("#filter", "full_finetune cosine")
    assert len(_rows(page)) == 3
    assert set(_column(page, "strategy")) == {"full_finetune"}


@needs_browser
def test_strategies_and_axes_hide_and_show(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    page.uncheck("input[value=from_scratch]")
    assert page.inner_text("#status") == "18 of 24 trials shown"
    assert "from_scratch" not in _column(page, "strategy")
    page.select_option("#axis-schedule", "cosine")
    assert page.inner_text("#status") == "9 of 24 trials shown"
    assert len([t for t in _traces(page, "curves") if t.get("fill") != "toself"]) == 3
    assert len(_traces(page, "costs")[0]["x"]) == 9


@needs_browser
def test_a_point_leads_to_its_row_and_a_row_to_its_curve(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    trial = run.trials["trial"].iloc[4]
    before = len(_traces(page, "curves"))
    page.evaluate(
        "trial => document.getElementById('costs').emit('plotly_click',"
        " {points: [{customdata: trial}]})",
        trial,
    )
    assert page.get_attribute("#trials tr.chosen", "id") == f"trial-{trial}"
    assert page.evaluate("document.activeElement.textContent") == trial
    assert len(_traces(page, "curves")) == before + 1
    page.keyboard.press("Enter")
    assert page.locator("#trials tr.chosen").count() == 0
    assert len(_traces(page, "curves")) == before


@needs_browser
def test_the_keyboard_reaches_every_control(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.value"))
    wanted = {"theme", "from_scratch", "axis-schedule", "metric", "seeds", "training", "cost"}
    assert wanted <= reached


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(run: Run, opened: Open, scheme: str) -> None:
    page = opened(_page(run), color_scheme=scheme)
    colour = "getComputedStyle(document.body).backgroundColor"
    first = page.evaluate(colour)
    assert (first == "rgb(255, 255, 255)") == (scheme == "light")
    page.click("#theme")
    assert page.evaluate(colour) != first


@needs_browser
def test_charts_suit_a_dark_page_and_photographs_keep_their_colours(
    tmp_path: Path, opened: Open
) -> None:
    run = made_up_run(tmp_path / "r", strategies=["a", "b"], schedules=["s"], seeds=1, epochs=2)
    pictures = {name: np.full((40, 60, 3), 90, "uint8") for name in pictured_samples(run)}
    write_thumbnails(run.folder, pictures)
    write_report(run)
    page = opened(_page(run), color_scheme="dark")
    filters = page.evaluate(
        "[...document.querySelectorAll('figure img, .chart, .swatch')]"
        ".map(each => [each.className, getComputedStyle(each).filter])"
    )
    kept = {name for name, value in filters if value == "none"}
    assert kept == {"photograph"}
    assert len(filters) > 8
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 28, 28)"


@needs_browser
@pytest.mark.parametrize("epochs", [2, 4, 23])
def test_epochs_are_whole_and_each_stands_once(tmp_path: Path, opened: Open, epochs: int) -> None:
    run = _written(tmp_path / "r", strategies=["a", "b"], schedules=["s"], seeds=1, epochs=epochs)
    ticks = opened(_page(run)).locator("#curves .xtick text").all_text_contents()
    assert len(ticks) >= min(2, epochs)
    assert ticks == sorted({str(int(tick)) for tick in ticks}, key=int)


@needs_browser
def test_the_bar_of_buttons_covers_no_point_and_sends_nothing(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    for chart in ("curves", "ranked", "costs"):
        page.hover(f"#{chart} .nsewdrag")
        bar = page.locator(f"#{chart} .modebar").bounding_box()
        drawn = page.locator(f"#{chart} .nsewdrag").bounding_box()
        assert bar["y"] + bar["height"] <= drawn["y"]
        titles = page.eval_on_selector_all(
            f"#{chart} .modebar-btn", "buttons => buttons.map(each => each.dataset.title)"
        )
        assert "Download plot as a PNG" in titles
        assert not [title for title in titles if "hare" in title or "loud" in title]


@needs_browser
def test_schedules_of_one_strategy_have_signs_of_their_own(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    assert page.inner_text("#key").split() == ["●", "cosine", "○", "step(step_size=7)"]
    symbols = {symbol for trace in _traces(page, "costs") for symbol in trace["marker"]["symbol"]}
    assert symbols == {"circle", "circle-open"}


@needs_browser
def test_bands_are_the_intervals_of_the_mean(run: Run, opened: Open) -> None:
    page = opened(_page(run))
    merged = run.curves.merge(run.trials[["trial", "config"]], on="trial")
    val = merged[(merged["split"] == "val") & (merged["epoch"] == 5)]
    tops = [
        max(0.0, min(100.0, 100 * mean_interval(rows["accuracy"])[1]))
        for _, rows in val.groupby("config")
    ]
    bands = [trace for trace in _traces(page, "curves") if trace.get("fill") == "toself"]
    assert sorted(band["y"][4] for band in bands) == pytest.approx(sorted(tops), abs=0.02)


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(run: Run, opened: Open, width: int) -> None:
    page = opened(_page(run), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@needs_browser
def test_hostile_names_stay_text(tmp_path: Path, opened: Open) -> None:
    evil = "</script><script>window.broken=1</script><img src=x onerror='window.broken=1'>"
    run = _written(
        tmp_path / "evil",
        strategies=[f"a({evil})", "b{{7*7}}"],
        schedules=["<b>s</b>", "x' onfocus='window.broken=1"],
        classes=(evil, "ok"),
        environment={"command": f"bench run {evil}", "cpu": evil},
        seeds=2,
        epochs=2,
    )
    page = opened(_page(run))
    page.select_option("#seeds", "each")
    page.hover("#curves")
    assert page.evaluate("window.broken") is None
    assert set(_column(page, "strategy")) == {f"a({evil})", "b{{7*7}}"}
    assert evil in page.inner_text("main")
    assert page.locator("img[src=x]").count() == 0


@needs_browser
def test_failed_and_diverged_trials(tmp_path: Path, opened: Open) -> None:
    def change(row: dict[str, Any], curves: dict[str, Any]) -> None:
        if row["strategy"] == "from_scratch":
            row.update(status="failed", error="boom", test_accuracy=None, val_accuracy=None)
        if row["strategy"] == "full_finetune":
            curves["loss"] = [float("nan")] * len(curves["loss"])

    run = _written(tmp_path / "r", seeds=2, epochs=2, change=change)
    page = opened(_page(run))
    page.select_option("#metric", "loss")
    assert len(_rows(page)) == 16
    page.fill("#filter", "failed")
    assert set(_column(page, "strategy")) == {"from_scratch"}
    assert set(_column(page, "test %")) == {"–"}


@pytest.mark.campaign
def test_a_run_of_200_trials_stays_small(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "large", schedules=list("abcde"), seeds=10, epochs=50)
    assert len(run.trials) == 200
    write_report(run)
    assert _page(run).stat().st_size < 5_000_000


def test_without_complete_trials_there_is_nothing_to_explore(tmp_path: Path) -> None:
    run = _written(tmp_path / "r", change=lambda row, _: row.update(status="failed", error="x"))
    page = _page(run).read_text()
    assert "Explore" not in page
    assert "nothing can be compared" in page
    assert len(page) < 50_000
