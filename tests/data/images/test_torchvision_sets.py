"""Data sets of torchvision: in their real formats, from disk and from a server on this machine."""

from __future__ import annotations

import hashlib
import inspect
import io
import pickle
import socket
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from bench.data import (
    TEST,
    TRAIN,
    UNASSIGNED,
    VAL,
    DecodeFailure,
    ImageData,
    ImageDataset,
    open_dataset,
    prepare_images,
)
from bench.data.images.torchvision_sets import (
    NOT_CLASSIFICATION,
    PARTS,
    classification_sets,
    known_parts,
    source_from_parts,
)
from bench.errors import DataError
from tests.data.pictures import photograph
from tests.http_server import Site, serving

CLASSES = ["airplane", "automobile", "bird"]
PER_BATCH = 6


def open_set(dataset: str, root: Path | None = None) -> ImageDataset:
    options = {"dataset": dataset} | ({} if root is None else {"root": str(root)})
    return open_dataset("torchvision", options)


def parts_of(dataset: ImageDataset) -> dict[int, list[str]]:
    return {
        int(split): [
            n for n, s in zip(dataset.sample_ids, dataset.splits, strict=True) if s == split
        ]
        for split in np.unique(dataset.splits)
    }


# CIFAR10, downloaded --------------------------------------------------------------------------


def cifar_batch(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "data": rng.integers(0, 256, (PER_BATCH, 3 * 32 * 32), dtype=np.uint8),
        "labels": [index % 3 for index in range(PER_BATCH)],
    }


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """torchvision's CIFAR10 with a small archive of the real format at an address of our own."""
    files = {f"data_batch_{seed}": pickle.dumps(cifar_batch(seed)) for seed in range(1, 6)}
    files["test_batch"] = pickle.dumps(cifar_batch(6))
    files["batches.meta"] = pickle.dumps({"label_names": CLASSES})
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    real = datasets.CIFAR10
    lists = [
        [[name, md5[name]] for name, _ in entries] for entries in (real.train_list, real.test_list)
    ]
    monkeypatch.setattr(real, "train_list", lists[0])
    monkeypatch.setattr(real, "test_list", lists[1])
    monkeypatch.setattr(real, "meta", {**real.meta, "md5": md5["batches.meta"]})
    monkeypatch.setattr(real, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
    with serving(Site(files={"/cifar.tar.gz": buffer.getvalue()})) as site:
        monkeypatch.setattr(real, "url", f"{site.address}/cifar.tar.gz")
        yield site


def test_cifar10_is_downloaded_once_and_read_right(cifar: Site, cache: Path) -> None:
    dataset = open_set("CIFAR10")
    downloads = len(cifar.requests)
    assert downloads >= 1
    assert (cache / "torchvision" / "cifar-10-batches-py").is_dir()
    assert dataset.name == "CIFAR10"
    assert dataset.classes == tuple(CLASSES)
    assert dataset.native_size == 32
    assert {split: len(names) for split, names in parts_of(dataset).items()} == {TRAIN: 30, TEST: 6}
    assert dataset.sample_ids[0] == "train/0"
    assert dataset.sample_ids[-1] == "test/5"
    expected = [cifar_batch(seed) for seed in range(1, 7)]
    assert dataset.labels.tolist() == [label for batch in expected for label in batch["labels"]]
    pixels = np.concatenate([batch["data"] for batch in expected])
    pixels = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(dataset.read(range(36)), pixels)
    assert np.array_equal(dataset.read([35, 2])[0], pixels[35])
    again = open_set("CIFAR10")
    assert again.fingerprint == dataset.fingerprint
    assert len(cifar.requests) == downloads
    data = ImageData.open(prepare_images(again, image_size=32, resize="auto"))
    assert np.array_equal(data.images, pixels)


def test_cifar10_from_a_given_root(cifar: Site, tmp_path: Path) -> None:
    downloaded = open_set("CIFAR10")
    there = open_set("CIFAR10", tmp_path / "mine")
    assert (tmp_path / "mine" / "cifar-10-batches-py").is_dir()
    assert there.fingerprint == downloaded.fingerprint


def test_no_network_names_the_data_set_and_the_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/cifar.tar.gz"
    monkeypatch.setattr(datasets.CIFAR10, "url", url)
    with pytest.raises(DataError) as caught:
        open_set("CIFAR10", tmp_path)
    message = str(caught.value)
    assert f"torchvision's CIFAR10 is not in {tmp_path} and could not be downloaded" in message
    assert "refused" in message
    assert "dataset: {name: torchvision, dataset: CIFAR10, root: FOLDER}" in message


def test_a_data_set_that_torchvision_cannot_download(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="FER2013 is not in"):
        open_set("FER2013", tmp_path)


# Others, as they lie on disk ------------------------------------------------------------------


def test_mnist_is_grey_made_rgb(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = {
        part: rng.integers(0, 256, (10, 28, 28), dtype=np.uint8) for part in ("train", "t10k")
    }
    for part, pixels in images.items():
        header = struct.pack(">4i", 0x803, 10, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = struct.pack(">2i", 0x801, 10) + bytes(range(10))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    dataset = open_set("MNIST", tmp_path)
    assert dataset.native_size == 28
    assert dataset.classes[:2] == ("0 - zero", "1 - one")
    assert dataset.labels.tolist() == [*range(10), *range(10)]
    assert np.array_equal(dataset.read([11])[0], np.stack([images["t10k"][1]] * 3, -1))


def eurosat(root: Path) -> None:
    for seed, name in enumerate(("Forest", "River", "Forest", "River")):
        folder = root / "eurosat" / "2750" / name
        folder.mkdir(parents=True, exist_ok=True)
        photograph(seed, width=64, height=64).save(folder / f"{name}_{seed}.png")
        (folder / f"{name}_{seed}.png").rename(folder / f"{name}_{seed}.jpg")


def test_eurosat_leaves_the_splits_to_us(tmp_path: Path) -> None:
    eurosat(tmp_path)
    dataset = open_set("EuroSAT", tmp_path)
    assert parts_of(dataset) == {UNASSIGNED: ["all/0", "all/1", "all/2", "all/3"]}
    assert dataset.classes == ("Forest", "River")
    assert dataset.native_size == 64
    assert np.array_equal(dataset.read([1])[0], np.asarray(photograph(2, width=64, height=64)))


def test_the_fingerprint_is_that_of_the_files(tmp_path: Path) -> None:
    for root in ("one", "two"):
        eurosat(tmp_path / root)
    before = open_set("EuroSAT", tmp_path / "one").fingerprint
    assert open_set("EuroSAT", tmp_path / "two").fingerprint == before
    photograph(9, width=64, height=64).save(
        tmp_path / "two" / "eurosat" / "2750" / "River" / "River_3.jpg", format="PNG"
    )
    assert open_set("EuroSAT", tmp_path / "two").fingerprint != before


def test_a_damaged_file_is_left_out(tmp_path: Path) -> None:
    eurosat(tmp_path)
    (tmp_path / "eurosat" / "2750" / "River" / "River_1.jpg").write_bytes(b"")
    data = ImageData.open(
        prepare_images(open_set("EuroSAT", tmp_path), image_size=16, resize="auto")
    )
    assert len(data) == 3
    assert [(issue.kind, issue.count) for issue in data.issues] == [("unreadable", 1)]


def test_oxford_pets(tmp_path: Path) -> None:
    base = tmp_path / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for seed in range(8):
        name = f"{('Abyssinian', 'shiba_inu')[seed % 2]}_{seed}"
        photograph(seed).save(base / "images" / f"{name}.jpg")
        lines[("trainval", "test")[seed // 4]].append(f"{name} {seed % 2 + 1} 1 1")
    for part, entries in lines.items():
        (base / "annotations" / f"{part}.txt").write_text("\n".join(entries))
    dataset = open_set("OxfordIIITPet", tmp_path)
    assert dataset.classes == ("Abyssinian", "Shiba Inu")
    assert {split: len(names) for split, names in parts_of(dataset).items()} == {TRAIN: 4, TEST: 4}
    assert dataset.labels.tolist() == [0, 1] * 4
    assert dataset.native_size is None
    with Image.open(base / "images" / "shiba_inu_5.jpg") as image:
        assert np.array_equal(dataset.read([5])[0], np.asarray(image))
    assert dataset.issues == ()


def test_a_set_with_train_valid_and_test(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        for name in ("AD", "ZW"):
            folder = tmp_path / "country211" / part / name
            folder.mkdir(parents=True)
            photograph(1).save(folder / "0.jpg")
    assert set(parts_of(open_set("Country211", tmp_path))) == {TRAIN, VAL, TEST}


def test_a_set_with_train_and_val_tells_what_becomes_of_val(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for wnid in ("n01440764", "n02102040"):
            folder = tmp_path / "imagenette2" / part / wnid
            folder.mkdir(parents=True)
            photograph(1).save(folder / "0.JPEG")
    dataset = open_set("Imagenette", tmp_path)
    assert dataset.classes == ("tench", "English springer")
    assert set(parts_of(dataset)) == {TRAIN, VAL}
    assert [issue.kind for issue in dataset.issues] == ["split-note"]


# Any map-style data set -----------------------------------------------------------------------


class InMemory:
    """A data set with nothing but what a map-style data set must have."""

    def __init__(self, images: list[Any], truth: list[Any], **attributes: Any) -> None:
        self._items = list(zip(images, truth, strict=True))
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self._items[index]
        if isinstance(image, Exception):
            raise image
        return image, label


def source_of(tmp_path: Path, **parts: InMemory) -> ImageDataset:
    codes = {"train": TRAIN, "test": TEST, "all": UNASSIGNED}
    by_split = {codes[name]: part for name, part in parts.items()}
    return source_from_parts(name="MadeUp", parts=by_split, folder=tmp_path, progress=None)


def test_labels_are_looked_up_one_by_one_where_they_are_not_listed(tmp_path: Path) -> None:
    images = [photograph(seed) for seed in range(4)]
    dataset = source_of(tmp_path, all=InMemory(images, [3, 5, 3, 5]))
    assert dataset.classes == ("3", "5")
    assert dataset.labels.tolist() == [0, 1, 0, 1]
    assert np.array_equal(dataset.read([2])[0], np.asarray(images[2]))


def test_listed_labels_that_disagree_with_the_samples_are_not_believed(tmp_path: Path) -> None:
    images = [photograph(seed) for seed in range(4)]
    part = InMemory(images, [0, 1, 1, 0], labels=[1, 1, 1, 1], targets=np.array([[0], [1]]))
    assert source_of(tmp_path, all=part).labels.tolist() == [0, 1, 1, 0]


def test_class_names_of_unused_classes_are_left_out_and_repeated_ones_told_apart(
    tmp_path: Path,
) -> None:
    images = [photograph(seed) for seed in range(3)]
    names = ["N/A", ("crane", "bird"), "tench", "crane"]
    dataset = source_of(tmp_path, all=InMemory(images, [1, 2, 3], classes=names))
    assert dataset.classes == ("crane (1)", "tench", "crane (3)")


def test_a_sample_that_raises_is_a_failure_of_that_sample(tmp_path: Path) -> None:
    images = [photograph(0), OSError("bad sector"), photograph(2), photograph(3), photograph(4)]
    dataset = source_of(tmp_path, all=InMemory(images, [0, 1, 0, 1, 0], targets=[0, 1, 0, 1, 0]))
    assert dataset.read([1, 2])[0] == DecodeFailure("bad sector")


def test_targets_that_are_no_class_labels_are_refused(tmp_path: Path) -> None:
    part = InMemory([photograph(0)], [{"boxes": []}])
    with pytest.raises(DataError, match="sample 0 of torchvision's MadeUp has no class label"):
        source_of(tmp_path, all=part)


# Names ----------------------------------------------------------------------------------------


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(DataError, match=r"got 'CIFAR-10'; did you mean 'CIFAR10'\?"):
        open_set("CIFAR-10")


@pytest.mark.parametrize("name", ["VOCDetection", "Kinetics", "FakeData"])
def test_sets_of_other_tasks_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"classification data set of torchvision, '{name}' is not"):
        open_set(name)


def test_image_folder_points_to_the_path_of_ones_own_folder() -> None:
    with pytest.raises(DataError, match="for a folder of your own give its path"):
        open_set("ImageFolder")


def test_the_exceptions_are_names_that_torchvision_has() -> None:
    assert set(PARTS) <= set(classification_sets())
    assert set(datasets.__all__) >= NOT_CLASSIFICATION | set(classification_sets())


@pytest.mark.parametrize("name", classification_sets())
def test_the_rule_finds_arguments_that_the_constructor_takes(name: str) -> None:
    constructor = getattr(datasets, name)
    assert "root" in inspect.signature(constructor).parameters
    for arguments in (known_parts(name, constructor) or {TRAIN: {"split": "train"}}).values():
        inspect.signature(constructor).bind(root="r", **arguments)


@pytest.mark.parametrize("name", classification_sets())
def test_a_set_that_is_not_there_is_one_clear_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every constructor really runs, with a network that refuses everything."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError, match=f"torchvision's {name} is not in"):
        open_set(name, tmp_path)
