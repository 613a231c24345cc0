"""The data set `hymenoptera`: 397 photographs of ants and bees, a subset of ImageNet.

The data of PyTorch's "Transfer Learning for Computer Vision" tutorial: 244 images to train on and
153 in its `val` folder, which is the test split here. `hymenoptera.sha256` lists the SHA-256 of
every image; whatever else the archive holds is ignored.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from bench.data.dataset import DATASETS, TEST, TRAIN, ImageDataset, naming
from bench.data.files import existing_folder
from bench.data.images.file_hashes import file_hashes
from bench.data.images.files import dataset_from_files
from bench.data.samples import LabelledFile
from bench.errors import DataError, counted
from bench.system.cache import atomic_folder, cache_root
from bench.system.download import DownloadError, OnProgress, fetch

URL = "https://download.pytorch.org/tutorial/hymenoptera_data.zip"
ARCHIVE_FOLDER = "hymenoptera_data"
IMAGENET_CLASSES: Mapping[str, tuple[int | str, ...]] = {"ants": (310,), "bees": (309,)}
SPLITS = {"train": TRAIN, "val": TEST}
MAX_FILE_BYTES = 1 << 22
MAX_ARCHIVE_BYTES = 1 << 27
"""Well above the largest photograph and the archive; what is larger is something else."""
UNREADABLE_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, KeyError, OSError,
    OverflowError, RuntimeError, ValueError,
)  # fmt: skip
"""What `zipfile` and its decompressors raise on archives that are damaged, encrypted or forged."""
MEND = (
    "Where there is no network, point the suite to a local copy: "
    "dataset: {name: hymenoptera, path: FOLDER-OR-ZIP}"
)

Manifest = Mapping[str, str]
"""SHA-256 of each file by its path ("train/ants/0013035.jpg")."""


@DATASETS.register("hymenoptera")
def hymenoptera(
    progress: OnProgress | None,
    /,
    *,
    path: Annotated[
        str | None,
        Field(
            description="A copy, a folder or the archive; a relative path starts at the suite's "
            "folder. null: downloaded once.",
            examples=["hymenoptera_data"],
        ),
    ] = None,
) -> ImageDataset:
    """397 photographs of ants and bees (PyTorch's transfer-learning tutorial), 47 MB.

    `path` is a local copy, a folder or the archive itself; without it the archive is downloaded
    once. Raises `DataError` if it cannot be, or if a file is missing or is not what it should be.
    """
    return open_hymenoptera(path=path, url=URL, manifest=read_manifest(), progress=progress)


def read_manifest() -> Manifest:
    """The checksums that come with the package (the format of `sha256sum`)."""
    text = (
        resources.files("bench.data.images")
        .joinpath("hymenoptera.sha256")
        .read_text(encoding="utf-8")
    )
    lines = (line.split("  ", 1) for line in text.splitlines())
    return {path: digest for digest, path in lines}


def open_hymenoptera(
    *, path: str | None, url: str, manifest: Manifest, progress: OnProgress | None
) -> ImageDataset:
    """The data set with the files and checksums of `manifest`, from `path` or else from `url`."""
    if path is None:
        root = _downloaded(url, manifest, progress)
    elif Path(path).expanduser().is_file():
        root = _unpacked(Path(path).expanduser().absolute(), manifest)
    else:
        root = _local_copy(path)
        wrong = _wrong_files(root, manifest, progress)
        if wrong:
            raise DataError(f"{root} is not a complete copy of hymenoptera: {naming(wrong)}")
    files = [
        LabelledFile(
            path=root / name,
            class_name=PurePosixPath(name).parts[1],
            split=SPLITS[PurePosixPath(name).parts[0]],
        )
        for name in manifest
    ]
    return dataset_from_files(
        name="hymenoptera", root=root, files=files, progress=progress, class_map=IMAGENET_CLASSES
    )


def _local_copy(path: str) -> Path:
    root = existing_folder(path)
    inner = root / ARCHIVE_FOLDER
    return inner if inner.is_dir() else root


def _downloaded(url: str, manifest: Manifest, progress: OnProgress | None) -> Path:
    folder = _unpacked_folder()
    if _is_complete(folder, manifest):
        return folder
    archive = folder.with_suffix(".zip")
    try:
        fetch(url, archive, max_bytes=MAX_ARCHIVE_BYTES, progress=progress, mend=MEND)
    except DownloadError as error:
        raise DataError(str(error)) from error
    try:
        _unpacked(archive, manifest)
    except DataError as error:
        archive.unlink()
        raise DataError(f"what {url} sent is not hymenoptera: {error}. {MEND}") from error
    archive.unlink(missing_ok=True)
    return folder


def _unpacked(archive: Path, manifest: Manifest) -> Path:
    """Unpack the files of the manifest, and only under the names it gives, into the cache."""
    folder = _unpacked_folder()
    if _is_complete(folder, manifest):
        return folder
    with atomic_folder(folder, keep=lambda there: _is_complete(there, manifest)) as new:
        try:
            with zipfile.ZipFile(archive) as opened:
                wrong = [
                    name
                    for name, digest in manifest.items()
                    if not _unpack(opened, name, digest, new)
                ]
        except UNREADABLE_ARCHIVE as error:
            raise DataError(f"{archive} is not a complete zip archive ({error})") from error
        if wrong:
            raise DataError(
                f"{archive} has {counted(len(wrong), 'file')} missing or changed: {naming(wrong)}"
            )
    return folder


def _unpack(archive: zipfile.ZipFile, name: str, digest: str, folder: Path) -> bool:
    """Write one file; false if the archive has none of that name and content."""
    try:
        with archive.open(f"{ARCHIVE_FOLDER}/{name}") as file:
            content = file.read(MAX_FILE_BYTES)
    except UNREADABLE_ARCHIVE:
        return False
    if hashlib.sha256(content).hexdigest() != digest:
        return False
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return True


def _unpacked_folder() -> Path:
    return cache_root() / "datasets" / "hymenoptera"


def _is_complete(folder: Path, manifest: Manifest) -> bool:
    return folder.is_dir() and not _wrong_files(folder, manifest, None)


def _wrong_files(root: Path, manifest: Manifest, progress: OnProgress | None) -> list[str]:
    """The files of the manifest that are missing, unreadable or changed under `root`."""
    paths = [root / name for name in manifest]
    actual = dict(zip(manifest, file_hashes(root, paths, progress=progress), strict=True))
    return [
        f"{name} ({'changed' if (root / name).is_file() else 'missing'})"
        for name, digest in manifest.items()
        if actual[name] != digest
    ]
