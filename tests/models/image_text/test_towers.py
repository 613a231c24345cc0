"""Image–text models of open_clip: layer groups, weights, both towers against the library's own."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import BenchError, WeightsError
from bench.models import (
    build_network,
    check_image_size,
    describe_weights,
    layer_group_names,
    obtain_weights,
)
from bench.models.fitted_head import FittedHead
from bench.models.image_text.folders import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    check_tower,
    folder_of,
    weights_digest,
)
from bench.models.image_text.towers import tensors_of_images
from bench.suite import Entry
from tests.http_server import Whole, answering
from tests.tiny_clip import CONFIG, FEATURES, SIDE, clip_backbone, library_model, write_folder

open_clip = pytest.importorskip("open_clip")

PRETRAINED = Entry(name="pretrained")
WORDS = ("ant", "bee", "wasp")
TEMPLATES = ("a photo of a {}.", "a blurred {}.")
RESNET: dict[str, Any] = {
    **CONFIG,
    "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
}


def network_of(backbone: str, head: str = "linear", image_size: int | None = None) -> Any:
    weights = obtain_weights(backbone, PRETRAINED)
    return build_network(
        backbone,
        weights=weights,
        head=Entry(name=head),
        num_classes=3,
        seed=0,
        image_size=image_size,
    ).eval()


def images(side: int = SIDE) -> torch.Tensor:
    return torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_zero_shot_is_what_the_library_computes() -> None:
    network, library = network_of(clip_backbone()), library_model()
    tower = network.model.text_tower()
    tokenize = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    expected, _ = library.get_logits(images(), tokenize(list(WORDS)))
    directions = tower.scale * tower.directions([[word] for word in WORDS])
    head = FittedHead(FEATURES, len(WORDS))
    head.hold({"directions": directions})
    assert torch.allclose(head(network(images(), stop="head")), expected, atol=1e-5)
    of_classes = open_clip.build_zero_shot_classifier(library, tokenize, WORDS, TEMPLATES)
    texts = [[each.format(word) for each in TEMPLATES] for word in WORDS]
    assert torch.allclose(tower.directions(texts), of_classes.T, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("config", [CONFIG, RESNET])
def test_groups_compute_what_the_tower_does(config: dict[str, Any], tmp_path: Path) -> None:
    backbone = f"clip/{write_folder(tmp_path, config, custom=config is RESNET)}"
    network = network_of(backbone)
    names = tuple(layer_group_names(backbone))
    if config is CONFIG:
        assert names == ("stem", "block1", "block2", "projection", "head")
        assert network.boundaries == names[1:]
    else:
        assert names[-2:] == ("projection", "head")
    found = network(images(), stop="head")
    own = library_model(config, custom=config is RESNET).encode_image(images(), normalize=True)
    assert torch.allclose(found, own * FEATURES**0.5, atol=1e-5)
    for boundary in network.boundaries:
        halves = network(network(images(), stop=boundary), start=boundary)
        assert torch.equal(halves, network(images()))


def test_weights_say_what_images_they_take_and_what_they_are(tmp_path: Path) -> None:
    backbone = f"clip/{write_folder(tmp_path)}"
    weights = describe_weights(backbone, PRETRAINED)
    assert (weights.mean, weights.std) == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.25))
    assert (weights.input_size, weights.interpolation) == (SIDE, "bicubic")
    content = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**content, "more": 1}))
    assert describe_weights(backbone, PRETRAINED).fingerprint != weights.fingerprint
    none = describe_weights(backbone, Entry(name="none"))
    assert none.mean == weights.mean
    with pytest.raises(WeightsError, match="must be one of pretrained, none or"):
        describe_weights(backbone, Entry(name="imagenet"))


def test_other_sizes_have_interpolated_positions() -> None:
    network = network_of(clip_backbone(), image_size=2 * SIDE)
    assert network(images(2 * SIDE)).shape == (4, 3)
    own = network.model.visual.positional_embedding
    state = library_model().state_dict()
    expected = tensors_of_images(network.model, dict(state))["visual.positional_embedding"]
    assert own.shape == (17, CONFIG["vision_cfg"]["width"])
    assert torch.equal(own, expected)
    with pytest.raises(BenchError, match="multiple of 16"):
        check_image_size(clip_backbone(), SIDE + 1)


def test_what_a_folder_must_not_ask_for(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(WeightsError, match=f"has no {CONFIG_FILE}"):
        folder_of(f"clip/{tmp_path / 'none'}")
    elsewhere = copy.deepcopy(CONFIG)
    elsewhere["text_cfg"]["hf_model_name"] = "somebody/else"
    folder = write_folder(tmp_path / "own")
    content = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**content, "model_cfg": elsewhere}))
    with pytest.raises(BenchError, match="is one of transformers"):
        describe_weights(f"clip/{folder}", PRETRAINED)
    options = copy.deepcopy(CONFIG)
    options["text_cfg"]["tokenizer_kwargs"] = {"clean": "lower", "trust_remote_code": True}
    (folder / CONFIG_FILE).write_text(json.dumps({**content, "model_cfg": options}))
    with pytest.raises(BenchError, match="not taken from others: trust_remote_code"):
        describe_weights(f"clip/{folder}", PRETRAINED)
    for changes, told in (
        ({"layers": 10**9}, "1,024 layers"),
        ({"timm_model_name": "hub:a"}, "timm"),
    ):
        with pytest.raises(BenchError, match=told):
            check_tower({**CONFIG["vision_cfg"], **changes})
    (folder / CONFIG_FILE).write_text(json.dumps(content))
    (folder / WEIGHTS_FILE).rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(WeightsError, match="is pickled, which could run code"):
        describe_weights(f"clip/{folder}", PRETRAINED)


def test_names_of_the_library_are_looked_up_in_it() -> None:
    with pytest.raises(WeightsError, match=r"knows the weights .*laion2b_s34b_b79k.* of ViT-B-32"):
        folder_of("clip/ViT-B-32/laion2b")


COMMIT = "1".zfill(40)


@contextmanager
def hub(folder: Path, asked: list[str]) -> Iterator[str]:
    """As much of the hub as its client asks for, with one model `some/model`."""
    names = sorted(each.name for each in folder.iterdir())

    class Handler(Whole):
        def answer(self) -> None:
            asked.append(self.path)
            path = self.path.partition("?")[0]
            name = path.rpartition("/")[2]
            if path.startswith(f"/api/models/some/model/tree/{COMMIT}"):
                sizes = {name: (folder / name).stat().st_size for name in names}
                rows = [
                    {"type": "file", "path": name, "size": size, "oid": "1"}
                    for name, size in sizes.items()
                ]
                self.send(json.dumps(rows).encode(), {})
            elif path.startswith("/api/models/some/model"):
                siblings = [{"rfilename": name} for name in names]
                content = {"id": "some/model", "sha": COMMIT, "siblings": siblings}
                self.send(json.dumps(content).encode(), {})
            elif path.startswith("/some/model/resolve/") and name in names:
                body = (folder / name).read_bytes()
                tag = hashlib.sha1(body).hexdigest()
                self.send(body, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
            else:
                self.send(b"", {"X-Error-Code": "RepoNotFound"}, status=404)

    with answering(Handler) as address:
        yield address


FETCHED = """
from bench.models.image_text.folders import folder_of, weights_digest

for name in ("some/model", "some/other"):
    try:
        print(weights_digest(folder_of(f"clip/{name}")), *sorted(
            each.name for each in folder_of(f"clip/{name}").iterdir()))
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.campaign
def test_a_model_of_the_hub_is_fetched_without_what_is_pickled(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "made")
    expected = weights_digest(folder)
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"\x80never read")
    asked: list[str] = []
    with hub(folder, asked) as address:
        environment = {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        ended = subprocess.run(
            [sys.executable, "-c", FETCHED],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    found, none = ended.stdout.splitlines()
    assert found == f"{expected} {CONFIG_FILE} {WEIGHTS_FILE}"
    assert none.startswith("WeightsError cannot fetch 'some/other' from the hub")
    assert none.endswith("name its folder: backbone: clip/PATH")
    assert not any(".bin" in path for path in asked)
