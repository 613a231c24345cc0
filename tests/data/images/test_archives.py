"""Archives as people make them are folders; archives as enemies make them are refused."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import ImageDataset, open_dataset, prepare_images
from bench.data.archives import open_archive
from bench.errors import DataError
from tests.data.pictures import photograph, write_folder

LAYOUT = {"ants": 3, "bees": 2}
Pack = Callable[[Path, Path], None]


def opened(path: Path, **options: Any) -> ImageDataset:
    dataset = open_dataset("folder", {"path": str(path), **options})
    assert isinstance(dataset, ImageDataset)
    return dataset


def message_for(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, **options)
    return str(caught.value)


def as_zip(folder: Path, target: Path, method: int = zipfile.ZIP_DEFLATED, top: str = "") -> None:
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, top + path.relative_to(folder).as_posix())


def as_tar(folder: Path, target: Path, mode: Any = "w", top: str = ".") -> None:
    with tarfile.open(target, mode) as archive:
        archive.add(folder, top)


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    photograph(seed).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "photos", LAYOUT)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("p.zip", as_zip),
        ("stored.ZIP", lambda f, t: as_zip(f, t, zipfile.ZIP_STORED)),
        ("top.zip", lambda f, t: as_zip(f, t, top="photos/2024/")),
        ("p.tar", as_tar),
        ("top.tar", lambda f, t: as_tar(f, t, top="photos")),
        ("p.tar.gz", lambda f, t: as_tar(f, t, "w:gz")),
        ("p.tgz", lambda f, t: as_tar(f, t, "w:gz")),
        ("p.tar.bz2", lambda f, t: as_tar(f, t, "w:bz2")),
        ("p.tar.xz", lambda f, t: as_tar(f, t, "w:xz")),
    ],
)
def test_an_archive_is_the_data_set_that_its_folder_is(
    photos: Path, tmp_path: Path, name: str, pack: Pack
) -> None:
    pack(photos, tmp_path / name)
    folder, dataset = opened(photos), opened(tmp_path / name)
    assert (dataset.sample_ids, dataset.classes) == (folder.sample_ids, folder.classes)
    assert dataset.fingerprint == folder.fingerprint
    assert dataset.current is not None
    assert dataset.current() == dataset.fingerprint
    for one, other in zip(dataset.read(range(5)), folder.read(range(5)), strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert dataset.size_of is not None
    assert dataset.size_of(0) == (40, 30)
    assert prepare_images(dataset, image_size=8, resize="squash").is_dir()
    assert [issue.message for issue in dataset.issues] == (
        [f"All of {name} lies in its folder photos{'/2024' if 'zip' in name else ''}, which is "
         "read."] if "top" in name else []
    )  # fmt: skip


def test_splits_and_what_is_left_out_are_those_of_a_folder(photos: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "r", {f"{s}/{c}": 1 for s in ("train", "test") for c in "ab"})
    (root / "train" / "a" / "notes.txt").write_text("x")
    (root / "README").write_text("x")
    as_zip(root, tmp_path / "r.zip")
    packed = opened(tmp_path / "r.zip")
    assert packed.splits.tolist() == opened(root).splits.tolist()
    assert [issue.message for issue in packed.issues] == [i.message for i in opened(root).issues]
    as_zip(photos / "ants", tmp_path / "flat.zip")
    assert message_for(tmp_path / "flat.zip") == (
        f"{tmp_path / 'flat.zip'} holds 3 images but no class folders; put the images of each "
        f"class into a folder named after it ({tmp_path / 'flat.zip' / 'CLASS'})"
    )


def test_what_systems_put_into_archives_is_left_out(photos: Path, tmp_path: Path) -> None:
    as_zip(photos, tmp_path / "mac.zip", top="photos/")
    with zipfile.ZipFile(tmp_path / "mac.zip", "a") as archive:
        archive.writestr("__MACOSX/photos/ants/._000.png", b"x")
        archive.writestr(".DS_Store", b"x")
        archive.writestr("photos/ants/.DS_Store", b"x")
    assert opened(tmp_path / "mac.zip").sample_ids == opened(photos).sample_ids


def test_a_table_names_files_of_an_archive(photos: Path, tmp_path: Path) -> None:
    as_zip(photos, tmp_path / "p.zip", top="photos/")
    table = tmp_path / "labels.csv"
    names = ["ants/000", "ants\\001.png", "photos/bees/000.png", "./bees/001.png", "bees/9.png"]
    table.write_text("path,label\n" + "".join(f"{n},{i % 2}\n" for i, n in enumerate(names)))
    dataset = open_dataset("table", {"path": str(table), "root": str(tmp_path / "p.zip")})
    assert dataset.sample_ids == ("ants/000.png", "ants/001.png", "bees/000.png", "bees/001.png")
    assert dataset.labels.tolist() == [0, 1, 0, 1]
    told = " ".join(issue.message for issue in dataset.issues)
    assert "All of p.zip lies in its folder photos" in told
    assert "1 row left out (the file is not there): bees/9.png." in told
    assert "completed: ants/000, ants\\001.png." in told


# Damage and malice ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../out.png", "/etc/out.png", "a/../../out.png", "C:/out.png", "..\\..\\out.png"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_outside_of_the_archive_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"evil.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, png())
    else:
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo(name))
    assert "names a file outside of itself" in message_for(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(photos: Path, tmp_path: Path) -> None:
    as_zip(photos, tmp_path / "twice.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "a") as archive:
        archive.writestr("ants//000.png", png(9))
    assert "has two files 'ants/000.png'" in message_for(tmp_path / "twice.zip")
    as_zip(photos, tmp_path / "inside.zip")
    with zipfile.ZipFile(tmp_path / "inside.zip", "a") as archive:
        archive.writestr("ants/000.png/x.png", png(9))
    assert "files inside of files: ants/000.png" in message_for(tmp_path / "inside.zip")


def test_passwords_are_told(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.zip"
    as_zip(photos, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\1\2")
    content[entry + 8] |= 1
    path.write_bytes(content)
    assert "needs a password" in message_for(path)


def test_links_are_left_out_and_told(photos: Path, tmp_path: Path) -> None:
    (photos / "ants" / "link.png").symlink_to("/etc/passwd")
    os.link(photos / "ants" / "000.png", photos / "bees" / "hard.png")
    as_tar(photos, tmp_path / "p.tar")
    dataset = opened(tmp_path / "p.tar")
    assert len(dataset) == 5
    assert "2 entries of p.tar left out: links" in dataset.issues[-1].message
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for number in range(4):
            archive.writestr(f"{'ab'[number % 2]}/{number}.png", png(number))
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert len(opened(tmp_path / "p.zip")) == 4


def test_a_member_that_is_a_bomb_or_damaged_is_left_out(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"{'ab'[number % 2]}/{number}.png", png(number))
        archive.writestr("a/lzma.png", png(7), zipfile.ZIP_LZMA)
    content = bytearray(path.read_bytes())
    entries = [at for at in range(len(content)) if content[at : at + 4] == b"PK\1\2"]
    struct.pack_into("<I", content, entries[0] + 24, 2**31)  # what it says to unpack to
    struct.pack_into("<I", content, entries[1] + 16, 12345)  # its checksum
    struct.pack_into("<I", content, entries[2] + 42, 7)  # its place
    struct.pack_into("<I", content, entries[3] + 20, 40)  # how long it is, packed
    path.write_bytes(content)
    dataset = opened(path)
    reasons = {
        sample: str(getattr(decoded, "reason", ""))
        for sample, decoded in zip(dataset.sample_ids, dataset.read(range(7)), strict=True)
    }
    assert reasons["a/0.png"].endswith("to 2,048 MiB")
    assert all(reasons[name].startswith("damaged") for name in ("b/1.png", "a/2.png", "b/3.png"))
    assert reasons["a/lzma.png"].startswith("packed by a method that is not known")
    assert reasons["a/4.png"] == reasons["b/5.png"] == ""


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "p.tar.xz"])
@pytest.mark.parametrize("content", [b"", b"PK\5\6 and no more", b"\x1f\x8b\x08 no", b"x" * 2000])
def test_no_archive(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert message_for(tmp_path / name).startswith(("cannot read", "the archive"))


def test_a_cut_archive(photos: Path, tmp_path: Path) -> None:
    for name, pack in (("p.zip", as_zip), ("p.tar.gz", lambda f, t: as_tar(f, t, "w:gz"))):
        pack(photos, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert message_for(tmp_path / name).startswith("cannot read")


def test_a_compressed_archive_is_inflated_once_and_within_limits(
    photos: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_tar(photos, tmp_path / "p.tar.gz", "w:gz")
    one = open_archive(tmp_path / "p.tar.gz")
    (kept,) = (cache / "archives").iterdir()
    before = kept.stat().st_mtime_ns
    assert open_archive(tmp_path / "p.tar.gz").members == one.members
    assert kept.stat().st_mtime_ns == before
    monkeypatch.setattr("bench.data.archives.SUSPICIOUS_MEMBER", 1000)
    monkeypatch.setattr("bench.data.archives.MAX_RATIO", 0.1)
    as_tar(photos, tmp_path / "bomb.tar.gz", "w:gz")
    assert "bomb.tar.gz unpacks from" in message_for(tmp_path / "bomb.tar.gz")
    assert list((cache / "archives").iterdir()) == [kept]


def test_too_many_files(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.data.archives.MAX_MEMBERS", 4)
    for name, pack in (("p.zip", as_zip), ("p.tar", as_tar)):
        pack(photos, tmp_path / name)
        assert "more than 4 files" in message_for(tmp_path / name)
