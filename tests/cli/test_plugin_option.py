"""`--plugin`: names from outside are known; an error of the plugin's code is a message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.test_cli import call
from tests.tiny import SMOKE_SUITE

STRATEGY = """\
from bench.methods.plan import Plan, Rule, Stage
from bench.methods.strategies import STRATEGIES

@STRATEGIES.register("all_of_it", weights="ignored")
def all_of_it(groups, epochs):
    "Everything at once."
    return Plan(stages=(Stage(epochs=epochs, rules=(Rule(pattern="*", lr=1 / (epochs - 2)),)),))
"""


@pytest.mark.usefixtures("plugins_unloaded")
def test_what_a_plugin_registers_is_listed_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, suite = tmp_path / "all_of_it.py", tmp_path / "tiny.yaml"
    plugin.write_text(STRATEGY)
    suite.write_text(re.sub("strategy: .*", "strategy: all_of_it", SMOKE_SUITE))
    code, out, _ = call(capsys, monkeypatch, "list", "strategies", "--plugin", plugin)
    assert code == 0
    assert "Everything at once." in " ".join(out.split())
    arguments = ("plan", suite, "--plugin", plugin, "--out", tmp_path, "--device", "cpu")
    code, out, err = call(capsys, monkeypatch, *arguments)
    assert code == 2
    assert "ZeroDivisionError" in err
    assert "all_of_it.py:7" in "".join(err.split())
    assert "Traceback" not in out + err
