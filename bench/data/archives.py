"""Zip and tar archives of files, read where they lie: no file of them is unpacked to a disk.

An archive is a list of names with the place of each content. Whoever has made it may be nobody's
friend: names that lead out of it, names that are there twice, passwords and bombs are refused.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from bench.data.dataset import naming
from bench.errors import DataError
from bench.keys import content_hash
from bench.suite.schema import ARCHIVE_SUFFIXES
from bench.system.cache import atomic_file, cache_root, make_folder
from bench.system.visible_text import visible

MAX_MEMBER = 2**30
"""Bytes that a file in an archive may unpack to."""
SUSPICIOUS_MEMBER, MAX_RATIO = 2**28, 200
"""A file that unpacks to more than so many bytes may not be so many times smaller packed."""
MAX_MEMBERS = 1_000_000

_STORED, _DEFLATED, _OTHER = 0, 8, -1
_ENCRYPTED = 1
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_OPENERS: Mapping[str, Any] = {
    ".gz": gzip.open,
    ".tgz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_BLOCK = 1 << 20
_IN_MEMORY = "/dev/shm"
"""Where Linux has a file system in memory: empty files are made there at once."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in an archive: where its content lies in the file `archive`, and how it is packed.

    `id` is its path in the archive, below the only folder that everything may lie in.
    """

    archive: Path
    id: str
    offset: int
    packed: int
    size: int
    method: int = _STORED
    checksum: int | None = None

    def __str__(self) -> str:
        return f"{self.archive}/{self.id}"

    @property
    def name(self) -> str:
        """The name of the file without folders."""
        return posixpath.basename(self.id)

    def content(self) -> bytes:
        """What the file holds; raises `OSError` where that cannot be read."""
        if is_bomb(self.size, self.packed):
            raise OSError(0, bomb_text(self.size, self.packed))
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            if self.checksum is not None:
                _skip_header(file)
            packed = file.read(self.packed)
        content = self._unpacked(packed)
        if len(content) != self.size or self.checksum not in (None, zlib.crc32(content)):
            raise OSError(0, "damaged in the archive")
        return content

    def _unpacked(self, packed: bytes) -> bytes:
        if self.method == _STORED:
            return packed
        if self.method != _DEFLATED:
            raise OSError(0, "packed by a method that is not known; pack it anew, as usual for zip")
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
        except zlib.error as error:
            raise OSError(0, f"damaged in the archive ({error})") from error


StoredFile = Path | Member
"""A file on a disk, or in an archive."""


def is_archive(path: str | Path) -> bool:
    """Whether a path names an archive, by its suffix."""
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def is_bomb(size: int, packed: int) -> bool:
    """Whether a file in an archive unpacks to more than can be meant."""
    return size > MAX_MEMBER or (size > SUSPICIOUS_MEMBER and size > MAX_RATIO * packed)


def bomb_text(size: int, packed: int) -> str:
    """What is said of such a file."""
    return f"unpacks from {packed / 2**20:.1f} MiB to {size / 2**20:,.0f} MiB"


def opened(file: StoredFile) -> Path | io.BytesIO:
    """What Pillow opens; raises `OSError` where a member cannot be read."""
    return file if isinstance(file, Path) else io.BytesIO(file.content())


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive that was looked through: its files by their ids.

    All lie below the folder `top`, if that is not empty. `others` counts what is neither file nor
    folder, such as links.
    """

    path: Path
    members: Mapping[str, Member]
    others: int
    top: str

    @contextmanager
    def skeleton(self) -> Iterator[Path]:
        """A folder with the folders and names of the archive, all files empty; for a while."""
        in_memory = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="bench-archive-", dir=in_memory) as place:
            root = Path(place).resolve()
            made = {root}
            for member in self.members.values():
                path = root / member.id
                if path.parent not in made:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    made.add(path.parent)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            yield root


def open_archive(path: Path) -> Archive:
    """Look through an archive; raises `DataError` where it is damaged or not to be trusted."""
    try:
        if path.suffix.lower() == ".zip":
            found, others = _zip_members(path)
        else:
            found, others = _tar_members(_as_plain_tar(path))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError,
            struct.error, ValueError, NotImplementedError) as error:  # fmt: skip
        raise DataError(f"cannot read the archive {path}: {error}") from error
    if not found:
        raise DataError(f"the archive {path} has no files")
    members: dict[str, Member] = {}
    for member in found:
        if members.setdefault(member.id, member) is not member:
            raise DataError(
                f"the archive {path} has two files {visible(member.id)!r}; make it anew with one"
            )
    _check_folders(path, members)
    members, top = _below_only_folder(members)
    return Archive(path=path, members=members, others=others, top=top)


def _check_folders(path: Path, members: Mapping[str, Member]) -> None:
    """No name is that of a file and of a folder: a disk could not have both."""
    folders = {str(parent) for name in members for parent in PurePosixPath(name).parents}
    both = sorted(folders & members.keys())
    if both:
        raise DataError(f"the archive {path} has files inside of files: {naming(both)}")


def _below_only_folder(members: dict[str, Member], top: str = "") -> tuple[dict[str, Member], str]:
    """The members by their paths below the folder that all lie in, as archives are usually made.

    What systems put beside it (`__MACOSX`) does not count.
    """
    visible_names = [name for name in members if not name.startswith(("__MACOSX/", "."))]
    tops = {name.partition("/")[0] for name in visible_names}
    inside = all(name.count("/") > 1 for name in visible_names)
    if len(tops) != 1 or not inside:
        return members, top
    (only,) = tops
    start = len(only) + 1
    shorter = {name[start:]: replace(members[name], id=name[start:]) for name in visible_names}
    return _below_only_folder(shorter, f"{top}/{only}" if top else only)


def _checked_name(path: Path, name: str) -> str:
    """The name of a member as a path below the archive."""
    plain = name.replace("\\", "/") if "/" not in name else name
    parts = plain.split("/")
    if plain.startswith("/") or ".." in parts or "\0" in plain or ":" in parts[0]:
        raise DataError(
            f"the archive {path} names a file outside of itself, {visible(name)!r}: it is not to "
            "be trusted; make it anew from a folder of images"
        )
    return posixpath.normpath(plain)


def _check_number(path: Path, number: int) -> None:
    if number > MAX_MEMBERS:
        raise DataError(f"the archive {path} has more than {MAX_MEMBERS:,} files; unpack it")


# Zip ------------------------------------------------------------------------------------------


def _zip_members(path: Path) -> tuple[list[Member], int]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    _check_number(path, len(infos))
    members, others = [], 0
    for info in infos:
        name = _checked_name(path, info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.filename.endswith("/"):
            continue
        if kind not in (0, stat.S_IFREG):
            others += 1
            continue
        if info.flag_bits & _ENCRYPTED:
            raise DataError(
                f"{visible(name)} in {path} needs a password; unpack the archive, or make one "
                "without"
            )
        known = info.compress_type in (_STORED, _DEFLATED)
        members.append(
            Member(
                archive=path, id=name, offset=info.header_offset, packed=info.compress_size,
                size=info.file_size, method=info.compress_type if known else _OTHER,
                checksum=info.CRC,
            )
        )  # fmt: skip
    return members, others


def _skip_header(file: IO[bytes]) -> None:
    """To the content behind the header of a member, which has a name and more of its own length."""
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
        raise OSError(0, "damaged in the archive")
    _, name, extra = _LOCAL_HEADER.unpack(header)
    file.seek(name + extra, os.SEEK_CUR)


# Tar ------------------------------------------------------------------------------------------


def _tar_members(path: Path) -> tuple[list[Member], int]:
    members, others = [], 0
    with tarfile.open(path, "r:") as archive:
        for number, info in enumerate(archive, start=1):
            _check_number(path, number)
            name = _checked_name(path, info.name)
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():  # links may lead anywhere
                others += 1
                continue
            members.append(
                Member(archive=path, id=name, offset=info.offset_data, packed=info.size,
                       size=info.size)
            )  # fmt: skip
    return members, others


def _as_plain_tar(path: Path) -> Path:
    """The archive without compression, in which one would read all that lies before a file.

    It is made once, in the cache.
    """
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        return path
    status = path.stat()
    packed = status.st_size
    name = content_hash([str(path.absolute()), packed, status.st_mtime_ns], digits=32)
    kept = cache_root() / "archives" / f"{name}.tar"
    if not kept.is_file():
        make_folder(kept.parent)
        with opener(path) as source, atomic_file(kept) as temporary:
            _inflate(source, temporary, path, packed)
    return kept


def _inflate(source: IO[bytes], target: Path, path: Path, packed: int) -> None:
    size = 0
    with target.open("wb") as file:
        while block := source.read(_BLOCK):
            size += len(block)
            if size > SUSPICIOUS_MEMBER and size > MAX_RATIO * packed:
                raise DataError(f"the archive {path} {bomb_text(size, packed)}, or more")
            if shutil.disk_usage(target.parent).free < 2 * _BLOCK:
                raise DataError(
                    f"{path} is inflated once, which needs more than the {size / 2**20:,.0f} MiB "
                    f"that {target.parent} has room for; make room, point BENCH_CACHE to another "
                    "disk, or unpack it"
                )
            file.write(block)
