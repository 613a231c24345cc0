"""What messages are made of: counts with their nouns, the name that is meant."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bench.errors import counted

PACKAGE = Path(__file__).parents[1] / "bench"


@pytest.mark.parametrize(
    ("count", "nouns", "text"),
    [
        (0, ("trial",), "0 trials"),
        (1, ("trial",), "1 trial"),
        (2, ("class", "classes"), "2 classes"),
        (1, ("more study", "more studies"), "1 more study"),
        (12_000, ("image",), "12,000 images"),
    ],
)
def test_a_count_agrees_with_its_noun(count: int, nouns: tuple[str, ...], text: str) -> None:
    assert counted(count, *nouns) == text


def test_nothing_else_makes_plurals() -> None:
    """A plural that is made where it is used is one that is forgotten somewhere else."""
    found = [
        f"{path.relative_to(PACKAGE)}: {ast.unparse(node)}"
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("errors.py", "listing.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.IfExp)
        for ends in [{getattr(node.body, "value", None), getattr(node.orelse, "value", None)}]
        if ends == {"s", ""} or ends == {"es", ""}
    ]
    assert found == []
