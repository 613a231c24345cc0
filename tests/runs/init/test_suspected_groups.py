"""What `bench init` takes for groups, and what it leaves alone."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.runs.catalogue import catalogue
from bench.runs.init.choose import richest
from bench.runs.init.examine import examine
from bench.runs.init.groups import in_copies, in_exif, in_names, with_pairs
from bench.runs.init.suite_text import settings_text
from bench.runs.init.write import write_suite
from bench.suite import load_suite

Name = Callable[[int], str]


def names_of(name: Name, count: int = 48) -> list[str]:
    return [f"{('ill', 'well')[index % 2]}/{name(index)}" for index in range(count)]


def labels(count: int) -> np.ndarray:
    return np.arange(count) % 2


# Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern", "groups", "sure"),
    [
        (lambda i: f"patient_{i // 4:03}_{'abcd'[i % 4]}.jpg", r"(patient_\d+)", 12, True),
        (lambda i: f"Subject-{i // 6}/scan{i}.png", r"(Subject\-\d+)", 8, True),
        (lambda i: f"sub{i // 3:02}.{i % 3}.png", r"(sub\d+)", 16, True),
        (lambda i: f"x_site{i % 3}_{i}.png", r"(site\d+)", 3, True),
        (lambda i: f"video_{i // 8}_frame_{i}.png", r"(video_\d+)", 6, True),
        (lambda i: f"{i // 4:04}_{'abcd'[i % 4]}.jpg", None, 12, False),
        (lambda i: f"IMG_202406{1 + i // 4:02}_{100000 + 37 * i}.jpg", None, 12, False),
        (lambda i: f"{i // 4}/{i}.jpg", r"([^/]+)/[^/]+$", 12, False),
    ],
)
def test_names_of_groups(name: Name, pattern: str | None, groups: int, sure: bool) -> None:
    samples = names_of(name)
    found = in_names(samples, labels(len(samples)))
    assert found is not None
    assert (len(set(found.groups(samples))), found.sure) == (groups, sure)
    assert pattern in (None, found.pattern)
    assert f"{groups} groups of" in found.why


@pytest.mark.parametrize(
    "name",
    [
        lambda i: f"IMG_{i:04}.jpg",
        lambda i: f"DSC{i:05}.JPG",
        lambda i: f"{i}.png",
        lambda i: f"{10**9 + 7919 * i}_{zlib.crc32(bytes([i])):08x}.jpg",
        lambda i: f"{zlib.crc32(bytes([i])):08x}-{i:04}-4000-{i:012}.jpg",
        lambda i: f"patient_{i}.jpg",
        lambda i: f"{('ill', 'well')[i % 2]}_{i}.jpg",
        lambda i: f"site{i % 2}_{i}.jpg",
        lambda i: f"photo {i} (1).jpg",
        lambda i: f"{i % 3}_{i}.jpg",
        lambda i: "no-suffix" + "x" * i,
    ],
)
def test_false_alarms(name: Name) -> None:
    samples = names_of(name)
    assert in_names(samples, labels(len(samples))) is None


def test_nearly_equal_images_make_a_suspicion_sure() -> None:
    samples = names_of(lambda i: f"{i // 4:04}_{'abcd'[i % 4]}.jpg")
    suspicion = in_names(samples, labels(len(samples)))
    assert suspicion is not None
    inside = np.array([(4 * i, 4 * i + 1) for i in range(8)])
    across = np.array([(4 * i, 4 * i + 4) for i in range(8)])
    assert with_pairs(suspicion, samples, inside).sure
    assert "8 of 8 pairs of nearly identical images" in with_pairs(suspicion, samples, inside).why
    assert not with_pairs(suspicion, samples, inside[:4]).sure
    assert not with_pairs(suspicion, samples, np.concatenate([inside, across])).sure


def test_sets_of_copies() -> None:
    samples = [f"{i}.png" for i in range(20)]
    assert in_copies(samples, np.array([(0, 1), (2, 3)])) is None
    found = in_copies(samples, np.array([(0, 1), (1, 2), (5, 6), (10, 11)]))
    assert found is not None
    assert found.startswith("3 sets of nearly identical images (7 images; one has 0.png and 1.png)")


# EXIF -----------------------------------------------------------------------------------------


def write_exif(path: Path, camera: str | None, day: str | None) -> None:
    exif = Image.Exif()
    if camera is not None:
        exif[0x010F], exif[0x0110] = "Maker", camera
    if day is not None:
        exif.get_ifd(0x8769)[0x9003] = f"{day} 10:00:00"
    Image.new("RGB", (8, 8)).save(path, exif=exif)


def told(folder: Path, taken: Sequence[tuple[str | None, str | None]]) -> str | None:
    for index, (camera, day) in enumerate(taken):
        write_exif(folder / f"{index}.jpg", camera, day)
    return in_exif(
        lambda index: folder / f"{index}.jpg",
        range(len(taken)),
        labels(len(taken)),
        ("ill", "well"),
    )


def test_cameras_and_days_are_told(tmp_path: Path) -> None:
    found = told(tmp_path, [(f"X{i % 3}", f"2024:06:{1 + i // 6:02}") for i in range(24)])
    assert found is not None
    assert "3 cameras (Maker X0: 8, Maker X1: 8, Maker X2: 8) and 4 days" in found
    assert "no other" not in found
    apart = told(tmp_path, [(("A", "B")[i % 2], None) for i in range(24)])
    assert apart is not None
    assert "Maker A took all of ill and no other" in apart


@pytest.mark.parametrize(
    "taken",
    [
        [(None, None)] * 12,
        [("X", "2024:06:01")] * 12,
        [("X", f"2024:06:{1 + i:02}") for i in range(12)],
        [(f"X{i}", None) for i in range(12)],
        [("X", None), ("Y", None)] + [(None, None)] * 10,
    ],
)
def test_nothing_is_told_of_one_camera_or_of_single_days(
    tmp_path: Path, taken: list[tuple[str | None, str | None]]
) -> None:
    assert told(tmp_path, taken) is None


def test_a_damaged_block_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"\xff\xd8\xff\xe1\x00\x10Exif\0\0junk")
    (tmp_path / "1.jpg").write_bytes(b"")
    source = lambda index: tmp_path / f"{index}.jpg"  # noqa: E731
    assert in_exif(source, [0, 1], labels(2), ("ill", "well")) is None


# Suites ---------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bench.runs.init.write.timed", lambda *_: lambda grid: 0.0)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def fill(folder: Path, name: Name, count: int = 48) -> Path:
    for sample in names_of(name, count):
        (folder / sample).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(zlib.crc32(os.fsencode(sample))).integers(0, 256, (8, 8, 3))
        image = Image.fromarray(pixels.astype(np.uint8)).resize((40, 30))
        image.save((folder / sample).with_suffix(".png"))
    return folder


def test_a_word_is_proposed_for_use(place: Path) -> None:
    folder = fill(place / "clinic", lambda i: f"patient_{i // 4:03}_{'abcd'[i % 4]}.png")
    written = write_suite(folder)
    text = written.path.read_text()
    assert '\n  group: "(patient_\\\\d+)"\n' in text
    assert "\n  split: {by: group}\n" in text
    assert "note: 12 groups of 4 images share a part of their names (patient_000" in written.summary
    options = load_suite(written.path, catalogue()).suite.dataset.options
    assert (options["group"], options["split"]) == (r"(patient_\d+)", {"by": "group", "at": None})


def test_a_suspicion_is_a_comment(place: Path) -> None:
    folder = fill(place / "clinic", lambda i: f"{i // 4:04}_{'abcd'[i % 4]}.png")
    written = write_suite(folder)
    text = written.path.read_text()
    assert '\n  # group: "' in text
    assert "\n  # split: {by: group}\n" in text
    assert "# 12 groups of 4 images share a part of their names" in text
    options = load_suite(written.path, catalogue()).suite.dataset.options
    assert (options["group"], options["split"]) == (None, None)
    active = text.replace("  # group:", "  group:").replace("  # split:", "  split:")
    written.path.write_text(active)
    assert load_suite(written.path, catalogue()).suite.dataset.options["split"]["by"] == "group"


def test_plain_names_change_nothing(place: Path) -> None:
    found = examine(fill(place / "plain", lambda i: f"IMG_{i:04}.png", count=12))
    assert found.suspicion is None
    text = settings_text(found, richest(found), name=None, dataset="../plain")
    assert "group" not in text
