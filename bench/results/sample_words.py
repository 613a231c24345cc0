"""What samples are called in prose, which is written of images: of texts it speaks of texts.

One place knows it, so that a sentence is written once for every kind of sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from bench.results.folder import Run, output_names
from bench.results.grid import read_grid

_WRITTEN = re.compile(r"\b(?:([Aa])n )?([Ii])mage(s?)\b")


@dataclass(frozen=True, kw_only=True)
class SampleWords:
    """Makes sentences speak of samples of a `kind`; `names` of others' in them stay as they are."""

    kind: str = "image"
    names: tuple[str, ...] = ()

    def __call__(self, sentence: str) -> str:
        """The sentence with what samples are called."""
        if self.kind != "text":
            return sentence
        return self._pattern.sub(_called, sentence)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        kept = sorted({name for name in self.names if _WRITTEN.search(name)}, key=len, reverse=True)
        return re.compile(
            "|".join([*(f"(?:{re.escape(name)})" for name in kept), _WRITTEN.pattern])
        )


def _called(found: re.Match[str]) -> str:
    article, first, plural = found.groups()
    if first is None:  # a name
        return found.group()
    return f"{f'{article} ' if article else ''}{'T' if first == 'I' else 't'}ext{plural}"


def words_of(run: Run) -> SampleWords:
    """Those of the samples of a run."""
    if kind_of(run) != "text":
        return SampleWords()
    grid = read_grid(run.trials, run.metric) if len(run.trials) else None
    names: Iterable[str] = (
        *output_names(run.predictions),
        *(value for axis in (grid.axes.values() if grid else ()) for value in map(str, axis)),
        *map(str, run.trials["dataset"].dropna().unique()),
    )
    return SampleWords(kind="text", names=tuple(dict.fromkeys(names)))


def kind_of(run: Run) -> str:
    """What kind of samples a run has; earlier versions knew images alone."""
    rules = run.data.get("inputs") or [{}]
    return str(rules[0].get("kind", "image"))
