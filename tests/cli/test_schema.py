"""`bench schema`: printed, or written to a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from bench.errors import MachineError

Draft202012Validator = pytest.importorskip("jsonschema").Draft202012Validator


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["schema"])
    assert printed.exit_code == 0
    schema = json.loads(printed.stdout)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    out = tmp_path / "schema.json"
    written = CliRunner().invoke(app, ["schema", "--out", str(out)])
    assert out.read_text(encoding="utf-8") == printed.stdout
    assert written.stdout.replace("\n", "").endswith("schema.json")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot read or write"):
        CliRunner().invoke(
            app, ["schema", "--out", str(tmp_path / "file" / "x.json")], catch_exceptions=False
        )


@pytest.mark.usefixtures("plugins_unloaded")
def test_the_schema_knows_what_a_plugin_registers() -> None:
    printed = CliRunner().invoke(app, ["schema", "--plugin", "bench.testing.vectors"])
    assert printed.exit_code == 0
    assert "tiny_mlp" in printed.stdout
