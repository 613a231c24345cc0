"""Prepared vectors: what is damaged is found, and nothing is computed twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.data import TEST, TRAIN, VAL, VectorDataset, vectors
from bench.data.vectors import METADATA_FILE, VECTORS_FILE, VectorData, prepare_vectors
from bench.errors import DataError
from tests.damage import LOSSES, lose


def dataset(*, name: str = "two points", labels: str = "int64") -> VectorDataset:
    return VectorDataset(
        name=name,
        classes=("near", "far"),
        sample_ids=tuple("abcdef"),
        labels=np.array([0, 1] * 3, labels),
        splits=np.repeat(np.array([TRAIN, VAL, TEST], np.int8), 2),
        fingerprint="0" * 64,
        vectors=np.arange(18, dtype=np.float32).reshape(6, 3),
    )


def damage(folder: Path) -> None:
    path = folder / VECTORS_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_is_prepared_is_what_was_given() -> None:
    given = dataset()
    data = VectorData.open(prepare_vectors(given))
    np.testing.assert_array_equal(data.vectors, given.vectors)
    np.testing.assert_array_equal(data.labels, given.labels)
    np.testing.assert_array_equal(data.given_splits, given.splits)
    assert (data.sample_ids, data.classes) == (given.sample_ids, given.classes)
    assert data.folder.name.startswith("two-points-")


def test_a_name_of_signs_alone_has_a_folder() -> None:
    assert prepare_vectors(dataset(name="…")).name.startswith("vectors-")


def test_labels_of_another_type_are_a_mistake() -> None:
    with pytest.raises(AssertionError):
        dataset(labels="int32")


def test_damage_is_found_also_after_a_first_look_and_mended() -> None:
    folder = prepare_vectors(dataset())
    VectorData.open(folder)
    damage(folder)
    with pytest.raises(DataError, match=r"the checksum of .* is wrong"):
        VectorData.open(folder)
    assert prepare_vectors(dataset()) == folder
    np.testing.assert_array_equal(VectorData.open(folder).vectors, dataset().vectors)


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("name", [VECTORS_FILE, METADATA_FILE])
def test_whatever_becomes_of_a_file_it_is_found_and_made_anew(name: str, how: str) -> None:
    folder = prepare_vectors(dataset())
    lose(folder / name, how)
    assert prepare_vectors(dataset()) == folder
    data = VectorData.open(folder)
    np.testing.assert_array_equal(data.vectors, dataset().vectors)
    np.testing.assert_array_equal(data.labels, dataset().labels)


def test_a_file_in_the_place_of_the_folder() -> None:
    folder = prepare_vectors(dataset())
    shutil.rmtree(folder)
    folder.write_text("a file")
    assert len(VectorData.open(prepare_vectors(dataset()))) == 6


def test_the_checksum_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare_vectors(dataset())
    VectorData.open(folder)
    monkeypatch.setattr(vectors, "_digest", lambda _: pytest.fail("computed again"))
    VectorData.open(folder)
