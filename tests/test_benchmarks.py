"""The scripts in `benchmarks` find what they import: nothing else notices when a name moves."""

from __future__ import annotations

import ast
import importlib
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))
PACKAGES = ("bench", "tests")
"""Scripts import one another too, which they find beside themselves when they run."""

Import = tuple[str, str | None]


def imports(source: str) -> Iterator[Import]:
    """(module, name in it) of all imports from the packages, those of code in strings included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and _may_import(node.value):
            try:
                yield from imports(node.value)
            except SyntaxError:
                continue  # a sentence


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _may_import(value: object) -> bool:
    return isinstance(value, str) and "import " in value


def is_there(module: str, name: str | None) -> bool:
    """Whether the module can be imported, and has the name or a module of that name."""
    if find_spec(module.partition(".")[0]) is None:
        return False
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    if name is None or hasattr(imported, name):
        return True
    return hasattr(imported, "__path__") and find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_all_that_a_script_imports_is_there(script: Path) -> None:
    wanted = set(imports(script.read_text(encoding="utf-8")))
    missing = sorted(str(each) for each in wanted if not is_there(*each))
    assert not missing


def test_imports_are_found_wherever_they_stand() -> None:
    source = """\
import os, bench
from pathlib import Path
def lazily():
    from bench.errors import BenchError
MAIN = "from tests import tiny; tiny.make_trial()"
"A sentence about an import from bench.nowhere."
"""
    assert set(imports(source)) == {
        ("bench", None),
        ("bench.errors", "BenchError"),
        ("tests", "tiny"),
    }
    assert all(is_there(*each) for each in imports(source))
    assert not is_there("bench.nowhere", None)
    assert not is_there("bench.errors", "Nothing")


def test_the_profile_looks_at_functions_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS[0].parent))
    scopes = importlib.import_module("where_time_goes").SCOPES
    missing = [f"{owner.__name__}.{name}" for owner, name, _ in scopes if not hasattr(owner, name)]
    assert missing == []


def test_wheels_are_what_the_project_needs_beside_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    wheels = importlib.import_module("gpu_wheels")
    project = {
        "name": "bench",
        "dependencies": ["torch>=2.11", "TorchVision", "numpy>=2.0", "typing_extensions"],
        "optional-dependencies": {"ray": ["ray>=2.44"], "dev": ["bench[ray]", "timm"]},
    }
    assert wheels.requirements(project) == ["numpy>=2.0", "typing_extensions"]
    there = (*wheels.THERE, "typing-extensions")
    found = wheels.requirements(project, extras=["ray", "dev"], there=there)
    assert found == ["numpy>=2.0", "ray>=2.44", "timm"]
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {wheels.name_of(each) for each in wheels.requirements(own)}
    assert "pyarrow" in names
    assert not names & {"torch", "torchvision"}


def test_pip_is_asked_for_wheels_of_the_other_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    wheels = importlib.import_module("gpu_wheels")
    calls: list[list[str]] = []

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, len(calls) - 1)

    monkeypatch.setattr(wheels.subprocess, "run", run)
    options = ["--python", "3.13", "--platform", "linux_aarch64", "--extra", "timm"]
    assert wheels.main([str(tmp_path), *options]) == 1  # the second call fails
    first, second = calls
    for command in calls:
        assert command[command.index("--only-binary") + 1] == ":all:"
        assert command[command.index("--python-version") + 1] == "3.13"
        assert command[command.index("--platform") + 1] == "linux_aarch64"
        assert not any("://" in word for word in command)
    assert not any(word.startswith(("torch", "timm")) for word in first)
    assert "--no-deps" in second
    assert second[-1].startswith("timm")
    assert wheels.main([str(tmp_path), "--extra", "nothing"]) == 2
