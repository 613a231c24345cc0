"""What errors say, and what they keep to themselves; counts with their nouns."""

from __future__ import annotations

import ast
import errno
import shlex
import sys
from pathlib import Path

import pytest

from bench.errors import (
    BenchError,
    MachineError,
    Problem,
    argument_without_secrets,
    counted,
    path_named,
    without_secrets,
    without_secrets_of,
)
from bench.results.folder import read_run, write_json
from bench.runs.run import command_line
from tests.made_up_run import made_up_run

SECRETS = {
    "postgresql://user:secret@host:5432/db": "postgresql://***@host:5432/db",
    "mysql+pymysql://root:se/cr?et@host/db": "mysql+pymysql://***@host/db",
    "postgresql://user:s@cret@host/db": "postgresql://***@host/db",
    "redis://:secret@host": "redis://***@host",
    "s3://KEY:secret@bucket/results": "s3://***@bucket/results",
    "ray://token@host:10001": "ray://***@host:10001",
    "postgresql:///db?user=me&password=secret": "postgresql:///db?user=***&password=***",
    "abfs://c@account/x?sas=secret&v=1": "abfs://***@account/x?sas=***&v=***",
    "a: 'x://u:secret@h/d', b": "a: 'x://***@h/d', b",
}
PLAIN = ("s3://bucket/a@b", "http://host:8080/a@b", "sqlite:///tune.db", "me@home", "a?b=c")


@pytest.mark.parametrize(("text", "shown"), SECRETS.items())
def test_what_is_secret_in_a_url_is_not_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert str(BenchError(f"cannot open {text} now")) == f"cannot open {shown} now"
    assert str(Problem(message=text)) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_nothing_else_is_changed(text: str) -> None:
    assert without_secrets(text) == argument_without_secrets(text) == text


def test_an_argument_s_white_space_belongs_to_its_url() -> None:
    assert argument_without_secrets("--storage=x://u:my 's word@h/d") == "--storage=x://***@h/d"
    assert argument_without_secrets("{a: 's3://b/x', c: 1}") == "{a: 's3://b/x', c: 1}"


def test_a_library_s_message_is_searched_for_the_parts_of_the_url() -> None:
    url = "postgresql://me:se%20cret@host/db?sslpassword=hunter2"
    said = "no user me with se cret (se%20cret), nor hunter2"
    assert without_secrets_of(url, said) == "no user me with *** (***), nor ***"


def test_no_command_line_keeps_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = ["tune", "x.yaml", "--storage", "postgresql://me:hunter2@h/d", "--out=s3://k:hunter3@b"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/bench", *given])
    assert "hunter" not in command_line()
    assert shlex.split(command_line())[-1] == "--out=s3://***@b"
    # A folder of an earlier version has it in the file.
    folder = made_up_run(tmp_path / "run", schedules=("cosine",), seeds=1).folder
    written = shlex.join(["bench", *given, "--set", "a={b: 1}"])
    write_json(folder / "environment.json", {"command": written})
    read = read_run(folder).environment["command"]
    assert "hunter" not in read
    assert shlex.split(read)[-1] == "a={b: 1}"
    # Nothing changes when it is read again.
    write_json(folder / "environment.json", {"command": read, "platform": "it's"})
    assert read_run(folder).environment == {"command": read, "platform": "it's"}


def test_a_full_disk_is_named_with_what_is_free_on_it(tmp_path: Path) -> None:
    file = tmp_path / "not" / "there"
    with pytest.raises(OSError, match="No space") as caught, path_named(file):
        raise OSError(errno.ENOSPC, "No space left on device")
    said = str(MachineError(caught.value))
    assert f"No space left on device ({file}, whose disk has " in said
    assert " MiB free)" in said
    assert "make room" in said


def test_a_library_tells_of_a_full_disk_in_words_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, path_named(tmp_path / "file"):
        raise OSError('IoError(Os { code: 28, kind: StorageFull, message: "No space left" })')
    said = str(MachineError(caught.value))
    assert str(tmp_path / "file") in said
    assert "make room" in said


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
