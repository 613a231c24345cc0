"""Children of finished trials: limit cases, and what is computed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import bench
from bench.data.inputs import Preprocessing
from bench.errors import BenchError
from bench.methods.after import Soup, Views
from bench.prediction.after import children as made
from bench.prediction.after import from_weights
from bench.prediction.after.finished import Finished, TrialData
from bench.prediction.after.from_weights import Batches
from bench.prediction.combine import mean_of
from bench.prediction.model import TrainedModel
from bench.results.analysis.predicted import Predicted
from bench.results.folder import children as folder_children
from bench.results.folder.children import (
    FILE,
    PREDICTIONS,
    read_child_predictions,
    write_children,
)
from bench.results.folder.tables import write_parquet
from bench.results.report import write_report
from tests.data.pictures import write_folder
from tests.prediction.test_faults import no_file_above
from tests.prediction.test_load import test_images

pytestmark = [pytest.mark.xdist_group("opened"), pytest.mark.campaign]


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.runs.run.write_report", lambda run: write_report(run, figures={}))


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


def test_the_mirror_view_is_the_mean_of_both_by_hand(parent_run: bench.Run) -> None:
    row = rows(parent_run, "tta")[0]
    images, stored = test_images(parent_run, row["base"])
    model = bench.load(parent_run.folder, row["base"], device="cpu")
    mirrored = model.probabilities([np.ascontiguousarray(image[:, ::-1]) for image in images])
    made = parent_run.child_predictions
    found = made[made["trial"] == row["child"]].filter(like="probability_")
    assert np.allclose(found, (stored + mirrored) / 2, atol=1e-6)


def test_the_order_of_views_and_members_has_no_part_in_their_mean() -> None:
    views = list(np.random.default_rng(0).dirichlet(np.ones(3), size=(5, 40)))
    assert np.allclose(mean_of(views), mean_of(views[::-1]), rtol=0, atol=1e-15)
    weighted = mean_of(views, [1, 2, 3, 4, 5])
    assert np.allclose(weighted, mean_of(views[::-1], [5, 4, 3, 2, 1]), rtol=0, atol=1e-15)


@pytest.mark.usefixtures("without_figures")
def test_corners_are_those_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resized, cropped and normalised by torchvision, through the plain network."""
    seen: list[tuple[list[Batches], TrialData]] = []
    views_of = from_weights._views

    def noted(recipe: Views, data: TrialData, model: TrainedModel) -> list[Batches]:
        seen.append((views_of(recipe, data, model), data))
        return seen[-1][0]

    monkeypatch.setattr(from_weights, "_views", noted)
    layout = {f"{split}/{name}": 4 for split in ("train", "val", "test") for name in "ab"}
    pictures = write_folder(tmp_path / "pictures", layout)
    suite = {
        "name": "corners", "dataset": str(pictures), "backbone": "shufflenet_v2_x0_5",
        "weights": "none", "strategy": "from_scratch", "augmentation": "none", "epochs": 1,
        "batch_size": 4, "precision": "fp32", "image_size": 32, "resize": "crop", "seed": 0,
        "after": {"name": "tta", "views": "five_crops"},
    }  # fmt: skip
    run = bench.run(suite, out=tmp_path, device="cpu", workers=1)
    (row,) = rows(run, "tta(views=five_crops)")
    assert (row["status"], row["passes"]) == ("complete", 5)
    model = bench.load(run.folder, device="cpu")
    own = run.child_predictions
    samples = list(own.loc[own["trial"] == row["child"], "sample"])
    by_hand = torch.stack([_corners(pictures / name, model.preprocessing) for name in samples])
    ((views, data),) = seen
    places = from_weights._places(data, samples)
    found = torch.stack([torch.cat(list(view(places))) for view in views], dim=1)
    assert (found - by_hand).abs().max() < 0.018  # one of 255 levels, where rounding differs
    assert (found[:, 1:] - found[:, :1]).abs().amax(dim=(0, 2, 3, 4)).min() > 0.1
    with torch.no_grad():
        logits = model.module.eval()(found.flatten(0, 1))
    mean = logits.softmax(dim=1).view(len(samples), 5, 2).mean(dim=1)
    assert np.allclose(own.filter(like="probability_"), mean, atol=1e-5)


def _corners(path: Path, preprocessing: Preprocessing) -> torch.Tensor:
    """The centre and the four corners, as inputs."""
    from PIL import Image
    from torchvision.transforms import functional as vision

    side = preprocessing.resized_to
    assert side is not None
    assert side > preprocessing.size == 32
    whole = vision.center_crop(vision.resize(Image.open(path), [side]), [side, side])
    *corners, centre = vision.five_crop(whole, [32, 32])
    mean, std = list(preprocessing.mean), list(preprocessing.std)
    return torch.stack(
        [vision.normalize(vision.to_tensor(crop), mean, std) for crop in (centre, *corners)]
    )


def test_a_greedy_soup_takes_what_makes_validation_strictly_better(
    parent_run: bench.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of trials that are all alike, one."""
    trials = parent_run.trials[parent_run.trials["strategy"] == "full_finetune"]
    one = str(trials["trial"].iloc[0])
    finished = Finished(parent_run, lambda _: pytest.fail("no data is needed"))
    stored = finished.val(one)

    class Kitchen:
        def __init__(self, *_: Any) -> None: ...

        def val(self, members: Any, weights: Any) -> Predicted:
            return stored

        def made(self, members: Any, weights: Any) -> Any:
            return list(members)

    monkeypatch.setattr(from_weights, "_Kitchen", Kitchen)
    monkeypatch.setattr(Finished, "val", lambda self, trial: stored)
    found: Any = from_weights._soup(Soup(greedy=True), finished, (one, "copy", "another"))
    assert found == [one]


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_a_kill_while_children_are_made_leaves_whole_ones(
    parent_run: bench.Run,
    suite_with_children: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writes: int,
) -> None:
    """At any of the writes; the same command makes the rest."""
    shutil.copytree(parent_run.folder, tmp_path / "opened")
    for name in (FILE, PREDICTIONS):
        (tmp_path / "opened" / name).unlink()
    after = ["ensemble", {"name": "ensemble", "members": "greedy"}, "temperature"]
    suite = {**suite_with_children, "after": after}
    left = writes

    def killed_later(*arguments: Any) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        write_parquet(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(made, "SAVE_SECONDS", -1.0)
        patch.setattr(folder_children, "write_parquet", killed_later)
        with pytest.raises(KeyboardInterrupt):
            bench.run(suite, out=tmp_path, device="cpu", workers=1)
    between = bench.read_run(tmp_path / "opened")
    assert len(between.children) == writes // 2
    for child in between.children["child"]:
        assert (between.child_predictions["trial"] == child).sum() == 75
    write_report(between, figures={}, formats=["md"])
    run = bench.run(suite, out=tmp_path, device="cpu", workers=1)
    names = set(run.children["name"])
    whole = parent_run.children[parent_run.children["name"].isin(names)].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        run.children.drop(columns="seconds"), whole.drop(columns="seconds")
    )


@pytest.mark.usefixtures("without_figures")
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
    (tmp_path / "opened" / FILE).unlink()  # as a kill leaves it while both are removed
    run = bench.run(
        {k: v for k, v in suite_with_children.items() if k != "after"},
        out=tmp_path,
        device="cpu",
        workers=1,
    )
    assert run.children.empty
    assert not (tmp_path / "opened" / PREDICTIONS).exists()
