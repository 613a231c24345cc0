from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from bench.results.analysis import bca_interval, holm, sign_flip_p
from bench.results.folder import Run, read_run, write_json, write_tuning
from bench.results.plots import draw_figures
from bench.results.report import Findings, document, render_markdown, write_report
from tests.made_up_run import BRIER, made_up_run, mirror
from tests.made_up_tuning import ACCURACY, SECONDS, made_up_tuning
from tests.results.report.test_markdown import _rendered, _table

NOISE = (0.004, -0.006, 0.001, 0.008, -0.003, 0.0, -0.005, 0.002)


def _markdown(run: Run) -> str:
    return render_markdown(document(Findings(run=run), {}))


def _section(run: Run) -> str:
    """What stands first below "Tuning", as a reader sees it."""
    source = _markdown(run)
    return html.unescape(source[source.index("### Tuning") : source.index("### What tuning spent")])


def _tuned(
    folder: Path,
    before: Mapping[str, Sequence[float]],
    after: Mapping[str, Sequence[float]],
    **options: Any,
) -> Run:
    """A tuned run whose strategies reached these test accuracies by seed."""

    def change(figures: Mapping[str, Sequence[float]]) -> Any:
        return lambda row, _: row.update(test_accuracy=figures[row["strategy"]][row["seed"]])

    return made_up_tuning(
        folder,
        **{"strategies": list(before), "seeds": len(next(iter(before.values()))), **options},
        change_untuned=change(before),
        change_tuned=change(after),
    )


def _around(mean: float, seeds: int = 8, *, turned: bool = False) -> list[float]:
    return [mean + x for x in (NOISE[::-1] if turned else NOISE)[:seeds]]


def test_the_table_equals_what_the_files_say(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "made_up", seeds=8)
    shown = _table(_markdown(run), "rank tuned")
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
    differences = (by_seed["tuned"] - by_seed["untuned"]).round(12)
    ps = {name: sign_flip_p(differences[name]) for name in differences}
    corrected = dict(zip(ps, holm(list(ps.values())), strict=True))
    assert list(shown["rank tuned"]) == ["1", "2", "3", "4"]
    for row in shown.to_dict("records"):
        name = row["study"]
        for side, table in by_seed.items():
            mean, sd = 100 * table[name].mean(), 100 * table[name].std()
            assert row[side] == f"{mean:.1f} ± {sd:.1f}"
            assert row[f"rank {side}"] == str(ranks[side][name])
        low, high = bca_interval(differences[name].to_numpy())
        assert row["difference"] == f"{100 * differences[name].mean():+.1f}"
        assert row["95 % interval"] == f"{100 * low:+.1f} to {100 * high:+.1f}"
        assert row["corrected"] == f"{corrected[name]:.2g}"
        claimed = corrected[name] < 0.05 and not low <= 0 <= high
        assert ("beats" in row["claim"]) == claimed
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

    figures = {"up": (_around(0.8), _around(0.9)), "down": (_around(0.9), _around(0.8))}
    goal = {"name": "val_metric", "direction": "minimize"}

    def change(side: int) -> Any:
        def both(row: dict[str, Any], curves: dict[str, Any]) -> None:
            row["test_accuracy"] = figures[row["strategy"]][side][row["seed"]]
            mirror(row, curves)

        return both

    run = made_up_tuning(
        tmp_path / "r",
        strategies=list(figures),
        objectives=(goal, SECONDS),
        change=search,
        change_untuned=change(0),
        change_tuned=change(1),
    )
    write_json(run.folder / "data.json", {**run.data, "metrics": [BRIER]})
    source = _markdown(read_run(run.folder))
    assert (
        "Tuning lowered the mean test Brier score of 1 of 2 strategies and raised it of 1" in source
    )
    assert "The found settings beat the suite's for up (-0.100, -0.100 to -0.100" in source
    assert "The suite's settings beat the found ones for down (+0.100" in source
    assert "before down &gt; up; after up &gt; down" in source
    assert "lowest validation Brier score and lowest training time (s)" in source
    shown = _table(source, "rank tuned")
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


def test_claims_are_gated_by_p_and_interval(tmp_path: Path) -> None:
    same, other = _around(0.8), _around(0.8, turned=True)
    run = _tuned(
        tmp_path / "r",
        {"up": same, "down": _around(0.9), "level": same},
        {"up": _around(0.9, turned=True), "down": other, "level": other},
    )
    said = _section(run)
    assert "**Tuning raised the mean test accuracy of 1 of 3 strategies and lowered it of 1.**" in (
        said
    )
    assert "The found settings beat the suite's for up (+10.0 points, +9." in said
    assert "The suite's settings beat the found ones for down (-10.0 points, " in said
    assert "Found and suite's settings are not distinguishable for level (+0.0 points, " in said
    claims = _table(_markdown(run), "rank tuned").set_index("study")["claim"]
    assert claims["up"] == "tuned beats untuned"
    assert claims["down"] == "untuned beats tuned"
    assert claims["level"].startswith("undecided")


@pytest.mark.parametrize(("seeds", "enough"), [(6, False), (7, True)])
def test_too_few_seeds_claim_nothing(tmp_path: Path, seeds: int, enough: bool) -> None:
    low, high = _around(0.7, seeds), _around(0.9, seeds, turned=True)
    said = _section(_tuned(tmp_path / "r", {"a": low, "b": low}, {"a": high, "b": high}))
    assert ("The found settings beat the suite's for a" in said) == enough
    sentence = (
        "With 6 seeds no change can be significant: for 2 studies the smallest attainable p is "
        "0.062; it takes 7 seeds."
    )
    assert (sentence in said) != enough
    if not enough:
        assert "beat" not in said
        assert "too few seeds to say" in said


def test_a_study_that_kept_the_suites_settings_claims_nothing(tmp_path: Path) -> None:
    def first_is_best(row: dict[str, Any]) -> None:
        if row["study"] == "a":
            row["val_accuracy"] = 0.99 if row["number"] == 0 else 0.5

    low = _around(0.7)
    run = _tuned(
        tmp_path / "r",
        {"a": low, "b": low},
        {"a": low, "b": _around(0.9, turned=True)},
        change=first_is_best,
    )
    said = _section(run)
    assert (
        "raised the mean test accuracy of 1 of 2 strategies; it found nothing better than" in said
    )
    assert "the suite's own settings for a." in said
    assert "distinguishable for a" not in said
    assert _table(_markdown(run), "rank tuned").set_index("study")["claim"]["a"] == (
        "the same settings"
    )


def test_a_changed_order_is_told_with_what_is_certain_of_it(tmp_path: Path) -> None:
    before = {"a": _around(0.8), "b": _around(0.7)}
    sure = _section(_tuned(tmp_path / "1", before, {"a": before["a"], "b": _around(0.9)}))
    assert "The order by mean test accuracy changed: before a > b; after b > a." in sure
    assert "Of 1 pair that changed places, after tuning b beats a (+10.0 points, " in sure
    close = _around(0.8004, turned=True)
    unsure = _section(_tuned(tmp_path / "2", before, {"a": before["a"], "b": close}))
    assert "before a > b; after b > a." in unsure
    assert "Of 1 pair that changed places, none is told apart for certain after" in unsure
    assert "beats a" not in unsure
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
    source = _markdown(run)
    shown = _table(source, "training images")
    assert len(shown) == 4
    for row in shown.to_dict("records"):
        own = tried[tried["study"] == row["study"]]
        assert row["trials"] == str(len(own))
        for state in ("complete", "pruned", "failed"):
            assert row[state] == str((own["state"] == state).sum())
        assert row["training images"] == f"{own['images'].sum():,}"
        assert row["training s"] == f"{own['seconds'].sum():.1f}"
    assert "The studies had equal budgets" in source


@pytest.mark.parametrize(("share", "warned"), [(1.0, False), (0.995, False), (0.9, True)])
def test_unequal_budgets_are_warned_of(tmp_path: Path, share: float, warned: bool) -> None:
    def less(row: dict[str, Any]) -> None:
        row["images"] = 1000 if row["study"] == "a" else int(1000 * share)

    source = _markdown(made_up_tuning(tmp_path / "r", strategies=["a", "b"], seeds=1, change=less))
    sentence = (
        "**The studies did not spend the same: a processed 12,000 training images, b 10.0 % fewer, "
        "so the search may favour the former.**"
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
        "- **a** has its best lr, 0.9, at the upper end of 1e-05 to 1 (log): widen the range "
        "upwards if the setting allows it.",
        "- **b** has its best lr, 1.2e-05, at the lower end of 1e-05 to 1 (log): widen the range "
        "downwards if the setting allows it.",
    ]


def test_of_two_objectives_the_front_is_listed(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "r", seeds=1, trials=20, objectives=(ACCURACY, SECONDS))
    source = _markdown(run)
    accuracy, seconds = "validation accuracy (%)", "training time (s)"
    shown = _table(source, seconds)
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
    assert "- **tuning seeds:** 1000, 1001; none of them is evaluated on" in source
    assert "- **test split:** it was not read while tuning" in source
    space = _table(source, "searched").set_index("setting")["searched"]
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


def test_a_run_without_a_search_says_nothing_of_it(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", strategies=["bitfit", "linear_probe"], seeds=1, epochs=1)
    source, page = (path.read_text(encoding="utf-8") for path in write_report(run))
    assert FIXED in source
    assert "tuning" not in source.lower()
    assert "what tuning spent" not in page.lower()
    assert not list((run.folder / "plots").glob("tuning_*"))


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
    assert "<img src=x" not in _rendered(source)
    assert "<img src=x" not in page
    assert " ".join(EVIL.split()) in set(_table(source, "rank tuned")["study"])


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
    assert set(_table(source, "rank tuned")["claim"]) == {"nothing to compare"}
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


def test_differences_of_the_last_bit_are_none(tmp_path: Path) -> None:
    before = {"a": [0.1 + 0.2] * 8}
    said = _section(_tuned(tmp_path / "r", before, {"a": [0.3] * 8}))
    assert "raised the mean test accuracy of 0 of 1 strategy." in said
