"""What lies around a command: style files, variables, settings of notebooks, scripts of names."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

import bench
from tests.made_up_run import made_up_run
from tests.odd_inputs.conftest import command

SMALL = {"strategies": ("from_scratch", "full_finetune"), "schedules": ("cosine",), "seeds": 2}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made_up_run(tmp_path / "run", epochs=2, **SMALL)
    return tmp_path / "run"


@pytest.mark.campaign
def test_a_style_file_in_the_current_folder_costs_no_figure(run: Path, tmp_path: Path) -> None:
    """LaTeX for text, a backend with windows, PDF: what papers are written with."""
    style = "backend: TkAgg\ntext.usetex: True\nsavefig.format: pdf\nfont.family: Computer Modern\n"
    (tmp_path / "here" / "matplotlibrc").write_text(style)
    done = command("report", run, "--format", "md", folder=tmp_path / "here", DISPLAY="")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (run / "plots").glob("*.png")} >= {
        "curves.png",
        "test_accuracy.png",
        "confusion.png",
    }
    for path in (run / "plots").rglob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.campaign
def test_the_style_of_a_notebook_does_not_reach_figures(run: Path) -> None:
    bench.report(run, format="md")
    plain = figures_of(run)
    assert plain
    with mpl.rc_context(), matplotlib.style.context(["dark_background", "ggplot"]):
        mpl.rcParams.update({"font.size": 30, "figure.dpi": 30, "savefig.bbox": "tight"})
        mpl.rcParams.update({"axes.formatter.use_locale": True, "lines.linewidth": 9})
        bench.report(run, format="md")
    assert figures_of(run) == plain


def figures_of(run: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (run / "plots").rglob("*.png")
    }


def test_a_terminal_that_knows_ascii_alone(tmp_path: Path) -> None:
    made_up_run(tmp_path / "run", epochs=2, classes=("Äpfel", "梨"), **SMALL)
    ascii_alone = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = command(
        "show", tmp_path / "run", folder=tmp_path, PYTHONCOERCECLOCALE="0", **ascii_alone
    )
    assert done.returncode == 0, done.stderr
    assert b"full_finetune" in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.campaign
def test_colours_are_for_terminals(run: Path, tmp_path: Path) -> None:
    """Services of continuous integration force colours, and some terminals are narrow."""
    forced = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "COLUMNS": "20", "TERM": "xterm-256color"}
    done = command("schema", folder=tmp_path, **forced)
    assert done.returncode == 0
    assert json.loads(done.stdout)["type"] == "object"
    done = command("show", run, folder=tmp_path, NO_COLOR="1", COLUMNS="20", TERM="xterm-256color")
    assert done.returncode == 0
    assert b"\x1b[" not in done.stdout.replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b"")
    assert b"full_finetune" in done.stdout.replace(b"\n", b"")


# Scripts --------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The characters without a glyph in any figure that is saved meanwhile."""
    missing: list[str] = []
    save = Figure.savefig

    def look_and_save(figure: Figure, *arguments: object, **options: object) -> None:
        save(figure, *arguments, **options)
        missing.extend(
            character
            for text in figure.findobj(Text)
            if text.get_visible()
            for character in text.get_text()
            if character.isprintable()
            and not character.isspace()
            and not has_glyph(text, character)
        )

    monkeypatch.setattr(Figure, "savefig", look_and_save)
    return missing


def has_glyph(text: Text, character: str) -> bool:
    names = font_manager.fontManager._find_fonts_by_props(text.get_fontproperties())
    return any(ord(character) in glyphs(str(name)) for name in names)


@cache
def glyphs(font: str) -> frozenset[int]:
    return frozenset(FT2Font(font).get_charmap())


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.filterwarnings("ignore:.*missing from font")
@pytest.mark.campaign
def test_korean_and_thai_names_are_no_boxes(drawn: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made_up_run(folder, epochs=2, classes=("고양이", "แมวดำ"), **SMALL)
    bench.report(folder, format="md")
    assert (folder / "plots" / "confusion.png").is_file()
    assert "고양이" in (folder / "report.md").read_text(encoding="utf-8")
    assert not drawn
