"""Plugins: what is loaded, how it is named, and what is said of one that is wrong."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import BenchError, SuiteError
from bench.methods.metrics import METRICS
from bench.methods.schedules import SCHEDULES
from bench.runs.catalogue import catalogue
from bench.suite import load_suite
from bench.suite.plugins import (
    PluginError,
    ensure_loaded,
    entries_of,
    load_plugin,
    loaded_plugins,
    unload_plugin,
)
from tests.outside import BESIDE, PLUGIN

SCHEDULE = """\
from bench.methods.schedules import SCHEDULES

@SCHEDULES.register({name!r})
def own(progress):
    "{text}"
    return 1.0
"""


@pytest.fixture(autouse=True)
def _unloaded() -> Iterator[None]:
    before = {plugin.place for plugin in loaded_plugins()}
    yield
    for plugin in loaded_plugins():
        if plugin.place not in before:
            unload_plugin(plugin.place)


def _file(folder: Path, name: str = "mine", text: str = "Mine.") -> Path:
    path = folder / f"{name}.py"
    path.write_text(SCHEDULE.format(name=f"{name}_schedule", text=text))
    return path


def test_a_file_registers_what_it_says_and_nothing_of_it_stays(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text(PLUGIN)
    (tmp_path / "outside_numbers.py").write_text(BESIDE)
    plugin = load_plugin(tmp_path / "outside.py")
    assert {(registry.kind, name) for registry, name in entries_of(plugin)} == {
        ("strategy", "head_then_norms"),
        ("schedule", "power"),
        ("metric", "worst_class"),
        ("penalty", "l1_sp"),
        ("dataset", "rings"),
    }
    assert set(plugin.files) == {"outside.py", "outside_numbers.py"}
    assert METRICS.get("worst_class").origin == plugin.digest
    assert METRICS.get("accuracy").origin is None
    assert str(tmp_path) not in sys.path
    unload_plugin(plugin.place)
    assert "worst_class" not in METRICS


def test_the_same_source_is_loaded_once_and_an_edited_one_replaces_it(tmp_path: Path) -> None:
    path = _file(tmp_path)
    first = load_plugin(path)
    assert load_plugin(str(path)) == first
    _file(tmp_path, text="Mine, better.")
    second = load_plugin(path)
    assert second.digest != first.digest
    assert SCHEDULES.get("mine_schedule").summary == "Mine, better."
    assert SCHEDULES.get("mine_schedule").origin == second.digest


def test_the_digest_knows_the_modules_beside_it_and_no_others(tmp_path: Path) -> None:
    path = _file(tmp_path)
    path.write_text("import beside_mine\n" + path.read_text())
    (tmp_path / "beside_mine.py").write_text("A = 1\n")
    (tmp_path / "unrelated.py").write_text("A = 1\n")
    first = load_plugin(path)
    (tmp_path / "unrelated.py").write_text("A = 2\n")
    assert load_plugin(path).digest == first.digest
    (tmp_path / "beside_mine.py").write_text("A = 2\n")
    assert load_plugin(path).digest != first.digest


def test_a_package_folder_and_an_installed_module(tmp_path: Path) -> None:
    folder = tmp_path / "own_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from . import parts\n")
    (folder / "parts.py").write_text(SCHEDULE.format(name="packed", text="Packed."))
    plugin = load_plugin(folder)
    assert set(plugin.files) == {"own_package/__init__.py", "own_package/parts.py"}
    assert SCHEDULES.get("packed").origin == plugin.digest
    installed = load_plugin("bench.testing.vectors")
    assert {name for _, name in entries_of(installed)} == {"vectors", "tiny_mlp"}
    assert not installed.files


def test_another_process_loads_what_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = _file(tmp_path / "here", "sent")
    plugin = load_plugin(path)
    unload_plugin(plugin.place)
    sent = pickle.loads(pickle.dumps(plugin))
    path.write_text(path.read_text().replace("1.0", "0.5"))  # edited since the run began
    ensure_loaded((sent,), tmp_path / "cache")
    entry = SCHEDULES.get("sent_schedule")
    assert entry.origin == plugin.digest
    assert entry.place.startswith(str(tmp_path / "cache" / plugin.digest))
    assert entry.function(None) == 1.0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(:\n", r"not valid Python: .*wrong\.py:1"),
        ("import math\n\nmath.sqrt(-1)\n", r"ValueError: .*wrong\.py:3"),
        ("import no_such_module_here\n", r"ModuleNotFoundError.*wrong\.py:1"),
        (
            "from bench.methods.metrics import METRICS\n"
            "METRICS.register('ece')(lambda y, p: 1.0)\n",
            r"metric 'ece' is registered twice: .*metrics\.py:\d+ and .*wrong\.py:2",
        ),
        (
            "from bench.methods.metrics import METRICS\n"
            "METRICS.register('x', better='up')(lambda y, p: 1.0)\n",
            r"metric 'x': .*better.*wrong\.py:2",
        ),
    ],
)
def test_a_wrong_plugin_is_one_message_with_its_place(
    source: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong.py").write_text(source)
    with pytest.raises(PluginError, match=said):
        load_plugin(tmp_path / "wrong.py")
    assert "x" not in METRICS
    assert not [plugin for plugin in loaded_plugins() if plugin.main == "wrong"]


@pytest.mark.parametrize("place", ["none.py", "no/such/folder", "no_such_module", "."])
def test_what_is_no_plugin_is_said(place: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="plugin"):
        load_plugin(tmp_path / place if "/" in place or "." in place else place)


@pytest.mark.parametrize("key", ["plugin", "plugins", "import", "code"])
def test_no_suite_names_code(key: str, tmp_path: Path) -> None:
    path = _file(tmp_path)
    suite = tmp_path / "suite.yaml"
    text = f"dataset: fractals\nbackbone: resnet18\nstrategy: from_scratch\n{key}: {path}\n"
    suite.write_text(text)
    with pytest.raises(SuiteError, match=f"unknown key {key!r}"):
        load_suite(suite, catalogue())
    assert "mine_schedule" not in SCHEDULES


def test_two_plugins_with_one_name_for_a_module_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = _file(tmp_path / folder, f"main_{folder}")
        path.write_text("import shared_name_of_two\n" + path.read_text())
        (tmp_path / folder / "shared_name_of_two.py").write_text(f"WHO = {folder!r}\n")
    load_plugin(tmp_path / "a" / "main_a.py")
    with pytest.raises(BenchError, match="another name"):
        load_plugin(tmp_path / "b" / "main_b.py")
    assert "main_b_schedule" not in SCHEDULES
