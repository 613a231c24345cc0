"""How images become inputs is said before training and after it, and is what networks see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import shufflenet_v2_x0_5
from torchvision.transforms import v2

import bench
from bench.data import open_data
from bench.errors import SuiteError
from bench.results.folder import Run, read_input_views
from bench.results.folder.inputs import read_inputs
from bench.results.report.inputs import input_sentences
from bench.runs.prepare import PreparedSets
from bench.runs.resolve import ResolvedRun, resolve_run
from tests.data.pictures import photograph

SUITE: Mapping[str, Any] = {
    "name": "squares",
    "dataset": "photos",
    "backbone": "shufflenet_v2_x0_5",
    "weights": "none",
    "strategy": "from_scratch",
    "augmentation": "flip",
    "epochs": 1,
    "batch_size": 4,
    "precision": "fp32",
    "seed": 0,
}


def make_folder(folder: Path) -> Path:
    """Ten squares of 48 px in two classes, and a state dict."""
    for index in range(10):
        own = folder / "photos" / "ab"[index % 2]
        own.mkdir(parents=True, exist_ok=True)
        photograph(index, width=48, height=48).save(own / f"{index}.png")
    torch.manual_seed(0)
    torch.save(shufflenet_v2_x0_5().half().state_dict(), folder / "own.pth")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on squares of the image size, with its folder beside the images."""
    folder = make_folder(tmp_path_factory.mktemp("squares"))
    return bench.run(written(folder), out=folder, device="cpu", workers=1)


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "squares.yaml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}))
    return path


def resolved(folder: Path, **changes: Any) -> ResolvedRun:
    return resolve_run(written(folder, **changes), out=folder / "out", device="cpu")


def test_a_run_says_and_shows_what_networks_see(finished: Run) -> None:
    folder = finished.folder.parent
    (rule,) = read_inputs(finished)
    assert (rule.size, rule.resize, rule.native_size) == (48, "squash", 48)
    assert rule.used_by == ("shufflenet_v2_x0_5 · none",)
    said = bench.plan(folder / "squares.yaml", out=folder, device="cpu").inputs
    assert list(said) == input_sentences([rule])
    assert "All images are 48 × 48 px and are taken as they are." in said[0]
    report = (finished.folder / "report.md").read_text(encoding="utf-8")
    assert "taken as they are" in report
    assert "plots/inputs.png" in report
    views = read_input_views(finished.folder)
    assert [view.view for view in views] == ["evaluation"] * 3 + ["training: flip"] * 3
    assert {view.label for view in views} == {"a", "b"}
    for view in views[:3]:
        assert np.array_equal(view.pixels, np.asarray(Image.open(folder / "photos" / view.sample)))


def test_plain_torchvision_predicts_the_same_from_the_checkpoint(finished: Run) -> None:
    """Whoever takes it elsewhere needs no more than what the report says of inputs."""
    (trial,), (rule,) = finished.trials["trial"], read_inputs(finished)
    model = shufflenet_v2_x0_5(num_classes=2).eval()
    model.load_state_dict(load_file(finished.folder / "checkpoints" / f"{trial}.safetensors"))
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(rule.mean), list(rule.std)),
        ]
    )
    for row in finished.predictions.to_dict("records"):
        image = Image.open(finished.folder.parent / "photos" / str(row["sample"]))
        with torch.no_grad():
            probabilities = model(transform(image)[None]).softmax(dim=1)[0]
        assert probabilities[0].item() == pytest.approx(row["probability_a"], abs=1e-4)


def test_several_rules_are_told_apart(folder: Path) -> None:
    weights = [{"file": "own.pth"}, {"file": "own.pth", "mean": 0.5, "interpolation": "bicubic"}]
    found = resolved(folder, weights=weights, strategy="full_finetune", image_size=32)
    described = PreparedSets(found, None).describe()["inputs"]
    assert [each["used_by"] for each in described] == [
        ["shufflenet_v2_x0_5 · own.pth"],
        ["shufflenet_v2_x0_5 · own.pth(interpolation=bicubic, mean=0.5)"],
    ]
    assert [each["interpolation"] for each in described] == ["bilinear", "bicubic"]
    assert tuple(described[1]["mean"]) == (0.5, 0.5, 0.5)
    assert described[0]["unknown"] == ["mean", "std", "image_size", "interpolation", "classes"]
    assert json.dumps(described)


def test_interpolation_of_the_weights_makes_the_prepared_images(folder: Path) -> None:
    """Those of a trial without weights too, which sees what its peers see."""
    bicubic = {"file": "own.pth", "interpolation": "bicubic"}
    found = resolved(
        folder, weights=bicubic, strategy=["from_scratch", "full_finetune"], image_size=32
    )
    sets = PreparedSets(found, None)
    scratch, tuned = found.trials
    assert scratch.weights.name == "none"
    assert sets.data(scratch) is sets.data(tuned)
    data = open_data(sets.data(tuned).folder)
    first = Image.open(folder / "photos" / data.sample_ids[0])
    expected = np.asarray(first.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(data.pictures(data.sample_ids[:1])[data.sample_ids[0]], expected)
    plain = resolved(folder, weights={"file": "own.pth"}, strategy="from_scratch", image_size=32)
    assert plain.trials[0].id != scratch.id


# Files of weights -----------------------------------------------------------------------------


def of_weights(found: ResolvedRun) -> list[str]:
    return [note for note in found.notes if "with weights" in note]


def test_what_is_not_known_of_a_file_is_called_so(folder: Path) -> None:
    found = resolved(folder, weights={"file": "own.pth"}, strategy="full_finetune")
    assert found.trials[0].input_size == 48, "that of the images: the file asks for none"
    (note,) = of_weights(found)
    assert "mean, std, image_size and interpolation of the images that made them are not" in note
    assert "uses mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225], image_size 48" in note
    assert "weights: {file: own.pth, mean: …" in note
    assert "was trained at" not in " ".join(found.notes)


def test_what_is_known_of_a_file_is_used(folder: Path) -> None:
    known = {"mean": 0.5, "std": [0.1, 0.2, 0.3], "image_size": 40, "interpolation": "nearest"}
    found = resolved(folder, weights={"file": "own.pth", **known}, strategy="full_finetune")
    weights = found.trials[0].weights
    assert (weights.mean, weights.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert found.trials[0].input_size == 40
    assert of_weights(found) == []
    other = resolved(
        folder, weights={"file": "own.pth", **known}, strategy="full_finetune", image_size=64
    )
    (note,) = of_weights(other)
    assert "was trained at 40 px, this suite uses image_size 64" in note


def test_a_file_with_known_classes_predicts_without_training(folder: Path) -> None:
    names = [f"class {index}" for index in range(1000)]
    content = {
        "strategy": "pretrained_head",
        "dataset": {"path": "photos", "class_map": {"a": ["class 3"], "b": [7]}},
        "augmentation": "none",
    }
    found = resolved(folder, weights={"file": "own.pth", "classes": names}, **content)
    assert found.trials[0].weights.classes == tuple(names)
    for classes, message in ((None, "of known classes"), (["x", "y"], "classes names 2 outputs")):
        with pytest.raises(SuiteError, match=message):
            resolved(folder, weights={"file": "own.pth", "classes": classes}, **content)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_plan_lists_what_does_not_fit(folder: Path, wrapped: bool) -> None:
    state = shufflenet_v2_x0_5().state_dict()
    del state["conv1.0.weight"]
    state["stranger"] = torch.ones(1)
    state["conv5.0.weight"] = torch.ones(3)
    content = {"epoch": 3, "state_dict": state} if wrapped else state
    torch.save(content, folder / "other.pth")
    path = written(folder, weights={"file": "other.pth"}, strategy="full_finetune", seed=[0, 1])
    with pytest.raises(SuiteError) as raised:
        bench.plan(path, out=folder / "out", device="cpu")
    (problem,) = raised.value.problems
    message = str(problem)
    assert (
        "missing (1): conv1.0.weight; unexpected (1): stranger; wrong shape (1): conv5" in message
    )
    assert "(file [3], backbone [1024, 192, 1, 1])" in message
    assert "squares.yaml:" in message
    assert not (folder / "out" / "squares").exists()


def test_a_file_of_another_kind_is_found_by_the_plan(folder: Path) -> None:
    (folder / "page.pth").write_text("<html>not found</html>")
    path = written(folder, weights={"file": "page.pth"}, strategy="full_finetune")
    with pytest.raises(SuiteError, match="a page of HTML"):
        bench.plan(path, out=folder / "out", device="cpu")


# Sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "side", "size"),
    [
        ("resnet18", 48, 48),  # that of the images
        ("resnet18", 300, 224),  # not above the backbone's usual size
        ("vit_b_16", 48, 48),
        ("vit_b_16", 40, 224),  # which it cannot take
        ("inception_v3", 64, 299),
    ],
)
def test_without_weights_the_images_give_the_size_if_they_can(
    backbone: str, side: int, size: int, tmp_path: Path
) -> None:
    for index in range(8):
        own = tmp_path / "photos" / "ab"[index % 2]
        own.mkdir(parents=True, exist_ok=True)
        photograph(index, width=side, height=side).save(own / f"{index}.png")
    assert resolved(tmp_path, backbone=backbone).trials[0].input_size == size
