"""The examples of docs/extending.md: one plugin file, which keeps every contract, and its suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bench
from bench.execution.origins import REGISTRIES
from bench.suite.plugins import entries_of, load_plugin
from bench.testing import check_plugin

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("plugins_unloaded", "no_report")
def test_the_examples_are_a_plugin_of_every_kind_that_trains(tmp_path: Path) -> None:
    file = tmp_path / "lab.py"
    file.write_text("\n\n".join(blocks("python")))
    check_plugin(file)
    plugin = load_plugin(file)
    assert {registry.kind for registry, _ in entries_of(plugin)} == set(REGISTRIES)
    suite = tmp_path / "stripes.yaml"
    suite.write_text("".join(blocks("yaml")))
    run = bench.run(suite, out=tmp_path / "out", device="cpu", executor="in-process")
    assert list(run.trials["status"]) == ["complete"] * 3, list(run.trials["error"])
