"""A trial that is opened is the network that was tested."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import bench
from bench.data import open_dataset
from bench.errors import BenchError
from bench.models.tensor_files import read_tensor_file, write_tensor_file
from bench.prediction import chosen_trial
from bench.results.folder.columns import PROBABILITY_PREFIX
from tests.damage import damage
from tests.emulated_device import emulated_device

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


def test_it_opens_in_a_fresh_process_without_cache_and_data(
    opened_run: bench.Run, tmp_path: Path
) -> None:
    """The run folder has moved, and nothing else is there."""
    folder = tmp_path / "moved"
    shutil.copytree(opened_run.folder, folder)
    trial = str(opened_run.trials.set_index("strategy").loc["linear_probe", "trial"].iloc[0])
    images, stored = test_images(opened_run, trial)
    np.save(tmp_path / "images.npy", np.stack(images))
    code = (
        "import numpy as np, bench; "
        f"model = bench.load({str(folder)!r}, {trial!r}, device='cpu'); "
        f"images = np.load({str(tmp_path / 'images.npy')!r}); "
        f"np.save({str(tmp_path / 'found.npy')!r}, model.probabilities(list(images)))"
    )
    cache = {"BENCH_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **cache}, check=True)
    assert np.array_equal(np.load(tmp_path / "found.npy"), stored.astype(np.float32))


def test_the_module_is_the_librarys_own(opened_run: bench.Run) -> None:
    """By hand: resized, cropped and normalised by torchvision, through its plain network."""
    from torchvision.models import shufflenet_v2_x0_5
    from torchvision.transforms import v2

    trial = str(opened_run.trials.set_index("strategy").loc["full_finetune", "trial"].iloc[0])
    images, stored = test_images(opened_run, trial)
    model = bench.load(opened_run.folder, trial, device="cpu")
    plain = shufflenet_v2_x0_5(num_classes=3)
    plain.load_state_dict(model.module.state_dict())
    preprocessing = model.preprocessing
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    assert (preprocessing.size, preprocessing.resize) == (32, "squash")
    with torch.no_grad():
        logits = plain.eval()(torch.stack([transform(image) for image in images]))
    assert np.allclose(logits.softmax(dim=1).numpy(), stored, atol=1e-5)


def test_the_trial_to_use_is_that_of_the_verdict(opened_run: bench.Run) -> None:
    chosen = chosen_trial(opened_run)
    verdict = json.loads((opened_run.folder / "verdict.json").read_text())
    own = opened_run.trials[opened_run.trials["strategy"] == verdict["recommended"]]
    assert chosen.row["strategy"] == verdict["recommended"]
    assert chosen.row["val_accuracy"] == own["val_accuracy"].max()
    assert f"The verdict recommends {verdict['recommended']}" in chosen.why
    assert bench.load(opened_run.folder, device="cpu").chosen == chosen


def test_without_a_verdict_validation_chooses(opened_run: bench.Run, tmp_path: Path) -> None:
    shutil.copytree(opened_run.folder, tmp_path / "run")
    (tmp_path / "run" / "verdict.json").write_text("{")
    chosen = chosen_trial(bench.read_run(tmp_path / "run"))
    means = opened_run.trials.groupby("strategy")["val_accuracy"].mean()
    assert means[chosen.row["strategy"]] == means.max()
    assert "the best config on validation" in chosen.why


def test_what_cannot_be_opened_is_said(opened_run: bench.Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(opened_run.folder, folder)
    by_strategy = opened_run.trials.drop_duplicates("strategy").set_index("strategy")["trial"]
    checkpoints = folder / "checkpoints"

    def message(strategy: str) -> str:
        with pytest.raises(BenchError) as error:
            bench.load(folder, by_strategy[strategy], device="cpu")
        return str(error.value)

    (checkpoints / f"{by_strategy['lp_ft']}.safetensors").unlink()
    assert "the run kept no weights of the trial" in message("lp_ft")
    path = checkpoints / f"{by_strategy['full_finetune']}.safetensors"
    tensors, metadata = read_tensor_file(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    del metadata["model"], metadata["crc32"]
    write_tensor_file(tensors, path, metadata)
    assert "is from an earlier version" in message("full_finetune")
    damage(path, "flipped")
    assert "is damaged" in message("full_finetune")
    (start,) = checkpoints.glob("start-*")
    damage(start, "flipped")
    assert "its content does not have the hash in its name" in message("linear_probe")
    start.unlink()
    assert f"{start} is missing" in message("linear_probe")
    # Drawn values are kept whole, so that it needs no start.
    assert bench.load(folder, by_strategy["from_scratch"], device="cpu")


def test_starting_weights_are_kept_once_and_cost_no_room(opened_run: bench.Run) -> None:
    (start,) = (opened_run.folder / "checkpoints").glob("start-*")
    assert start.stat().st_nlink >= 2 or start.stat().st_dev != Path(bench.__file__).stat().st_dev
    head = next(
        trial
        for trial, strategy in opened_run.trials[["trial", "strategy"]].itertuples(index=False)
        if strategy == "linear_probe"
    )
    own = opened_run.folder / "checkpoints" / f"{head}.safetensors"
    assert own.stat().st_size < start.stat().st_size / 20


def test_a_failed_trial_has_no_network(opened_run: bench.Run, tmp_path: Path) -> None:
    trials = opened_run.trials.copy()
    trials.loc[0, "status"] = "failed"
    run = replace(opened_run, trials=trials)
    with pytest.raises(BenchError, match="is failed, so it has no trained network"):
        chosen_trial(run, str(trials.loc[0, "trial"]))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real device")
@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_it_opens_on_a_gpu(opened_run: bench.Run, kind: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 40, 40, 3), dtype=np.uint8)
    expected = bench.load(opened_run, device="cpu").probabilities(images)
    with emulated_device(kind) as counts:
        model = bench.load(opened_run, device=kind)
        before = counts.syncs.copy()
        found = model.probabilities(images)
        waits = (counts.syncs - before).total()
    assert found == pytest.approx(expected, abs=1e-5)
    assert not counts.errors
    if kind == "cuda":
        assert waits == 1  # for the logits of a batch, which is larger than on a CPU
