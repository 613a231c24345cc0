"""Processes that train start and end as the caller wants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
