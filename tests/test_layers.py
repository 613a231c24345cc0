"""The folder listing states the architecture: imports go down only, and never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bench"

MAY_IMPORT = {
    "cli": {"", "prediction", "tuning", "runs", "execution", "training", "models", "methods",
            "data", "results", "suite", "system"},
    "testing": {"tuning", "runs", "execution", "training", "models", "methods", "data", "results",
                "suite", "system"},
    "prediction": {"models", "methods", "data", "results", "suite", "system"},
    "tuning": {"runs", "execution", "training", "models", "methods", "data", "results", "suite",
               "system"},
    "runs": {"prediction", "execution", "training", "models", "methods", "data", "results", "suite",
             "system"},
    "execution": {"training", "models", "methods", "data", "suite", "system"},
    "training": {"models", "methods", "data", "suite", "system"},
    "models": {"methods", "suite", "system"},
    "methods": {"suite"},
    "data": {"suite", "system"},
    "results": {"methods", "suite", "system"},
    "suite": set(),
    "system": set(),
}  # fmt: skip
"""Folder → the folders below it. `errors` and `keys` are below all of them.

"" is the face of the package: Python's verbs, which the command line calls.
"""

GROUND = {"errors", "keys"}

MOST_ENTRIES = 15

TORCH_FREE = ("errors", "keys", "system.cache", "system.download", "suite", "methods", "data",
              "models", "results.audit", "results.folder", "results.analysis", "results.plots",
              "results.report",
              "runs.catalogue", "runs.check", "runs.listing", "runs.progress",
              "cli.main")  # fmt: skip


def _modules() -> dict[str, Path]:
    """Every module by its dotted name; a package goes by the name of its folder."""
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = _modules()


def _imports(path: Path) -> set[str]:
    """Modules of `bench` that the file imports, anywhere in it, for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES)


IMPORTS = {name: _imports(path) for name, path in MODULES.items()}


def _folder(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_listing_is_short_and_every_entry_has_its_place() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    entries.discard("py.typed")  # a mark for type checkers
    assert entries == {*MAY_IMPORT, *(f"{name}.py" for name in GROUND)}
    assert len(entries) <= MOST_ENTRIES


def test_imports_go_down() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, imports in IMPORTS.items()
        for imported in imports
        if _folder(module) not in ("", _folder(imported))
        and _folder(imported) not in MAY_IMPORT.get(_folder(module), set()) | GROUND
    ]
    assert wrong == []


def test_no_module_is_named_in_a_text_that_may_not_be_imported() -> None:
    """A module that is imported by name, by another process for instance, is an import too."""
    named = {
        (module, other)
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in MODULES and "." in str(node.value)
        for other in [str(node.value)]
    }
    wrong = [
        f"{module} names {other}"
        for module, other in named
        if _folder(module) not in ("", _folder(other))
        and _folder(other) not in MAY_IMPORT.get(_folder(module), set()) | GROUND
    ]
    assert wrong == []


def test_nothing_imports_in_a_circle() -> None:
    """Module by module, so inside a folder either; a package's face counts as a module."""
    sorter = TopologicalSorter(IMPORTS)
    sorter.prepare()  # raises CycleError, which names the circle


def test_several_devices_stand_behind_one_seam() -> None:
    """A loop, a step or a prediction that is read knows of one device."""
    several = "bench.training.data_parallel"
    inside = {name for name in MODULES if name.startswith(several)}
    users = {name for name, imports in IMPORTS.items() if imports & inside} - inside
    assert users == {"bench.execution.engine"}


def test_every_folder_says_what_it_is_for() -> None:
    silent = [
        name
        for name, path in MODULES.items()
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_tests_mirror_the_tree() -> None:
    tests = Path(__file__).parent
    across = {tests / "odd_inputs", tests / "golden"}  # they go through all folders
    folders = {path.parent for path in tests.rglob("test_*.py")} - {tests, *across}
    strange = [
        str(folder.relative_to(tests))
        for folder in folders
        if not (PACKAGE / folder.relative_to(tests)).is_dir()
    ]
    assert strange == []


def test_the_catalogue_and_the_files_need_no_torch() -> None:
    code = (
        f"import sys\nfor name in {TORCH_FREE}: __import__('bench.' + name)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_the_face_loads_nothing_heavy(arguments: list[str]) -> None:
    heavy = "{'torch', 'torchvision', 'pandas', 'pyarrow', 'matplotlib', 'scipy', 'PIL'}"
    code = (
        "import sys\nfrom bench.cli.main import app\n"
        f"try: app({arguments})\nexcept SystemExit: pass\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
