"""`bench cache`: what is there, and what goes when it is emptied."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import bench
from bench.cli.main import app
from bench.errors import BenchError
from bench.system.cache_content import KINDS, size_text

FILES = {
    "states/key": 3000,
    "features/key": 2 * 2**20,
    "images/photos-64-crop-0123/images.npy": 500,
    "vectors/x/vectors.npy": 1,
    "weights/fractals/resnet18.safetensors": 700,
    "datasets/hymenoptera/a.jpg": 10,
    "torchvision/cifar10/b": 10,
    "precision/answer.json": 5,
    "runs/digest/name/trials.parquet": 9000,
}
BESIDE = (
    f"states/.key.partial-{'0' * 32}",
    "precision/answer.lock",
    "locks/features-00.lock",
    "cache-id",
)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    for name, size in {**FILES, **dict.fromkeys(BESIDE, 0)}.items():
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return tmp_path / "cache"


def left(cache: Path) -> set[str]:
    return {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}


def test_what_is_there_is_counted_by_kind(cache: Path) -> None:
    content = bench.cache()
    sizes = {kind.name: kind.size for kind in content.kinds}
    assert sizes == {
        "states": 3000,
        "features": 2 * 2**20,
        "views": 0,
        "data": 501,
        "downloads": 20,
        "weights": 700,
        "other": 5,
    }
    assert content.folder == cache
    assert (content.size, content.removed, content.mirrors) == (sum(sizes.values()), 0, 9000)
    assert {kind.limit for kind in content.kinds} == {None, 10 * 2**30}
    assert left(cache) == {*FILES, *BESIDE}
    assert "features\t1\t2.0 MiB\t10 GiB" in str(content)


def test_kinds_that_are_named_go_and_nothing_else(cache: Path) -> None:
    content = bench.cache(empty=["states", "weights"])
    assert content.removed == 3700
    assert left(cache) == {*FILES, *BESIDE} - {
        "states/key",
        "weights/fractals/resnet18.safetensors",
    }


def test_all_leaves_results_locks_and_what_is_being_written(cache: Path) -> None:
    content = bench.cache(empty="all")
    assert content.size == 0
    assert left(cache) == {"runs/digest/name/trials.parquet", *BESIDE}
    assert bench.cache(empty=KINDS).removed == 0


def test_a_link_is_removed_and_not_what_it_leads_to(cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis").write_text("years of work")
    (cache / "weights" / "linked").symlink_to(own)
    bench.cache(empty="weights")
    assert not (cache / "weights" / "linked").is_symlink()
    assert (own / "thesis").is_file()


def test_an_unknown_kind_is_refused_before_anything_goes(cache: Path) -> None:
    with pytest.raises(BenchError, match=r"--empty must be among .*, got 'state'; did you mean"):
        bench.cache(empty="weights,state")
    assert left(cache) == {*FILES, *BESIDE}


def test_the_command_shows_and_empties(cache: Path) -> None:
    shown = CliRunner().invoke(app, ["cache", "--empty", "states,features"])
    assert shown.exit_code == 0
    assert "Removed 2.0 MiB." in shown.stdout
    assert "weights" in shown.stdout
    assert not (cache / "states" / "key").exists()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (2**20 - 1, "1,024 KiB"), (4.6 * 2**30, "4.6 GiB")],
)
def test_sizes_read_well(size: float, text: str) -> None:
    assert size_text(size) == text
