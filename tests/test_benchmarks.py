"""The scripts in `benchmarks` find what they import: nothing else notices when a name moves."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

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


@pytest.fixture
def advice(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("advice")


def test_regret_is_what_the_best_has_more(advice: ModuleType) -> None:
    # Of four samples both options get two; each is the better one on a half of them.
    halves = np.array([[[1, 0, 1, 0]] * 2, [[0, 1, 0, 1]] * 2], float)
    equal = advice.regret(halves, 0)
    assert (equal.at_most, equal.crossed) == (0, -50)  # the best of a half has less on the other
    better = np.array([[[1, 1, 1, 0]] * 2, [[0, 0, 1, 0]] * 2], float)
    assert advice.regret(better, 0).at_most == 0
    worse = advice.regret(better, 1)
    assert (worse.at_most, worse.crossed) == (50, 50)


def test_the_best_by_luck_has_no_regret_when_crossed(advice: ModuleType) -> None:
    luck = np.random.default_rng(0).random((6, 2, 400)) < 0.5
    found = [advice.regret(luck.astype(float), chosen) for chosen in range(6)]
    assert np.mean([each.at_most for each in found]) > 1.5
    assert abs(np.mean([each.crossed for each in found])) < 2


def test_rank_correlation_by_hand(advice: ModuleType) -> None:
    names, results = ["a", "b", "c"], np.array([0.9, 0.7, 0.5])
    assert advice.rank_correlation(["a", "b", "c"], names, results) == pytest.approx(1)
    assert advice.rank_correlation(["c", "b", "a"], names, results) == pytest.approx(-1)
    # Pairs weigh 1/place + 1/place (places from 1): 3/2 and 4/3 agree, 5/6 does not.
    swapped = (3 / 2 + 4 / 3 - 5 / 6) / (3 / 2 + 4 / 3 + 5 / 6)
    assert advice.rank_correlation(["a", "c", "b"], names, results) == pytest.approx(swapped)
    assert advice.rank_correlation(["d", "a", "b"], names, results) is None
    assert advice.rank_correlation(["a", "b", "c"], names, np.ones(3)) is None


def test_a_cluster_counts_once_however_many_sets_it_has(advice: ModuleType) -> None:
    found = advice.clustered([1, 1, 1, 5], ["x", "x", "x", "y"])
    assert (found.mean, found.low, found.high) == (3, 1, 5)  # xx, xy, yx or yy is drawn
    assert (found.sets, found.clusters) == (4, 2)
    assert np.isnan(advice.clustered([1, 2], ["x", "x"]).low)


def scored_rows(accuracies: dict[str, list[float]]) -> pd.DataFrame:
    """Sets with one cluster each, and what every rule's strategy reached."""
    return pd.DataFrame(
        {"of": "strategies", "rule": rule, "set": f"s{n}", "cluster": f"c{n}", "accuracy": accuracy}
        for rule, reached in accuracies.items()
        for n, accuracy in enumerate(reached)
    )


def test_a_rule_is_used_where_it_is_better_than_every_baseline(advice: ModuleType) -> None:
    baselines = {"always_linear_probe": [70, 80, 90], "always_full": [72, 79, 85]}
    rules = {"good": [75, 84, 93], "half": [71, 79.5, 89], "open": [75, 78, 90]}
    differences = advice.against_baselines(scored_rows(baselines | rules))
    own = differences.set_index(["rule", "baseline"])["mean"]
    assert own["good", "always_linear_probe"] == pytest.approx(-4)
    assert own["always_full", "always_linear_probe"] == pytest.approx(4 / 3)
    assert advice.beating(differences) == {"strategies": ("good",), "backbones": ()}


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("peers")


def made_up_cells(peers: ModuleType, *, moved: float = 0.01) -> Any:
    """Two rounds of a single training and a grid, by `bench` and by a peer half as fast."""
    cells = {}
    for side, times, way in (("bench", 1.0, 0.01), ("plain", 2.0, moved)):
        single, grid = peers.Cell(), peers.Cell()
        for seconds in (10.0 * times, 30.0 * times):
            sample = peers.Sample(
                seconds=seconds,
                epochs=[seconds / 5],
                losses={"train": 0.7, "val": 0.6},
                accuracies={"train": 0.5, "val": 0.75},
                moved=way,
            )
            single.samples.append(sample)
            single.seconds[peers.WHOLE].append(seconds)
            single.seconds[peers.EPOCH].append(seconds / 5)
            grid.seconds[peers.TRAINING].append(100 * seconds)
        cells["fp32", "finetune", side], cells["fp32", "probes", side] = single, grid
    return cells


def test_tables_of_peers_give_medians_extremes_and_ratios_of_medians(peers: ModuleType) -> None:
    lines = peers.tables(made_up_cells(peers)).splitlines()
    assert lines[2].startswith("| fp32 | bench | 20 s (10–30) |  | 4 s (2–6) |  |")
    assert lines[3].startswith("| fp32 | plain | 40 s (20–60) | 2.00 | 8 s (4–12) | 2.00 |")
    assert lines[3].endswith("| 0.700, 0.600; 0.50, 0.75 |")
    assert lines[-1] == "| probes | fp32 | plain | 4000 s (2000–6000) | 2.00 |  |"


@pytest.mark.parametrize(("moved", "told"), [(0.01, 0), (0.016, 0), (0.05, 2), (0.0, 2)])
def test_a_peer_that_did_other_work_is_told(peers: ModuleType, moved: float, told: int) -> None:
    assert len(list(peers.different_work(made_up_cells(peers, moved=moved)))) == told


def test_results_of_peers_are_written_whole(peers: ModuleType, tmp_path: Path) -> None:
    given = Namespace(rounds=2, epochs=1, grid_epochs=2, out=tmp_path / "results.json")
    peers.write_results(given, made_up_cells(peers), {})
    cells = json.loads(given.out.read_text())["cells"]
    assert [(cell["row"], cell["side"]) for cell in cells] == [
        *(("finetune", "bench"), ("probes", "bench")),
        *(("finetune", "plain"), ("probes", "plain")),
    ]
    assert [sample["seconds"] for sample in cells[2]["samples"]] == [20.0, 60.0]


def test_a_peer_without_its_package_is_left_out_with_the_remedy(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"transformers"}
    monkeypatch.setattr(peers, "find_spec", lambda name: name if name in there else None)
    present, missing = peers.present_sides(["bench", "plain", "hf_trainer"])
    assert present == ["bench", "plain"]
    assert missing == ["hf_trainer is left out: pip install accelerate"]


def test_each_peer_has_a_loop(peers: ModuleType) -> None:
    loops = {path.stem for path in (ROOT / "benchmarks" / "peer_loops").glob("[a-z]*.py")}
    assert loops == set(peers.PEERS)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_ceiling_counts_every_convolution(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    ceiling = importlib.import_module("ceiling")
    model = models.get_model(name, weights=None).eval()
    shapes = ceiling.convolution_shapes(model, 64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 64, 64))
    convolutions = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert sum(count * shape.forward_flops() for shape, count in shapes.items()) == convolutions
    assert sum(count for shape, count in shapes.items() if shape.from_images) == 1
