"""Small copies of a few test images, so that reports can show them without the data set."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cache import atomic_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILE = "thumbnails.parquet"
SIDE = 112
"""Pixels of the longer side."""


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
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    try:
        rows: list[dict[str, Any]] = pq.read_table(folder / FILE).to_pylist()
        return {
            str(row["sample"]): np.asarray(Image.open(io.BytesIO(row["png"])).convert("RGB"))
            for row in rows
        }
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return {}
