"""Kept views: the same bits as views made anew, made once, whatever becomes of the cache."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.dataset import Pixels
from bench.data.images import kept_views
from bench.data.images.inputs import ImageInputs
from bench.data.images.kept_views import PIECE, KeptViews, kept_bytes
from bench.data.inputs import KeepsViews, Preprocessing
from bench.data.splits import Samples
from bench.runs.catalogue import catalogue
from bench.suite import Entry
from bench.system.cache import cache_lock
from tests.tiny import entry

SIZE = 8
AMONG = np.arange(1, 2 * (2 * PIECE + 5), 2)
"""Odd samples: two whole pieces and a part."""
RULE = Preprocessing(
    kind="image",
    size=SIZE,
    classes=("a", "b"),
    resize="crop",
    resized_to=9,
    interpolation="bilinear",
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.3, 0.4),
)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_views, "READ_SECONDS", 0.0)  # everything pays
    return tmp_path / "cache"


class Maker:
    """Makes views that tell sample and epoch apart, and counts them."""

    def __init__(self) -> None:
        self.made: Counter[tuple[int, int]] = Counter()

    def __call__(self, samples: Samples, epoch: int) -> Pixels:
        self.made.update((int(sample), epoch) for sample in samples)
        return expected(samples, epoch)


def expected(samples: Samples, epoch: int) -> Pixels:
    views = [
        np.random.default_rng((int(s), epoch)).integers(0, 256, (SIZE, SIZE, 3)) for s in samples
    ]
    return np.stack(views).astype(np.uint8)


def kept(make: Maker, key: str = "key") -> KeptViews:
    return KeptViews(key, among=AMONG, size=SIZE, make=make)


def shuffled(seed: int) -> Samples:
    return np.random.default_rng(seed).permutation(AMONG)


def test_views_are_made_once_for_all_who_ask() -> None:
    make = Maker()
    for seed in range(3):
        views, order = kept(make), shuffled(seed)
        for epoch in range(2):
            for batch in np.array_split(order, 7):
                assert np.array_equal(views.of(batch, epoch), expected(batch, epoch))
    assert make.made == Counter((int(s), epoch) for s in AMONG for epoch in range(2))


def test_another_key_finds_nothing() -> None:
    first, second = Maker(), Maker()
    kept(first).of(AMONG, 0)
    kept(second, "other").of(AMONG, 0)
    assert first.made == second.made


@pytest.mark.parametrize("damage", ["flipped", "half", "empty", "folder", "gone"])
def test_damaged_views_are_made_again(cache: Path, damage: str) -> None:
    kept(Maker()).of(AMONG, 0)
    for path in (cache / "views").iterdir():
        whole = path.read_bytes()
        path.unlink()
        if damage == "folder":
            path.mkdir()
        elif damage != "gone":
            flipped = bytes([whole[0] ^ 1]) + whole[1:]
            content = {"flipped": flipped, "half": whole[: len(whole) // 2], "empty": b""}
            path.write_bytes(content[damage])
    make = Maker()
    assert np.array_equal(kept(make).of(AMONG, 0), expected(AMONG, 0))
    assert len(make.made) == len(AMONG)
    again = Maker()
    assert np.array_equal(kept(again).of(AMONG, 0), expected(AMONG, 0))
    assert not again.made


def test_a_full_disk_costs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_views, "_write", full)
    views = kept(Maker())
    for epoch in range(2):
        assert np.array_equal(views.of(AMONG, epoch), expected(AMONG, epoch))


def test_what_is_made_fast_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_views, "READ_SECONDS", 1e9)
    views = kept(Maker())
    assert np.array_equal(views.of(AMONG, 0), expected(AMONG, 0))
    assert not list((cache / "views").glob("*"))


def test_who_comes_second_makes_what_is_free_first(cache: Path) -> None:
    """While another process holds the lock of a piece, the other pieces are made."""
    kept(Maker()).of(AMONG, 0)
    names = sorted(path.name for path in (cache / "views").iterdir())
    for path in (cache / "views").iterdir():
        path.unlink()
    locked = names[0]
    make = Maker()
    thread = threading.Thread(target=lambda: kept(make).of(AMONG, 0))
    with cache_lock(cache / "locks" / f"views-{locked[:2]}.lock"):
        thread.start()
        thread.join(timeout=1)
        assert thread.is_alive()
        assert {path.name for path in (cache / "views").iterdir()} == set(names[1:])
    thread.join()
    assert len(make.made) == len(AMONG)


@pytest.mark.parametrize("name", ["flip", "flip_crop", "standard", "aug_mix"])
def test_batches_of_kept_views_have_the_same_bits(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 9, 9, 3)).astype(np.uint8)
    chosen = entry(catalogue().augmentation, name)
    cpu = torch.device("cpu")
    plain, keeps, finds = (ImageInputs(pixels, chosen, RULE, seed=3, device=cpu) for _ in range(3))
    for inputs in (keeps, finds):
        assert isinstance(inputs, KeepsViews)
        inputs.keep_views("data", AMONG, epochs=2)
    for epoch in range(2):
        batch = shuffled(epoch)[:20]
        wanted = plain.batch(batch, epoch)
        for inputs in (keeps, finds):
            found = inputs.batch(batch, epoch)
            assert torch.equal(found, wanted)
            assert found.stride() == wanted.stride()


def test_what_takes_more_than_half_of_the_limit_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCH_CACHE_GIB", str(100 * 3 * 10 * 64 * 64 / 2**30))
    varied = entry(catalogue().augmentation, "flip")
    assert kept_bytes(varied, 10, size=64, epochs=50) == 50 * 3 * 10 * 64 * 64
    assert kept_bytes(varied, 10, size=64, epochs=51) == 0
    assert kept_bytes(Entry(name="none"), 10, size=64, epochs=1) == 0
