"""The ants and bees: from a local copy or from a server, complete and verified or refused."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import socket
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.data import TEST, TRAIN, ImageDataset, open_dataset
from bench.data.images.hymenoptera import open_hymenoptera, read_manifest
from bench.errors import DataError
from tests.data.pictures import write_folder
from tests.http_server import Site, serving

LAYOUT = {"train/ants": 3, "train/bees": 3, "val/ants": 2, "val/bees": 2}


def real_copy() -> Path | None:
    """The real photographs, where the machine that runs the tests has them."""
    beside = Path(__file__).parents[4] / "shared" / "data" / "hymenoptera_data"
    folder = Path(os.environ.get("BENCH_HYMENOPTERA", beside))
    return folder if folder.is_dir() else None


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "local" / "hymenoptera_data", LAYOUT, suffix=".jpg")


@pytest.fixture
def manifest(local: Path) -> dict[str, str]:
    return {
        path.relative_to(local).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in local.rglob("*.jpg")
    }


def zipped(folder: Path, *, extra: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.write(path, f"hymenoptera_data/{path.relative_to(folder).as_posix()}")
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def site(local: Path) -> Iterator[Site]:
    with serving(Site(files={"/hymenoptera.zip": zipped(local)})) as site:
        yield site


@pytest.fixture
def download(site: Site, manifest: dict[str, str]) -> Callable[[], ImageDataset]:
    return lambda: open_hymenoptera(
        path=None, url=f"{site.address}/hymenoptera.zip", manifest=manifest, progress=None
    )


def test_the_manifest_lists_the_397_images_of_the_tutorial() -> None:
    folders = Counter(name.rpartition("/")[0] for name in read_manifest())
    assert folders == {"train/ants": 123, "train/bees": 121, "val/ants": 70, "val/bees": 83}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in read_manifest().values())


def test_it_is_downloaded_once(download: Callable[[], ImageDataset], site: Site) -> None:
    first, second = download(), download()
    assert len(site.requests) == 1
    assert first.name == "hymenoptera"
    assert first.classes == ("ants", "bees")
    assert first.fingerprint == second.fingerprint
    assert Counter(first.splits.tolist()) == {TRAIN: 6, TEST: 4}
    assert first.sample_ids[0] == "train/ants/000.jpg"
    assert first.class_map == {"ants": (310,), "bees": (309,)}
    assert first.issues == ()
    assert isinstance(first.read([0])[0], np.ndarray)


def test_nothing_but_the_images_stays_in_the_cache(
    download: Callable[[], ImageDataset], cache: Path
) -> None:
    download()
    left = {path.name for path in (cache / "datasets").iterdir() if path.suffix != ".lock"}
    assert left == {"hymenoptera"}


def test_an_interrupted_download_is_resumed(
    download: Callable[[], ImageDataset], site: Site
) -> None:
    site.drops = [1000, 0]
    with pytest.raises(DataError, match="closed before the end"):
        download()
    assert len(download()) == 10
    assert [wanted for _, wanted in site.requests] == [None, "bytes=1000-", "bytes=1000-"]


def test_a_server_that_ignores_ranges(download: Callable[[], ImageDataset], site: Site) -> None:
    site.resumes, site.drops = False, [1000]
    assert len(download()) == 10


def test_a_changed_file_is_named_and_the_archive_is_not_kept(
    download: Callable[[], ImageDataset], site: Site, local: Path
) -> None:
    good = site.files["/hymenoptera.zip"]
    write_folder(local / "x", {"y": 1}, suffix=".jpg")
    (local / "x" / "y" / "000.jpg").replace(local / "val" / "bees" / "001.jpg")
    site.files["/hymenoptera.zip"] = zipped(local)
    with pytest.raises(DataError, match=r"1 file missing or changed: val/bees/001\.jpg"):
        download()
    site.files["/hymenoptera.zip"] = good
    assert len(download()) == 10


@pytest.mark.parametrize("content", [b"<html>log in first</html>", b""])
def test_an_answer_that_is_no_archive(
    content: bytes, download: Callable[[], ImageDataset], site: Site
) -> None:
    site.files["/hymenoptera.zip"] = content
    with pytest.raises(DataError, match=r"sent is not hymenoptera.*path: FOLDER-OR-ZIP"):
        download()


def test_a_missing_archive_names_address_and_mend(
    download: Callable[[], ImageDataset], site: Site
) -> None:
    site.files.clear()
    with pytest.raises(DataError) as caught:
        download()
    assert f"{site.address}/hymenoptera.zip: the server answers 404" in str(caught.value)
    assert "dataset: {name: hymenoptera, path: FOLDER-OR-ZIP}" in str(caught.value)


def test_no_network_names_address_and_mend(manifest: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/hymenoptera.zip"
    with pytest.raises(DataError) as caught:
        open_hymenoptera(path=None, url=url, manifest=manifest, progress=None)
    assert f"cannot download {url}" in str(caught.value)
    assert "dataset: {name: hymenoptera, path: FOLDER-OR-ZIP}" in str(caught.value)


def test_only_names_of_the_manifest_are_unpacked(
    download: Callable[[], ImageDataset], site: Site, local: Path, cache: Path
) -> None:
    extra = {
        "hymenoptera_data/../../escaped.jpg": b"x",
        "/absolute.jpg": b"x",
        "hymenoptera_data/train/ants/imageNotFound.gif": b"GIF",
    }
    site.files["/hymenoptera.zip"] = zipped(local, extra=extra)
    assert len(download()) == 10
    unpacked = cache / "datasets" / "hymenoptera"
    assert sum(path.is_file() for path in unpacked.rglob("*")) == 10
    assert not list(cache.rglob("escaped*")) + list(cache.rglob("absolute*"))


def test_a_damaged_copy_in_the_cache_is_downloaded_again(
    download: Callable[[], ImageDataset], site: Site, cache: Path
) -> None:
    download()
    (cache / "datasets" / "hymenoptera" / "train" / "ants" / "000.jpg").unlink()
    assert isinstance(download().read([0])[0], np.ndarray)
    assert len(site.requests) == 2


@pytest.mark.parametrize("form", ["folder", "folder above", "zip"])
def test_a_local_copy(
    form: str, local: Path, manifest: dict[str, str], download: Callable[[], ImageDataset]
) -> None:
    path = {"folder": local, "folder above": local.parent, "zip": local.with_suffix(".zip")}[form]
    local.with_suffix(".zip").write_bytes(zipped(local))
    (local / "train" / "ants" / "imageNotFound.gif").write_bytes(b"GIF")
    dataset = open_hymenoptera(path=str(path), url="unused:", manifest=manifest, progress=None)
    assert len(dataset) == 10
    assert dataset.fingerprint == download().fingerprint, "wherever the files lie"


def test_an_incomplete_local_copy_names_the_files(local: Path, manifest: dict[str, str]) -> None:
    (local / "train" / "ants" / "000.jpg").unlink()
    (local / "val" / "bees" / "001.jpg").write_bytes(b"changed")
    with pytest.raises(DataError) as caught:
        open_hymenoptera(path=str(local), url="unused:", manifest=manifest, progress=None)
    message = str(caught.value)
    assert str(local) in message
    assert "train/ants/000.jpg (missing)" in message
    assert "val/bees/001.jpg (changed)" in message


def test_a_damaged_local_archive_is_named(local: Path, manifest: dict[str, str]) -> None:
    archive = local.with_suffix(".zip")
    archive.write_bytes(zipped(local)[:-100])
    with pytest.raises(DataError, match=re.escape(str(archive))):
        open_hymenoptera(path=str(archive), url="unused:", manifest=manifest, progress=None)
    assert archive.exists()


def test_a_local_path_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "none"))):
        open_dataset("hymenoptera", {"path": str(tmp_path / "none")})


def test_another_data_set_is_not_hymenoptera(local: Path) -> None:
    with pytest.raises(DataError, match=r"not a complete copy of hymenoptera.*and 392 more"):
        open_dataset("hymenoptera", {"path": str(local)})


@pytest.mark.skipif(real_copy() is None, reason="the real photographs are not on this machine")
def test_the_real_photographs() -> None:
    dataset = open_dataset("hymenoptera", {"path": str(real_copy())})
    assert Counter(dataset.splits.tolist()) == {TRAIN: 244, TEST: 153}
    assert Counter(dataset.labels.tolist()) == {0: 193, 1: 204}
    assert all(isinstance(image, np.ndarray) for image in dataset.read(range(0, 397, 40)))


@pytest.mark.skipif(real_copy() is None, reason="the real photographs are not on this machine")
def test_one_changed_byte_of_the_real_photographs_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(real_copy() or "", copy)
    changed = copy / "val" / "ants" / "10308379_1b6c72e180.jpg"
    changed.chmod(0o644)
    content = bytearray(changed.read_bytes())
    content[-10] ^= 1
    changed.write_bytes(content)
    with pytest.raises(DataError, match=r"val/ants/10308379_1b6c72e180\.jpg \(changed\)$"):
        open_dataset("hymenoptera", {"path": str(copy)})
