"""A trained trial as a file for other programs: checked before it is given, and described."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

import bench
from bench.cli.main import main
from bench.errors import BenchError
from bench.models.checkpoints import ModelSpec
from bench.prediction import chosen_trial
from bench.prediction.export import check, formats
from bench.prediction.export.card import licence_of_weights
from bench.prediction.export.held_out import generated_images, held_out
from bench.prediction.export.reading import Reading
from bench.prediction.export.resize import PillowResize
from bench.prediction.outputs import Outputs
from tests.prediction.export.trained import trained
from tests.prediction.test_load import test_images as images_of_the_test_split

pytestmark = pytest.mark.xdist_group("opened")

READING = Reading(outputs=Outputs(names=("a", "b")))


def trial_of(run: bench.Run, strategy: str) -> str:
    return str(run.trials.set_index("strategy").loc[strategy, "trial"].iloc[0])


@pytest.mark.campaign
def test_onnx_takes_raw_images_of_any_size(
    opened_run: bench.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    trial = trial_of(opened_run, "full_finetune")
    out = tmp_path / "given"
    arguments = ["export", str(opened_run.folder), "--trial", trial, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert not ended.value.code, said
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "card.md", "model.onnx"]
    assert "onnxruntime" in said
    assert "75 samples, fp32" in said

    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    model = bench.load(opened_run.folder, trial, device="cpu")
    draw = np.random.default_rng(0)
    for count, height, width in ((1, 60, 45), (3, 200, 30), (2, 32, 32)):
        images = draw.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        logits = torch.from_numpy(session.run(None, {"images": images})[0])
        found = logits.softmax(dim=1).numpy()
        assert np.allclose(found, model.probabilities(list(images)), atol=1e-5)

    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    stored = opened_run.trials.set_index("trial").loc[trial]
    figures = {each["name"]: each for each in card["metrics"]}
    right = round(75 * stored["test_accuracy"])
    interval = binomtest(right, 75).proportion_ci(method="wilson")
    assert figures["accuracy"]["test"] == stored["test_accuracy"] == card["check"]["accuracy"]
    assert figures["accuracy"]["interval"] == pytest.approx([interval.low, interval.high])
    assert figures["accuracy"]["trainings"] == 2
    assert card["check"]["changed_labels"] == card["check"]["unlike_run"] == 0
    assert card["check"]["logit_difference"] < 1e-5
    # Pillow's resize is in the file: images of other sizes give the same too.
    assert card["check"]["resized"]["generated"]
    assert card["check"]["resized"]["logit_difference"] < 1e-5
    assert card["file"]["input"] == "images, uint8 [batch, height, width, 3], RGB, of any size"
    assert card["weights"]["licence"].startswith("no licence of others applies, as the run itself")
    text = (out / "card.md").read_text(encoding="utf-8")
    for told in ("## Limits", "## Check", "fractal-02", "full_finetune", ["75", "samples"][0]):
        assert told in text


@pytest.mark.campaign
def test_a_file_that_fails_is_not_left_behind(
    opened_run: bench.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values are written wrong; what was there stays, and nothing else is there."""
    trial = trial_of(opened_run, "linear_probe")
    out = tmp_path / "given"
    monkeypatch.chdir(tmp_path)
    exported = bench.export(opened_run.folder, trial, format="safetensors", out="given")
    assert exported.preprocessing is not None
    preprocessing = json.loads(exported.preprocessing.read_text())
    assert (preprocessing["resize"], preprocessing["resized_to"]) == ("squash", 32)
    assert exported.bytes == exported.model.stat().st_size
    # Whole values, unlike the checkpoint, which has what training changed.
    kept = opened_run.folder / "checkpoints" / f"{trial}.safetensors"
    assert exported.bytes > 20 * kept.stat().st_size
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    write = formats.write_tensor_file

    def wrong(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        write({**tensors, "fc.bias": tensors["fc.bias"] + 0.01}, path, metadata)

    monkeypatch.setattr(formats, "write_tensor_file", wrong)
    with pytest.raises(BenchError) as error:
        bench.export(opened_run.folder, trial, format="safetensors", out=out)
    assert "its logits in torch" in str(error.value)
    assert "differ by up to 0.01" in str(error.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_what_cannot_be_exported_is_said(opened_run: bench.Run, tmp_path: Path) -> None:
    run = opened_run.folder

    def message(**options: str | Path) -> str:
        with pytest.raises(BenchError) as error:
            bench.export(run, **options)  # type: ignore[arg-type]
        return str(error.value)

    assert "--format must be one of safetensors, torch-export, onnx, got 'onx'; did you" in message(
        format="onx"
    )
    assert "--dtype must be one of fp32, fp16, got 'int8'" in message(dtype="int8")
    assert "--preprocessing must be one of" in message(preprocessing="outside")
    told = message(format="safetensors", preprocessing="inside")
    assert "holds values only, so --preprocessing can be beside, not inside" in told
    (tmp_path / "notes.txt").write_text("mine")
    told = message(format="safetensors", out=tmp_path)
    assert "exists and is not an earlier export (it holds notes.txt)" in told
    assert (tmp_path / "notes.txt").read_text() == "mine"
    told = message(format="safetensors", out=tmp_path / "notes.txt")
    assert "exists and is not an earlier export" in told
    with pytest.raises(BenchError, match="s3://bucket/run is not on this machine; give --out"):
        bench.export("s3://bucket/run")
    assert not (run / "export").exists()
    linked = tmp_path / "linked"
    shutil.copytree(run, linked)
    (linked / "export").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(BenchError, match="is a link, which leads elsewhere"):
        bench.export(linked, format="safetensors")


def test_the_check_reads_the_images_of_the_test_split(opened_run: bench.Run) -> None:
    chosen = chosen_trial(opened_run, trial_of(opened_run, "full_finetune"))
    model = bench.load(opened_run.folder, chosen.id, device="cpu")
    found = held_out(opened_run, chosen, model.preprocessing)
    images, probabilities = images_of_the_test_split(opened_run, chosen.id)
    assert (found.count, found.missing) == (75, None)
    read = [*found.read(range(64)), *found.read(range(64, 75))]
    assert all(np.array_equal(a, b) for a, b in zip(read, images, strict=True))
    assert found.predicted is not None
    assert np.array_equal(found.predicted, probabilities.argmax(axis=1))


def test_without_the_data_images_are_generated(opened_run: bench.Run) -> None:
    chosen = chosen_trial(opened_run)
    model = bench.load(opened_run.folder, chosen.id, device="cpu")
    gone = replace(opened_run, suite={"dataset": {"name": "folder", "path": "/nowhere"}})
    found = held_out(gone, chosen, model.preprocessing)
    assert found.truth is None
    assert found.missing is not None
    assert "/nowhere" in found.missing
    images = found.read(range(found.count))
    assert len(images) == 48
    assert len({image.shape for image in images}) == 5
    for described, told in (
        (None, "dataset must be a known name, got 'None'"),
        ({"name": "fractals", "classes": "many"}, "classes: Input should be a valid integer"),
        ({"name": "fractals", 5: 1}, "5: Keys should be strings"),
    ):
        strange = replace(opened_run, suite={"dataset": described})
        assert told in str(held_out(strange, chosen, model.preprocessing).missing)
    other = replace(opened_run, suite={"dataset": {"name": "fractals", "classes": 2}})
    missing = held_out(other, chosen, model.preprocessing).missing
    assert missing == "the data set fractals no longer has the classes of the run"
    assert {image.shape for image in generated_images(model.preprocessing, 5)} == {
        image.shape for image in images
    }


def test_logits_that_are_no_numbers_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    file = formats.FORMATS["safetensors"]
    found = check.Check(
        runtime="torch",
        samples=10,
        missing=None,
        logit_difference=math.nan,
        probability_difference=math.nan,
        changed_labels=3,
        accuracy=None,
        trial_accuracy=None,
        unlike_run=None,
        resized=None,
        milliseconds=1.0,
        milliseconds_alone=1.0,
        trial_milliseconds=1.0,
    )
    for dtype in ("fp32", "fp16"):
        with pytest.raises(BenchError, match="3 of 10 labels change"):
            check._refuse(found, file, formats.Wish(place="beside", dtype=dtype), READING)
    half = formats.Wish(place="beside", dtype="fp16")
    near = replace(found, logit_difference=0.1, probability_difference=0.01)
    check._refuse(near, file, half, READING)
    with pytest.raises(BenchError, match=r"the limit is 0\.02 .*--dtype fp32 keeps"):
        check._refuse(replace(near, probability_difference=0.03), file, half, READING)


@pytest.mark.parametrize(
    ("backbone", "name", "licence"),
    [
        ("resnet18", "imagenet", "unknown"),
        ("vit_b_16", "IMAGENET1K_SWAG_LINEAR_V1", "https://github.com/facebookresearch/SWAG"),
        (
            "resnet18",
            "fractals(classes=3)",
            "no licence of others applies, as the run itself trained them",
        ),
        ("resnet18", "file", "unknown"),
        ("efficientnet_lite0", "imagenet", "unknown"),
        ("not/known", "imagenet", "unknown"),
    ],
)
def test_licences_are_those_that_the_libraries_state(
    backbone: str, name: str, licence: str
) -> None:
    spec: ModelSpec = replace(trained("shufflenet_v2_x0_5").spec, backbone=backbone, start="start")
    assert licence_of_weights(spec, name).startswith(licence)
    drawn = licence_of_weights(replace(spec, start=None), "none")
    assert drawn == "no licence of others applies, as values were drawn at random"


def test_the_licence_of_weights_of_timm_is_the_one_that_timm_states() -> None:
    timm = pytest.importorskip("timm")
    name = "vit_tiny_patch16_224"
    spec = replace(trained("shufflenet_v2_x0_5").spec, backbone=f"timm/{name}", start="start")
    stated = timm.get_pretrained_cfg(name).license  # older versions state none
    assert licence_of_weights(spec, "imagenet") == (stated or "unknown")


@pytest.mark.campaign
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("format", "place"),
    [
        ("safetensors", "beside"),
        ("torch-export", "inside"),
        ("torch-export", "beside"),
        ("onnx", "inside"),
        ("onnx", "beside"),
    ],
)
def test_every_format_gives_what_the_trial_does(
    opened_run: bench.Run, tmp_path: Path, format: str, place: str, dtype: str
) -> None:
    found = bench.export(
        opened_run.folder,
        trial_of(opened_run, "lp_ft"),
        format=format,
        out=tmp_path / "given",
        preprocessing=place,
        dtype=dtype,
    )
    assert found.check.logit_difference < (1e-5 if dtype == "fp32" else 1e-2)
    assert found.check.resized is not None
    assert found.check.resized.logit_difference < 2e-2
    assert found.check.unlike_run == 0
    assert (found.preprocessing is None) == (place == "inside")


@pytest.mark.campaign
def test_vectors_are_exported_too(tmp_path: Path) -> None:
    bench.load_plugin("bench.testing.vectors")
    suite = {
        "name": "points", "dataset": "vectors", "backbone": "tiny_mlp", "weights": "none",
        "strategy": "from_scratch", "epochs": 2, "batch_size": 8, "lr": 0.1, "seed": 0,
        "augmentation": "none", "schedule": "constant",
    }  # fmt: skip
    run = bench.run(suite, out=tmp_path, device="cpu", workers=1)
    for format in ("safetensors", "torch-export", "onnx"):
        found = bench.export(run.folder, format=format)
        assert found.check.resized is None
        assert found.check.logit_difference < 1e-5
        assert found.check.accuracy == run.trials["test_accuracy"].iloc[0]
    with pytest.raises(BenchError, match="vectors have no preprocessing"):
        bench.export(run.folder, preprocessing="inside")
    shutil.rmtree(run.folder / "export")


@pytest.mark.campaign
@pytest.mark.parametrize("rule", ["crop", "squash", "pad"])
def test_the_exported_resize_takes_either_order(rule: str) -> None:
    """The way that tall images go is in the program, not chosen when it was traced."""
    resize = PillowResize(32, rule, tall_first=True)
    sizes = {axis: torch.export.Dim(f"size{axis}", min=1) for axis in range(3)}
    example = torch.zeros(2, 40, 50, 3, dtype=torch.uint8)
    program = torch.export.export(resize, (example,), dynamic_shapes=(sizes,)).module()
    draw = np.random.default_rng(0)
    for height, width in ((300, 40), (40, 300), (1, 1), (32, 32), (90, 80)):
        images = torch.from_numpy(draw.integers(0, 256, (3, height, width, 3), dtype=np.uint8))
        assert torch.equal(program(images), resize(images)), (height, width)
