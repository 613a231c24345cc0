"""Files through a trained network: where they come from, and what becomes of them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bench
from bench.errors import BenchError
from bench.prediction.classify import check_out, classify, ranked
from bench.prediction.model import TrainedModel
from bench.prediction.outputs import UNSURE
from bench.prediction.samples import samples_at, samples_of

pytestmark = pytest.mark.xdist_group("opened")


@pytest.fixture(scope="module")
def model(opened_run: bench.Run) -> TrainedModel:
    return bench.load(opened_run.folder, device="cpu")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folders called like classes with images of several sizes, a broken one, and other files."""
    rng = np.random.default_rng(0)
    for number in range(70):
        folder = tmp_path / "images" / f"class-{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20 + number, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (tmp_path / "images" / "class-0" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (tmp_path / "images" / "class-0" / ".hidden.png").write_bytes(b"")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def test_a_folder_is_classified_in_order_whatever_is_in_it(
    opened_run: bench.Run, model: TrainedModel, images: Path
) -> None:
    found = bench.predict(opened_run.folder, images, device="cpu")
    table = found.table
    paths = [
        *(f"class-0/{number:02}.png" for number in range(0, 70, 2)),
        "class-0/broken.jpg",
        *(f"class-1/{number:02}.png" for number in range(1, 70, 2)),
    ]
    assert [str(Path(path).relative_to(images)) for path in table["path"]] == paths
    assert found.count == 71
    assert (found.failures, [each.name for each in found.failed]) == (
        1,
        [str(images / "class-0" / "broken.jpg")],
    )
    broken = table.set_index("path").loc[str(images / "class-0" / "broken.jpg")]
    assert pd.isna(broken["predicted"])
    assert broken["failure"]
    good = table[table["failure"].isna()]
    probabilities = good[[f"probability_{name}" for name in model.classes]].to_numpy()
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert list(good["predicted"]) == [model.classes[i] for i in probabilities.argmax(axis=1)]
    assert list(good["confidence"]) == list(probabilities.max(axis=1))
    # One image alone, decoded elsewhere: the same within rounding.
    pixels = np.asarray(Image.open(images / "class-1" / "33.png").convert("RGB"))
    alone = model.probabilities([pixels])[0]
    assert probabilities[list(good["path"]).index(str(images / "class-1" / "33.png"))] == (
        pytest.approx(alone, abs=1e-6)
    )


def test_folders_called_like_classes_give_an_accuracy(
    opened_run: bench.Run, model: TrainedModel, images: Path
) -> None:
    names = model.classes
    for old, new in (("class-0", names[0]), ("class-1", names[2])):
        (images / old).rename(images / new)
    found = bench.predict(opened_run.folder, images, device="cpu")
    table = found.table[found.table["failure"].isna()]
    folders = [Path(path).parent.name for path in table["path"]]
    assert found.labelled.total() == 70
    assert found.accuracy == pytest.approx((table["predicted"] == folders).mean())
    pairs = pd.crosstab(pd.Series(folders), pd.Series(list(table["predicted"])))
    for (folder, predicted), number in found.labelled.items():
        assert pairs.loc[folder, predicted] == number
    low, high = found.interval or (0.0, 0.0)
    assert low < found.accuracy < high


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_every_format_holds_the_same_rows(
    opened_run: bench.Run, images: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / "deep" / f"found{suffix}"
    found = bench.predict(opened_run.folder, [images], out=out, min_confidence=0.5, device="cpu")
    if suffix == ".parquet":
        read = pd.read_parquet(out)
    elif suffix == ".csv":
        read = pd.read_csv(out)
    else:
        read = pd.DataFrame([json.loads(line) for line in out.read_text().splitlines()])
    wanted = found.table
    assert list(read.columns) == list(wanted.columns)
    for name in wanted.columns:
        if wanted[name].dtype == np.float64:
            assert np.allclose(read[name].astype(float), wanted[name], equal_nan=True)
        else:
            assert list(read[name].fillna("")) == list(wanted[name].fillna(""))
    unsure = wanted["confidence"] < 0.5
    assert (wanted.loc[unsure, "predicted"] == UNSURE).all()
    assert not (wanted.loc[wanted["confidence"] >= 0.5, "predicted"] == UNSURE).any()
    assert found.by_class[UNSURE] == unsure.sum()


def test_archives_lists_and_pipes_name_the_same_files(
    model: TrainedModel, images: Path, tmp_path: Path
) -> None:
    wanted = [each for each in model.stream(samples_of(images)) if not each.failure]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("__MACOSX/class-0/._00.png", b"")
        for path in sorted(images.rglob("*.png")):
            if not path.name.startswith("."):
                archive.write(path, path.relative_to(images))
    names = [each.name for each in wanted]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "Path"])
        rows.writerows([number, name] for number, name in enumerate(names))
    relative = tmp_path / "relative.tsv"
    relative.write_text(
        "\n".join(["image", *(str(Path(name).relative_to(tmp_path)) for name in names)])
    )
    piped = io.StringIO("\n".join(names) + "\n\n")
    for samples in (
        samples_at(str(tmp_path / "a.zip")),
        samples_at(str(tmp_path / "list.csv")),
        samples_at(str(relative)),
        samples_at("-", listed=piped),
    ):
        found = list(model.stream(samples))
        assert [Path(each.name).name for each in found] == [Path(name).name for name in names]
        for one, other in zip(found, wanted, strict=True):
            assert np.array_equal(one.probabilities, other.probabilities)
            assert one.folder == other.folder


def test_images_and_arrays_are_taken_too(model: TrainedModel, images: Path) -> None:
    path = images / "class-0" / "00.png"
    picture = Image.open(path)
    pixels = np.asarray(picture.convert("RGB"))
    table = model.predict([str(path), picture, pixels])
    assert table["confidence"].nunique() == 1
    assert list(table["path"]) == [str(path), str(path), "2"]
    assert list(model.predict(pixels)["predicted"]) == [table["predicted"][0]]


def test_damaged_archives_and_members_are_told(
    model: TrainedModel, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(images / "class-0" / "00.png", "x/good.png")
        archive.write(images / "class-0" / "02.png", "x/bad.png")
        offset = archive.getinfo("x/bad.png").header_offset
    content = bytearray(path.read_bytes())
    content[offset + 60] ^= 0xFF
    path.write_bytes(bytes(content))
    good, bad = model.stream(samples_at(str(path)))
    assert good.failure is None
    assert bad.failure
    (tmp_path / "none.zip").write_bytes(b"PK")
    with pytest.raises(BenchError, match=r"cannot read the archive .*none\.zip"):
        list(samples_at(str(tmp_path / "none.zip")))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nowhere.png", "there is no file or folder nowhere.png"),
        (7, "got int"),
        ([], "there is nothing to classify"),
        (np.zeros((4, 4, 3)), "uint8 .* got float64"),
    ],
)
def test_what_is_no_sample_is_one_message(model: TrainedModel, what: object, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        classify(model, samples_of(what))


def test_lists_without_paths_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(BenchError, match=r"a\.csv must have a column of paths, .* it has x, y"):
        list(samples_at(str(tmp_path / "a.csv")))
    (tmp_path / "b.csv").write_bytes(b"")
    with pytest.raises(BenchError, match=r"b\.csv is empty"):
        list(samples_at(str(tmp_path / "b.csv")))
    (tmp_path / "c.csv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(BenchError, match=r"cannot read .*c\.csv as CSV"):
        list(samples_at(str(tmp_path / "c.csv")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match="has no image in it or below it"):
        list(samples_at(str(tmp_path / "empty")))


def test_a_bad_name_for_the_file_is_refused_before_anything_is_written(
    opened_run: bench.Run, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(BenchError, match=r"--out must end in \.csv, \.parquet, \.jsonl"):
        bench.predict(opened_run.folder, images, out=tmp_path / "x.xlsx", device="cpu")
    with pytest.raises(BenchError, match="there is no file"):
        bench.predict(opened_run.folder, ["gone.png"], out=tmp_path / "x.csv", device="cpu")
    assert not list(tmp_path.glob("*.csv*"))


def test_the_most_probable_classes_come_first(model: TrainedModel, images: Path) -> None:
    (each,) = model.stream(samples_of(images / "class-1" / "01.png"))
    best = ranked(each, model.classes, 2)
    assert each.probabilities is not None
    assert [p for _, p in best] == sorted(map(float, each.probabilities), reverse=True)[:2]
    assert best[0][0] == model.classes[int(each.probabilities.argmax())]


def test_a_home_folder_is_one_for_every_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("x\n")
    with pytest.raises(BenchError, match="outside of the run folder"):
        check_out(tmp_path / "run" / "found.csv", "~/run", [])
    with pytest.raises(BenchError, match="must not be what is to be classified"):
        check_out(tmp_path / "list.csv", "results", ["~/list.csv"])
    assert [sample.name for sample in samples_at("~/a.png")] == ["~/a.png"]
