"""Folders, images and archives that want to break something."""

from __future__ import annotations

import io
import os
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import Converted, DecodeFailure, ImageData, open_dataset, prepare_images
from bench.data.files import files_in
from bench.data.images import decode as decode_module
from bench.data.images.decode import decode_file
from bench.data.images.hymenoptera import MAX_FILE_BYTES, open_hymenoptera
from bench.data.images.png_metadata import _inflated
from bench.errors import DataError
from bench.results.folder import RunStore, prediction_columns, write_json
from bench.runs.init.examine import measure_sizes
from tests.data.pictures import photograph, write_folder
from tests.hostile import mutated_bytes

FLAT = {"ants": 3, "bees": 3}
posix = pytest.mark.skipif(os.name != "posix", reason="needs pipes and links")


# Folders --------------------------------------------------------------------------------------


@posix
def test_links_to_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    os.mkfifo(tmp_path / "pipe")
    (root / "ants" / "pipe.png").symlink_to(tmp_path / "pipe")
    (root / "ants" / "zero.jpg").symlink_to("/dev/zero")
    (root / "bees" / "folder.jpg").mkdir()
    dataset = open_dataset("folder", {"path": str(root)})
    assert len(dataset) == 6
    (issue,) = dataset.issues
    assert issue.kind == "not-an-image"
    assert issue.samples == ("ants/pipe.png", "ants/zero.jpg")
    for name in ("ants/pipe.png", "ants/zero.jpg", "bees/folder.jpg"):
        assert decode_file(root / name) == DecodeFailure("not a file")
    assert len(measure_sizes(dataset.size_of, len(dataset))) == 6


@posix
def test_links_that_multiply_are_followed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty folders, each with two links to the next: a milliard ways to the last."""
    root = write_folder(tmp_path / "insects", FLAT)
    for level in range(30):
        folder = tmp_path / "maze" / str(level)
        folder.mkdir(parents=True)
        for name in ("left", "right"):
            (folder / name).symlink_to(tmp_path / "maze" / str(level + 1))
    (tmp_path / "maze" / "30").mkdir()
    photograph(77).save(tmp_path / "maze" / "30" / "end.png")
    (root / "ants" / "maze").symlink_to(tmp_path / "maze" / "0")
    looked_at: list[Path] = []

    def counted(folder: Path) -> list[Path]:
        looked_at.append(folder)
        return files_in(folder)

    monkeypatch.setattr("bench.data.files.files_in", counted)
    dataset = open_dataset("folder", {"path": str(root)})
    assert len(dataset) == 7
    assert len(looked_at) < 50


@posix
def test_folders_in_folders_without_end(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    depth = 1200
    deepest = root / "ants" / "/".join("d" * depth)
    os.makedirs(root / "ants" / "d")
    for level in range(1, depth):
        os.mkdir(root / "ants" / "/".join("d" * (level + 1)))
    try:
        assert len(open_dataset("folder", {"path": str(root)})) == 6
    finally:  # what removes temporary folders recurses
        for folder in (deepest, *list(deepest.parents)[: depth - 1]):
            folder.rmdir()


@posix
def test_names_that_are_no_unicode_are_written(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    try:
        os.rename(root / "ants", os.fsencode(root) + b"/caf\xe9")
        os.rename(root, os.fsencode(tmp_path) + b"/\xff")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    dataset = open_dataset("folder", {"path": os.fsdecode(os.fsencode(tmp_path) + b"/\xff")})
    assert dataset.name == "\\xff"
    assert dataset.classes == ("bees", "caf\\xe9")
    data = ImageData.open(prepare_images(dataset, image_size=8, resize="squash"))
    probabilities = np.full((len(data), 2), 0.5)
    columns = prediction_columns(
        samples=data.sample_ids, labels=data.labels, probabilities=probabilities,
        classes=data.classes,
    )  # fmt: skip
    row = {"trial": "t", "config": "c", "status": "failed", "error": "no \udcff"}
    RunStore(tmp_path / "run").write_part(row, (), columns)
    assert RunStore(tmp_path / "run").read_part("t").trial_row["error"] == "no \\udcff"
    write_json(tmp_path / "run" / "environment.json", {"command": "bench run \udcff"})
    assert b"\\udcff" in (tmp_path / "run" / "environment.json").read_bytes()


@posix
def test_two_names_that_read_the_same_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", {**FLAT, "caf\\xe9": 1})
    try:
        os.mkdir(os.fsencode(root) + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    with pytest.raises(DataError, match="two classes whose names look the same"):
        open_dataset("folder", {"path": str(root)})


@pytest.mark.campaign
def test_messages_about_many_files_are_short(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "insects", FLAT)
    for index in range(2000):
        (root / "ants" / f"{'x' * 200}{index}.txt").touch()
    for index in range(300):
        (root / f"empty{'y' * 200}{index}").mkdir()
    with pytest.raises(DataError, match="and 295 more") as caught:
        open_dataset("folder", {"path": str(root)})
    assert len(str(caught.value)) < 4000
    for index in range(300):
        (root / f"empty{'y' * 200}{index}").rmdir()
    (issue,) = open_dataset("folder", {"path": str(root)}).issues
    assert issue.count == 2000
    assert len(issue.message) < 2000


# Images ---------------------------------------------------------------------------------------


def test_headers_that_claim_more_than_there_is(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    for width, height in ((2**31 - 1, 2**31 - 1), (0, 0), (1, 2**31 - 1), (20_000, 20_000)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        content = (
            b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        )
        (tmp_path / "a.png").write_bytes(content)
        assert isinstance(decode_file(tmp_path / "a.png"), DecodeFailure)
    pnm = b"P6 99999 99999 255\n"
    (tmp_path / "a.ppm").write_bytes(pnm)
    assert isinstance(decode_file(tmp_path / "a.ppm"), DecodeFailure)


def test_texts_of_a_png_are_inflated_only_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kilobyte inflates to a megabyte: a file may hold millions of them."""
    text = zlib.compress(bytes(1 << 20) + b"x" * 9)
    body = b"zTXtcomment\0\0" + text
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    plain = encoded("PNG")
    (tmp_path / "a.png").write_bytes(plain[:33] + 400 * chunk + plain[33:])
    sizes = []

    def counted(data: bytes, kind: bytes, at_most: int) -> int:
        sizes.append(_inflated(data, kind, at_most))
        return sizes[-1]

    monkeypatch.setattr("bench.data.images.png_metadata._inflated", counted)
    assert np.array_equal(decode_file(tmp_path / "a.png"), np.asarray(photograph(1)))
    assert sum(sizes) < 300 << 20
    assert max(sizes) == (1 << 20) + 1


def test_the_frames_of_an_animation_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred megabytes of GIF may hold millions of frames."""
    from PIL import GifImagePlugin

    frames = [Image.new("RGB", (4, 4), (index % 256, 0, index % 7)) for index in range(300)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    seeks = []
    seek = GifImagePlugin.GifImageFile._seek

    def counted(self: object, frame: int, *rest: object) -> None:
        seeks.append(frame)
        seek(self, frame, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_seek", counted)
    decoded = decode_file(tmp_path / "a.gif")
    assert isinstance(decoded, Converted)
    assert len(seeks) < 10


def encoded(kind: str, **options: object) -> bytes:
    written = io.BytesIO()
    photograph(1).save(written, kind, **options)
    return written.getvalue()


KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "ICO")


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(rng=st.randoms(use_true_random=False))
def test_fuzzed_images(kind: str, tmp_path: Path, rng: random.Random) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"Pillow was built without {kind}")
    (tmp_path / "a").write_bytes(mutated_bytes(encoded(kind), rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoded = decode_file(tmp_path / "a")
    assert isinstance(decoded, np.ndarray | Converted | DecodeFailure)
    assert decode_module.FORMATS


# Archives -------------------------------------------------------------------------------------

NAME = "train/ants/a.jpg"
PICTURE = b"picture" * 100
Make = Callable[[zipfile.ZipFile], None]


def opened(tmp_path: Path, content: bytes) -> str:
    """What is said of the archive, which must not be unpacked anywhere but in the cache."""
    import hashlib

    archive = tmp_path / "archive.zip"
    archive.write_bytes(content)
    manifest = {NAME: hashlib.sha256(PICTURE).hexdigest()}
    try:
        open_hymenoptera(path=str(archive), url="unused:", manifest=manifest, progress=None)
    except DataError as error:
        return str(error)
    return ""


def archive_of(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = 0) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression=method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that names are there twice
        for name, content in members:
            archive.writestr(name, content)
    return written.getvalue()


def link_to(target: str) -> tuple[zipfile.ZipInfo, bytes]:
    about = zipfile.ZipInfo(f"hymenoptera_data/{NAME}")
    about.create_system, about.external_attr = 3, 0o120777 << 16
    return about, target.encode()


FULL = f"hymenoptera_data/{NAME}"


@pytest.mark.parametrize(
    "content",
    [
        archive_of((FULL, b"\0" * (MAX_FILE_BYTES * 40)), method=zipfile.ZIP_DEFLATED),
        archive_of(link_to("/etc/passwd")),
        archive_of(link_to("../../../../x")),
        archive_of((f"../{FULL}", PICTURE), (f"/{FULL}", PICTURE)),
        archive_of((FULL + "\0.jpg", b"evil"), (FULL + "\n", PICTURE)),
        archive_of((FULL, PICTURE), (FULL, b"another")),
        archive_of((FULL, PICTURE), method=zipfile.ZIP_LZMA).replace(b"\x5d\0\0", b"\xff\xff\xff"),
        archive_of((FULL, PICTURE), method=zipfile.ZIP_BZIP2).replace(b"BZh9", b"BZh0"),
        archive_of(*((f"x{n}", b"") for n in range(20_000))),
        archive_of(("é", b"")).replace("é".encode(), b"\xff\xff"),
        b"PK\x05\x06" + b"\xff" * 18,
    ],
    ids=["bomb", "link", "link-up", "names", "odd-names", "twice", "lzma", "bzip2", "many",
         "no-utf8", "forged-end"],
)  # fmt: skip
def test_hostile_archives(tmp_path: Path, content: bytes, cache: Path) -> None:
    said = opened(tmp_path, content)
    assert "archive.zip" in said
    assert len(said) < 4000
    assert sorted(path.name for path in tmp_path.iterdir() if path != cache) == ["archive.zip"]
    assert not (cache / "datasets" / "hymenoptera").exists()


def test_a_bomb_is_inflated_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        content = original(self, n)
        read.append(len(content))
        return content

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    content = archive_of((FULL, b"\0" * (MAX_FILE_BYTES * 40)), method=zipfile.ZIP_DEFLATED)
    assert len(content) < 1_000_000
    assert opened(tmp_path, content)
    assert sum(read) <= MAX_FILE_BYTES


@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(rng=st.randoms(use_true_random=False), method=st.sampled_from([0, 8, 12, 14]))
def test_fuzzed_archives(tmp_path: Path, rng: random.Random, method: int) -> None:
    content = archive_of(("other", b"x"), (FULL, b"not the picture"), method=method)
    assert opened(tmp_path, mutated_bytes(content, rng))
