"""A signal ends a command while it loads, and is never raised inside an import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bench.cli.interrupts import _BEFORE, _WORK

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")

START = "from bench.cli.start import main; main()"

# A module whose import swallows what is raised in it, as those of compiled packages do.
SWALLOWS = """\
import os, signal, sys
try:
    os.kill(os.getpid(), signal.{name})
    for _ in range(1_000_000): pass
except BaseException:
    print("raised inside the import")
print("imported", flush=True)
"""
LOADING = """\
import sys
sys.path.insert(0, {folder!r})
from bench.cli import main as cli

def app():
    import swallows
    print("went on")

cli.app = app
"""
WORKING = """\
import sys, time
sys.path.insert(0, {folder!r})
from bench.cli import main as cli

work = {{"__name__": "bench.runs.run", "time": time}}
exec(
    "def train():\\n import swallows\\n print('whole', flush=True)\\n time.sleep(20)", work
)

def app():
    try:
        work["train"]()
    finally:
        print("written", flush=True)

cli.app = app
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_while_nothing_but_imports_has_happened_a_signal_ends_the_process_at_once(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS.format(name=name))
    result = run(LOADING.format(folder=str(tmp_path)) + "cli.main()")
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_while_the_command_line_itself_is_imported_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "typer.py").write_text(SWALLOWS.format(name=name))
    result = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); " + START)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_what_works_on_a_run_folder_goes_by_the_names_that_it_has() -> None:
    for module in _WORK:
        assert import_module(module)
    for module, name in _BEFORE:
        assert name == "<module>" or callable(getattr(import_module(module), name))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_inside_an_import_that_work_has_asked_for_it_waits_for_the_imports_end(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS.format(name=name))
    result = run(WORKING.format(folder=str(tmp_path)) + "cli.main()")
    assert result.returncode == 130
    assert result.stdout.split("\n")[:2] == ["imported", "whole"]
    assert "written" in result.stdout
    assert "Traceback" not in result.stderr


def test_an_end_of_file_is_not_just_aborted() -> None:
    code = "import bench, numpy\nfrom bench.cli import main as cli\n"
    code += "def fail(*_, **__): raise EOFError('No data left in file')\n"
    code += "bench.show = fail\nimport sys; sys.argv = ['bench', 'show', 'somewhere']\ncli.main()"
    result = run(code)
    assert result.returncode == 1
    assert "Aborted" not in result.stderr
    assert "a file ended where more was expected: No data left in file" in result.stderr
