"""Kills and full disks: what the verbs write is the old file or the whole new one, and no part."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bench
from bench.errors import is_full_disk
from bench.prediction.classify import classify
from bench.prediction.export.fresh import fresh_process
from bench.prediction.model import TrainedModel
from bench.prediction.samples import samples_of
from bench.system.cache import is_temporary
from tests.cli.test_cli import call

pytestmark = [
    pytest.mark.xdist_group("opened"),
    pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX"),
]

SUFFIXES = (".csv", ".parquet", ".jsonl")
FORMATS = ("safetensors", "torch-export", "onnx")


@pytest.fixture(scope="module")
def model(opened_run: bench.Run) -> TrainedModel:
    return bench.load(opened_run.folder, device="cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than one batch."""
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for number in range(70):
        pixels = draw.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Files may have so many bytes: more are refused as a full quota refuses them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("there", [False, True])
def test_an_interrupt_leaves_the_file_before_and_nothing_else(
    model: TrainedModel, images: Path, tmp_path: Path, suffix: str, there: bool
) -> None:
    out = tmp_path / f"found{suffix}"
    if there:
        out.write_text("of last week")

    def interrupt(done: int) -> None:
        if done == 66:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(model, samples_of(images), out=out, progress=interrupt)
    assert list(tmp_path.iterdir()) == ([out] if there else [])
    assert not there or out.read_text() == "of last week"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_one_line_with_the_path_and_leaves_nothing(
    opened_run: bench.Run,
    images: Path,
    tmp_path: Path,
    suffix: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / f"found{suffix}"
    arguments = ("predict", opened_run.folder, images, "--out", out, "--device", "cpu")
    with no_file_above(1000):
        code, _, err = call(capfd, monkeypatch, *arguments)
    (line,) = (line for line in err.splitlines() if "error" in line)
    assert code == 1
    assert str(out) in line
    assert "MiB free" in line
    assert "make room" in line
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.campaign
@pytest.mark.parametrize("part", ["model", "card"])
def test_an_export_on_a_full_disk_is_one_line_too(
    opened_run: bench.Run,
    tmp_path: Path,
    part: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "given"
    arguments = ("export", opened_run.folder, "--format", "safetensors", "--out", out)
    exporting = importlib.import_module("bench.prediction.export.export")
    write_json = exporting._write_json

    def full(path: Path, content: object) -> None:
        with no_file_above(10):
            write_json(path, content)

    if part == "card":
        monkeypatch.setattr(exporting, "_write_json", full)
    with no_file_above(100_000 if part == "model" else resource.RLIM_INFINITY):
        code, _, err = call(capfd, monkeypatch, *arguments)
    assert code == 1, err
    (line,) = (line for line in err.splitlines() if "error" in line)
    assert str(out) in line
    assert "make room" in line
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_of_what_a_check_exchanges_is_told_as_that(tmp_path: Path) -> None:
    """In this process, and in the one that runs the file."""
    code = "import numpy\ndef logits(batch):\n    return numpy.zeros(2 * len(batch))"
    with fresh_process(code, tmp_path, name="a runtime") as fresh:
        assert len(fresh.logits(np.zeros(1000))[0]) == 2000
        with no_file_above(1000), pytest.raises(OSError, match="too large") as own:
            fresh.logits(np.zeros(1000))
    with (
        no_file_above(12_000),
        fresh_process(code, tmp_path, name="a runtime") as fresh,
        pytest.raises(OSError, match="No space left") as others,
    ):
        fresh.logits(np.zeros(1000))
    assert is_full_disk(own.value)
    assert is_full_disk(others.value)
    assert list(tmp_path.iterdir()) == []


# Real processes ---------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts this may ignore it
where, number = sys.argv[1], getattr(signal, sys.argv[2])
sys.argv = ["bench", *sys.argv[3:]]

def die():
    os.kill(os.getpid(), number)

if where == "working":
    from bench.prediction import classify
    own, seen = classify.row_of, []
    def row_of(*arguments, **options):
        seen.append(1)
        if len(seen) == 66:
            die()
        return own(*arguments, **options)
    classify.row_of = row_of
    from bench.prediction.export import fresh
    own_ask = fresh.Fresh._ask
    def ask(*arguments):
        found = own_ask(*arguments)
        die()
        return found
    fresh.Fresh._ask = ask
elif where in ("before", "after"):
    from bench.system import cache
    replace = Path.replace
    def replaced(self, target):
        if ".partial-" in self.name and where == "before":
            die()
        found = replace(self, target)
        if ".partial-" in self.name and where == "after":
            die()
        return found
    Path.replace = replaced
    exchange = cache.exchange
    def exchanged(*names):
        if where == "before":
            die()
        found = exchange(*names)
        die()
        return found
    cache.exchange = exchanged

from bench.cli.start import main
main()
"""


def killed_at(where: str, number: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", KILLED, where, number, *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


MOMENTS = [
    (number, where)
    for number in ("SIGKILL", "SIGTERM", "SIGINT")
    for where in ("working", "before", "after")
]
"""In the middle of the work, just before what is written gets its name, and just after."""


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("number", "where", "suffix"),
    [(*moment, SUFFIXES[index % 3]) for index, moment in enumerate(MOMENTS)]
    + [("SIGKILL", "before", suffix) for suffix in (".csv", ".jsonl")],
)
def test_predict_killed_leaves_the_old_file_or_the_new_one(
    opened_run: bench.Run,
    model: TrainedModel,
    images: Path,
    tmp_path: Path,
    number: str,
    where: str,
    suffix: str,
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    out, whole = folder / f"found{suffix}", tmp_path / f"found{suffix}"
    classify(model, samples_of(images), out=whole)
    out.write_bytes(b"of last week")
    arguments = ("predict", opened_run.folder, images, "--device", "cpu", "--out", out)
    done = killed_at(where, number, *arguments)
    assert done.returncode == (-signal.SIGKILL if number == "SIGKILL" else 130), done.stderr
    assert "Traceback" not in done.stderr
    assert out.read_bytes() == (whole.read_bytes() if where == "after" else b"of last week")
    check_left(out, number)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("number", "where", "format"),
    [(*moment, FORMATS[index % 3]) for index, moment in enumerate(MOMENTS)]
    + [("SIGKILL", "working", "torch-export"), ("SIGKILL", "working", "onnx")],
)
def test_export_killed_leaves_the_old_folder_or_the_new_one(
    opened_run: bench.Run,
    tmp_path: Path,
    number: str,
    where: str,
    format: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if format == "onnx":
        pytest.importorskip("onnxscript")
    out, temporary = tmp_path / "there" / "given", tmp_path / "temporary"
    out.mkdir(parents=True)
    temporary.mkdir()
    (out / "card.md").write_text("of last week")
    monkeypatch.setenv("TMPDIR", str(temporary))
    arguments = ("export", opened_run.folder, "--format", format, "--out", out)
    done = killed_at(where, number, *arguments)
    assert done.returncode == (-signal.SIGKILL if number == "SIGKILL" else 130), done.stderr
    assert "Traceback" not in done.stderr
    names = {path.name for path in out.iterdir()}
    if where == "after":
        assert {"card.md", "card.json"} < names
    else:
        assert names == {"card.md"}
    assert ((out / "card.md").read_text() == "of last week") == (where != "after")
    check_left(out, number)
    # What a kill leaves among the system's temporary files nobody would remove.
    assert not list(temporary.glob("tmp*"))


def check_left(out: Path, number: str) -> None:
    """Beside it a kill leaves hidden files alone, which the next day's command removes."""
    left = [path.name for path in out.parent.iterdir() if path != out]
    assert all(is_temporary(name) for name in left), left
    assert number == "SIGKILL" or left == []
