"""The images that an audit names, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.errors import counted
from bench.results.analysis.audit import OUTLIER, Suspect, to_picture
from bench.results.plots.pictures import LETTERS, broken, picture_rows
from bench.results.plots.style import shortened, styled

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

MAX_SUSPECTS = 40


@styled
def suspects_sheet(
    suspects: Sequence[Suspect], pictures: Mapping[str, np.ndarray]
) -> Figure | None:
    """The first `MAX_SUSPECTS` of those that there are `pictures` `[height, width, 3]` of, by
    sample; `None` if there are none."""
    known = [each for each in suspects if each.sample in pictures]
    shown = to_picture(known, MAX_SUSPECTS)
    if not shown:
        return None
    more = f", the first {len(shown)} of {len(known)} with a picture" if known[len(shown) :] else ""
    return picture_rows(
        [pictures[each.sample] for each in shown],
        [_text(each) for each in shown],
        title=f"{counted(len(suspects), 'suspicion')} to look at{more}",
        note="Given label, what is suspected, the file. A label error has its suggested label and "
        "how much more probable another class is than the given one; what is unlike all others has "
        "its local outlier factor.",
    )


def _text(suspect: Suspect) -> str:
    given = "label unknown" if suspect.given is None else broken(suspect.given)
    file = shortened(suspect.sample.rpartition("/")[2], LETTERS)
    if suspect.suggested is not None:
        taken = f"→ {broken(suspect.suggested, LETTERS - 2)}"
        return f"{given}\n{taken} ({suspect.score:+.2f})\n{file}"
    if suspect.reason == OUTLIER:
        return f"{given}\n{OUTLIER} ({suspect.score:.2f})\n{file}"
    like = "" if suspect.like is None else f"\n≈ {broken(suspect.like[1], LETTERS - 2)}"
    return f"{given}{like}\n{broken(suspect.reason)}\n{file}"
