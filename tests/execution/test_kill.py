"""A run that is killed and started again ends with the tables of a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SUITE = """\
name: killed
dataset: {name: fractals, classes: 2, train_per_class: 16, val_per_class: 6, test_per_class: 6,
          image_size: 32}
backbone: shufflenet_v2_x0_5
weights: {name: fractals, classes: 3, images_per_class: 8, epochs: 1}
strategy: [from_scratch, linear_probe, {name: gradual_unfreeze, every: 1}]
schedule: [constant, {name: step, step_size: 2}]
augmentation: flip_crop
epochs: 4
batch_size: 8
lr: 0.01
precision: fp32
seed: [0]
"""

KILLED_AFTER = (6.0,)
"""Seconds; how far a run has come by then depends on the machine, and must not matter."""

TIMES = ("seconds", "train_seconds", "started", "finished", "peak_memory_mib")


def start(folder: Path) -> subprocess.Popen[bytes]:
    """`bench run` in a process group of its own."""
    suite = folder / "suite.yaml"
    suite.write_text(SUITE)
    code = "from bench.cli.main import main; main()"
    command = [sys.executable, "-c", code, "run", str(suite), "--out", str(folder / "out")]
    return subprocess.Popen(
        [*command, "--workers", "2"],
        env={**os.environ, "BENCH_CACHE": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The three tables without what depends on the clock."""
    run = folder / "out" / "killed"
    return {
        name: pd.read_parquet(run / f"{name}.parquet").drop(columns=[*TIMES], errors="ignore")
        for name in ("trials", "curves", "predictions")
    }


@pytest.mark.campaign
@pytest.mark.skipif(os.name == "nt", reason="process groups are those of POSIX")
def test_killed_at_any_moment_and_started_again(tmp_path: Path) -> None:
    left_alone, killed = tmp_path / "left_alone", tmp_path / "killed"
    for folder in (left_alone, killed):
        folder.mkdir()
    assert start(left_alone).wait() == 0
    for seconds in KILLED_AFTER:
        process = start(killed)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert start(killed).wait() == 0
    expected, found = tables(left_alone), tables(killed)
    assert len(expected["trials"]) == 6
    assert set(expected["trials"]["status"]) == {"complete"}
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table, check_exact=True)
