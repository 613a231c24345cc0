"""The folder listing states the architecture: imports go down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bench"

LAYERS = {
    5: {"cli", "console"},
    4: {"listing", "doctor", "initialise",
        },
    3: {"runs", "execution",
        "tuning"},
    2: {"training", "results",
        },
    1: {"models", "methods", "data", },
    0: {"system", "errors", "suite", "keys",
        },
}  # fmt: skip
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}

# What makes a run may hand it to the products that describe it.
EXCEPTIONS = {("runner", "report")}

TORCH_FREE = ("errors", "suite", "keys",
              "listing", "cli", "results.folder", "results.analysis", "results.plots",
              "results.report", "results.grid",
              "data", "models", "methods")  # fmt: skip


def _imports(path: Path) -> set[str]:
    """Modules of `bench` that the file imports, anywhere in it but for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bench."):
            found.add(node.module.split(".")[1])
        if isinstance(node, ast.ImportFrom) and node.module == "bench":
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("bench.")}
    return found


def _modules() -> dict[str, set[str]]:
    modules: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            modules.setdefault(parts[0], set()).update(_imports(path))
    return modules


def test_every_module_has_a_layer() -> None:
    assert set(_modules()) == set(LAYER_OF)


def test_imports_go_down() -> None:
    wrong = [
        f"{module} (layer {LAYER_OF[module]}) imports {imported} (layer {LAYER_OF[imported]})"
        for module, imports in _modules().items()
        for imported in imports
        if LAYER_OF[imported] > LAYER_OF[module] and (module, imported) not in EXCEPTIONS
    ]
    assert wrong == []


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
        "import sys\nfrom bench.cli import app\n"
        f"try: app({arguments})\nexcept SystemExit: pass\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
