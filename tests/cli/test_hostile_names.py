"""Classes and files with names that want to be markup: a real run shows them as they are."""

from __future__ import annotations

import json
import os
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from tests.cli.test_cli import call
from tests.data.pictures import photograph

pytestmark = pytest.mark.campaign

CLASSES = (
    b"<img src=x onerror=alert(1)>",
    b"'\" onmouseover='alert(1)",
    b"[bold red]b[link=x] :bomb:",
    b"$\\frac{x^2}$ {{7*7}} %s",
    b"| # *b* `c` ~~d~~ [e](f)",
    b"two\nlines\r\tand a tab",
    b"\x1b[2J\x1b]8;;x\x07\x1b]52;c;AA==\x07",
    "\u202egpj.exe\u2066".encode(),
    b"caf\xe9\xff",
    b"x" * 200,
)
SUITE = """\
name: hostile
dataset: {name: folder, path: DATA}
backbone: shufflenet_v2_x0_5
weights: none
strategy: from_scratch
lr: [0.01, 0.02]
epochs: 1
batch_size: 16
image_size: 32
precision: fp32
seed: 0
"""
IMAGES = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of every class, of which some are copies, some damaged, some of no kind at all."""
    root = tmp_path_factory.mktemp("hostile") / "<b>data[red]\x1b[31m\u202e"
    for number, name in enumerate(CLASSES):
        folder = os.fsencode(root) + b"/" + name
        try:
            os.makedirs(folder)
        except OSError:
            pytest.skip("this file system does not take every name")
        for index in range(IMAGES):
            # The first image of each class is the same: leakage and labels in conflict.
            picture = photograph(IMAGES * number + index if index else 0, width=32, height=32)
            with open(folder + b"/%d " % index + name[:40] + b".png", "wb") as file:
                picture.save(file, "PNG")
        for suffix in (b".jpg", b".txt"):
            with open(folder + b"/broken " + name[:40] + suffix, "wb") as file:
                file.write(b"no image")
    return root


def is_plain(output: str) -> bool:
    """Whether nothing in the output steers a terminal."""
    return all(c == "\n" or c.isprintable() or unicodedata.category(c) == "Zs" for c in output)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


TAGS = (
    "html head meta title style body header button h1 h2 h3 p strong main section form fieldset "
    "abbr b legend div label select option input figure figcaption table thead tbody tr th td ul "
    "li a img pre code script nav details summary"
)
ATTRIBUTES = (
    "lang charset name content type id aria-label aria-labelledby for autocomplete value role "
    "class tabindex scope src alt href placeholder title http-equiv"
)


def check_page(page: str) -> None:
    elements = Elements()
    elements.feed(page)
    assert {tag for tag, _ in elements.found} <= set(TAGS.split())
    assert {name for _, attributes in elements.found for name in attributes} <= set(
        ATTRIBUTES.split()
    )
    pictures = [attributes["src"] for tag, attributes in elements.found if tag == "img"]
    assert pictures
    assert all(str(source).startswith("data:image/png;base64,") for source in pictures)
    links = [attributes["href"] for tag, attributes in elements.found if tag == "a"]
    assert all(":" not in str(link) for link in links)
    assert [tag for tag, _ in elements.found].count("script") == 3
    assert "<img src=x onerror=alert(1)>" in elements.text
    assert "{{7*7}}" in elements.text
    assert is_plain(elements.text.replace("\t", ""))


def check_markdown(source: str, folder: Path) -> None:
    assert is_plain(source)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    blocks = {token.content.strip() for token in tokens if token.type == "html_block"}
    assert all(block.startswith(("<details><summary>Single", "</details>")) for block in blocks)
    inside = [child for token in tokens for child in token.children or ()]
    assert not [child for child in inside if child.type in ("html_inline", "s_open", "em_open")]
    targets = [child.attrs["href"] for child in inside if child.type == "link_open"]
    assert {str(target).split("/")[0] for target in targets} <= set(os.listdir(folder))


def test_a_run_with_hostile_names(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "s.yaml"
    suite.write_text(SUITE.replace("DATA", json.dumps(str(data))), encoding="utf-8")
    out = ("--out", tmp_path / "out")
    folder = tmp_path / "out" / "hostile"
    said = {}

    def bench(*arguments: object) -> None:
        code, output, errors = call(capsys, monkeypatch, *arguments)
        assert code == 0, errors
        assert "Traceback" not in errors
        said[str(arguments[0])] = output + errors

    bench("run", suite, *out, "--workers", 1)
    bench("plan", suite, *out, "--workers", 1)
    trials = pd.read_parquet(folder / "trials.parquet")
    assert list(trials["status"]) == ["complete"] * 2
    trial = trials["trial"].iloc[0]
    bench("show", folder)
    bench("show", folder, trial)
    bench("why", folder, trial)
    bench("compare", folder, folder)
    bench("report", folder, "--format", "md,html,csv,latex")
    bench("list")
    for command, output in said.items():
        assert is_plain(output), (command, ascii(output))
    assert "<b>data[red]\\x1b[31m\\u202e" in said["plan"]

    check_page((folder / "report.html").read_text(encoding="utf-8"))
    check_markdown((folder / "report.md").read_text(encoding="utf-8"), folder)
    for table in (folder / "tables").iterdir():
        assert is_plain(table.read_text(encoding="utf-8"))
    for picture in (folder / "plots").rglob("*.png"):
        Image.open(picture).verify()
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert "caf\\xe9\\xff" in set(predictions["label"])
    classes = json.loads((folder / "data.json").read_text(encoding="utf-8"))["classes"]
    assert len(classes) == len(CLASSES)


def test_hostile_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said about them is said in plain text too."""
    evil = "\x1b[2J\u202e[bold]<b>\udcff:bomb:"
    for arguments in (
        ("run", tmp_path / f"{evil}.yaml"),
        ("run", tmp_path / "s.yaml", "--set", f"{evil}=1"),
        ("run", tmp_path / "s.yaml", "--only", f"strategy={evil}"),
        ("show", tmp_path / evil),
        ("report", tmp_path / evil, "--format", evil),
        ("list", evil),
    ):
        (tmp_path / "s.yaml").write_text(SUITE.replace("DATA", "nowhere"))
        code, output, errors = call(capsys, monkeypatch, *arguments)
        assert code == 2, arguments
        assert errors
        assert is_plain(output + errors), ascii(output + errors)
        assert "[bold]<b>" in errors
        assert ":bomb:" in errors
