"""The same training, written with one library each: what `peers.py` compares `bench` with.

One file a peer; each has a function `train` of a `Task`. All read the same photographs, start from
the same weights, and use SGD with momentum 0.9 at a constant rate; `timm` and the others differ
in what their users would write, no further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from naive import Epoch, freeze
from safetensors.torch import load_file
from torch import nn
from torchvision import models

MODEL = "resnet18"
NUM_CLASSES = 2
CROP_SCALE = (0.08, 1.0)
"""Shares of an image's area that a random crop may have: torchvision's own."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A side that `peers.py` knows: the packages it needs, the precisions it has on a CPU."""

    packages: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32", "bf16")


PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        "plain": Peer(),
        "plain_best": Peer(),
        # Its mixed precision is that of CUDA alone: on a CPU it computes in fp32 all the same.
        "fastai": Peer(packages=("fastai",), precisions=("fp32",)),
        "lightning": Peer(packages=("lightning",)),
        "timm": Peer(packages=("timm",)),
        "hf_trainer": Peer(packages=("transformers", "accelerate")),
    }
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to train.

    `data` holds `train` and `val` with a folder of images a class, `weights` is a file of
    `make_weights.py`, `out` a folder for all that is written. `mode` is `full`, `probe` or `topN`
    as in `naive.py`, `precision` `fp32` or `bf16`.
    """

    data: Path
    weights: Path
    out: Path
    mode: str
    augment: bool
    precision: str
    epochs: int
    lr: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of it; `checkpoint` holds the weights of the best epoch."""

    epochs: Sequence[Epoch]
    checkpoint: Path


def make_network(task: Task) -> nn.Module:
    """torchvision's network with the weights of the task and a new head, frozen as it says."""
    torch.manual_seed(0)
    network = models.get_model(MODEL, weights=None, num_classes=NUM_CLASSES)
    start_from(network, task)
    return network


def start_from(network: nn.Module, task: Task) -> None:
    """Give `network`, which has torchvision's names, the weights; freeze what does not train."""
    body = {
        name: tensor
        for name, tensor in load_file(task.weights).items()
        if not name.startswith("fc.")
    }
    missing, unexpected = network.load_state_dict(body, strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"}, missing
    assert not unexpected, unexpected
    freeze(network, MODEL, task.mode)
