"""Small copies of a few images, so that reports can show them without the data set."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.system.cache import atomic_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

FILE = "thumbnails.parquet"
SIDE = 112
"""Pixels of the longer side."""
MAX_ROWS, MAX_FILE_BYTES = 10_000, 1 << 27

INPUTS_FILE = "inputs.parquet"
INPUT_SIDE = 512
"""Pixels to which larger inputs are reduced."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InputView:
    """An image `[height, width, 3]` as a network sees it, before its values are normalised.

    `view` says for what: evaluation, or training under an augmentation.
    """

    sample: str
    label: str
    view: str
    pixels: npt.NDArray[np.uint8]


def write_input_views(folder: Path, views: Sequence[InputView]) -> None:
    """Keep what networks see of a few samples; nothing if there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not views:
        (folder / INPUTS_FILE).unlink(missing_ok=True)
        return
    texts = {name: [getattr(each, name) for each in views] for name in _VIEW_TEXTS}
    table = pa.table(
        {
            **{name: pa.array(values, pa.string()) for name, values in texts.items()},
            "png": pa.array([_png(each.pixels, INPUT_SIDE) for each in views], pa.binary()),
        }
    )
    with atomic_file(folder / INPUTS_FILE) as temporary:
        pq.write_table(table, temporary)


def read_input_views(folder: Path) -> list[InputView]:
    """What `write_input_views` kept; nothing where the file is missing or damaged."""
    rows = _rows(folder / INPUTS_FILE, [*_VIEW_TEXTS, "png"])
    try:
        return [
            InputView(
                **{name: str(row[name]) for name in _VIEW_TEXTS},
                pixels=_pixels(row["png"], INPUT_SIDE),
            )
            for row in rows
        ]
    except Exception:  # of a forged file Pillow raises almost anything
        return []


_VIEW_TEXTS = ("sample", "label", "view")


def write_thumbnails(folder: Path, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
    """Keep `images` (sample → `[height, width, 3]`) in the run folder, made small."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pngs = [_png(pixels, SIDE) for pixels in images.values()]
    table = pa.table(
        {"sample": pa.array(list(images), pa.string()), "png": pa.array(pngs, pa.binary())}
    )
    with atomic_file(folder / FILE) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_thumbnails(folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """The thumbnails by sample; none where the file is missing or damaged: they only illustrate."""
    path = folder / FILE
    try:
        if not path.is_file():
            return {}
        columns = [_texts_or_bytes(column) for column in _read(path).columns]
        return {str(sample): _pixels(png, SIDE) for sample, png in zip(*columns, strict=True)}
    except Exception:  # of a forged file Arrow and Pillow raise almost anything
        return {}


def has_damaged_thumbnails(folder: Path) -> bool:
    """Whether there is a file of them from which not all can be read."""
    import pyarrow.parquet as pq

    path = folder / FILE
    if not path.exists():
        return False
    try:
        return len(read_thumbnails(folder)) != int(pq.read_metadata(path).num_rows)
    except Exception:  # as above
        return True


def _read(path: Path) -> pa.Table:
    """The table; raises `ValueError` where it would take more memory than thumbnails do.

    What many rows share is stored once, and not spelled out before a look at it.
    """
    import pyarrow.parquet as pq

    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError("larger than what is written here")
    with pq.ParquetFile(
        path, read_dictionary=["sample", "png"], page_checksum_verification=True
    ) as file:
        about = file.metadata
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        if about.num_rows > MAX_ROWS or size > MAX_FILE_BYTES:
            raise ValueError("larger than what is written here")
        return file.read(["sample", "png"])


def _texts_or_bytes(column: pa.ChunkedArray) -> list[Any]:
    """The values; equal ones of a chunk are one object."""
    values = []
    for chunk in column.chunks:
        own = chunk.dictionary.to_pylist()
        values += [own[index] for index in chunk.indices.to_pylist()]
    return values


def _rows(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return []
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                return []
            rows: list[dict[str, Any]] = file.read(columns).to_pylist()
            return rows
    except Exception:  # of a forged file Arrow raises almost anything
        return []


def _png(pixels: npt.NDArray[np.uint8], side: int) -> bytes:
    """The image, made smaller if its longer side has more than `side` pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()


def _pixels(png: bytes, side: int) -> npt.NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
        if max(picture.size) > side:
            raise ValueError("larger than what is written here")
        return np.asarray(picture.convert("RGB"))
