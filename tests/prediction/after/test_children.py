"""Children of finished trials: limit cases, and what is computed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bench
from bench.errors import BenchError
from bench.prediction.after import children as made
from bench.results.folder.children import (
    FILE,
    PREDICTIONS,
    read_child_predictions,
    write_children,
)
from tests.prediction.test_faults import no_file_above

pytestmark = pytest.mark.xdist_group("opened")


def table(predictions: pd.DataFrame, trial: str) -> pd.DataFrame:
    own = predictions[predictions["trial"] == trial].set_index("sample")
    return own.filter(like="probability_").sort_index()


def rows(run: bench.Run, name: str) -> list[dict[str, Any]]:
    own = run.children[run.children["name"] == name]
    assert not own.empty, name
    return [{str(key): value for key, value in row.items()} for row in own.to_dict("records")]


def test_trials_are_as_they_were(opened_run: bench.Run, parent_run: bench.Run) -> None:
    pd.testing.assert_frame_equal(parent_run.trials, opened_run.trials)
    pd.testing.assert_frame_equal(parent_run.predictions, opened_run.predictions)
    skipped = parent_run.children[parent_run.children["status"] == "skipped"]
    reasons = skipped.set_index(["name", "of"])["error"].to_dict()
    assert all(
        "corners need" in reason
        for (name, _), reason in reasons.items()
        if name == "tta(views=five_crops)"
    )
    assert {name.partition("(")[0] for name, _ in reasons} == {"tta", "wise_ft"}
    assert all(of == "from_scratch" for name, of in reasons if name.startswith("wise_ft"))


def test_an_ensemble_is_the_mean_of_its_members(parent_run: bench.Run) -> None:
    for row in rows(parent_run, "ensemble"):
        members = json.loads(row["members"])
        assert (len(members), row["passes"], pd.isna(row["seed"])) == (2, 2, True)
        mean = sum(table(parent_run.predictions, trial) for trial in members) / 2
        assert np.allclose(mean, table(parent_run.child_predictions, row["child"]))


def test_a_greedy_ensemble_stays_in_its_seed_and_is_no_worse_on_validation(
    parent_run: bench.Run,
) -> None:
    trials = parent_run.trials.set_index("trial")
    for row in rows(parent_run, "ensemble(members=greedy)"):
        members = json.loads(row["members"])
        assert set(trials.loc[list(members), "seed"]) == {row["seed"]}
        assert row["passes"] == len(members)
        assert row["val_accuracy"] >= trials[trials["seed"] == row["seed"]]["val_accuracy"].max()
        counts = sum(members.values())
        mean = sum(n * table(parent_run.predictions, t) for t, n in members.items()) / counts
        assert np.allclose(mean, table(parent_run.child_predictions, row["child"]))


def test_a_temperature_lowers_the_validation_loss_and_changes_no_label(
    parent_run: bench.Run,
) -> None:
    trials = parent_run.trials.set_index("trial")
    found = rows(parent_run, "temperature")
    assert len(found) == 8
    for row in found:
        assert row["val_log_loss"] <= trials.loc[row["base"], "val_log_loss"] + 1e-9
        assert row["test_accuracy"] == trials.loc[row["base"], "test_accuracy"]
        assert json.loads(row["chosen"])["temperature"] > 0


def test_the_ends_of_wise_ft_are_both_trials_to_the_bit(parent_run: bench.Run) -> None:
    trials = parent_run.trials.set_index("trial")
    complete = 0
    for alpha in (0.0, 1.0):
        for row in rows(parent_run, f"wise_ft(alphas=({alpha},))"):
            if row["status"] == "skipped":
                continue
            complete += 1
            (member,) = json.loads(row["members"])
            assert (member == row["base"]) == (alpha == 1)
            assert (trials.loc[member, "strategy"] == "linear_probe") == (alpha == 0)
            stored = table(parent_run.predictions, member)
            assert np.array_equal(table(parent_run.child_predictions, row["child"]), stored)
    assert complete == 8


def test_wise_ft_is_no_worse_on_validation_than_either_end(parent_run: bench.Run) -> None:
    trials = parent_run.trials.set_index("trial")
    for row in rows(parent_run, "wise_ft"):
        if row["status"] == "complete":
            assert row["val_accuracy"] >= trials.loc[row["base"], "val_accuracy"]
            assert row["passes"] == 1
            assert json.loads(row["chosen"])["alpha"] in np.linspace(0, 1, 11).round(1)


def test_soups_join_what_starts_alike_and_greedy_ones_are_no_worse_on_validation(
    parent_run: bench.Run,
) -> None:
    trials = parent_run.trials.set_index("trial")
    for row in rows(parent_run, "soup"):
        members = trials.loc[list(json.loads(row["members"]))]
        assert sorted(members["strategy"]) == ["full_finetune", "linear_probe", "lp_ft"]
        assert set(members["seed"]) == {row["seed"]}
    for row in rows(parent_run, "soup(members=greedy)"):
        assert row["val_accuracy"] >= trials.loc[row["base"], "val_accuracy"]
        best = trials[(trials["seed"] == row["seed"]) & (trials["strategy"] != "from_scratch")]
        assert trials.loc[row["base"], "val_accuracy"] == best["val_accuracy"].max()


def test_one_view_is_the_plain_one_and_more_cost_more(parent_run: bench.Run) -> None:
    for row in rows(parent_run, "tta(views=random, count=1)"):
        stored = table(parent_run.predictions, row["base"])
        assert np.array_equal(table(parent_run.child_predictions, row["child"]), stored)
    assert {row["passes"] for row in rows(parent_run, "tta(views=random, count=3)")} == {3}
    for row in rows(parent_run, "tta"):
        assert row["passes"] == 2
        stored = table(parent_run.predictions, row["base"])
        assert not np.array_equal(table(parent_run.child_predictions, row["child"]), stored)


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_kill_while_they_are_written_leaves_a_run_that_can_be_read(
    parent_run: bench.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Both tables change, and one file comes after the other."""
    folder = tmp_path / "opened"
    shutil.copytree(parent_run.folder, folder)
    children = parent_run.children
    predictions = read_child_predictions(folder, children)
    kept = children[children["name"].isin(["ensemble", "temperature"])]
    new = kept.assign(child=kept["child"].str[::-1])
    renamed = dict(zip(kept["child"], new["child"], strict=True))
    of_new = predictions[predictions["trial"].isin(kept["child"])]
    of_new = of_new.assign(trial=of_new["trial"].map(renamed))
    replace, done = Path.replace, []

    def killed(self: Path, target: Path) -> Path:
        if len(done) == ("before", "between", "after").index(moment):
            raise KeyboardInterrupt
        done.append(target)
        return replace(self, target)

    rows_of_new = [
        {str(key): value for key, value in row.items()}
        for row in new.astype(object).where(new.notna(), None).to_dict("records")
    ]
    monkeypatch.setattr(Path, "replace", killed)
    if moment == "after":
        write_children(folder, rows_of_new, of_new)
    else:
        with pytest.raises(KeyboardInterrupt):
            write_children(folder, rows_of_new, of_new)
    monkeypatch.undo()
    assert not list(folder.glob(".*partial*"))
    run = bench.read_run(folder)
    wanted = new if moment == "after" else children
    assert sorted(run.children["child"]) == sorted(wanted["child"])
    complete = run.children[run.children["status"] == "complete"]
    assert set(complete["child"]) == set(run.child_predictions["trial"])


@pytest.mark.campaign
def test_a_full_disk_leaves_the_children_before(
    parent_run: bench.Run, suite_with_children: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "opened"
    shutil.copytree(parent_run.folder, folder)
    before = (folder / PREDICTIONS).read_bytes()
    suite = {**suite_with_children, "after": ["ensemble", "temperature", "soup"]}
    with no_file_above(20_000), pytest.raises(BenchError, match="make room") as error:
        bench.run(suite, out=tmp_path, device="cpu", workers=1)
    assert str(folder) in str(error.value)
    assert (folder / PREDICTIONS).read_bytes() == before
    assert len(bench.read_run(folder).children) == len(parent_run.children)
    run = bench.run(suite, out=tmp_path, device="cpu", workers=1)
    assert set(run.children["name"]) == {"ensemble", "temperature", "soup"}


def test_only_what_is_missing_is_made(
    parent_run: bench.Run,
    suite_with_children: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(parent_run.folder, tmp_path / "opened")
    asked: list[str] = []
    add = made._Kept.add

    def noted(self: Any, child: str, planned: Any) -> None:
        asked.append(planned.name)
        add(self, child, planned)

    monkeypatch.setattr(made._Kept, "add", noted)

    def again(after: Any) -> bench.Run:
        asked.clear()
        suite = {**suite_with_children, "after": after}
        return bench.run(suite, out=tmp_path, device="cpu", workers=1)

    run = again(["ensemble", "temperature"])
    assert asked == []
    assert set(run.children["name"]) == {"ensemble", "temperature"}
    assert set(run.child_predictions["trial"]) == set(run.children["child"])
    # A kill between both files leaves predictions of children that are not in the table.
    shutil.copy(parent_run.folder / PREDICTIONS, tmp_path / "opened" / PREDICTIONS)
    assert len(bench.read_run(tmp_path / "opened").child_predictions) == len(run.child_predictions)
    (tmp_path / "opened" / FILE).write_bytes(b"no table")
    run = again("ensemble")
    assert set(asked) == {"ensemble"}
    assert len(run.children) == 4
    run = bench.run(
        {k: v for k, v in suite_with_children.items() if k != "after"},
        out=tmp_path,
        device="cpu",
        workers=1,
    )
    assert run.children.empty
    assert not (tmp_path / "opened" / PREDICTIONS).exists()
