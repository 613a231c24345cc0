"""Prose speaks of texts where a run is of texts, and leaves names alone."""

from __future__ import annotations

import pytest

from bench.results.report.blocks import Bold, Bullets, Code, Details, Link, Table, paragraph
from bench.results.report.called import called
from bench.results.sample_words import SampleWords

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
