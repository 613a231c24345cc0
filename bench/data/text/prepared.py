"""Prepared texts: cut into tokens once, then memory-mapped by every process.

A prepared data set is a folder of the cache with `tokens.npy` and `words.npy` (int32 [n, length]),
`texts.bin` (UTF-8) with `offsets.npy` (int64 [n + 1]), `tokenizer.json` and `metadata.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from bench.data.dataset import (
    MAX_KEPT,
    DataIssue,
    Pixels,
    naming,
)
from bench.data.inputs import Inputs, Preprocessing
from bench.data.prepared import PreparedSamples, opening, plain_samples, samples_of
from bench.data.text.dataset import TextDataset
from bench.data.text.inputs import TextInputs
from bench.data.text.tokens import Tokenised, Tokens, tokenise
from bench.errors import DataError
from bench.keys import content_hash, known_digest
from bench.suite import Entry
from bench.system.cache import atomic_folder, cache_root, folder_label
from bench.system.machine import installed_versions

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a stored token."""

TOKENS_FILE, WORDS_FILE, TEXTS_FILE = "tokens.npy", "words.npy", "texts.bin"
OFFSETS_FILE, TOKENIZER_FILE, METADATA_FILE = "offsets.npy", "tokenizer.json", "metadata.json"
_CHECKED = (TOKENS_FILE, WORDS_FILE, TEXTS_FILE, OFFSETS_FILE, TOKENIZER_FILE)


class StoredTexts(Sequence[str]):
    """Texts one after the other in UTF-8, decoded when they are asked for."""

    def __init__(self, content: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self._content = content
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        position = at % len(self)
        start, end = self._offsets[position : position + 2]
        return bytes(self._content[start:end]).decode()

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True, kw_only=True, eq=False)
class TextData(PreparedSamples):
    """A prepared data set of texts, see `PreparedData`.

    `tokens` and `words` are those of `Tokenised`, `tokenizer` is what made them.
    """

    texts: Sequence[str]
    tokens: Tokens
    words: Tokens
    tokenizer: str

    @property
    def input_size(self) -> int:
        """How many tokens a network sees of a text at most."""
        return int(self.tokens.shape[1])

    def preprocessing(self, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
        """How these texts were cut."""
        return text_preprocessing(self.input_size, self.tokenizer, self.classes)

    def inputs(
        self, augmentation: Entry, preprocessing: Preprocessing, *, seed: int, device: torch.device
    ) -> Inputs:
        """The tokens under an augmentation, with the draws of `seed`."""
        return TextInputs(
            self.tokens,
            self.words,
            augmentation,
            num_classes=len(self.classes),
            seed=seed,
            device=device,
        )

    def pictures(self, sample_ids: Sequence[str]) -> dict[str, Pixels]:
        """There are none."""
        return {}

    @classmethod
    def open(cls, folder: Path) -> TextData:
        """Open what `prepare_texts` returned; raises `DataError` if it is damaged."""
        with opening("texts", folder):
            return cls._open(folder)

    @classmethod
    def _open(cls, folder: Path) -> TextData:
        metadata = json.loads((folder / METADATA_FILE).read_text(encoding="ascii"))
        if metadata.pop("metadata_checksum") != _text_digest(json.dumps(metadata)):
            raise ValueError(f"the checksum of {METADATA_FILE} is wrong")
        for file, digest in metadata.pop("checksums").items():
            if known_digest(folder / file) != digest:
                raise ValueError(f"the checksum of {file} is wrong")
        content = folder / TEXTS_FILE
        empty = not content.stat().st_size
        stored = np.zeros(0, np.uint8) if empty else np.memmap(content, np.uint8, mode="r")
        return cls(
            folder=folder,
            texts=StoredTexts(stored, np.load(folder / OFFSETS_FILE)),
            tokens=np.load(folder / TOKENS_FILE, mmap_mode="r"),
            words=np.load(folder / WORDS_FILE, mmap_mode="r"),
            tokenizer=(folder / TOKENIZER_FILE).read_text(encoding="utf-8"),
            **samples_of(metadata),
            **metadata,
        )


def text_preprocessing(length: int, tokenizer: str, classes: tuple[str, ...]) -> Preprocessing:
    """What turns texts into rows of at most `length` tokens."""
    return Preprocessing(kind="text", size=length, classes=classes, tokenizer=tokenizer)


def texts_fingerprint(dataset: TextDataset, length: int, tokenizer: str) -> str:
    """What names the prepared texts."""
    made_by = [_text_digest(tokenizer), installed_versions("tokenizers")]
    content = [FORMAT_VERSION, dataset.fingerprint, "text", length, made_by]
    return content_hash(content, digits=64)


def prepare_texts(dataset: TextDataset, *, length: int, tokenizer: str) -> Path:
    """Cut the texts into tokens once; the folder in the cache for `TextData.open`.

    Raises as `load_tokenizer` does.
    """
    fingerprint = texts_fingerprint(dataset, length, tokenizer)
    label = folder_label(dataset.name) or "texts"
    folder = cache_root() / "texts" / f"{label}-{fingerprint[:16]}"
    if is_prepared(folder):
        return folder
    found = tokenise(dataset.texts, tokenizer, length=length)
    with atomic_folder(folder, keep=is_prepared) as temporary:
        encoded = [text.encode() for text in dataset.texts]
        np.save(temporary / TOKENS_FILE, found.ids)
        np.save(temporary / WORDS_FILE, found.words)
        np.save(temporary / OFFSETS_FILE, np.cumsum([0, *map(len, encoded)], dtype=np.int64))
        (temporary / TEXTS_FILE).write_bytes(b"".join(encoded))
        (temporary / TOKENIZER_FILE).write_text(tokenizer, encoding="utf-8")
        issues = (*dataset.issues, *_truncated(dataset, found, length), *_unknown(dataset, found))
        metadata = {
            **plain_samples(dataset, fingerprint=fingerprint, issues=issues),
            "generated": dataset.generated,
            "checksums": {name: known_digest(temporary / name) for name in _CHECKED},
        }
        metadata["metadata_checksum"] = _text_digest(json.dumps(metadata))
        (temporary / METADATA_FILE).write_text(json.dumps(metadata), encoding="ascii")
    return folder


def _truncated(dataset: TextDataset, found: Tokenised, length: int) -> Iterator[DataIssue]:
    """Texts that lose their end."""
    yield from _some(
        "truncated",
        dataset,
        found.cut,
        lambda named: (
            f"have more than {length} tokens, and lose their end ({named}): max_length sees more "
            "of them"
        ),
    )


def _unknown(dataset: TextDataset, found: Tokenised) -> Iterator[DataIssue]:
    """Texts of which a network sees nothing."""
    yield from _some(
        "unknown-words",
        dataset,
        found.unknown,
        lambda named: (
            "have no word that the backbone's tokenizer knows, and look all alike to it "
            f"({named}): a backbone of their language, or tfidf, sees more"
        ),
    )


def _some(
    kind: str,
    dataset: TextDataset,
    which: npt.NDArray[np.bool_],
    told: Callable[[str], str],
) -> Iterator[DataIssue]:
    """That some texts, of which a few are named, are as they are `told` to be."""
    own = [dataset.sample_ids[at] for at in np.flatnonzero(which)]
    if own:
        share = f"{len(own):,} of {len(dataset):,} texts ({len(own) / len(dataset):.0%})"
        yield DataIssue(
            kind=kind,
            message=f"{share} {told(naming(own))}",
            count=len(own),
            samples=tuple(own[:MAX_KEPT]),
        )


def is_prepared(folder: Path) -> bool:
    """Whether the folder holds prepared texts, whole."""
    try:
        TextData.open(folder)
    except DataError:
        return False
    return True


def noise_tokens(count: int, length: int) -> Tokenised:
    """Rows of the tokens that every vocabulary has, of all lengths."""
    draws = np.random.default_rng(0)
    ids = draws.integers(0, 4, (count, length), np.int32)
    ids[np.arange(length) >= draws.integers(1, length + 1, count)[:, None]] = -1
    none = np.zeros(count, np.bool_)
    return Tokenised(ids=ids, words=np.where(ids < 0, -1, 0), cut=none, unknown=none)


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
