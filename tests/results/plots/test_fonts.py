"""Names in any writing: drawn where a font has their characters, numbers elsewhere, never boxes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from bench.results.plots import confusion_matrices, fonts, numbered_names
from bench.results.plots.canvas import save
from bench.results.plots.style import shortened, styled, wrapped
from bench.results.report import write_report
from tests.made_up_run import made_up_run

ISOLATED = "\u2068{}\u2069"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A machine that has matplotlib's own fonts and those in the list."""
    shipped = [entry for entry in font_manager.fontManager.ttflist if "DejaVu" in entry.name]
    installed: list[str] = []
    monkeypatch.setattr(font_manager.fontManager, "ttflist", shipped)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    fonts._families.cache_clear()
    yield installed
    fonts._families.cache_clear()


def _font(path: Path, characters: str) -> str:
    """A font file whose glyphs are squares."""
    pen = TTGlyphPen(None)
    for move, point in zip(
        ("moveTo", "lineTo", "lineTo", "lineTo"),
        ((100, 0), (900, 0), (900, 800), (100, 800)),
        strict=True,
    ):
        getattr(pen, move)(point)
    pen.closePath()
    glyph = pen.glyph()
    names = {ord(character): f"uni{ord(character):04X}" for character in characters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], glyph))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 100)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=500)
    builder.setupPost()
    builder.save(path)
    return str(path)


def test_a_font_that_has_the_characters_is_found(machine: list[str], tmp_path: Path) -> None:
    assert fonts.undrawable(["ants", "猫", "Ελλάς", "قطة", "כלב", "狗"]) == ["猫", "狗"]
    fonts._families.cache_clear()
    machine.append(_font(tmp_path / "squares.ttf", "猫"))  # installed since matplotlib listed them
    assert fonts.undrawable(["ants", "猫", "狗"]) == ["狗"]


@styled
def _figure(names: list[str]) -> Figure:
    figure = Figure()
    ax = figure.subplots()
    ax.set_xticks(range(len(names)), names)
    ax.set_title(" ".join(names))
    return figure


def test_every_text_of_a_figure_gets_the_font(machine: list[str], tmp_path: Path) -> None:
    machine.append(_font(tmp_path / "squares.ttf", "猫"))
    figure = _figure(["猫", "ants"])
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["猫", "ants"]
    for text in (ax.title, ax.get_xticklabels()[0]):
        assert text.get_fontfamily() == ["DejaVu Sans", "Squares"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib tells of every glyph that it draws as a box
        save(figure, tmp_path / "figure.png")


@pytest.mark.parametrize("name", ["猫", "कुत्ता", "한국어", "แมว", "🐶"])
def test_what_no_font_has_is_shown_as_its_code(
    machine: list[str], tmp_path: Path, name: str
) -> None:
    figure = _figure([name, "ants"])
    codes = name.encode("unicode_escape").decode()
    assert figure.axes[0].get_title() == f"{codes} ants"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "figure.png")


def test_names_that_no_font_has_are_numbers_with_a_key(machine: list[str], tmp_path: Path) -> None:
    classes = ["ants", "猫", "قطة", "कुत्ता", "猫咪"]
    run = made_up_run(
        tmp_path / "r", classes=classes, strategies=["a"], schedules=["s"], seeds=1, epochs=1
    )
    numbers = {"猫": "#2", "कुत्ता": "#4", "猫咪": "#5"}
    assert numbered_names(run) == numbers
    with fonts.standing_in(numbers):
        figure = confusion_matrices(run.predictions, {"a": list(run.trials["trial"])})
        assert shortened("to 猫咪", 20) == "to #5"
    assert figure is not None
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["ants", "#2", "\u200e" + ISOLATED.format("قطة"), "#4", "#5"]
    write_report(run)
    for report in ("report.md", "report.html"):
        text = (run.folder / report).read_text(encoding="utf-8")
        assert "No font of the machine that drew the figures" in text
    for number, name in (("2", "猫"), ("4", "कुत्ता")):
        assert f"#{number}" in text
        assert name in text


def test_a_run_in_latin_letters_has_no_key(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", strategies=["a"], schedules=["s"], seeds=1, epochs=1)
    assert numbered_names(run) == {}
    assert "Names in the figures" not in write_report(run, {})[0].read_text(encoding="utf-8")


def test_names_from_right_to_left_leave_the_order_of_others_alone() -> None:
    """In a sentence of Arabic words alone an arrow would point back at the first of them."""
    pair = f"{shortened('قطة', 9)} → {shortened('كلب', 9)}"
    assert pair == f"{ISOLATED.format('قطة')} → {ISOLATED.format('كلب')}"
    assert _figure([pair]).axes[0].get_title() == f"\u200e{pair}"
    assert shortened("ants", 9) == "ants"


def test_wide_characters_take_two_places() -> None:
    assert fonts.cells("猫ab") == 4
    assert shortened("猫" * 10, 9) == "猫猫…猫猫"
    assert all(fonts.cells(line) <= 12 for line in wrapped("猫" * 30, 12).split("\n"))
