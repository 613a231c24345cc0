"""The audit of a run in words, as a table, and as the files of the folder `audit/`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError, counted
from bench.results.analysis.audit import OUTLIER, PAIRS, Audited, Suspect
from bench.results.analysis.held_out import HeldOut
from bench.results.folder import read_json, write_json
from bench.results.report.blocks import Block, Picture, Table, paragraph
from bench.results.report.tables import render_csv
from bench.results.sample_words import SampleWords
from bench.system.cache import atomic_file, set_aside

FOLDER = "audit"
CSV, JSON, SHEET = "audit.csv", "audit.json", "contact_sheet.png"
HEADER = ("sample", "given", "suggested", "score", "reason", "like")
SHOWN = 20
TABLE_KEY = "table_sha256"
"""In the JSON: of the table as it was written."""


def sentences(found: Audited) -> Iterator[str]:
    """What was looked at, how far it can be trusted, and what was found."""
    return map(found.words, _sentences(found))


def _sentences(found: Audited) -> Iterator[str]:
    held, joint = found.held_out, found.joint
    yield _looked_at(held)
    yield (
        f"The most probable class is the label of {_percent(held.agreement)} of them: the lower "
        "this is, the more of what is named is a mistake of the network."
    )
    named = int(joint.off_diagonal.sum())
    yield (
        f"Label errors: confident learning estimates {joint.errors:.0f} "
        f"({_percent(joint.errors / len(held.samples))}) and names {counted(named, 'image')}."
    )
    yield _odd(found)
    counts = Counter(
        each.reason for each in found.suspects if each.suggested is None and each.reason != OUTLIER
    )
    for reason in dict.fromkeys([*counts, *found.unnamed]):
        rest = found.unnamed.get(reason, 0)
        unit = "pair" if reason in PAIRS.values() else "image"
        more = f", and {counted(rest, unit)} that the run folder does not name" if rest else ""
        yield f"{reason.capitalize()}: {counted(counts[reason], 'image')}{more}."
    yield "Each is a suspicion: look before you change a label or leave an image out."


def _odd(found: Audited) -> str:
    if found.measured is None:
        return (
            "Images that are unlike all others were not looked for: a run folder keeps no "
            "features, an audit of the suite has some."
        )
    odd = sum(each.reason == OUTLIER for each in found.suspects)
    return (
        f"{OUTLIER.capitalize()}: {counted(odd, 'image')} of {found.measured:,}, by features that "
        "know nothing of the labels."
    )


def _looked_at(held: HeldOut) -> str:
    seeds = counted(len(held.seeds), "seed")
    number = counted(len(held.samples), "image")
    if held.folds is not None:
        return (
            f"Looked at {number}, each predicted by trainings that have not seen it: {held.name}, "
            f"{held.folds} folds of {seeds}."
        )
    val = f" and {held.validated:,} of validation splits" if held.validated else ""
    rest = held.images - len(held.samples)
    left = f"; the other {rest:,} were not looked at" if rest > 0 else ""
    return (
        f"Looked at {number} of the {held.images:,} of the run: {held.tested:,} of the test split"
        f"{val}, as {held.name} predicts them, {seeds}{left}. With folds, as in an audit of the "
        "suite, all are looked at."
    )


def table(suspects: Sequence[Suspect], words: SampleWords) -> Table:
    """The suspects, a row each."""
    return Table("audit", HEADER, tuple(_row(each, words) for each in suspects), (3,))


def _row(suspect: Suspect, words: SampleWords) -> tuple[str, ...]:
    return (
        suspect.sample,
        suspect.given or "",
        suspect.suggested or "",
        "" if suspect.score is None else f"{suspect.score:.4f}",
        words(suspect.reason),
        "" if suspect.like is None else f"{suspect.like[0]} ({suspect.like[1]})",
    )


def audit_blocks(found: Audited, sheet: Path | None) -> Iterator[Block]:
    """What a notebook shows."""
    for sentence in sentences(found):
        yield paragraph(sentence)
    if found.suspects:
        yield table(found.suspects[:SHOWN], found.words)
    if sheet is not None:
        yield Picture("audit", "The images to look at.", f"{FOLDER}/{sheet.name}")


def write_audit(folder: Path, found: Audited) -> tuple[list[Path], list[str]]:
    """Write the table and the JSON into `audit/` of a run folder; returns both, and what to note.

    A table that somebody has worked in since it was written is kept under another name.
    """
    path, notes = folder / FOLDER / CSV, []
    text = render_csv(table(found.suspects, found.words)).encode("utf-8", "backslashreplace")
    if _was_changed(path, text):
        set_aside(path)
        notes.append(f"{FOLDER}/{CSV} had been changed: it is kept as a file {CSV}.aside beside it")
    with atomic_file(path) as temporary:
        temporary.write_bytes(text)
    write_json(folder / FOLDER / JSON, {**_content(found), TABLE_KEY: _digest(text)})
    return [path, folder / FOLDER / JSON], notes


def _was_changed(path: Path, new: bytes) -> bool:
    """Whether the table is neither the new one nor what the JSON beside it says."""
    if not path.is_file():
        return False
    before = path.read_bytes()
    if before == new:
        return False
    try:
        return bool(read_json(path.with_name(JSON))[TABLE_KEY] != _digest(before))
    except (BenchError, KeyError, TypeError):
        return True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(found: Audited) -> dict[str, Any]:
    held, joint = found.held_out, found.joint
    return {
        "predictions": {
            "of": held.name,
            "seeds": list(held.seeds),
            "folds": held.folds,
            "images": held.images,
            "looked_at": len(held.samples),
            "tested": held.tested,
            "validated": held.validated,
            "agreement": held.agreement,
        },
        "classes": list(held.classes),
        "thresholds": [float(each) if np.isfinite(each) else None for each in joint.thresholds],
        "confident_joint": joint.counts.tolist(),
        "estimated_joint": joint.estimated.tolist(),
        "estimated_errors": joint.errors,
        "suspects": [
            {
                "sample": each.sample,
                "reason": each.reason,
                "given": each.given,
                "suggested": each.suggested,
                "score": each.score,
                "like": None if each.like is None else list(each.like),
            }
            for each in found.suspects
        ],
        "unnamed": dict(found.unnamed),
        "features_of": found.measured,
        "sentences": list(sentences(found)),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
