"""Prose speaks of texts where a run is of texts, and leaves names alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.results.analysis import compare_runs, find_suspects
from bench.results.report.audit import sentences
from bench.results.report.audit import table as suspect_table
from bench.results.report.blocks import Bold, Bullets, Code, Details, Link, Table, paragraph
from bench.results.report.called import called
from bench.results.report.changes import about
from bench.results.sample_words import SampleWords
from tests.results.audited_run import audited_run

WORDS = SampleWords(kind="text", names=("image", "an image (of god)", "pets"))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Images per class: 3 test images.", "Texts per class: 3 test texts."),
        ("An image counts once, image by image.", "A text counts once, image by image."),
        ("predict an image", "predict a text"),
        ("an image (of god) is a class", "an image (of god) is a class"),
        ("image_size and ImageNet", "image_size and ImageNet"),
    ],
)
def test_a_sentence_speaks_of_texts(written: str, read: str) -> None:
    words = SampleWords(kind="text", names=WORDS.names[1:]) if "count" not in written else WORDS
    assert words(written) == read
    assert SampleWords(names=WORDS.names)(written) == written
    assert SampleWords(kind="vector")(written) == written


def test_cells_code_and_links_stay() -> None:
    table = Table("t", ("class", "images"), (("images", "3"),), terms=(("images", "an image"),))
    blocks = [
        paragraph("of images", Bold("Images:"), Link("images", "images.png")),
        Bullets((("an image",),)),
        Details("images", (table, Code("images"))),
    ]
    words = SampleWords(kind="text")
    assert list(called(blocks, words)) == [
        paragraph("of texts", Bold("Texts:"), Link("images", "images.png")),
        Bullets((("a text",),)),
        Details(
            "texts",
            (
                Table("t", ("class", "texts"), (("images", "3"),), terms=(("texts", "a text"),)),
                Code("images"),
            ),
        ),
    ]
    assert list(called(blocks, SampleWords())) == blocks


def test_comparisons_and_audits_of_texts_speak_of_texts(tmp_path: Path) -> None:
    predicted = {f"{at}": (at % 2, 0.9 if at % 2 and at != 7 else 0.1) for at in range(12)}
    conflict: dict[str, Any] = {"kind": "label-conflict", "count": 1, "samples": ["0", "1"]}
    conflict["message"] = "two of them"
    data = {"inputs": [{"kind": "text", "size": 8, "used_by": []}], "issues": [conflict]}
    run = audited_run(tmp_path, {(0, None): predicted})
    run = replace(run, data={**run.data, **data})
    found = find_suspects(run)
    audit = [
        *sentences(found),
        *(row[4] for row in suspect_table(found.suspects, found.words).rows),
    ]
    assert "same text, other label" in audit
    compared = about(compare_runs(run, run))
    for said in (*audit, *compared):
        assert "image" not in said
    assert any("test texts" in said for said in compared)
