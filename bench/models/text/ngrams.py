"""N-grams of texts and their TF-IDF weights (Spärck Jones, 1972), as scikit-learn computes them.

A batch holds the UTF-8 bytes of texts, so that what cuts them needs no vocabulary: that, and how
rare its n-grams are, is a matter of the training texts alone.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError, import_extra
from bench.system.cache import cache_root

AUTO, WORDS, CHARACTERS, JIEBA = "auto", "words", "characters", "jieba"
UNITS = (WORDS, CHARACTERS, JIEBA)
"""What n-grams are made of; checkpoints say it by its place here."""

USUAL, MAX_LENGTH = (1, 2), 10
"""Units of an n-gram where the name does not say, and at most."""

NAME = "tfidf"
BYTES, BYTES_PER_TOKEN, LEAST_BYTES = 4096, 16, 1024
"""How many bytes of a text are read at most where nothing else is said, how many for each token
that is, and how many where all texts of the data set are short: other texts may be longer."""

_WORD = re.compile(r"\b\w\w+\b")
_SPACES = re.compile(r"\s\s+")
_LETTERS = re.compile(r"[^\W\d_]")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of scripts that put no space between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese,
Chinese."""

_SEPARATOR = b"\xff"
"""Stands between stored n-grams: no byte of UTF-8."""


Rows: TypeAlias = Any
"""Of scipy a `csr_array` in double precision: most of what it holds is 0."""


@dataclass(frozen=True, kw_only=True)
class NGrams:
    """Which n-grams a text has: of `shortest` to `longest` units, which are one of `UNITS`.

    Words are those of scikit-learn's vectorisers: two letters or digits at least, in small letters.
    """

    unit: str
    shortest: int
    longest: int

    def of(self, text: str) -> Iterator[str]:
        """Every one, as often as it occurs."""
        units, join = _CUTTERS[self.unit](text.lower())
        for size in range(self.shortest, self.longest + 1):
            for start in range(len(units) - size + 1):
                yield join.join(units[start : start + size])

    def counted(self, texts: Sequence[str], columns: Mapping[str, int]) -> Rows:
        """How often each text has each n-gram that is one of `columns`, [texts, columns]."""
        from scipy import sparse

        found: list[npt.NDArray[np.int64]] = []
        for text in texts:
            places = (columns.get(each) for each in self.of(text))
            found.append(np.fromiter((own for own in places if own is not None), np.int64))
        ends = np.cumsum([0, *map(len, found)])
        indices = np.concatenate([*found, np.zeros(0, np.int64)])
        rows = sparse.csr_array(
            (np.ones(len(indices)), indices, ends), shape=(len(texts), len(columns))
        )
        rows.sum_duplicates()
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """N-grams of the training texts, each with a column, and how rare each is (`idf`)."""

    ngrams: NGrams
    columns: Mapping[str, int]
    idf: npt.NDArray[np.float64]

    @classmethod
    def of(cls, ngrams: NGrams, texts: Sequence[str]) -> Vocabulary:
        """That of all n-grams of the training texts, in order; raises `ValueError` without any."""
        names = sorted(set(chain.from_iterable(map(ngrams.of, texts))))
        if not names:
            raise ValueError(f"no training text has any n-gram of {ngrams.unit}")
        columns = {name: column for column, name in enumerate(names)}
        having = np.bincount(ngrams.counted(texts, columns).indices, minlength=len(names))
        # In the precision in which heads keep it.
        idf = (np.log((1 + len(texts)) / (1 + having)) + 1).astype(np.float32)
        return cls(ngrams=ngrams, columns=columns, idf=idf.astype(np.float64))

    def weighted(self, texts: Sequence[str]) -> Rows:
        """Counts times `idf`, every row of length 1, or 0: [texts, n-grams]."""
        rows = self.ngrams.counted(texts, self.columns)
        rows.data *= self.idf[rows.indices]
        squares = np.add.reduceat(np.append(rows.data**2, 0.0), rows.indptr[:-1])
        counts = np.diff(rows.indptr)
        lengths = np.sqrt(np.where(counts > 0, squares, 1.0))
        rows.data /= np.repeat(lengths, counts)
        return rows

    def stored(self) -> npt.NDArray[np.uint8]:
        """The n-grams one after the other."""
        return np.frombuffer(_SEPARATOR.join(each.encode() for each in self.columns), np.uint8)

    @classmethod
    def restored(
        cls, ngrams: NGrams, stored: npt.NDArray[np.uint8], idf: npt.NDArray[np.float64]
    ) -> Vocabulary:
        """What has `stored` these; raises `ValueError` where they do not belong together."""
        names = [each.decode() for each in stored.tobytes().split(_SEPARATOR)]
        columns = {name: column for column, name in enumerate(names)}
        if len(columns) != len(idf):
            raise ValueError(f"{len(columns)} n-grams with {len(idf)} weights")
        return cls(ngrams=ngrams, columns=columns, idf=idf)


def parse_name(name: str) -> NGrams:
    """The n-grams that a backbone's name asks for: `tfidf`, `tfidf/words`, `tfidf/characters-2-5`.

    Raises `BenchError` for other names.
    """
    kind = name.partition("/")[2] or AUTO
    found = re.fullmatch(r"([a-z]+)(?:-(\d+)-(\d+))?", kind)
    if found is None or found[1] not in (AUTO, *UNITS) or (found[1] == AUTO and "/" in name):
        raise BenchError(
            f"backbone must be tfidf, tfidf/words, tfidf/characters or tfidf/jieba, perhaps with "
            f"the lengths of n-grams, as tfidf/characters-2-5; got {name!r}"
        )
    shortest, longest = (int(found[2]), int(found[3])) if found[2] else USUAL
    if found[2] and not 1 <= shortest <= longest <= MAX_LENGTH:
        raise BenchError(
            f"lengths of n-grams must rise from 1 to {MAX_LENGTH} at most, got {name!r}"
        )
    return NGrams(unit=found[1], shortest=shortest, longest=longest)


def describe(name: str) -> str:
    """The network of this name, as checkpoints keep it."""
    return json.dumps({"ngrams": asdict(parse_name(name))}, sort_keys=True)


def chosen_for(ngrams: NGrams, texts: Sequence[str]) -> NGrams:
    """What `auto` means for these texts; others stay as they are.

    Characters where most letters are of scripts without spaces between words, and else words.
    """
    if ngrams.unit != AUTO:
        return ngrams
    return replace(ngrams, unit=CHARACTERS if are_unspaced(texts) else WORDS)


def are_unspaced(texts: Sequence[str]) -> bool:
    """Whether most letters are of scripts that put no space between words."""
    unspaced = sum(len(_UNSPACED.findall(text)) for text in texts)
    return 2 * unspaced > sum(len(_LETTERS.findall(text)) for text in texts)


def texts_of(rows: npt.NDArray[np.floating | np.integer]) -> list[str]:
    """Texts of rows of bytes `[n, length]`, in which what is below 0 is none."""
    return [row[row >= 0].astype(np.uint8).tobytes().decode(errors="ignore") for row in rows]


# Units ------------------------------------------------------------------------------------------


def _words(text: str) -> tuple[Sequence[str], str]:
    return _WORD.findall(text), " "


def _characters(text: str) -> tuple[Sequence[str], str]:
    return _SPACES.sub(" ", text), ""


def _of_jieba(text: str) -> tuple[Sequence[str], str]:
    cut = _jieba()
    return [word for word in cut(text) if not word.isspace()], " "


@lru_cache(maxsize=1)
def _jieba() -> Callable[[str], Sequence[str]]:
    jieba = import_extra("jieba", needed_for="tfidf/jieba", extra="jieba")
    logging.getLogger("jieba").setLevel(logging.WARNING)
    cutter = jieba.Tokenizer()
    cutter.tmp_dir = str(cache_root())  # and not where others write
    cutter.initialize()
    return lambda text: cutter.lcut(text)


_CUTTERS: Mapping[str, Callable[[str], tuple[Sequence[str], str]]] = {
    WORDS: _words,
    CHARACTERS: _characters,
    JIEBA: _of_jieba,
}


# Bytes ------------------------------------------------------------------------------------------


def byte_tokenizer() -> str:
    """JSON of the library `tokenizers` that cuts a text into its bytes, each its own id.

    Bytes belong to words between spaces.
    """
    names = _names_of_bytes()
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {"Regex": r"\s+"},
                        "behavior": "MergedWithPrevious",
                        "invert": False,
                    },
                    {
                        "type": "ByteLevel",
                        "add_prefix_space": False,
                        "trim_offsets": False,
                        "use_regex": False,
                    },
                ],
            },
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {name: byte for byte, name in enumerate(names)},
                "merges": [],
            },
        }
    )


def _names_of_bytes() -> list[str]:
    """The characters by which byte-level tokenizers call bytes: printable ones by themselves."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
