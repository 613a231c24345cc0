"""Write starting weights without a download: a model of torchvision, initialised at random.

Speed does not depend on the values as long as no activation is subnormal, so the norm statistics
are set from one batch of noise. Accuracies that start from such a file mean nothing.

    python benchmarks/make_weights.py resnet18 resnet18.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn
from torchvision import models

from bench.models import save_tensors


def write_weights(model_name: str, path: Path) -> Path:
    """Write the state dict of `model_name`, the same for every call, as safetensors to `path`."""
    torch.manual_seed(0)
    model = models.get_model(model_name, weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average of all batches seen
    model.train()
    with torch.no_grad():
        model(torch.randn(8, 3, 224, 224))
    return save_tensors(model.state_dict(), path)


def main() -> None:
    """Write one file of weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a torchvision classifier")
    parser.add_argument("path", type=Path, help="the file to write (.safetensors)")
    given = parser.parse_args()
    print(write_weights(given.model, given.path))


if __name__ == "__main__":
    main()
