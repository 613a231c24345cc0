"""Leakage: the same text on both sides of a split, which makes a test score too good.

Texts are equal if they are in Unicode's compatibility form (NFKC), in small letters and with single
blanks. Nearly equal ones share most of their runs of four characters (Jaccard index of the two
sets), which asks nothing of a language: Broder, "On the Resemblance and Containment of Documents",
1997. MinHash with banding (`datasketch`) proposes pairs, and each is compared itself.

The limit was set on 10,070 review snippets of films: of 50.7 million pairs none reaches it, and the
nearest ("one of the best movies of the year", "… worst …") share 0.67. A changed word is found in a
text of a dozen words, a changed character in one of 26 characters.
"""

from __future__ import annotations

import importlib.util
import unicodedata
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from bench.data.copies import Copies, Pairs, copies_told, keep_copies, kept_copies
from bench.data.dataset import DataIssue
from bench.data.splits import Samples, Splits
from bench.data.text.prepared import TextData
from bench.system.download import OnProgress

FORMAT_VERSION = 1
"""Raise it with every change that alters what counts as a copy."""
SHINGLE = 4
"""Characters of a run."""
NEAR_JACCARD = 0.7
BANDS, ROWS = 32, 4
"""Of 128 hashes: a pair at the limit is proposed with a probability of 0.9998, a nearer one with
more."""
UNLIKELY = 0.5
"""Pairs that 128 hashes estimate below it are not compared: five standard deviations below the
limit."""
MAX_NEAR_PAIRS = 100_000
MAX_PROPOSED = 1_000_000
"""Pairs that are looked at: where texts share a template, everything is proposed."""


def text_leakage(
    data: TextData, splits: Sequence[Splits], progress: OnProgress | None = None
) -> list[DataIssue]:
    """Pairs of equal or nearly equal texts that some of the `splits` put on different sides.

    Also what else `copies_told` tells. The search is made once per prepared data set and remembered
    beside its texts; generated data is not searched. Without the package `datasketch` only equal
    texts are looked for, which is told.
    """
    if data.generated or not splits:
        return []
    copies = _copies(data, progress)
    if copies is not None and copies.all_found:
        return copies_told(data, copies, splits)
    if copies is None:
        original, near = _originals(list(map(compared, data.texts))), np.empty((0, 2), np.int64)
        copies = Copies(original=original, near=near, noun="text")
        why = (
            "Only identical texts were looked for: nearly identical ones are found with the "
            'package datasketch (pip install "bench[text]").'
        )
    else:
        why = (
            "There may be more nearly identical texts than were found: so many are alike that the "
            "search was ended."
        )
    told = DataIssue(kind="leakage-not-searched", message=why, count=1)
    return [*copies_told(data, copies, splits), told]


def _copies(data: TextData, progress: OnProgress | None) -> Copies | None:
    """None where nothing finds near ones."""
    path = data.folder / f"copies-{FORMAT_VERSION}.npz"
    known = kept_copies(path, len(data))
    if known is not None:
        original, near = known
        return Copies(original=original, near=near, noun="text")
    if importlib.util.find_spec("datasketch") is None:
        return None
    texts = list(map(compared, data.texts))
    original = _originals(texts)
    firsts = np.unique(original)

    def report(done: int) -> None:
        if progress is not None:
            progress(f"compare {data.name}", done, len(firsts))

    pairs, all_found = near_pairs([texts[index] for index in firsts], report)
    near = firsts[pairs]
    if all_found:
        keep_copies(path, original, near)
    return Copies(original=original, near=near, noun="text", all_found=all_found)


def compared(text: str) -> str:
    """What of a text is compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _originals(texts: Sequence[str]) -> Samples:
    first: dict[str, int] = {}
    found = [first.setdefault(text, index) for index, text in enumerate(texts)]
    return np.array(found, np.int64)


def near_pairs(
    texts: Sequence[str], report: Callable[[int], None] = lambda _: None
) -> tuple[Pairs, bool]:
    """Pairs of different texts that are near, at most `MAX_NEAR_PAIRS`, and whether those are all.

    `report` is told how many texts are compared.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    hashes = []
    found: list[tuple[int, int]] = []
    proposed = 0
    sets = (list(_shingles(text)) for text in texts)
    made = MinHash.generator(sets, num_perm=BANDS * ROWS, hashfunc=zlib.crc32)
    for place, own in enumerate(made):
        hashes.append(own)
        candidates = sorted(index.query(own))
        proposed += len(candidates)
        likely = [other for other in candidates if own.jaccard(hashes[other]) >= UNLIKELY]
        found += [(other, place) for other in likely if jaccard(texts[other], texts[place])
                  >= NEAR_JACCARD]  # fmt: skip
        if len(found) >= MAX_NEAR_PAIRS or proposed > MAX_PROPOSED:
            return _as_pairs(found[:MAX_NEAR_PAIRS]), False
        index.insert(place, own)
        report(place + 1)
    return _as_pairs(found), True


def _as_pairs(found: Sequence[tuple[int, int]]) -> Pairs:
    return np.array(found, np.int64).reshape(-1, 2)


def jaccard(left: str, right: str) -> float:
    """How much of the runs of characters in two texts both have: 1 for all."""
    one, other = _shingles(left), _shingles(right)
    return len(one & other) / len(one | other)


def _shingles(text: str) -> set[bytes]:
    last = max(1, len(text) - SHINGLE + 1)
    return {text[start : start + SHINGLE].encode() for start in range(last)}
