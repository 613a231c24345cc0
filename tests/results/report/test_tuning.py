from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from bench.results.analysis import gains, read_studies
from bench.results.folder import Run, read_run, read_tuning, write_json, write_tuning
from bench.results.plots import draw_figures
from bench.results.report import Findings, document, render_markdown, write_report
from bench.results.report.tuning import tuning_json, tuning_section
from tests.made_up_run import BRIER, made_up_run, mirror
from tests.made_up_tuning import ACCURACY, SECONDS, made_up_tuning
from tests.results.report.rendered import rendered, table_with

Rights = Mapping[str, npt.NDArray[np.bool_]]


def _markdown(run: Run) -> str:
    return render_markdown(document(Findings(run=run), {}))


def _whole(run: Run) -> str:
    """What stands below "Tuning"."""
    tuning = read_tuning(run.folder)
    assert tuning is not None
    blocks = tuning_section(tuning, run.trials, run.metric, predictions=run.predictions)
    return render_markdown(blocks)


def _section(run: Run) -> str:
    """What stands first below "Tuning", as a reader sees it."""
    source = _whole(run)
    return html.unescape(source[source.index("### Tuning") : source.index("### What tuning spent")])


def _right(accuracy: float, *, seed: int = 0, seeds: int = 4) -> npt.NDArray[np.bool_]:
    """Predictions of so many seeds; those of another accuracy are right on more of the images."""
    return np.asarray(np.random.default_rng(seed).random((seeds, 300)) < accuracy)


def _tuned(folder: Path, before: Rights, after: Rights, **options: Any) -> Run:
    """A tuned run with these test predictions by strategy."""
    seeds = len(next(iter(before.values())))
    return made_up_tuning(
        folder,
        **{"strategies": list(before), "seeds": seeds, **options},
        right=(before, after),
    )


def test_the_table_equals_what_the_files_say(tmp_path: Path) -> None:
    before = {name: _right(p) for name, p in zip("abc", (0.8, 0.9, 0.7), strict=True)}
    after = {name: _right(p, seed=1) for name, p in zip("abc", (0.95, 0.9, 0.6), strict=True)}
    run = _tuned(tmp_path / "r", before, after)
    shown = table_with(_whole(run), "rank tuned")
    sides = {
        "untuned": pd.read_parquet(run.folder / "untuned.parquet"),
        "tuned": pd.read_parquet(run.folder / "trials.parquet"),
    }
    tried = pd.read_parquet(run.folder / "tuning.parquet")
    by_seed = {
        side: trials.pivot_table(index="seed", columns="strategy", values="test_accuracy")
        for side, trials in sides.items()
    }
    ranks = {side: t.mean().rank(ascending=False).astype(int) for side, t in by_seed.items()}
    tuning = read_tuning(run.folder)
    assert tuning is not None
    found = {
        gain.study.name: gain.comparison
        for gain in gains(tuning, read_studies(tuning), run.trials, predictions=run.predictions)
    }
    assert list(shown["rank tuned"]) == ["1", "2", "3"]
    for row in shown.to_dict("records"):
        name = row["study"]
        for side, table in by_seed.items():
            mean, sd = 100 * table[name].mean(), 100 * table[name].std()
            assert row[side] == f"{mean:.1f} ± {sd:.1f}"
            assert row[f"rank {side}"] == str(ranks[side][name])
        comparison = found[name]
        assert comparison is not None
        low, high = comparison.interval
        difference = (by_seed["tuned"] - by_seed["untuned"])[name].mean()
        assert row["difference"] == f"{100 * difference:+.1f}"
        assert row["interval"] == f"{100 * low:+.1f} to {100 * high:+.1f}"
        assert row["corrected"] == f"{comparison.corrected:.2g}"
        assert ("better" in row["claim"]) == (not low <= 0 <= high)
        own = tried[(tried["study"] == name) & (tried["state"] == "complete")]
        best = own.loc[own["val_accuracy"].idxmax()]
        assert row["found settings"] == (
            f"lr {best['param_lr']:.3g}, weight_decay {best['param_weight_decay']:.3g}, "
            f"optimizer {best['param_optimizer']}"
        )
        assert row["suite's settings"] == "lr 0.001, weight_decay 0.001, optimizer sgd"


def test_a_search_by_another_metric_reads_the_same_in_the_mirror(tmp_path: Path) -> None:
    def search(row: dict[str, Any]) -> None:
        row["val_metric"], row["val_metric_sd"] = 1 - row["val_accuracy"], row["val_accuracy_sd"]

    goal = {"name": "val_metric", "direction": "minimize"}
    run = _tuned(
        tmp_path / "r",
        {"up": _right(0.7), "down": _right(0.95)},
        {"up": _right(0.95, seed=1), "down": _right(0.7, seed=1)},
        objectives=(goal, SECONDS),
        change=search,
        change_tuned=mirror,
        change_untuned=mirror,
    )
    write_json(run.folder / "data.json", {**run.data, "metrics": [BRIER]})
    source = _whole(read_run(run.folder))
    assert (
        "Tuning lowered the mean test Brier score of 1 of 2 strategies and raised it of 1" in source
    )
    assert re.search(r"The found settings are better for up \(-0\.\d{3}, -0", source)
    assert re.search(r"The suite's settings are better for down \(\+0\.\d{3}, \+0", source)
    assert "before down &gt; up; after up &gt; down" in source
    assert "lowest validation Brier score and lowest training time (s)" in source
    shown = table_with(source, "rank tuned")
    assert list(shown["rank tuned"]) == ["1", "2"]
    figure = dict(draw_figures(read_run(run.folder)))["tuning_history"]
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == ["Brier score"]


def test_the_section_stands_after_the_first_evidence(tmp_path: Path) -> None:
    source = _markdown(made_up_tuning(tmp_path / "r", seeds=2))
    headings = re.findall("^##+ (.*)$", source, flags=re.MULTILINE)
    start = headings.index("Tuning")
    assert headings[start - 1] == "Each against each"
    assert headings[start + 1 : start + 3] == ["What tuning spent", "How it was tuned"]
    assert headings[start + 3] == "Ranking"


def test_claims_are_those_of_the_test(tmp_path: Path) -> None:
    before = {"up": _right(0.7), "down": _right(0.95), "level": _right(0.8), "stays": _right(0.8)}
    after = {
        "up": _right(0.95, seed=1),
        "down": _right(0.7, seed=1),
        "level": _right(0.8, seed=1),
        "stays": before["stays"],
    }
    run = _tuned(tmp_path / "r", before, after)
    said = _section(run)
    assert "The found settings are better for up (+2" in said
    assert "The suite's settings are better for down (-2" in said
    assert re.search(r"It is open which settings are better for level \([+-]\d\.\d points, -", said)
    assert "p =" not in said
    assert "attainable" not in said
    claims = table_with(_whole(run), "rank tuned").set_index("study")["claim"]
    assert claims["up"] == "tuned is better"
    assert claims["down"] == "untuned is better"
    assert claims["level"] == "open"


def test_settings_that_are_as_good_are_said_to_be(tmp_path: Path) -> None:
    """Two that are right on the same images, of enough of them."""
    right = np.random.default_rng(0).random((4, 3000)) < 0.9
    said = _section(_tuned(tmp_path / "r", {"a": right}, {"a": right}))
    assert "Found and suite's settings are as good, within 1.0 points, for a (+0.0 points" in said


@pytest.mark.parametrize("seeds", [1, 2])
def test_of_few_seeds_nothing_is_said_of_the_settings(tmp_path: Path, seeds: int) -> None:
    low, high = _right(0.6, seeds=seeds), _right(0.95, seeds=seeds)
    run = _tuned(tmp_path / "r", {"a": low, "b": low}, {"a": high, "b": high})
    said = _section(run)
    assert "With fewer than 3 common seeds nothing can be said about settings for a (+" in said
    assert "better for" not in said
    claims = table_with(_whole(run), "rank tuned").set_index("study")["claim"]
    assert claims["a"] == "open; of these models tuned is better"


def test_nothing_is_claimed_in_folders_of_earlier_versions(tmp_path: Path) -> None:
    run = _tuned(tmp_path / "r", {"a": _right(0.6)}, {"a": _right(0.95)})
    (run.folder / "untuned_predictions.parquet").unlink()
    said = _section(run)
    assert "has no test predictions of the untuned trials" in said
    assert "no claim is made about the differences" in said
    assert "better for" not in said
    claims = table_with(_whole(run), "rank tuned").set_index("study")["claim"]
    assert claims["a"] == "nothing to compare"


def test_a_study_that_kept_the_suites_settings_claims_nothing(tmp_path: Path) -> None:
    def first_is_best(row: dict[str, Any]) -> None:
        if row["study"] == "a":
            row["val_accuracy"] = 0.99 if row["number"] == 0 else 0.5

    low = _right(0.7)
    run = _tuned(
        tmp_path / "r",
        {"a": low, "b": low},
        {"a": low, "b": _right(0.9)},
        change=first_is_best,
    )
    said = _section(run)
    assert (
        "raised the mean test accuracy of 1 of 2 strategies; it found nothing better than" in said
    )
    assert "the suite's own settings for a." in said
    assert "better for a" not in said
    assert "open" not in said.partition("Test accuracy")[0]
    claims = table_with(_whole(run), "rank tuned").set_index("study")["claim"]
    assert claims["a"] == "the same settings"


def test_a_changed_order_is_told_with_what_may_be_claimed_of_it(tmp_path: Path) -> None:
    before = {"a": _right(0.8), "b": _right(0.7)}
    sure = _section(_tuned(tmp_path / "1", before, {"a": before["a"], "b": _right(0.95)}))
    assert "The order by mean test accuracy changed: before a > b; after b > a." in sure
    assert "Of 1 pair that changed places, after tuning b is better than a (+1" in sure
    close = before["a"].copy()
    close[0, np.flatnonzero(~close[0])[:2]] = True
    unsure = _section(_tuned(tmp_path / "2", before, {"a": before["a"], "b": close}))
    assert "before a > b; after b > a." in unsure
    assert "Of 1 pair that changed places, it is open after tuning who is better." in unsure
    assert "is better than" not in unsure
    kept = _section(_tuned(tmp_path / "3", before, before))
    assert "is the same before and after: a > b." in kept
    equal = _section(_tuned(tmp_path / "4", before, {"a": before["a"], "b": before["a"]}))
    assert "changed: before a > b; after a = b." in equal
    assert "changed places" not in equal


def test_studies_are_called_so_where_a_strategy_has_several(tmp_path: Path) -> None:
    said = _section(made_up_tuning(tmp_path / "r", schedules=["x", "y"], seeds=1))
    assert re.search(r"of \d of 8 studies", said)


def test_the_budget_table_equals_the_file(tmp_path: Path) -> None:
    def uneven(row: dict[str, Any]) -> None:
        if row["number"] == 4:
            row.update(state="failed", val_accuracy=None, error="boom")

    run = made_up_tuning(tmp_path / "r", seeds=1, change=uneven)
    tried = pd.read_parquet(run.folder / "tuning.parquet")
    source = _whole(run)
    shown = table_with(source, "training images")
    assert len(shown) == 4
    for row in shown.to_dict("records"):
        own = tried[tried["study"] == row["study"]]
        failed = own["state"] == "failed"
        assert row["trials"] == str(len(own))
        for state in ("complete", "pruned", "failed"):
            assert row[state] == str((own["state"] == state).sum())
        assert row["training images"] == f"{own.loc[~failed, 'images'].sum():,}"
        assert row["of failed trials"] == f"{own.loc[failed, 'images'].sum():,}"
        assert row["training s"] == f"{own['seconds'].sum():.1f}"
    assert "The studies had equal budgets" in source
    assert "Failed trials gave the search no information: from_scratch 1 of 12;" in source


def test_a_study_of_failures_had_no_equal_budget(tmp_path: Path) -> None:
    def broken(row: dict[str, Any]) -> None:
        row["images"] = 100
        if row["study"] == "b" and row["number"] > 1:
            row.update(state="failed", val_accuracy=None, error="boom")

    source = _whole(made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1, change=broken))
    assert "equal budgets" not in source
    assert "The studies did not spend the same: a processed 1,200 training images in" in source
    assert "b 83.3 % fewer" in source
    assert "Failed trials gave the search no information: b 10 of 12." in source


@pytest.mark.parametrize(("share", "warned"), [(1.0, False), (0.995, False), (0.9, True)])
def test_unequal_budgets_are_warned_of(tmp_path: Path, share: float, warned: bool) -> None:
    def less(row: dict[str, Any]) -> None:
        row["images"] = 1000 if row["study"] == "a" else int(1000 * share)

    source = _whole(made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1, change=less))
    sentence = (
        "**The studies did not spend the same: a processed 12,000 training images in trials that "
        "did not fail, b 10.0 % fewer, so the search may favour the former.**"
    )
    assert (sentence in source) == warned
    assert ("equal budgets" in source) != warned


def test_values_at_an_edge_are_warned_of(tmp_path: Path) -> None:
    def ends(row: dict[str, Any]) -> None:
        best = row["number"] == 5
        row.update(val_accuracy=0.9 if best else 0.5, state="complete")
        if best:
            row["param_lr"] = {"a": 0.9, "b": 1.2e-5, "c": 0.01}[row["study"]]
            row["param_weight_decay"] = 0.005

    said = _section(made_up_tuning(tmp_path / "r", strategies=list("abc"), seeds=1, change=ends))
    warnings = [line for line in said.splitlines() if line.startswith("- ")]
    assert warnings == [
        "- **a** best lr, 0.9, is at the upper end of 1e-05 to 1 (log) after 12 trials.",
        "- **b** best lr, 1.2e-05, is at the lower end of 1e-05 to 1 (log) after 12 trials.",
    ]
    assert "**Equally tuned: c.** Their best values lie inside" in said
    assert "**Not equally tuned:** better values may lie beyond" in said


@pytest.mark.parametrize("best", [0.01, 1e-5])
def test_what_was_widened_is_told(tmp_path: Path, best: float) -> None:
    def peak(row: dict[str, Any]) -> None:
        row["param_lr"] = best if row["number"] == 5 else (best / 2, 0.9)[row["number"] % 2]
        row.update(val_accuracy=0.9 if row["number"] == 5 else 0.5, state="complete")

    asked = {"low": 1e-3, "high": 0.1, "log": True}
    lr = {"low": 1e-5, "high": 1.0, "log": True, "limits": [False, False], "asked": asked}
    spaces = {"a": {"lr": lr}}
    run = made_up_tuning(
        tmp_path / "r",
        strategies=["a"],
        seeds=1,
        spaces=spaces,
        change=peak,
        describe=lambda about: about.update(widen=3),
    )
    said = _section(run)
    often = "- **widening:** an end of a range moved at most 3 times, within the budget"
    assert often in _markdown(run)
    widened = "Widened by the search, within the same budget: lr of a from 0.001 to 0.1 (log) to "
    assert f"{widened}1e-05 to 1 (log)." in said
    edge = {"study": "a", "setting": "lr", "value": best, "side": "lower"}
    found = read_tuning(run.folder)
    assert found is not None
    assert tuning_json(found) == {
        "equally_tuned": ["a"] if best > 1e-3 else [],
        "at_an_edge": [] if best > 1e-3 else [edge],
    }


def test_of_two_objectives_the_front_is_listed(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", seeds=1, trials=20, objectives=(ACCURACY, SECONDS))
    source = _markdown(run)
    accuracy, seconds = "validation accuracy (%)", "training time (s)"
    shown = table_with(source, seconds)
    tried = pd.read_parquet(run.folder / "tuning.parquet").set_index(["study", "number"])
    assert set(shown["study"]) == set(tried.index.levels[0])
    assert (shown[""] == "chosen").sum() == 4  # the most accurate is always on the front
    for row in shown.to_dict("records"):
        trial = tried.loc[(row["study"], int(row["trial"]))]
        assert trial["state"] == "complete"
        assert row[accuracy] == f"{100 * trial['val_accuracy']:.1f}"
        assert row[seconds] == f"{trial['seconds']:.1f}"
    assert "What tuning traded" in source
    assert "What tuning traded" not in _markdown(made_up_tuning(tmp_path / "one", seeds=1))


def test_the_method_is_told(tmp_path: Path) -> None:
    source = _markdown(made_up_tuning(tmp_path / "r", seeds=2))
    assert "- **objective:** highest validation accuracy (%), over all tuning seeds" in source
    assert "- **sampler:** TPESampler(seed=0)" in source
    assert "- **pruner:** none" in source
    assert "- **budget of each study:** 12 trials" in source
    assert "widening:" not in source  # an earlier version
    assert "- **tuning seeds:** 1000, 1001; none of them is evaluated on" in source
    assert "- **test split:** it was not read while tuning" in source
    space = table_with(source, "searched").set_index("setting")["searched"]
    assert dict(space) == {
        "lr": "1e-05 to 1 (log)",
        "weight_decay": "0 to 0.01",
        "optimizer": "sgd, adamw",
    }
    for name in ("tuning.parquet", "untuned.parquet"):
        assert f"[{name}]({name})" in source


def test_seeds_that_were_tuned_on_are_warned_of(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", seeds=2, describe=lambda about: about.update(seeds=[1, 7]))
    assert "1, 7; evaluated on too: 1, so the tuned figures are too good" in _markdown(run)


FIXED = "Settings are those of the suite: another learning rate could change the order."


def test_limits_say_what_was_searched(tmp_path: Path) -> None:
    source = _markdown(made_up_tuning(tmp_path / "all", seeds=1))
    limits = source[source.index("## Limits") :]
    assert FIXED not in source
    assert "a search on validation (lr: 1e-05 to 1 (log); weight_decay: 0 to 0.01;" in limits
    assert "The learning rate was not searched" not in limits
    dropout = {"head.dropout": {"low": 0.0, "high": 0.9, "log": False}}
    spaces: dict[str, Any] = {"a": dropout}
    some = made_up_tuning(tmp_path / "b", strategies=["a", "b"], seeds=1, spaces=spaces)
    assert "The learning rate was not searched for a: another one could" in _markdown(some)
    nothing = made_up_tuning(tmp_path / "c", strategies=["a"], seeds=1, spaces={"a": {}})
    assert FIXED in _markdown(nothing)


@pytest.mark.campaign
def test_a_run_without_a_search_says_nothing_of_it(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", strategies=["bitfit", "linear_probe"], seeds=1, epochs=1)
    source, page = (path.read_text(encoding="utf-8") for path in write_report(run))
    assert FIXED in source
    assert "tuning" not in source.lower()
    assert "what tuning spent" not in page.lower()
    assert not list((run.folder / "plots").glob("tuning_*"))


@pytest.mark.campaign
def test_figures_are_in_both_reports(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1)
    source, page = (path.read_text(encoding="utf-8") for path in write_report(run))
    names = {"curves", "history", "importances", "learning_rates", "settings"}
    for name in names:
        assert f"(plots/tuning_{name}.png)" in source
        assert (run.folder / "plots" / f"tuning_{name}.png").is_file()
    assert page.count("of the search") >= 3
    assert "Tuning raised the mean test accuracy of" in page


EVIL = "<img src=x onerror=alert(1)>|`b`\n# heading $x_1$ </script>"


@pytest.mark.campaign
def test_hostile_names_stay_inert(tmp_path: Path) -> None:
    space = {EVIL: {"choices": [EVIL, "b"]}, "lr": {"low": 0.1, "high": 1.0, "log": True}}

    def poison(about: dict[str, Any]) -> None:
        about.update(sampler=EVIL, pruner=EVIL, budget={EVIL: 3})

    run = made_up_tuning(
        tmp_path / "r",
        strategies=[EVIL, "plain"],
        seeds=2,
        spaces={EVIL: space, "plain": space},
        objectives=(ACCURACY, SECONDS),
        describe=poison,
    )
    source, page = (path.read_text(encoding="utf-8") for path in write_report(run))
    tokens = MarkdownIt("commonmark").enable("table").parse(source)
    raw = {token.content.strip() for token in tokens if token.type == "html_block"}
    assert raw == {"<details><summary>Single trials (4 complete)</summary>", "</details>"}
    assert not [c for t in tokens for c in t.children or () if c.type == "html_inline"]
    assert "<img src=x" not in rendered(source)
    assert "<img src=x" not in page
    assert " ".join(EVIL.split()) in set(table_with(source, "rank tuned")["study"])


def test_a_search_that_found_nothing_is_told(tmp_path: Path) -> None:
    def fail(row: dict[str, Any]) -> None:
        row.update(state="failed", val_accuracy=None, val_accuracy_sd=None, error="boom")

    def nothing(about: dict[str, Any]) -> None:
        for study in about["studies"].values():
            study["tuned_config"] = None

    run = made_up_tuning(
        tmp_path / "r", strategies=["a", "b"], seeds=1, change=fail, describe=nothing
    )
    source, _ = (path.read_text(encoding="utf-8") for path in write_report(run))
    assert "**No study has a test accuracy both before and after tuning.**" in source
    assert set(table_with(source, "rank tuned")["claim"]) == {"nothing to compare"}
    assert "nan" not in source.lower()
    assert "None" not in source


def test_few_trials_and_one_study(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a"], seeds=1, trials=1)
    source = _markdown(run)
    assert (
        "of 0 of 1 strategy; it found nothing better than the suite's own settings for a" in source
    )
    assert "One study was made." in source
    assert "nan" not in source.lower()


def test_a_search_without_studies(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", strategies=["a"], seeds=1)
    write_tuning(
        run.folder,
        [],
        {"objectives": [ACCURACY], "sampler": "x", "pruner": "y", "seeds": [], "budget": {}}
        | {"studies": {}},
    )
    source, _ = (p.read_text(encoding="utf-8") for p in write_report(read_run(run.folder)))
    assert "No study has a test accuracy both before and after tuning." in source


def test_the_same_figures_are_no_gain(tmp_path: Path) -> None:
    right = _right(0.9)
    said = _section(_tuned(tmp_path / "r", {"a": right}, {"a": right[::-1]}))
    assert "raised the mean test accuracy of 0 of 1 strategy." in said
