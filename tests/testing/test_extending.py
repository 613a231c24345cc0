"""The examples of docs/extending.md: one plugin file, which keeps every contract, and its suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bench
from bench.execution.origins import REGISTRIES
from bench.suite.plugins import entries_of, load_plugin
from bench.testing import check_plugin

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("plugins_unloaded", "no_report")
def test_the_examples_are_a_plugin_of_every_kind_that_trains(tmp_path: Path) -> None:
    file = tmp_path / "lab.py"
    file.write_text("\n\n".join(blocks("docs/extending.md", "python")))
    check_plugin(file)
    plugin = load_plugin(file)
    assert {registry.kind for registry, _ in entries_of(plugin)} == set(REGISTRIES)
    suite = tmp_path / "stripes.yaml"
    suite.write_text("".join(blocks("docs/extending.md", "yaml")))
    run = bench.run(suite, out=tmp_path / "out", device="cpu", executor="in-process")
    assert list(run.trials["status"]) == ["complete"] * 3, list(run.trials["error"])


@pytest.mark.usefixtures("plugins_unloaded")
def test_the_first_example_is_a_plugin(tmp_path: Path) -> None:
    file = tmp_path / "bias_only.py"
    (example,) = (block for block in blocks("README.md", "python") if "register" in block)
    file.write_text(example)
    check_plugin(file)
