"""How large image files are, from their headers alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from bench.data.archives import StoredFile, opened

TOO_LARGE = (0, 0)

T = TypeVar("T")


def square_sides(
    images: Iterable[T], size_of: Callable[[T], tuple[int, int] | None]
) -> frozenset[int]:
    """The sides in pixels that the images have if all are squares; empty if one of them is none.

    `size_of` tells width and height, such as `image_size` of a file.
    Files that nobody can read say nothing: they are left out of a data set. Looking ends with the
    first image that is no square.
    """
    sides = set()
    for image in images:
        size = size_of(image)
        if size is None:
            continue
        if size == TOO_LARGE or size[0] != size[1]:
            return frozenset()
        sides.add(size[0])
    return frozenset(sides)


def image_size(path: StoredFile) -> tuple[int, int] | None:
    """Width and height in pixels, as far as the header of the file can be read.

    `TOO_LARGE` for an image that Pillow refuses to open for its size.
    """
    from PIL import Image

    from bench.data.images.decode import available_formats

    if isinstance(path, Path) and not path.is_file():  # a pipe may never end
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(opened(path), formats=available_formats()) as image:
                return image.size
        except Image.DecompressionBombError:
            return TOO_LARGE
        except Exception:  # Pillow's plugins raise almost anything; decoding tells of it
            return None
