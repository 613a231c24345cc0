"""What a node keeps of what it was sent is looked at again; no cluster is needed for that."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bench.execution.executors.ray_worker import MARK_FILE, Parcel, _is_whole, cache_mark
from tests.damage import LOSSES, lose

CONTENT = {"images.npy": b"pixels" * 100, "metadata.json": b"{}" * 50}


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    digest = hashlib.sha256()
    (tmp_path / "name").mkdir()
    for name, content in CONTENT.items():
        (tmp_path / "name" / name).write_bytes(content)
        digest.update(name.encode() + content)
    return Parcel(
        name="name", digest=digest.hexdigest(), files=tuple((name, ()) for name in CONTENT)
    )


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("name", CONTENT)
def test_what_has_changed_since_it_arrived_is_fetched_again(
    parcel: Parcel, tmp_path: Path, name: str, how: str
) -> None:
    assert _is_whole(tmp_path / "name", parcel)
    lose(tmp_path / "name" / name, how)
    assert not _is_whole(tmp_path / "name", parcel)


@pytest.mark.parametrize("how", LOSSES)
def test_a_damaged_mark_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    mark = cache_mark()
    assert cache_mark() == mark
    lose(tmp_path / MARK_FILE, how)
    again = cache_mark()
    assert len(again) == 32
    assert cache_mark() == again
