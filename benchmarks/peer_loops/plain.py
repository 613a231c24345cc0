"""The plain loop of `naive.py`."""

from __future__ import annotations

import torch
from naive import image_loaders, sgd
from naive import train as train_plainly

from peer_loops import Task, Trained, make_network


def train(task: Task) -> Trained:
    """Train as a tutorial does."""
    network = make_network(task)
    optimizer = sgd(network, task.lr)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    best = task.out / "best.pt"
    epochs = train_plainly(
        *(network, image_loaders(task.data, task.augment), optimizer, constant, task.epochs, best),
        precision=task.precision,
    )
    return Trained(epochs=epochs, checkpoint=best)
