"""Target data beside a data set: what is tested, what has lost its labels, what does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.data import TEST, ImageDataset, Splits, make_splits, open_dataset, open_with_target
from bench.data.dataset import UNLABELLED
from bench.data.target_data import TARGET_NOTE, with_target
from bench.errors import BenchError, DataError

FEW = {"classes": 2, "train_per_class": 3, "val_per_class": 2, "test_per_class": 2}
SMALL = {**FEW, "image_size": 16}
TARGET = {"name": "fractals_shifted", **SMALL}


def _opened(**options: Any) -> ImageDataset:
    found = open_with_target("fractals", {**SMALL, "target_data": TARGET, **options})
    assert isinstance(found, ImageDataset)
    return found


def _plain(name: str = "fractals") -> ImageDataset:
    found = open_dataset(name, SMALL)
    assert isinstance(found, ImageDataset)
    return found


def _splits(data: ImageDataset) -> Splits:
    return make_splits(
        data.labels, data.splits, data.classes, seed=0, val_fraction=0.2, test_fraction=0.2,
        split_seed=0, shots=2,
    )  # fmt: skip


def test_source_trains_and_the_target_is_tested_or_has_no_labels() -> None:
    data, target = _opened(), _plain("fractals_shifted")
    splits = _splits(data)
    ids = {name: [data.sample_ids[i] for i in part] for name, part in splits.named().items()}
    assert not any(each.startswith("target/") for each in (*ids["train"], *ids["val"]))
    tested = [s for s, split in zip(target.sample_ids, target.splits, strict=True) if split == TEST]
    assert ids["test"] == [f"target/{sample}" for sample in tested]
    assert data.labels[splits.test].tolist() == target.labels[target.splits == TEST].tolist()
    assert len(splits.unlabelled) == 10
    assert not data.labels[splits.unlabelled].any()
    assert not set(splits.unlabelled) & set(np.concatenate(list(splits.named().values())))
    (note,) = [each for each in data.issues if each.kind == TARGET_NOTE]
    assert "10 images are used without labels, and the labels of 4 for" in note.message


def test_pixels_are_those_of_either_whatever_is_read_with_them() -> None:
    data, source, target = _opened(), _plain(), _plain("fractals_shifted")
    order = [0, len(data) - 1, 3, len(data) - 14]
    own = [source.sample_ids.index(data.sample_ids[i]) for i in (0, 3)]
    expected = [source.read(own)[0], target.read([13])[0], source.read(own)[1], target.read([0])[0]]
    for found, known in zip(data.read(order), expected, strict=True):
        assert np.array_equal(np.asarray(found), np.asarray(known))


def test_without_a_test_split_of_the_target_nothing_of_it_is_measured() -> None:
    target = _plain("fractals_shifted")
    target = replace(target, splits=np.where(target.splits == TEST, 0, target.splits))
    data = with_target(_plain(), target)
    splits = _splits(data)
    assert not any(data.sample_ids[i].startswith("target/") for i in splits.test)
    assert len(splits.unlabelled) == len(target)
    assert "nothing about the target was measured" in data.issues[-1].message


def test_fingerprints_know_the_target() -> None:
    noisier = {**TARGET, "noise": 20.0}
    known = {_opened().fingerprint, _opened(target_data=noisier).fingerprint, _plain().fingerprint}
    assert len(known) == 3
    assert UNLABELLED not in _opened(target_data=None).splits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_data": {**TARGET, "classes": 3}}, "must have the classes of the data set"),
        ({"target_data": {"name": "fractal_sites"}}, "has groups if the data set has"),
        ({"split": {"by": "group"}}, "says twice what is tested"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        _opened(**options)


def test_target_data_of_test_images_alone_is_refused() -> None:
    target = _plain("fractals_shifted")
    with pytest.raises(DataError, match="test images alone"):
        with_target(_plain(), replace(target, splits=np.full_like(target.splits, TEST)))
