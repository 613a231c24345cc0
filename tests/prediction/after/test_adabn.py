"""Statistics of batch norms from target data without labels, against torch's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import bench
from bench.prediction.choice import Chosen
from bench.prediction.load import open_trial
from bench.results.report import write_report
from tests.tiny import DATA, make_trial, tiny_training

SUITE = """\
name: anew
dataset:
  {name: fractals, classes: 2, train_per_class: 8, val_per_class: 6, test_per_class: 10,
   image_size: 32, target_data: {name: fractals_shifted, classes: 2, train_per_class: 8,
   val_per_class: 6, test_per_class: 10, image_size: 32}}
backbone: [timm/test_resnet, timm/test_vit]
weights: none
strategy: from_scratch
schedule: constant
augmentation: none
epochs: 1
batch_size: 8
lr: 0.01
image_size: 32
precision: fp32
seed: [0]
checkpoints: all
after: [adabn]
"""


@pytest.mark.campaign
def test_batch_norms_have_statistics_of_the_target_and_other_networks_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runs.run.write_report", lambda run: write_report(run, figures={}))
    run = bench.run(yaml.safe_load(SUITE), out=tmp_path, device="cpu", workers=1)
    children = run.children.set_index("status")
    assert "has none" in children.loc["skipped", "error"]
    made = children.loc["complete"]
    row = run.trials.set_index("trial", drop=False).loc[made["base"]].to_dict()
    model = open_trial(run, Chosen(row=row, label="", why=""), device="cpu")
    target = {"name": "fractals_shifted", **DATA}
    training = tiny_training(make_trial(backbone="timm/test_resnet", data={"target_data": target}))
    network = model.network
    norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    before = {name: tensor.clone() for name, tensor in network.model.state_dict().items()}
    network.eval()
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        network(training.central.batch(training.splits.unlabelled, 0))
        network.eval()
        logits = network(training.central.batch(training.splits.test, 0))
    own = run.child_predictions
    own = own[own["trial"] == made["child"]]
    found = own.filter(like="probability_").to_numpy()
    names = [training.data.sample_ids[i] for i in training.splits.test]
    order = [list(own["sample"]).index(name) for name in names]
    np.testing.assert_allclose(found[order], logits.softmax(dim=1).numpy(), atol=1e-5)
    moved = {n for n, t in network.model.state_dict().items() if not torch.equal(t, before[n])}
    assert {name.rpartition(".")[2] for name in moved} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


@pytest.mark.campaign
def test_a_share_without_labels_has_statistics_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runs.run.write_report", lambda run: write_report(run, figures={}))
    suite = yaml.safe_load(SUITE)
    suite["dataset"] |= {"target_data": None, "unlabelled_fraction": 0.5}
    suite["backbone"] = "timm/test_resnet"
    run = bench.run(suite, out=tmp_path, device="cpu", workers=1)
    assert list(run.children["status"]) == ["complete"]
