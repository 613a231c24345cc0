"""A trained run whose trials are opened."""

from __future__ import annotations

import pytest

import bench

SUITE = """\
name: opened
dataset: {name: fractals, classes: 3, train_per_class: 8, val_per_class: 6, test_per_class: 25,
          image_size: 32}
backbone: shufflenet_v2_x0_5
weights: {name: fractals, classes: 3, images_per_class: 8, epochs: 1}
strategy: [from_scratch, linear_probe, full_finetune, lp_ft]
schedule: constant
augmentation: flip_crop
epochs: 2
batch_size: 8
lr: 0.02
precision: fp32
seed: [0, 1]
"""


@pytest.fixture(scope="session")
def opened_run(tmp_path_factory: pytest.TempPathFactory) -> bench.Run:
    """Trained once; its folder must not be changed."""
    folder = tmp_path_factory.mktemp("opened")
    suite = folder / "opened.yaml"
    suite.write_text(SUITE)
    return bench.run(suite, out=folder / "results", device="cpu", workers=1)
