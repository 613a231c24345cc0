"""Plugins: what is loaded, how it is named, and what is said of one that is wrong."""

from __future__ import annotations

import os
import pickle
import py_compile
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.data import open_dataset
from bench.errors import PluginError, SuiteError
from bench.execution.epoch_keys import epoch_keys
from bench.execution.origins import used_plugins
from bench.methods.metrics import METRICS
from bench.methods.plan import Plan
from bench.methods.schedules import SCHEDULES
from bench.methods.strategies import make_plan
from bench.models import layer_group_names, outline
from bench.models.flops import group_flops
from bench.runs.catalogue import catalogue
from bench.suite import Entry, load_suite
from bench.suite.plugins import (
    ensure_loaded,
    entries_of,
    load_plugin,
    loaded_plugins,
    unload_plugin,
)
from bench.testing import check
from bench.training.precision import measured_precision
from tests.outside import BESIDE, PLUGIN
from tests.tiny import make_trial

pytestmark = pytest.mark.usefixtures("plugins_unloaded")

SCHEDULE = """\
from bench.methods.plan import Plan
from bench.methods.schedules import SCHEDULES

@SCHEDULES.register({name!r})
def own(progress):
    "{text}"
    return 1.0
"""

WRONG = """\
from bench.methods.metrics import METRICS
@METRICS.register('x')
def x({}):
    {}
"""


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
    assert set(plugin.modules) == {"outside", "outside_numbers"}
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


NET = """\
from collections import OrderedDict
from torch import nn
from bench.models import OUTSIDE_BACKBONES
from bench.models.network import layer_group

NAMES = {names}

@OUTSIDE_BACKBONES.register(
    "net", groups=lambda model: [layer_group(name, name) for name in NAMES], inputs="vector"
)
def net(size):
    "Linear layers."
    return nn.Sequential(OrderedDict((name, nn.Linear(4, 4)) for name in NAMES))
"""


def test_nothing_of_the_earlier_version_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked by name answers for the code that has the name now."""
    measured: list[int] = []
    monkeypatch.setattr("bench.training.precision.half_precision", lambda device: "bf16")
    monkeypatch.setattr(
        "bench.training.precision.step_seconds",
        lambda *_: measured.append(1) or {"fp32": 1.0, "bf16": float(len(measured))},
    )
    file, linear = tmp_path / "net.py", Entry(name="linear")
    known = []
    for names in (("body", "head"), ("stem", "body", "head")):
        file.write_text(NET.format(names=names))
        load_plugin(file)
        assert layer_group_names("net") == outline("net", linear).groups == names
        assert tuple(group_flops("net", 4, 2)) == names
        known.append(measured_precision("net", 4, "cpu", 16))
        assert measured_precision("net", 4, "cpu", 16) == known[-1]
    assert len(measured) == 2

    def keys(text: str) -> tuple[str, ...]:
        path = _file(tmp_path)
        path.write_text(path.read_text().replace("1.0", text))
        load_plugin(path)
        trial = make_trial(schedule=Entry(name="mine_schedule"))
        return epoch_keys(
            {},
            plan=make_plan(trial.strategy, ("body", "head"), trial.settings),
            settings=trial.settings,
            schedule=trial.schedule,
            augmentation=trial.augmentation,
            outline=outline("net", linear),
            steps_per_epoch=3,
        )

    first = keys("1.0")
    assert keys("0.5")[1:] != first[1:]
    assert keys("1.0") == first


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
    (folder / "__init__.py").write_text("import own_package.parts\n")
    (folder / "not_imported.py").write_text("raise ValueError\n")
    (folder / "parts.py").write_text(SCHEDULE.format(name="packed", text="Packed."))
    plugin = load_plugin(folder)
    assert set(plugin.modules) == {"own_package", "own_package.parts"}
    assert SCHEDULES.get("packed").origin == plugin.digest
    installed = load_plugin("bench.testing.vectors")
    names = {name for _, name in entries_of(installed)}
    assert names == {"vectors", "vector_values", "vector_labels", "tiny_mlp"}
    assert set(installed.modules) == {"bench.testing.vectors"}


def test_another_process_loads_what_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = _file(tmp_path / "here", "sent")
    plugin = load_plugin(path)
    unload_plugin(plugin.place)
    sent = pickle.loads(pickle.dumps(plugin))
    path.write_text(path.read_text().replace("1.0", "0.5"))  # edited since the run began
    ensure_loaded([sent])
    entry = SCHEDULES.get("sent_schedule")
    assert entry.origin == plugin.digest
    assert entry.function(None) == 1.0
    assert load_plugin(path).digest != plugin.digest
    assert SCHEDULES.get("sent_schedule").function(None) == 0.5


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
        ("import sys\nsys.exit()\n", r"SystemExit.*wrong\.py:2"),
        ("A = 1\n", r"registers nothing"),
        (WRONG.format("labels", "'Doc.'"), r"must take \(labels, probabilities, .*wrong\.py:2"),
        (WRONG.format("y, p", "return 1.0"), r"'x' needs a docstring.*wrong\.py:2"),
        (WRONG.format("y, p, *, o: object = len", "'Doc.'"), r"default of option o .*wrong\.py:2"),
        (WRONG.format("y, p, *, o=1", "'Doc.'"), r"option o has no annotation.*wrong\.py:2"),
    ],
)
def test_a_wrong_plugin_is_one_message_with_its_place(
    source: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong.py").write_text(source)
    with pytest.raises(PluginError, match=said):
        load_plugin(tmp_path / "wrong.py")
    assert "x" not in METRICS
    assert not [plugin for plugin in loaded_plugins() if plugin.name == "wrong"]


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
    with pytest.raises(PluginError, match="rename one of the two files"):
        load_plugin(tmp_path / "b" / "main_b.py")
    assert "main_b_schedule" not in SCHEDULES


def test_plugins_share_the_modules_beside_them_while_these_stay_the_same(tmp_path: Path) -> None:
    for name in ("sharing_a", "sharing_b", "sharing_c"):
        path = _file(tmp_path, name)
        path.write_text("import shared_by_some\n" + path.read_text())
    (tmp_path / "shared_by_some.py").write_text("A = 1\n")
    load_plugin(tmp_path / "sharing_a.py")
    load_plugin(tmp_path / "sharing_b.py")
    (tmp_path / "shared_by_some.py").write_text("A = 2\n")
    with pytest.raises(PluginError, match=r"shared_by_some\.py is not what the plugin sharing_a"):
        load_plugin(tmp_path / "sharing_c.py")


def test_what_is_digested_is_what_is_executed(tmp_path: Path) -> None:
    """Also where bytecode of an earlier version of the same second and size lies beside it."""
    path = _file(tmp_path, "swift")
    (tmp_path / "beside_swift.py").write_text("FACTOR = 0.5\n")
    text = path.read_text().replace("return 1.0", "import beside_swift as b; return b.FACTOR")
    path.write_text(text)
    first = load_plugin(path)
    assert set(first.modules) == {"swift", "beside_swift"}
    times = (tmp_path / "beside_swift.py").stat()
    assert SCHEDULES.get("swift_schedule").function(None) == 0.5
    py_compile.compile(str(tmp_path / "beside_swift.py"))
    (tmp_path / "beside_swift.py").write_text("FACTOR = 0.7\n")
    os.utime(tmp_path / "beside_swift.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    second = load_plugin(path)
    assert second.digest != first.digest
    assert SCHEDULES.get("swift_schedule").function(None) == 0.7


def test_what_no_import_statement_names_is_not_executed(tmp_path: Path) -> None:
    path = _file(tmp_path, "hidden")
    (tmp_path / "hidden_part").mkdir()
    (tmp_path / "hidden_part" / "a.py").write_text("")
    (tmp_path / "hidden_part" / "b.py").write_text("")
    lazy = "import hidden_part.a, importlib; importlib.import_module('hidden_part.b')"
    path.write_text(path.read_text().replace("return 1.0", lazy))
    assert set(load_plugin(path).modules) == {"hidden", "hidden_part", "hidden_part.a"}
    with pytest.raises(ModuleNotFoundError, match=r"no import statement .* names hidden_part\.b"):
        SCHEDULES.get("hidden_schedule").function(None)


def test_another_name_for_a_function_of_the_package_is_the_plugins(tmp_path: Path) -> None:
    file = tmp_path / "renames.py"
    file.write_text(
        "from bench.methods.schedules import SCHEDULES, cosine\n"
        "SCHEDULES.register('half_a_cosine')(cosine)\n"
    )
    assert SCHEDULES.get("cosine").origin is None
    assert load_plugin(file).digest == SCHEDULES.get("half_a_cosine").origin


def test_the_first_import_of_the_package_makes_nothing_a_plugins_own(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(
        PLUGIN.replace("from outside_numbers import POWER", "POWER = 1.0")
    )
    code = (
        f"import bench\nbench.load_plugin({str(tmp_path / 'early.py')!r})\n"
        "from bench.execution.origins import REGISTRIES\n"
        "from bench.suite.plugins import loaded_plugins, unload_plugin\n"
        "for kind, registry in REGISTRIES.items():\n"
        "    print(*(name for name in registry if registry.get(name).origin is not None))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["head_then_norms", "power", "rings", "worst_class", "l1_sp"]


def test_what_is_registered_outside_of_a_plugin_is_refused() -> None:
    def stray(progress: object) -> float:
        """Nothing tells its versions apart."""
        return 1.0

    SCHEDULES.register("stray")(stray)
    try:
        trial = make_trial(schedule=Entry(name="stray"))
        with pytest.raises(
            PluginError, match=r"'stray' .*test_plugins\.py:\d+.*bench\.load_plugin"
        ):
            used_plugins(trial, Plan(stages=()))
    finally:
        SCHEDULES.forget("stray")


def test_an_installed_package_brings_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("bench.suite.plugins._PROCESS.searched", False)
    _file(tmp_path, "own_installed")
    described = tmp_path / "own_installed-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: own-installed\nVersion: 1.0\n"
    )
    (described / "entry_points.txt").write_text("[bench.plugins]\nany = own_installed\n")
    catalogue()
    (plugin,) = (each for each in loaded_plugins() if each.name == "own_installed")
    assert plugin.distribution == "own-installed 1.0"
    assert SCHEDULES.get("own_installed_schedule").origin == plugin.digest
    assert replace(plugin, distribution="own-installed 1.1").digest != plugin.digest


def test_a_plugins_data_set_is_prepared_anew_when_its_code_changes(tmp_path: Path) -> None:
    path = tmp_path / "outside.py"
    (tmp_path / "outside_numbers.py").write_text(BESIDE)
    path.write_text(PLUGIN)
    load_plugin(path)
    first = open_dataset("rings", {"per_class": 5}).fingerprint
    assert open_dataset("rings", {"per_class": 5}).fingerprint == first
    path.write_text(PLUGIN.replace("0.1 *", "0.2 *"))
    load_plugin(path)
    assert open_dataset("rings", {"per_class": 5}).fingerprint != first


def test_a_mix_from_outside_is_a_mix(tmp_path: Path) -> None:
    (tmp_path / "mixes.py").write_text(
        "from bench.data import MIXES\nfrom torchvision.transforms import v2\n\n"
        "@MIXES.register('mild')\ndef mild(num_classes, *, alpha: float = 1.0):\n"
        "    'Little of another image.'\n"
        "    return v2.MixUp(alpha=0.1 * alpha, num_classes=num_classes)\n"
    )
    digest = load_plugin(tmp_path / "mixes.py").digest
    trial = make_trial(mix="mild")
    assert used_plugins(trial, Plan(stages=())) == {"mix mild": digest}
    check("mix", "mild")
