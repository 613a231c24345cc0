"""Data sets whose samples are vectors: measurements, or features that were computed elsewhere.

A prepared data set is a folder of the cache with `vectors.npy` (float32 [n, length]) and
`metadata.json`.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.data.dataset import (
    DataIssue,
    InputKind,
    LabelledSamples,
    Pixels,
    naming,
)
from bench.data.inputs import CENTRAL, Inputs, Preprocessing
from bench.data.prepared import PreparedSamples, opening, plain_samples, samples_of
from bench.data.splits import Samples, Splits
from bench.errors import DataError, counted
from bench.keys import content_hash
from bench.suite import Entry
from bench.system.cache import atomic_folder, cache_root, folder_label
from bench.system.transfers import on_device

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT_VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a stored value."""

VECTORS_FILE, METADATA_FILE = "vectors.npy", "metadata.json"

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorDataset(LabelledSamples):
    """A labelled data set of vectors `[n, length]`."""

    kind: ClassVar[InputKind] = "vector"

    vectors: Vectors

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.vectors.ndim == 2
        assert self.vectors.shape[0] == len(self.sample_ids)
        assert self.vectors.dtype == np.float32

    @property
    def native_size(self) -> int:
        """The length of a vector."""
        return int(self.vectors.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorData(PreparedSamples):
    """A prepared data set of vectors, see `PreparedData`."""

    vectors: Vectors

    @classmethod
    def open(cls, folder: Path) -> VectorData:
        """Open what `prepare_vectors` returned; raises `DataError` if it is damaged."""
        with opening("vectors", folder):
            metadata = json.loads((folder / METADATA_FILE).read_text(encoding="ascii"))
            # Those that an earlier version wrote have none.
            if metadata.pop("metadata_checksum", None) not in (None, _metadata_checksum(metadata)):
                raise ValueError(f"the checksum of {METADATA_FILE} is wrong")
            vectors = np.load(folder / VECTORS_FILE, mmap_mode="r")
            if metadata.pop("checksum") != _digest_of_file(folder / VECTORS_FILE):
                raise ValueError(f"the checksum of {VECTORS_FILE} is wrong")
            return cls(folder=folder, vectors=vectors, **samples_of(metadata), **metadata)

    @property
    def input_size(self) -> int:
        """The length of a vector."""
        return int(self.vectors.shape[1])

    def preprocessing(self, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
        """Vectors are taken as they are."""
        return Preprocessing(kind="vector", size=self.input_size, classes=self.classes)

    def inputs(
        self, augmentation: Entry, preprocessing: Preprocessing, *, seed: int, device: torch.device
    ) -> Inputs:
        """The vectors on the device; the only augmentation is `none`."""
        return VectorInputs(self.vectors, device)

    def pictures(self, sample_ids: Sequence[str]) -> dict[str, Pixels]:
        """There are none."""
        return {}


class VectorInputs:
    """`Inputs` of vectors: batches are float32 [n, length]."""

    varies = False
    mixes = False

    def __init__(self, vectors: Vectors, device: torch.device) -> None:
        self._vectors = vectors
        self._device = device

    def view(self, epoch: int) -> tuple[Any, ...]:
        """The same in every epoch."""
        return CENTRAL

    def batch(self, samples: Samples, epoch: int) -> Tensor:
        """The vectors of `samples`."""
        import torch

        vectors = torch.from_numpy(np.ascontiguousarray(self._vectors[samples]))
        return on_device(vectors, self._device)

    def mix(self, batch: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """There is no mix of vectors."""
        raise NotImplementedError


def vectors_fingerprint(dataset: VectorDataset) -> str:
    """What names the prepared vectors."""
    return content_hash([FORMAT_VERSION, dataset.fingerprint, "vector"], digits=64)


def prepare_vectors(dataset: VectorDataset) -> Path:
    """Write the vectors to the cache once; the folder for `VectorData.open`."""
    fingerprint = vectors_fingerprint(dataset)
    label = folder_label(dataset.name) or "vectors"
    folder = cache_root() / "vectors" / f"{label}-{fingerprint[:16]}"
    if not is_prepared(folder):
        with atomic_folder(folder, keep=is_prepared) as temporary:
            np.save(temporary / VECTORS_FILE, dataset.vectors)
            metadata = plain_samples(dataset, fingerprint=fingerprint, issues=dataset.issues)
            metadata["checksum"] = _digest(dataset.vectors)
            metadata["metadata_checksum"] = _metadata_checksum(metadata)
            (temporary / METADATA_FILE).write_text(json.dumps(metadata), encoding="ascii")
    return folder


def is_prepared(folder: Path) -> bool:
    """Whether the folder holds prepared vectors, whole."""
    try:
        VectorData.open(folder)
    except DataError:
        return False
    return True


def _metadata_checksum(metadata: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(metadata).encode())


def _digest_of_file(path: Path) -> str:
    """Computed once in a process while the file stays as it is: every task opens it."""
    status = path.stat()
    return _remembered_digest(path, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _remembered_digest(path: Path, _file: int, _modified: int) -> str:
    return _digest(np.load(path, mmap_mode="r"))


def _digest(vectors: Vectors) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors, "<f4").tobytes()).hexdigest()


def vector_leakage(data: VectorData, splits: Sequence[Splits]) -> list[DataIssue]:
    """Equal vectors that some of the `splits` put on different sides, as one issue."""
    rows: dict[bytes, list[int]] = {}
    for index, vector in enumerate(np.asarray(data.vectors)):
        rows.setdefault(vector.tobytes(), []).append(index)
    sides = [{int(i): name for name, part in each.named().items() for i in part} for each in splits]
    found = [
        (i, j)
        for same in rows.values()
        for at, i in enumerate(same)
        for j in same[at + 1 :]
        if any(i in side and j in side and side[i] != side[j] for side in sides)
    ]
    if not found:
        return []
    shown = [f"{data.sample_ids[i]} and {data.sample_ids[j]}" for i, j in found]
    message = (
        f"{counted(len(found), 'pair')} of identical vectors on different sides of a split, "
        f"for example {naming(shown)}."
    )
    samples = tuple(data.sample_ids[index] for pair in found[:5] for index in pair)
    return [DataIssue(kind="leakage-exact", message=message, count=len(found), samples=samples)]
