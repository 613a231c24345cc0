"""Children with batch norms of target data (`adabn`), against torch's own recomputation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import update_bn

import bench
from bench.prediction.after import from_weights
from bench.prediction.after.finished import TrialData
from tests.prediction.after.test_children import rows

pytestmark = [pytest.mark.xdist_group("opened")]

DATA = {"classes": 2, "train_per_class": 12, "val_per_class": 4, "test_per_class": 6,
        "image_size": 32}  # fmt: skip
SUITE: dict[str, Any] = {
    "name": "target",
    "dataset": {"name": "fractals", **DATA, "target_data": {"name": "fractals_shifted", **DATA}},
    "backbone": "shufflenet_v2_x0_5", "weights": "none", "strategy": "from_scratch",
    "augmentation": "none", "epochs": 1, "batch_size": 8, "precision": "fp32", "seed": 0,
    "after": "adabn",
}  # fmt: skip


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.results.report import write_report

    monkeypatch.setattr("bench.runs.run.write_report", lambda run: write_report(run, figures={}))


@pytest.mark.campaign
def test_statistics_are_those_of_torch_over_what_has_no_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[from_weights.Batches, TrialData]] = []
    plain = from_weights._plain

    def noted(data: TrialData, model: Any) -> from_weights.Batches:
        seen.append((plain(data, model), data))
        return seen[-1][0]

    monkeypatch.setattr(from_weights, "_plain", noted)
    run = bench.run(SUITE, out=tmp_path, device="cpu", workers=1)
    (row,) = rows(run, "adabn")
    assert (row["status"], row["passes"]) == ("complete", 1)
    model = bench.load(run.folder, device="cpu")
    (batches, data), *_ = seen
    unlabelled = data.splits.unlabelled
    assert len(unlabelled) == 2 * (12 + 4)
    whole = torch.cat(list(batches(unlabelled)))
    names = [name for name, _ in model.module.named_buffers() if name.endswith("running_mean")]
    before = {name: model.module.get_buffer(name).clone() for name in names}
    update_bn([whole], model.module)
    assert all(not torch.equal(before[name], model.module.get_buffer(name)) for name in names)
    own = run.child_predictions
    places = from_weights._places(data, list(own.loc[own["trial"] == row["child"], "sample"]))
    with torch.no_grad():
        by_hand = model.module.eval()(torch.cat(list(batches(places)))).softmax(dim=1)
    assert np.allclose(own.filter(like="probability_"), by_hand, atol=1e-5)
    (trial,) = run.trials["trial"]
    parent = run.predictions[run.predictions["trial"] == trial].filter(like="probability_")
    assert not np.allclose(parent, own.filter(like="probability_"), atol=1e-3)


@pytest.mark.campaign
def test_a_share_without_labels_has_statistics_too(tmp_path: Path) -> None:
    own = {"name": "fractals", **DATA, "unlabelled_fraction": 0.5}
    run = bench.run({**SUITE, "dataset": own}, out=tmp_path, device="cpu", workers=1)
    (row,) = rows(run, "adabn")
    assert row["status"] == "complete"
