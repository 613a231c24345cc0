"""Views of training images that several trials see, made once and kept in the cache.

A view depends on (augmentation, seed, epoch, sample) alone: not on strategy, rate, schedule, batch
size or optimiser. Views are kept in pieces of a few samples, so that processes that reach an epoch
together make a part each.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from bench.data.dataset import RGB, PixelForm, Pixels
from bench.data.images.augmentations import varies
from bench.data.splits import Samples, samples_digest
from bench.keys import content_hash
from bench.suite import Entry
from bench.system.cache import cache_root
from bench.system.lru_folder import VIEWS, LruFolder, cache_limit

PIECE = 16
"""Samples whose views are made, written and locked together."""
READ_SECONDS = 5e-9
"""What reading a byte of a kept view may take; views that are made faster are not kept."""
CHECKSUM_BYTES = 4

Make = Callable[[Samples, int], Pixels]


def kept_bytes(
    augmentation: Entry,
    samples: int,
    *,
    size: int,
    epochs: int,
    pixel_bytes: int = RGB.pixel_bytes,
) -> int:
    """What the views of one training may take in the cache; 0 if they are not kept.

    They are not if they do not vary, or take more than half of the folder's limit: then the first
    epochs would be gone before another training asks for them.
    """
    taken = epochs * samples * size * size * pixel_bytes
    return taken if varies(augmentation) and 2 * taken <= cache_limit() else 0


class KeptViews:
    """Views [n, size, size, channels] of the samples `among` (ascending), found or made.

    `key` names all that decides about them but epoch and sample. Whatever the cache does, the views
    are those that `make(samples, epoch)` gives. Those of one epoch are mapped at a time.
    """

    def __init__(
        self, key: str, *, among: Samples, size: int, make: Make, form: PixelForm = RGB
    ) -> None:
        self._key = key
        self._make = make
        self._shape = (size, size, form.depth)
        self._dtype = form.dtype
        self._pieces = np.array_split(among, range(PIECE, len(among), PIECE))
        self._place = {int(sample): divmod(row, PIECE) for row, sample in enumerate(among)}
        self._cache = LruFolder(cache_root() / VIEWS, cache_limit())
        self._epoch = -1
        self._opened: dict[int, Pixels] = {}
        self._pays: bool | None = None

    def of(self, samples: Samples, epoch: int) -> Pixels:
        """The views of `samples` in `epoch`, in their order."""
        if self._pays is False:
            return self._make(samples, epoch)
        if epoch != self._epoch:
            self._epoch, self._opened = epoch, {}
        places = [self._place[int(sample)] for sample in samples]
        self._open(sorted({piece for piece, _ in places} - self._opened.keys()))
        views = np.empty((len(samples), *self._shape), self._dtype)
        missing = []
        for row, (piece, place) in enumerate(places):
            if piece in self._opened:
                views[row] = self._opened[piece][place]
            else:
                missing.append(row)
        if missing:
            views[missing] = self._make(samples[missing], epoch)
        return views

    def _open(self, pieces: Sequence[int]) -> None:
        """Find or make pieces: first what no other process is making, then the rest.

        A cache that cannot be written to leaves them closed.
        """
        for waits in (False, True):
            for piece in pieces:
                if piece not in self._opened and self._pays is not False:
                    self._open_piece(piece, waits=waits)

    def _open_piece(self, piece: int, *, waits: bool) -> None:
        key = content_hash([self._key, self._epoch, samples_digest(self._pieces[piece])], digits=32)
        views = self._found(key, piece)
        if views is None:
            try:
                with self._cache.lock(key).acquire(timeout=-1 if waits else 0):
                    # Another process may just have made it.
                    views = self._found(key, piece)
                    if views is None:
                        views = self._kept(key, piece)
            except Timeout:  # another process is just making it
                return
            except (OSError, NotImplementedError):  # a full disk, a cache that is only read
                self._pays = False
        if views is not None:
            self._opened[piece] = views

    def _kept(self, key: str, piece: int) -> Pixels | None:
        started = time.perf_counter()
        views = self._make(self._pieces[piece], self._epoch)
        if self._pays is None:
            self._pays = time.perf_counter() - started > READ_SECONDS * views.nbytes
        if not self._pays:
            return views
        with self._cache.adding(key) as temporary:
            _write(views, temporary)
        return self._found(key, piece)

    def _found(self, key: str, piece: int) -> Pixels | None:
        path = self._cache.find(key)
        shape = (len(self._pieces[piece]), *self._shape)
        return None if path is None else _read(path, shape, self._dtype)


def _write(views: Pixels, path: Path) -> None:
    with path.open("wb") as file:
        file.write(views.data)
        file.write(zlib.crc32(views.data).to_bytes(CHECKSUM_BYTES, "little"))


def _read(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[np.unsignedinteger[Any]]
) -> Pixels | None:
    """The views, mapped; None if they are not what was written, or just went."""
    try:
        if path.stat().st_size != np.prod(shape) * dtype.itemsize + CHECKSUM_BYTES:
            return None
        with path.open("rb") as file:
            file.seek(-CHECKSUM_BYTES, 2)
            checksum = int.from_bytes(file.read(), "little")
        views = np.memmap(path, dtype, mode="r", shape=shape)
    except (OSError, ValueError):
        return None
    return views if zlib.crc32(views.data) == checksum else None
