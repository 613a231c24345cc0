"""The plain loop as somebody writes it who knows torch on a CPU well.

Channels last, large buffers kept between steps, and images decoded once and kept in memory, from
which views are made in the training process: two processes fewer on the same cores.
"""

from __future__ import annotations

import torch
from naive import BATCH_SIZE, IMAGE_SIZE, MEAN, STD, Loaders
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bench.system.machine import keep_large_buffers
from peer_loops import CROP_SCALE, Task, Trained, make_network
from peer_loops.plain import train_with


class Kept(Dataset[tuple[Tensor, int]]):
    """Images with 256 pixels on their shorter side, decoded once, and views of them in uint8."""

    def __init__(self, images: ImageFolder, view: nn.Module) -> None:
        self._kept = list(images)
        self._view = view

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self._kept[index]
        return self._view(image), label


def train(task: Task) -> Trained:
    """Train as an expert does."""
    keep_large_buffers()
    network = make_network(task).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return train_with(network, _loaders(task), task)


def _loaders(task: Task) -> Loaders:
    decode = v2.Compose([v2.PILToTensor(), v2.Resize(256, antialias=True)])
    central = v2.CenterCrop(IMAGE_SIZE)
    varied = v2.Compose(
        [
            v2.RandomResizedCrop(IMAGE_SIZE, scale=CROP_SCALE, antialias=True),
            v2.RandomHorizontalFlip(),
        ]
    )
    views = {"train": varied if task.augment else central, "val": central}
    normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def collate(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        images, labels = default_collate(samples)
        return normalise(images.contiguous(memory_format=torch.channels_last)), labels

    return {
        phase: DataLoader(
            Kept(ImageFolder(str(task.data / phase), decode), views[phase]),
            batch_size=BATCH_SIZE,
            shuffle=True,
            collate_fn=collate,
        )
        for phase in ("train", "val")
    }
