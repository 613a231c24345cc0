"""Generators of odd inputs, and what a user sees of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

import bench
from bench.data import open_data, open_dataset, prepare_images
from bench.errors import BenchError
from bench.runs.reporter import SilentReporter
from tests.data.pictures import photograph

BACKBONE = "shufflenet_v2_x0_5"
SPLITS = {0: "train", 1: "val", 2: "test", -1: ""}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of the folder that the tests are started in has a say."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


# Images ---------------------------------------------------------------------------------------

Save = Callable[[Path, int], None]
"""Writes the picture of a number to a path."""


def save_photograph(path: Path, number: int) -> None:
    """A picture unlike all others, in the format that the suffix names."""
    photograph(number).save(path)


def save_array(path: Path, values: np.ndarray) -> None:
    """An array as an image, without a conversion."""
    Image.fromarray(values).save(path)


def fill(
    root: Path, layout: Mapping[str, int], *, suffix: str = ".png", save: Save = save_photograph
) -> Path:
    """`layout` ({"train/ants": 3}) as folders of images, all different in one test."""
    for folder, count in layout.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        first = 1000 * len(list(root.rglob("*")))
        for index in range(count):
            save(root / folder / f"{index:03}{suffix}", first + index)
    return root


def touch(path: Path, content: bytes = b"x") -> Path:
    """A small file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# What a user sees -----------------------------------------------------------------------------


@dataclass(kw_only=True)
class Seen:
    """What became of a folder: classes and images, or a refusal."""

    root: Path
    classes: tuple[str, ...] = ()
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    samples: tuple[str, ...] = ()
    images: Any = None
    issues: str = ""
    refusal: str | None = None

    @property
    def total(self) -> int:
        """All images that are used."""
        return sum(self.counts.values())

    def count(self, split: str, name: str) -> int:
        """The images of a class in a split of the folder; "" where splits are drawn."""
        return self.counts.get((split, name), 0)

    def tells(self, pattern: str) -> bool:
        """Whether the refusal, an issue, or `bench init` says so."""
        if self.refusal is not None:
            return bool(re.search(pattern, self._without_place(self.refusal), re.IGNORECASE))
        return any(
            re.search(pattern, self._without_place(text), re.IGNORECASE)
            for text in (self.issues, self._notes)
        )

    def refused_for(self, pattern: str) -> bool:
        """Whether it was refused, in these words."""
        return self.refusal is not None and self.tells(pattern)

    def _without_place(self, text: str) -> str:
        """The temporary folder has the name of the test in it."""
        return text.replace(str(self.root.resolve()), "").replace(str(self.root), "")

    @cached_property
    def _notes(self) -> str:
        """What `bench init` found, without its proposals: nothing is timed for them."""
        in_time = patch("bench.runs.init.write.timed", lambda *_: lambda grid: 60.0)
        with in_time:
            written = bench.init(self.root, output=self.root.parent / "noted.yaml", force=True)
        lines = [line for line in written.summary.splitlines() if line.startswith("note")]
        found = written.path.read_text(encoding="utf-8").partition("# How sure")[0]
        joined = re.sub(r"\s*\n#?\s*", " ", found.partition("# Found")[2])
        return "\n".join([*lines, joined])


def look(root: Path, *, size: int = 32, resize: str = "squash", **options: Any) -> Seen:
    """What the data set `folder` makes of `root`."""
    seen = Seen(root=root)
    try:
        dataset = open_dataset("folder", {"path": str(root), **options})
        folder = prepare_images(dataset, image_size=size, resize=resize)
        data: Any = open_data(folder)
    except BenchError as error:
        seen.refusal = str(error)
        return seen
    seen.classes, seen.samples, seen.images = data.classes, data.sample_ids, data.images
    for label, split in zip(data.labels, data.given_splits, strict=True):
        key = (SPLITS[int(split)], data.classes[label])
        seen.counts[key] = seen.counts.get(key, 0) + 1
    seen.issues = "\n".join(issue.message for issue in data.issues)
    return seen


class Notes(SilentReporter):
    """Keeps what is told while something runs."""

    def __init__(self, when_training: Callable[[], None] | None = None) -> None:
        self.lines: list[str] = []
        self._when_training = when_training

    def note(self, message: str) -> None:
        self.lines.append(message)

    def status(self, message: str) -> None:
        self.lines.append(message)

    def training(self, jobs: Any) -> None:
        if self._when_training is not None:
            self._when_training()

    def __str__(self) -> str:
        return "\n".join(self.lines)


# Suites ---------------------------------------------------------------------------------------


def suite_of(data: str | Path | Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The smallest suite that trains: one epoch of a small network on small images."""
    suite: dict[str, Any] = {
        "name": "tiny",
        "dataset": str(data) if isinstance(data, Path) else data,
        "backbone": BACKBONE,
        "weights": "none",
        "strategy": "from_scratch",
        "image_size": 32,
        "epochs": 1,
        "batch_size": 8,
        "lr": 0.01,
        "precision": "fp32",
        "seed": 0,
    }
    return {key: value for key, value in {**suite, **changes}.items() if value is not ...}


def plan_text(suite: Any, **options: Any) -> str:
    """What `bench plan` shows."""
    reporter = Notes()
    shown = bench.plan(suite, device="cpu", reporter=reporter, **options)
    return f"{reporter}\n{shown}"


def refusal_of(suite: Any, **options: Any) -> BenchError:
    """How `bench plan` refuses the suite; fails if it does not."""
    with pytest.raises(BenchError) as caught:
        bench.plan(suite, device="cpu", **options)
    return caught.value


def command(*arguments: object, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """The command line in a process of its own, started in `folder`, under these variables."""
    code = "from bench.cli.main import main; main()"
    kept = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "COLUMNS")}
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        timeout=120,
    )


@pytest.fixture
def ordinary(tmp_path: Path) -> Path:
    """An ordinary folder: the measure of what nobody has to be told of."""
    return fill(tmp_path / "insects", {"ants": 10, "bees": 10})
