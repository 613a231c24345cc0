"""The script that lists what users can read finds texts wherever they stand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "list_messages.py"

PYTHON = '''
"""What a module is for: not shown."""

@SCHEDULES.register("constant")
def constant(epochs: int) -> None:
    """The rate stays the same."""
    if not epochs:
        raise BenchError(f"epochs must be {'at most' if epochs else 'at least'} 1, "
            f"got {epochs} (in {place(f'the suite {name}')})" + "; raise it")

def private() -> str:
    """Not shown."""
    return "word"
'''
SCRIPT_JS = 'const one = "no";\nshow(`seed ${seed} is shown`);\n'
TEMPLATE = "{# not this #}\n<p>Drop an\n image <b>here</b>: {{ name }} is it</p>\n"


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        (
            "a.py",
            PYTHON,
            [
                (6, "The rate stays the same."),
                (8, "at least"),
                (8, "at most"),
                (8, "epochs must be {…} 1, got {…} (in {…}); raise it"),
                (9, "the suite {…}"),
            ],
        ),
        ("a.js", SCRIPT_JS, [(2, "seed ${seed} is shown")]),
        ("a.html", TEMPLATE, [(2, "Drop an"), (3, ": {…} is it")]),
    ],
)
def test_texts_are_found(
    tmp_path: Path, name: str, source: str, expected: list[tuple[int, str]]
) -> None:
    spec = importlib.util.spec_from_file_location("list_messages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = tmp_path / name
    path.write_text(source, encoding="utf-8")
    assert list(module.messages(path)) == expected
