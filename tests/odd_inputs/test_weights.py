"""Weights that people bring: what is known of them, and files that do not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from bench.errors import BenchError
from tests.odd_inputs.conftest import BACKBONE, fill, plan_text, refusal_of, suite_of

State = dict[str, Tensor]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return fill(tmp_path / "x", {"a": 10, "b": 10})


def state_of(backbone: str = BACKBONE) -> State:
    """Parameters of the right names and shapes, all of one value: nothing trains here."""
    with torch.device("meta"):
        network = torchvision.models.get_model(backbone)
    return {
        name: torch.full(value.shape, 0.01, dtype=value.dtype if value.ndim else torch.int64)
        for name, value in network.state_dict().items()
    }


def suite_with(images: Path, file: Path, content: Any, **facts: Any) -> dict[str, Any]:
    torch.save(content, file)
    weights = {"file": str(file), **facts}
    return suite_of(images, weights=weights, strategy="linear_probe", image_size=...)


def test_what_is_known_of_a_file_may_be_said(images: Path, tmp_path: Path) -> None:
    facts = {"mean": [0.5] * 3, "std": [0.25] * 3, "image_size": 48, "interpolation": "bicubic"}
    said = plan_text(suite_with(images, tmp_path / "w.pth", state_of(), **facts), out=tmp_path)
    for what in (r"\b48\b", r"bicubic", r"\b0\.5\b", r"\b0\.25\b"):
        assert re.search(what, said), what


def test_nothing_is_made_up_of_a_file(images: Path, tmp_path: Path) -> None:
    suite = {**suite_with(images, tmp_path / "w.pth", state_of()), "image_size": 32}
    said = plan_text(suite, out=tmp_path)
    assert not re.search(r"(?<![.\d])224\b|trained at \d", said)
    assert re.search(r"unknown|\bno(t|thing)?\b.{0,30}\b(known|says?|given)", said)


def test_the_file_of_a_larger_network_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    suite = suite_with(images, tmp_path / "resnet34.pth", state_of("resnet34"))
    message = str(refusal_of({**suite, "backbone": "resnet18", "image_size": 32}, out=tmp_path))
    assert re.search(r"layer1\.2\.|layer2\.2\.|layer3\.2\.", message)
    assert "resnet34.pth" in message


def test_a_stem_for_grey_images_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    """A checkpoint of Lightning, trained on images of one channel."""
    state = state_of()
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :1].clone()
    lightning = {"epoch": 9, "state_dict": {f"model.{name}": t for name, t in state.items()}}
    suite = suite_with(images, tmp_path / "last.ckpt", lightning)
    message = str(refusal_of({**suite, "image_size": 32}, out=tmp_path))
    assert "conv1.0.weight" in message


def test_a_mean_of_bytes_is_not_taken_for_one_of_fractions(images: Path, tmp_path: Path) -> None:
    """OpenMMLab and Caffe count from 0 to 255."""
    facts: Mapping[str, Any] = {"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}
    suite = suite_with(images, tmp_path / "w.pth", state_of(), **facts)
    try:
        said = plan_text({**suite, "image_size": 32}, out=tmp_path)
    except BenchError as error:
        said = str(error)
    assert re.search(r"mean.*(255|fraction|\b1\b|\b1\.0\b)", said)
    assert "123.7" in said
