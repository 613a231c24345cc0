"""Hugging Face data sets: folders that `save_to_disk` wrote, and names on the hub."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench
from bench.data import TEST, TRAIN, UNASSIGNED, VAL, ImageDataset, open_dataset, prepare_images
from bench.data.images import hugging_face
from bench.errors import DataError, MissingExtraError
from bench.runs.catalogue import catalogue
from bench.suite import load_suite
from tests.data.pictures import photograph
from tests.http_server import Whole, answering

datasets = pytest.importorskip("datasets")

NAMES = ["ants", "bees"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


def content(seed: int) -> bytes:
    buffer = io.BytesIO()
    photograph(seed).save(buffer, "png")
    return buffer.getvalue()


def rows(count: int, *, first: int = 0, paths: Path | None = None, **more: Any) -> Any:
    """So many photographs, as bytes or as files below `paths`."""
    images = []
    for seed in range(first, first + count):
        if paths is None:
            images.append({"bytes": content(seed), "path": f"{seed}.png"})
        else:
            (paths / f"{seed}.png").write_bytes(content(seed))
            images.append({"bytes": None, "path": str(paths / f"{seed}.png")})
    label = more.pop("label", datasets.ClassLabel(names=NAMES))
    values = more.pop("labels", [seed % 2 for seed in range(count)])
    features = datasets.Features({"image": datasets.Image(), "label": label})
    made = datasets.Dataset.from_dict({"image": images, "label": values}, features=features)
    for name, column in more.items():
        made = made.add_column(name, column)
    return made


def saved(made: Any, folder: Path) -> Path:
    datasets.disable_progress_bars()
    made.save_to_disk(str(folder))
    return folder


def opened(path: Path, **options: Any) -> ImageDataset:
    dataset = open_dataset("hf", {"path": str(path), **options})
    assert isinstance(dataset, ImageDataset)
    return dataset


def message_for(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def told(dataset: ImageDataset) -> str:
    return " ".join(issue.message for issue in dataset.issues)


def test_a_folder_without_splits(tmp_path: Path) -> None:
    dataset = opened(saved(rows(8), tmp_path / "beans"))
    assert (dataset.name, dataset.classes, dataset.issues) == ("beans", ("ants", "bees"), ())
    assert set(dataset.splits) == {UNASSIGNED}
    assert dataset.labels.tolist() == [0, 1] * 4
    assert dataset.sample_ids[3] == "all/000003 3.png"
    assert np.array_equal(dataset.read([3])[0], np.asarray(photograph(3)))
    assert dataset.size_of is not None
    assert dataset.size_of(3) == photograph(3).size
    assert dataset.fingerprint == opened(tmp_path / "beans").fingerprint
    assert dataset.current is not None
    assert dataset.current() == dataset.fingerprint
    other = opened(saved(rows(8, first=1), tmp_path / "others"))
    assert other.fingerprint != dataset.fingerprint
    prepare_images(dataset, image_size=16, resize="crop")


def test_splits_by_their_names_and_as_said(tmp_path: Path) -> None:
    parts = {"train": rows(6), "validation": rows(4, first=10), "test": rows(4, first=20),
             "extra": rows(2, first=30)}  # fmt: skip
    folder = saved(datasets.DatasetDict(parts), tmp_path / "beans")
    dataset = opened(folder)
    assert [int((dataset.splits == split).sum()) for split in (TRAIN, VAL, TEST)] == [6, 4, 4]
    assert "1 split of beans not used: extra" in told(dataset)
    assert np.array_equal(dataset.read([10])[0], np.asarray(photograph(20)))
    chosen = opened(folder, splits={"train": "train", "test": "extra"})
    assert chosen.sample_ids[-1] == "test/000001 31.png".replace("test", "extra")
    assert len(chosen) == 8
    assert "got 'tests'; did you mean" in message_for(folder, splits={"train": "tests"})
    strange = datasets.DatasetDict({"a": rows(2), "b": rows(2)})
    assert "splits: {train: …, test: …}" in message_for(saved(strange, tmp_path / "strange"))


def test_images_may_be_files(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    made = rows(6, paths=tmp_path / "photos")  # such as the hub gives: saved, they are bytes

    def opened() -> ImageDataset:
        return hugging_face._open("beans", tmp_path, {"": made}, None, {}, None)

    dataset = opened()
    assert np.array_equal(dataset.read([5])[0], np.asarray(photograph(5)))
    (tmp_path / "photos" / "5.png").write_bytes(content(50))
    assert opened().fingerprint != dataset.fingerprint
    (tmp_path / "photos" / "5.png").unlink()
    prepared = prepare_images(opened(), image_size=16, resize="crop")
    assert "000005 5.png (No such file or directory)" in (prepared / "metadata.json").read_text()


def test_columns_are_recognised_and_told(tmp_path: Path) -> None:
    made = rows(8, patient=[f"p{i // 2}" for i in range(8)], date=["2024-06-01"] * 8, note=[1] * 8)
    dataset = opened(saved(made.rename_column("image", "scan"), tmp_path / "beans"))
    assert dataset.groups == tuple(f"p{i // 2}" for i in range(8))
    assert dataset.times is not None
    assert "beans has image from 'scan', group from 'patient', time from 'date'" in told(dataset)
    assert "1 column not used: note" in told(dataset)
    without = opened(tmp_path / "beans", columns={"group": None, "time": None})
    assert (without.groups, without.times) == (None, None)
    by_name = opened(tmp_path / "beans", columns={"group": None}, group=r"(\d)\.png")
    assert by_name.groups == tuple(map(str, range(8)))


@pytest.mark.parametrize(
    ("label", "labels", "classes"),
    [
        (datasets.Value("string"), ["b", "a", "b", "a"], ("a", "b")),
        (datasets.Value("int64"), [10, 9, 10, 9], ("9", "10")),
    ],
)
def test_labels_without_names(tmp_path: Path, label: Any, labels: Any, classes: Any) -> None:
    dataset = opened(saved(rows(4, label=label, labels=labels), tmp_path / "beans"))
    assert dataset.classes == classes
    assert [classes[each] for each in dataset.labels] == list(map(str, labels))


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    labels = [0, 1, -1, 0, None, 1]
    dataset = opened(saved(rows(6, labels=labels), tmp_path / "beans"))
    assert len(dataset) == 4
    assert "2 rows left out (no label): row 2, row 4" in told(dataset)


def test_hostile_folders_are_one_message_each(tmp_path: Path) -> None:
    folder = saved(rows(6), tmp_path / "beans")
    assert "columns: image must name a column of beans, got 'img'; did you mean" in message_for(
        folder, columns={"image": "img"}
    )
    assert "column 'label' of beans has no images" in message_for(
        folder, columns={"image": "label", "label": "label"}
    )
    no_label = saved(rows(6).remove_columns("label"), tmp_path / "unlabelled")
    assert "no column that may be the label; its columns are image" in message_for(no_label)
    two = (
        rows(4)
        .add_column("coarse", [0, 1, 0, 1])
        .cast_column("coarse", datasets.ClassLabel(names=["x", "y"]))
    )
    assert "2 columns (label, coarse)" in message_for(saved(two, tmp_path / "two"))
    lists = rows(2, label=datasets.List(datasets.Value("int64")), labels=[[1], [2]])
    assert "must hold text or numbers" in message_for(saved(lists, tmp_path / "lists"))
    one = rows(4, label=datasets.ClassLabel(names=["a"]), labels=[0] * 4)
    assert "at least two classes" in message_for(saved(one, tmp_path / "one"))
    many = rows(4, label=datasets.Value("string"), labels=list("abcd"))
    assert "4 different labels of 4 rows" in message_for(saved(many, tmp_path / "many"))
    (tmp_path / "empty").mkdir()
    assert f"cannot read the data set {tmp_path / 'empty'}" in message_for(tmp_path / "empty")
    assert "there is no folder" in message_for(tmp_path / "nowhere")
    with pytest.raises(DataError, match="the path of a folder, or the name of a data set"):
        open_dataset("hf", {})


@pytest.mark.parametrize("damage", ["cut", "zeros", "state", "info"])
def test_a_damaged_folder_is_one_message(tmp_path: Path, damage: str) -> None:
    folder = saved(rows(6), tmp_path / "beans")
    (arrow,) = folder.glob("*.arrow")
    whole = arrow.read_bytes()
    if damage == "cut":
        arrow.write_bytes(whole[: len(whole) // 3])
    elif damage == "zeros":
        arrow.write_bytes(bytes(len(whole)))
    else:
        name = {"state": "state.json", "info": "dataset_info.json"}[damage]
        (folder / name).write_text("{")
    assert f"cannot read the data set {folder}" in message_for(folder)


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(rows(4), tmp_path / "beans")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "bench\[hf\]"'):
        opened(folder)


def test_a_suite_knows_such_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(rows(24), tmp_path / "beans")
    suite = tmp_path / "suite.yaml"
    for text in ("dataset: ./beans", "dataset: {path: beans}", "dataset: hf:owner/beans"):
        suite.write_text(f"{text}\nbackbone: resnet18\nstrategy: linear_probe\n")
        assert load_suite(suite, catalogue()).suite.dataset.name == "hf"
    monkeypatch.setattr("bench.runs.init.write.timed", lambda *_: lambda grid: 0.0)
    monkeypatch.chdir(tmp_path)
    text = bench.init(tmp_path / "beans").path.read_text()
    assert "\n  name: hf\n" in text
    assert "The data set has no test split" in text.replace("\n  # ", " ")


# The hub --------------------------------------------------------------------------------------

COMMIT = "1".zfill(40)
NAMED = """
from bench.data import open_dataset

for name in ("owner/beans", "owner/none"):
    try:
        found = open_dataset("hf", {"dataset": name})
        print(found.name, len(found), sorted(set(found.splits.tolist())), found.fingerprint)
        print(found.read([9])[0].shape)
    except Exception as error:
        print(type(error).__name__, str(error).count("\\n"), error)
"""


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[str]:
    """As much of the hub as the package asks for, with one data set `owner/beans`."""
    api, resolve = "/api/datasets/owner/beans", "/datasets/owner/beans/resolve/"

    class Handler(Whole):
        def answer(self) -> None:
            path = self.path.partition("?")[0]
            below = path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")
            name = path.removeprefix(resolve).partition("/")[2]
            if path in (api, f"{api}/revision/{COMMIT}"):
                names = [{"rfilename": name} for name in files]
                self._json({"id": "owner/beans", "sha": COMMIT, "private": False, "gated": False,
                            "disabled": False, "tags": [], "siblings": names})  # fmt: skip
            elif path.startswith(f"{api}/tree/{COMMIT}") and not below:
                self._json([{"type": "directory", "path": "data", "oid": "1", "size": 0}])
            elif path.startswith(f"{api}/tree/{COMMIT}"):
                self._json(
                    [
                        {"type": "file", "path": name, "size": len(own), "oid": digest(own)}
                        for name, own in files.items()
                    ]
                )
            elif path.startswith(resolve):
                self._file(files.get(name))
            else:
                self._none("RepoNotFound")

        def _json(self, answer: object) -> None:
            self.send(json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _file(self, own: bytes | None) -> None:
            if own is None:
                self._none("EntryNotFound")
            else:
                self.send(own, {"ETag": f'"{digest(own)}"', "X-Repo-Commit": COMMIT})

        def _none(self, code: str) -> None:
            self.send(b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT}, status=404)

    with answering(Handler) as address:
        yield address


def digest(own: bytes) -> str:
    return hashlib.sha1(own).hexdigest()


@pytest.mark.campaign
def test_a_name_on_the_hub_is_downloaded_once(tmp_path: Path) -> None:
    files = {}
    for split, first, count in (("train", 0, 8), ("test", 20, 4)):
        datasets.disable_progress_bars()
        rows(count, first=first).to_parquet(str(tmp_path / f"{split}.parquet"))
        name = f"data/{split}-00000-of-00001.parquet"
        files[name] = (tmp_path / f"{split}.parquet").read_bytes()

    def opened(address: str, **more: str) -> list[str]:
        environment = {
            **os.environ,
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **more,
        }
        ended = subprocess.run(
            [sys.executable, "-c", NAMED], env=environment, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert not ended.returncode, ended.stderr
        return ended.stdout.splitlines()

    with hub(files) as address:
        found, shape, none = opened(address)
    assert found.startswith(f"beans 12 [{TRAIN}, {TEST}] ")
    assert shape == "(30, 40, 3)"
    assert none.startswith("DataError 0 cannot read the data set owner/none (from the Hugging Face")
    again, *_ = opened(address, HF_HUB_OFFLINE="1")
    assert again == found
