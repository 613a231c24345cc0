"""The contracts hold for everything that the package registers, and notice what breaks them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from bench.data import DATASETS, open_data, open_dataset, prepare
from bench.errors import BenchError
from bench.execution.origins import REGISTRIES
from bench.methods.plan import Plan, Rule, Stage
from bench.models import LayerGroup
from bench.models.network import layer_group
from bench.testing import check, check_plugin
from tests.outside import BESIDE, PLUGIN

NEEDED: dict[str, dict[str, Any]] = {"multistep": {"milestones": (2, 4)}}
FILES = ("folder", "hf", "hymenoptera", "table", "text", "torchvision")
"""Data sets that read files: they have tests of their own."""

OWN = [
    (kind, name)
    for kind, registry in REGISTRIES.items()
    for name in registry
    if registry.get(name).origin is None and name not in FILES
]


@pytest.mark.parametrize(("kind", "name"), OWN)
def test_what_the_package_registers_keeps_its_contract(kind: str, name: str) -> None:
    check(kind, name, **NEEDED.get(name, {}))


@pytest.mark.usefixtures("plugins_unloaded")
def test_a_file_is_checked_by_one_line(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text(PLUGIN)
    (tmp_path / "outside_numbers.py").write_text(BESIDE)
    check_plugin(tmp_path / "outside.py")
    check_plugin("bench.testing.vectors")


CHANNELS = '''
"""A callable as a source of images: four channels of 16 bits, each image with a weight."""

from collections.abc import Sequence

import numpy as np

from bench.data import DATASETS, UNASSIGNED, ImageDataset
from bench.keys import content_hash


@DATASETS.register("spectra")
def spectra(progress: object, /, *, count: int = 12) -> ImageDataset:
    """Noise in four channels, the last one brighter in every second image."""
    labels = np.arange(count, dtype=np.int64) % 2

    def image(index: int) -> np.ndarray:
        pixels = np.random.default_rng(index).integers(0, 2048, (20, 20, 4))
        pixels[:, :, 3] += 2000 * labels[index]
        return pixels.astype(np.uint16)

    def read(indices: Sequence[int]) -> list[np.ndarray]:
        return [image(index) for index in indices]

    return ImageDataset(
        name="spectra", classes=("dark", "bright"), labels=labels, read=read, native_size=20,
        sample_ids=tuple(f"{index:03}" for index in range(count)), generated=True,
        splits=np.full(count, UNASSIGNED, np.int8), channels=4, bits=12, deep=True,
        sample_weights=1.0 + labels, fingerprint=content_hash(["spectra", 1, count], digits=64),
    )
'''


@pytest.mark.usefixtures("plugins_unloaded")
def test_a_callable_may_give_other_channels_and_weights(tmp_path: Path) -> None:
    (tmp_path / "spectra.py").write_text(CHANNELS)
    check_plugin(tmp_path / "spectra.py")
    dataset = open_dataset("spectra", DATASETS.get("spectra").options().model_dump())
    data = open_data(prepare(dataset, size=16, resize="squash"))
    assert (data.images.shape[3], data.images.dtype) == (4, np.uint16)  # type: ignore[attr-defined]
    assert data.sample_weights is not None
    assert data.sample_weights.tolist() == [1.0, 2.0] * 6


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(BenchError, match="strategy"):
        check("strategie", "linear_probe")


def _frozen(groups: Any, epochs: int) -> Plan:
    """Trains nothing."""
    return Plan(stages=(Stage(epochs=epochs, rules=(Rule(pattern="*", lr=None),)),))


def _short(groups: Any, epochs: int) -> Plan:
    """Forgets epochs."""
    return Plan(stages=(Stage(epochs=1, rules=(Rule(pattern="*", lr=1.0),)),))


def _negative(progress: Any) -> float:
    """Goes below zero."""
    return 1 - 2 * float(progress.fraction)


CALLS: list[int] = []


def _forgetful(progress: Any) -> float:
    """Counts its own calls."""
    CALLS.append(1)
    return 1 / len(CALLS)


def _upside_down(labels: Any, probabilities: Any) -> float:
    """The error rate, with the wrong trait."""
    return float((probabilities.argmax(axis=1) != labels).mean())


def _ordered(labels: Any, probabilities: Any) -> float:
    """Looks at the first sample more."""
    right = probabilities.argmax(axis=1) == labels
    return float(right.mean() + 0.01 * probabilities[0, labels[0]])


def _secretive(size: int) -> nn.Module:
    """Remembers a batch where no state dict finds it."""

    class Secretive(nn.Linear):
        seen = 0.0

        def forward(self, batch: Tensor) -> Tensor:
            self.seen = self.seen + float(self.training)
            out: Tensor = super().forward(batch) + self.seen
            return out

    return nn.Sequential(OrderedDict(body=Secretive(size, 4), head=nn.Linear(4, 2)))


def _body_and_head(model: nn.Module) -> list[LayerGroup]:
    return [layer_group(name, name) for name in ("body", "head")]


TRAITS: dict[str, dict[str, Any]] = {"backbone": {"groups": _body_and_head, "inputs": "vector"}}


@pytest.mark.parametrize(
    ("kind", "function", "said"),
    [
        ("strategy", _frozen, "trains nothing"),
        ("strategy", _short, "epochs asked"),
        ("schedule", _negative, "negative"),
        ("schedule", _forgetful, "when it is asked"),
        ("metric", _upside_down, "higher_is_better"),
        ("metric", _ordered, "order of samples"),
        ("backbone", _secretive, "state dict"),
    ],
)
def test_what_breaks_a_contract_is_named(
    kind: str, function: Callable[..., Any], said: str
) -> None:
    registry = REGISTRIES[kind]
    registry.register("broken", **TRAITS.get(kind, {}))(function)
    try:
        with pytest.raises(AssertionError, match=said):
            check(kind, "broken")
    finally:
        registry.forget("broken")
