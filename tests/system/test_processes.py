"""Processes that train start and end as the caller wants."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.system import processes
from bench.system.processes import temporary_folder

START_WHILE_INTERRUPTED = """\
import os, signal, threading
from bench.system import processes

# A shell that runs the tests in the background lets them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
processes.import_early("slow_import")
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    processes.start_process(print, "started", device="cpu").join()
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked on Linux")
def test_an_interrupt_is_heard_while_a_process_waits_for_what_it_is_forked_from(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow_import.py").write_text("import time\ntime.sleep(3)\n")
    result = subprocess.run(
        [sys.executable, "-c", START_WHILE_INTERRUPTED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "heard" in result.stdout
    assert result.returncode == 0
    assert "Traceback" not in result.stderr


def test_what_killed_processes_left_in_the_temporary_folder_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "from bench.system.processes import temporary_folder; print(temporary_folder('test'))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    left = Path(ended.stdout.strip())
    (left / "file").write_text("left")
    others = tmp_path / "bench-test-elsewhere-1-x"
    others.mkdir()
    living = temporary_folder("test")
    assert not left.exists()
    assert temporary_folder("test") != living
    assert living.is_dir()
    assert others.is_dir()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_a_ctrl_c_while_the_first_process_starts_is_not_lost() -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with processes._interrupts_left_to_the_caller():
            os.kill(os.getpid(), signal.SIGINT)
            assert heard == []
        assert heard == [1]
    finally:
        signal.signal(signal.SIGINT, before)
