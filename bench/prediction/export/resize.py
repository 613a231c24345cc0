"""Pillow's bilinear resize as matrix products: the same pixels in any runtime, for images of any
size.

Pillow resizes 8-bit images in two passes, each a weighted sum of whole numbers (its weights are
multiples of 2^-22) that is rounded to 8 bits. Doubles hold such sums exactly, so that their order
does not matter, and a matrix product is the sum.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.images.prepared import resize_image

WEIGHT_BITS = 22


class PillowResize(nn.Module):
    """`resize_image` to `side`: uint8 [n, height, width, channels] to whole numbers [n, channels,
    side, side].

    All of a batch have one size, which may be another in every batch, also once it is exported.
    """

    def __init__(self, side: int, rule: str, *, tall_first: bool | None = None) -> None:
        super().__init__()
        self.side = side
        self.rule = rule
        self.tall_first = resizes_tall_images_first() if tall_first is None else tall_first

    def forward(self, images: Tensor) -> Tensor:
        """The resized images in fp32."""
        height, width = (torch.full((), images.shape[axis], dtype=torch.float64) for axis in (1, 2))
        reference = (torch.maximum if self.rule == "pad" else torch.minimum)(height, width)
        rows, to_height = self._weights(images.shape[1], height, reference)
        columns, to_width = self._weights(images.shape[2], width, reference)
        columns = columns.T  # here: torch 2.11 takes no views in the branches of `cond`
        pixels = images.permute(0, 3, 1, 2).double()
        if not self.tall_first:
            return _width_first(pixels, rows, columns).float()
        is_tall = (height > to_height) & (height - to_height > 2 * (width - to_width))
        if torch.compiler.is_exporting():
            ways = (_height_first, _width_first)
            resized: Tensor = torch.cond(is_tall, *ways, (pixels, rows, columns))
            return resized.float()
        return (_height_first if is_tall else _width_first)(pixels, rows, columns).float()

    def _weights(self, count: int, length: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [side, count] of one axis, and the size to which Pillow resizes it.

        `length` is `count` as a tensor, `reference` the shorter side of the image (with "pad" the
        longer one).
        """
        side = torch.full((), self.side, dtype=torch.float64)
        nothing = torch.zeros_like(length)
        if self.rule == "squash":
            return self._matrix(count, nothing, length / side, nothing, side), side
        if self.rule == "pad":
            inside = torch.clamp(torch.round(length * (side / reference)), min=1.0)
            before = torch.floor((side - inside) / 2)
            return self._matrix(count, nothing, length / inside, before, inside), inside
        resized = torch.floor(side * length / reference)
        before = torch.round((resized - side) / 2)
        step = length / resized
        # Pillow takes the box in single precision.
        start, end = (before * step).float(), ((before + side) * step).float()
        scale = (end - start).double() / side
        return self._matrix(count, start.double(), scale, nothing, side), side

    def _matrix(
        self, count: int, start: Tensor, scale: Tensor, before: Tensor, inside: Tensor
    ) -> Tensor:
        """The triangle filter over `scale` pixels for each of `inside` outputs, as whole numbers.

        Outputs before and after these have no weights: they are black.
        """
        output = torch.arange(self.side, dtype=torch.float64) - before
        support = torch.clamp(scale, min=1.0)
        centre = (start + (output + 0.5) * scale)[:, None]
        pixel = torch.arange(count, dtype=torch.float64)[None]
        first = torch.floor(torch.clamp(centre - support + 0.5, min=0.0))
        end = torch.floor(centre + support + 0.5)
        shares = torch.clamp(1 - torch.abs((pixel - centre + 0.5) * (1 / support)), min=0.0)
        shares = torch.where((pixel >= first) & (pixel < end), shares, torch.zeros_like(shares))
        shares = shares / shares.sum(dim=1, keepdim=True)
        weights = torch.floor(0.5 + shares * 2.0**WEIGHT_BITS)
        shown = ((output >= 0) & (output < inside))[:, None]
        return torch.where(shown, weights, torch.zeros_like(weights))


def _width_first(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return _rounded(rows @ _rounded(pixels @ columns))


def _height_first(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return _rounded(_rounded(rows @ pixels) @ columns)


def _rounded(sums: Tensor) -> Tensor:
    half = 2.0 ** (WEIGHT_BITS - 1)
    return torch.clamp(torch.floor((sums + half) / 2.0**WEIGHT_BITS), 0.0, 255.0)


@cache
def resizes_tall_images_first() -> bool:
    """Whether the Pillow that is installed resizes the height of tall images before their width.

    It does so since version 13, which changes the last bit of some pixels.
    """
    tall = np.random.default_rng(0).integers(0, 256, (64, 24, 3), dtype=np.uint8)
    resize = PillowResize(16, "squash", tall_first=False)
    found = resize(torch.from_numpy(tall)[None])[0].permute(1, 2, 0).numpy()
    return not np.array_equal(found, resize_image(tall, 16, "squash"))
