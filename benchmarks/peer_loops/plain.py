"""The plain loop of `naive.py`."""

from __future__ import annotations

import torch
from naive import Loaders, image_loaders, sgd
from naive import train as train_plainly
from torch import nn

from peer_loops import Task, Trained, make_network


def train(task: Task) -> Trained:
    """Train as a tutorial does."""
    return train_with(make_network(task), image_loaders(task.data, task.augment), task)


def train_with(network: nn.Module, loaders: Loaders, task: Task) -> Trained:
    """Train `network` by the loop on `loaders`, at a constant rate."""
    optimizer = sgd(network, task.lr)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    best = task.out / "best.pt"
    epochs = train_plainly(
        *(network, loaders, optimizer, constant, task.epochs, best),
        precision=task.precision,
    )
    return Trained(epochs=epochs, checkpoint=best)
