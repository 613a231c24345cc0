"""Any classification model of timm: cut in front of its head, in ordered groups."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.errors import BenchError, MissingExtraError, WeightsError
from bench.models import describe_weights, layer_group_names, obtain_weights
from bench.models.build import check_fit
from bench.suite import Entry
from tests.http_server import Site, serving
from tests.models.small import CLASSES, random_images, small_network

timm = pytest.importorskip("timm")

IMAGENET = Entry(name="imagenet")

MODELS = {
    "timm/test_resnet": 64,
    "timm/test_efficientnet": 64,
    "timm/test_convnext": 64,
    "timm/test_vit": 160,
    "timm/test_byobnet": 64,
    "timm/test_nfnet": 64,
    "timm/mobilenetv3_small_050": 64,
    "timm/resnetv2_18": 64,
    "timm/poolformerv2_s12": 64,
    "timm/inception_v3": 96,
}
"""Also: a convolution as classifier (resnetv2), no group matcher (poolformerv2)."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.mark.parametrize("name", MODELS)
def test_equals_library(name: str) -> None:
    network = small_network(name, image_size=MODELS[name]).eval()
    images = random_images(MODELS[name])
    with torch.no_grad():
        logits = network(images)
        assert torch.equal(logits, network.model(images))
        assert logits.shape == (2, CLASSES)
        features = network(images, stop="head")
        assert torch.equal(network(features, start="head"), logits)
    names = [group.name for group in network.groups]
    assert tuple(names) == layer_group_names(name)
    assert names[0] == "stem"
    assert len(set(names)) == len(names) >= 5
    owners = {network.group_of(key).name for key, _ in network.model.named_parameters()}
    assert owners == set(names)


def test_group_names() -> None:
    resnet = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
    assert layer_group_names("timm/resnet18") == resnet
    vit = layer_group_names("timm/test_vit")
    assert vit == ("stem", *(f"blocks.{number}" for number in range(6)), "head")
    network = small_network("timm/test_vit", image_size=160)
    assert network.address_of("blocks.2.norm1.weight") == "blocks.2/norm1.weight"
    assert network.address_of("norm.weight") == "blocks.5/norm.weight"


@pytest.mark.parametrize("name", ["timm/test_efficientnet", "timm/test_vit"])
def test_some_can_be_cut_everywhere(name: str) -> None:
    network = small_network(name, image_size=64).eval()
    assert network.boundaries == tuple(group.name for group in network.groups[1:])
    images = random_images(64)
    with torch.no_grad():
        activations = images
        for start, stop in pairwise([None, *network.boundaries, None]):
            activations = network(activations, start=start, stop=stop)
        assert torch.equal(activations, network.model(images))


def test_transformers_with_parts_of_their_own_are_cut_in_front_of_the_head_only() -> None:
    from timm import create_model

    from bench.models.timm_models import timm_groups

    model = create_model("vit_tiny_patch16_224", depth=1, embed_dim=24, global_pool="map")
    assert [group.name for group in timm_groups(model) if group.run is not None] == ["stem", "head"]


def test_constructors_that_need_values() -> None:
    names = layer_group_names("timm/vit_small_patch16_rope_mixed_224")
    assert (names[0], names[-1]) == ("stem", "head")


@pytest.mark.parametrize("name", ["timm/deit_tiny_distilled_patch16_224", "timm/crossvit_tiny_240"])
def test_models_with_several_classifiers_are_refused(name: str) -> None:
    with pytest.raises(BenchError, match="no single linear classifier"):
        layer_group_names(name)


def test_models_that_do_not_split_at_the_classifier_are_refused() -> None:
    # its `pre_logits` leave out a norm that is next to nothing with fresh weights
    with pytest.raises(BenchError, match="SHViT of timm cannot be cut in front of its head"):
        small_network("timm/shvit_s1", image_size=64)


def test_unknown_model() -> None:
    with pytest.raises(BenchError, match="timm has no model 'resnet19'; did you mean 'resnet1"):
        layer_group_names("timm/resnet19")


def test_missing_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r'timm/test_vit2 .* "bench\[timm\]"'):
        layer_group_names("timm/test_vit2")


def test_image_sizes() -> None:
    network = small_network("timm/test_vit", image_size=96).eval()
    assert network(random_images(96)).shape == (2, CLASSES)
    with pytest.raises(BenchError, match="multiple of 16 for timm/test_vit, got 100"):
        small_network("timm/test_vit", image_size=100)
    with pytest.raises(BenchError, match="cannot take images of 8 px"):
        small_network("timm/inception_v3", image_size=8)


def test_no_weights_have_the_size_that_the_model_is_fixed_to() -> None:
    assert describe_weights("timm/test_vit", Entry(name="none")).input_size == 160
    assert describe_weights("timm/test_resnet", Entry(name="none")).input_size == 224


# Weights --------------------------------------------------------------------------------------


def test_weights_of_another_image_size_have_their_own_position_embeddings(tmp_path: Path) -> None:
    """As those that were made at the size of a suite's images; they are resampled for others."""
    made = small_network("timm/test_vit", image_size=32)
    torch.save(made.model.state_dict(), tmp_path / "made.pth")
    entry = Entry(name="file", options={"path": str(tmp_path / "made.pth")})
    weights = describe_weights("timm/test_vit", entry)
    check_fit("timm/test_vit", weights, image_size=32, with_classifiers=False)
    for size, grid in ((32, 2), (160, 10)):
        network = small_network("timm/test_vit", image_size=size, weights=weights)
        assert network.model.pos_embed.shape[1] == 1 + grid**2
        assert network(random_images(size)).shape == (2, CLASSES)
        if size == 32:
            assert torch.equal(network.model.pos_embed, made.model.pos_embed)


def test_weights_are_described_by_timm() -> None:
    weights = describe_weights("timm/test_resnet", IMAGENET)
    assert weights.fingerprint.endswith("/timm/test_resnet.r160_in1k@r160_in1k")
    assert (weights.path, weights.input_size, weights.mean) == (None, 160, (0.5, 0.5, 0.5))
    assert weights.classes is not None
    assert weights.classes[310] == "ant"
    with pytest.raises(WeightsError, match="no pretrained weights for timm/botnet50ts_256"):
        describe_weights("timm/botnet50ts_256", IMAGENET)
    with pytest.raises(WeightsError, match="one of none, imagenet, fractals or"):
        describe_weights("timm/test_resnet", Entry(name="a1_in1k"))


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError) as raised:
        obtain_weights("timm/test_resnet", IMAGENET)
    message = str(raised.value)
    assert "cannot download " in message
    assert "/timm/test_resnet.r160_in1k: " in message
    assert "weights: {file: PATH}" in message


def test_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    """timm's own download, from a local address, ends as a file in the cache."""
    registry = pytest.importorskip("timm.models._registry")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    source: nn.Module = timm.create_model("test_resnet")
    torch.save(source.state_dict(), tmp_path / "source.pth")
    files = {"/weights.pth": (tmp_path / "source.pth").read_bytes()}
    with serving(Site(files=files)) as site:
        config = replace(
            timm.get_pretrained_cfg("test_resnet"),
            hf_hub_id=None,
            url=f"{site.address}/weights.pth",
        )
        for name in ("test_resnet", "test_resnet.r160_in1k"):
            monkeypatch.setitem(registry._model_pretrained_cfgs, name, config)
        weights = obtain_weights("timm/test_resnet", IMAGENET)
        assert obtain_weights("timm/test_resnet", IMAGENET) == weights
    assert weights.path == cache / "timm-test_resnet.r160_in1k.safetensors"
    network = small_network("timm/test_resnet", weights=weights, image_size=64)
    expected = source.state_dict()
    for name, tensor in network.model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, expected[name])
