"""The code of the cards makes the libraries' own networks, and prepares images as training did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import squeezenet1_1

from bench.data import resize_image
from bench.errors import BenchError, MissingExtraError
from bench.methods.plan import Term
from bench.models import file_weights
from bench.prediction.export import formats
from bench.prediction.export.deployed import Place
from bench.prediction.export.formats import FORMATS, Wish, usage_code
from bench.prediction.model import TrainedModel
from tests.models.small import SMALL, random_images
from tests.prediction.export.trained import preprocessing_of, trained

BESIDE = Wish(place="beside", dtype="fp32")
QUICK = ("googlenet", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1")
MLP = {"hidden": 5, "dropout": 0.1}


def used(model: TrainedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the code of a safetensors file defines, run beside it."""
    FORMATS["safetensors"].write(model, BESIDE, folder)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(usage_code(FORMATS["safetensors"], model, BESIDE), names)
    return names


def check_plain_network(model: TrainedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = used(model, folder, monkeypatch)
    assert type(names["model"]) is type(model.module)
    images = random_images(model.preprocessing.size)
    with torch.no_grad():
        expected = model.network(images).numpy()
    assert np.allclose(names["logits"](images.numpy()), expected, atol=1e-5)


@pytest.mark.parametrize(
    "backbone",
    [
        *QUICK,
        *(
            pytest.param(name, marks=pytest.mark.campaign)
            for name in SMALL
            # torchvision's MNASNet asks for metadata that no file of plain tensors has.
            if name not in (*QUICK, "efficientnet_lite0", "mnasnet0_5")
        ),
    ],
)
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_librarys_own_network_takes_the_values(
    backbone: str, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = MLP if head == "mlp" else {}
    check_plain_network(trained(backbone, head=head, options=options), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("backbone", "size"), [("timm/vit_tiny_patch16_224", 32), ("efficientnet_lite0", 32)]
)
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_so_does_timms(
    backbone: str, size: int, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    options = MLP if head == "mlp" else {}
    model = trained(backbone, head=head, options=options, size=size)
    check_plain_network(model, tmp_path, monkeypatch)


def test_a_pretrained_head_is_read_by_the_classes_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(squeezenet1_1(num_classes=6).state_dict(), tmp_path / "start.pth")
    weights = file_weights(
        tmp_path / "start.pth",
        name="file",
        fingerprint="0",
        input_size=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classes=tuple("abcdef"),
    )
    class_map: dict[str, tuple[int | str, ...]] = {
        "class 0": (0, 3),
        "class 1": ("b",),
        "class 2": (5, "e"),
    }
    model = trained("squeezenet1_1", head="pretrained", weights=weights, class_map=class_map)
    assert "members = [[0, 3], [1], [4, 5]]" in usage_code(FORMATS["safetensors"], model, BESIDE)
    check_plain_network(model, tmp_path, monkeypatch)


@pytest.mark.parametrize("rule", ["crop", "squash", "pad"])
@pytest.mark.parametrize("place", ["inside", "beside"])
def test_prepared_images_are_those_of_training(
    rule: Any, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = 36 if rule == "crop" else 32
    model = trained("shufflenet_v2_x0_5", preprocessing=preprocessing_of(32, rule, kept))
    code = usage_code(FORMATS["torch-export"], model, Wish(place=place, dtype="fp32"))
    names: dict[str, Any] = {}
    exec(code.partition("module =")[0], names)
    draw = np.random.default_rng(0)
    for height, width in ((50, 80), (90, 41), (32, 32), (20, 25)):
        # Smooth, as photographs are: torchvision's order of cutting and resizing rounds otherwise.
        small = draw.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        found = names["prepare"](image)
        if place == "inside":
            assert np.array_equal(found, np.asarray(image)[None])
            continue
        assert (found.dtype, found.shape) == (np.float32, (1, 3, 32, 32))
        stored = resize_image(np.asarray(image), kept, rule)
        expected = model.inputs(stored[None]).numpy()
        level = 1 / 255 / 0.224
        assert np.abs(found - expected).max() < (1.1 * level if rule == "crop" else 1e-5)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("side", "backbone", "kind"),
    [("copy", "squeezenet1_1", "torch-export"), ("small", "timm/test_vit", "onnx")],
)
def test_a_side_network_is_exported_with_the_backbone(
    side: str, backbone: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("timm", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    adapter = Term(name="side_tuning", options=(("side", side),))
    model = trained(backbone, size=32, adapter=adapter)
    with torch.no_grad():
        model.module.adapter.mix.fill_(0.7)
    images = random_images(32)
    with torch.no_grad():
        expected = model.network(images).numpy()
    monkeypatch.chdir(tmp_path)
    FORMATS[kind].write(model, BESIDE, tmp_path)
    names: dict[str, Any] = {}
    exec(usage_code(FORMATS[kind], model, BESIDE), names)
    assert np.allclose(names["logits"](images.numpy()), expected, atol=1e-5)
    with pytest.raises(BenchError, match="side_tuning adds to it"):
        FORMATS["safetensors"].write(model, BESIDE, tmp_path)


def test_a_missing_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "bench\[onnx\]"'):
        FORMATS["onnx"].check_installed()


def test_a_network_that_cannot_be_traced_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained("shufflenet_v2_x0_5")

    def looks(batch: torch.Tensor) -> torch.Tensor:
        return batch if batch.sum().item() > 0 else -batch

    monkeypatch.setattr(model.network, "forward", looks)
    with pytest.raises(BenchError) as error:
        FORMATS["torch-export"].write(model, BESIDE, tmp_path)
    assert "the network cannot be exported: torch.export says" in str(error.value)
    assert "--format safetensors works for any network" in str(error.value)
    assert list(tmp_path.iterdir()) == []
