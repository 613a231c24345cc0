"""A trial that is opened is the network that was tested."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import bench
from bench.data import open_dataset
from bench.results.folder.columns import PROBABILITY_PREFIX

pytestmark = pytest.mark.xdist_group("opened")


def test_images(run: bench.Run, trial: str) -> tuple[list[npt.NDArray[np.uint8]], np.ndarray]:
    """The images of the test split, and the probabilities that were stored of them."""
    stored = run.predictions[run.predictions["trial"] == trial]
    options = {k: v for k, v in run.suite["dataset"].items() if k != "name"}
    dataset = open_dataset("fractals", options, progress=None)
    index = {name: position for position, name in enumerate(dataset.sample_ids)}
    images = list(dataset.read([index[name] for name in stored["sample"]]))
    columns = [PROBABILITY_PREFIX + name for name in dataset.classes]
    return images, stored[columns].to_numpy()


test_images.__test__ = False  # type: ignore[attr-defined]


def test_an_opened_trial_predicts_the_same_bits(opened_run: bench.Run) -> None:
    assert len(opened_run.trials) == 8
    for trial in opened_run.trials["trial"]:
        images, stored = test_images(opened_run, trial)
        model = bench.load(opened_run.folder, trial, device="cpu")
        assert np.array_equal(model.probabilities(images), stored.astype(np.float32)), model
        # Files and batches of other companions give the same within rounding.
        alone = np.concatenate([model.probabilities([image]) for image in images[:5]])
        assert np.allclose(alone, stored[:5], atol=1e-6)
