"""Small copies of a few test images, so that reports can show them without the data set."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.system.cache import atomic_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILE = "thumbnails.parquet"
SIDE = 112
"""Pixels of the longer side."""
MAX_ROWS, MAX_FILE_BYTES = 10_000, 1 << 27


def write_thumbnails(folder: Path, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
    """Keep `images` (sample → `[height, width, 3]`) in the run folder, made small."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    pngs = []
    for pixels in images.values():
        picture = Image.fromarray(pixels)
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        written = io.BytesIO()
        picture.save(written, "PNG")
        pngs.append(written.getvalue())
    table = pa.table(
        {"sample": pa.array(list(images), pa.string()), "png": pa.array(pngs, pa.binary())}
    )
    with atomic_file(folder / FILE) as temporary:
        pq.write_table(table, temporary)


def read_thumbnails(folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """The thumbnails by sample; none where the file is missing or damaged: they only illustrate."""
    import pyarrow.parquet as pq

    path = folder / FILE
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return {}
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                return {}
            rows: list[dict[str, Any]] = file.read(["sample", "png"]).to_pylist()
        return {str(row["sample"]): _pixels(row["png"]) for row in rows}
    except Exception:  # of a forged file Arrow and Pillow raise almost anything
        return {}


def _pixels(png: bytes) -> npt.NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
        if max(picture.size) > SIDE:
            raise ValueError("larger than what is written here")
        return np.asarray(picture.convert("RGB"))
