"""The listing agrees with the libraries and needs none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torchvision.models

from bench.errors import BenchError
from bench.models import BACKBONES, check_image_size, is_known, minimum_image_size
from bench.models.catalogue import EFFICIENTNET_LITE0, check_backbone

TORCHVISION = torchvision.models.list_models(module=torchvision.models)


def test_lists_every_torchvision_classifier() -> None:
    assert set(BACKBONES) == {*TORCHVISION, EFFICIENTNET_LITE0}


def test_listing_imports_no_torch() -> None:
    code = "import sys, bench.models; print(sorted({'torch', 'timm'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_smallest_sizes_are_those_that_torchvision_names() -> None:
    for name in TORCHVISION:
        # of these torchvision names the size of the weights, not the smallest that runs
        if BACKBONES[name].family not in ("vit", "swin"):
            weights = torchvision.models.get_model_weights(name).DEFAULT
            assert (minimum_image_size(name),) * 2 == tuple(weights.meta["min_size"])


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "timm/resnet18"])
def test_known_names(name: str) -> None:
    assert is_known(name)
    check_backbone(name)
    check_image_size(name, 224)


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet19", "'resnet18'"), ("timm/", "timm/NAME"), ("", "valid: ")]
)
def test_unknown_names_get_a_hint(name: str, hint: str) -> None:
    assert not is_known(name)
    with pytest.raises(BenchError, match=hint):
        check_backbone(name)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("inception_v3", 74, "at least 75 for inception_v3, got 74"),
        ("vgg11", 31, "at least 32"),
        ("vit_b_16", 100, "multiple of 16 for vit_b_16, got 100; nearest: 96 or 112"),
        ("vit_h_14", 8, "at least 14"),
        ("maxvit_t", 256, "multiple of 224 .* nearest: 224 or 448"),
    ],
)
def test_impossible_image_sizes_are_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        check_image_size(name, size)
