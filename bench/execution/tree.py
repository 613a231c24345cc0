"""The training tree: trials merged on equal epoch keys, so that each epoch is trained once.

Trials whose first epochs agree share them whatever makes them part later: a milestone of the
schedule, more epochs, another stage of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Segment:
    """Epochs `start` to `end` (from 0, end excluded) that the same trials train one after another.

    `trials` need it, of which `ending` are finished with it; `children` go on from its state.
    """

    start: int
    end: int
    trials: tuple[str, ...]
    ending: tuple[str, ...]
    children: list[Segment] = field(default_factory=list)

    def walk(self) -> Iterator[Segment]:
        """This segment and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def longest(self) -> int:
        """Epochs from the start of this segment to the end of the deepest trial below it."""
        below = max((child.longest for child in self.children), default=0)
        return self.end - self.start + below


def grow(paths: Mapping[str, Sequence[str]], starts: Mapping[str, int]) -> list[Segment]:
    """The forest of the trials' epochs, in the order of `paths` (trial → epoch keys).

    `starts` says after how many epochs a trial enters it; trials that enter at equal keys share.
    """
    groups: dict[tuple[int, str, str | None], list[str]] = {}
    for trial, keys in paths.items():
        start = starts[trial]
        following = keys[start + 1] if len(keys) > start + 1 else None
        groups.setdefault((start, keys[start], following), []).append(trial)
    return [_grow(paths, trials, start) for (start, _, _), trials in groups.items()]


def _grow(paths: Mapping[str, Sequence[str]], trials: Sequence[str], start: int) -> Segment:
    end = min(start + 1, len(paths[trials[0]]) - 1)
    while True:
        following: dict[str, list[str]] = {}
        for trial in trials:
            if len(paths[trial]) > end + 1:
                following.setdefault(paths[trial][end + 1], []).append(trial)
        if len(following) != 1 or len(next(iter(following.values()))) != len(trials):
            break
        end += 1
    return Segment(
        start=start,
        end=end,
        trials=tuple(trials),
        ending=tuple(trial for trial in trials if len(paths[trial]) == end + 1),
        children=[_grow(paths, group, end) for group in following.values()],
    )


def reused_epochs(paths: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """For each trial, how many of its epochs an earlier trial of `paths` has as well."""
    seen: set[str] = set()
    reused = {}
    for trial, keys in paths.items():
        reused[trial] = sum(key in seen for key in keys[1:])
        seen.update(keys[1:])
    return reused
