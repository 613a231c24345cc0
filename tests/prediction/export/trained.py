"""Opened trials without a run: networks of random values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.data import Preprocessing
from bench.methods.plan import Term
from bench.models.adapters import attach
from bench.models.checkpoints import ModelSpec
from bench.models.network import Network
from bench.models.weights import Weights
from bench.prediction.choice import Chosen
from bench.prediction.model import TrainedModel
from tests.models.small import CLASSES, SMALL, small_network


def preprocessing_of(size: int, resize: Any = "squash", kept: int | None = None) -> Preprocessing:
    return Preprocessing(
        kind="image",
        size=size,
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        resize=resize,
        resized_to=kept or size,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def trained(
    backbone: str,
    *,
    head: str = "linear",
    options: Mapping[str, Any] | None = None,
    size: int | None = None,
    weights: Weights | None = None,
    class_map: Mapping[str, tuple[int | str, ...]] | None = None,
    preprocessing: Preprocessing | None = None,
    adapter: Term | None = None,
) -> TrainedModel:
    """The network with values drawn by seed 0, as `open_trial` would give it."""
    size = size or SMALL[backbone]
    preprocessing = preprocessing or preprocessing_of(size)
    network = small_network(
        backbone,
        image_size=size,
        head=head,
        options=dict(options or {}),
        weights=weights,
        class_map=class_map,
        classes=preprocessing.classes,
    )
    if adapter is not None:
        groups = attach(network.model, network.groups, adapter, backbone=backbone, seed=0)
        network = Network(network.model, groups, image_size=size)
    spec = ModelSpec(
        trial="t",
        backbone=backbone,
        head=head,
        head_options=dict(options or {}),
        num_classes=CLASSES,
        weights="none",
        start=None,
        weights_classes=None if weights is None else weights.classes,
        class_map=class_map,
        seed=0,
        image_size=size,
        boundary=None,
        precision="fp32",
        threads=1,
        numerics=1,
        adapter=adapter,
    )
    chosen = Chosen(row={"trial": "t"}, label="a trial", why="You chose it.")
    return TrainedModel(network=network, spec=spec, preprocessing=preprocessing, chosen=chosen)
