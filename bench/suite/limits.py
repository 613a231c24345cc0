"""The section `limits` of a suite: how large a file may be that is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from bench.suite.rules import STRICT, Positive


class Limits(BaseModel):
    """Bounds that keep a forged file from taking all memory; good files may need higher ones.

    No id holds them: where they decide whether an image is read, the data set's fingerprint does.
    """

    model_config = STRICT

    megapixels: Annotated[
        Positive | None,
        Field(
            description="Millions of pixels that an image file may have; one with more is left "
            "out, and decoding one takes 8 to 25 bytes a pixel. For data sets of image files. "
            "null: 178.956970, the limit of Pillow.",
            examples=[400],
        ),
    ] = None

    @property
    def pixels(self) -> int | None:
        """`megapixels` in pixels."""
        return None if self.megapixels is None else round(1e6 * self.megapixels)
