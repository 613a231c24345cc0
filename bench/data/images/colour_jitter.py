"""Changes of brightness, contrast and colour: torchvision's to the last bit, hues in less time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

_HUE = 3
"""The number of the hue among the changes that `v2.ColorJitter` puts in order."""


class ColourJitter(v2.ColorJitter):  # type: ignore[misc]  # torchvision carries no types
    """`v2.ColorJitter` of uint8 images `[3, height, width]`: the same draws, the same pixels."""

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Apply what was drawn, in the order that was drawn."""
        order = params["fn_idx"].tolist()
        at = order.index(_HUE)
        before, after = (
            {**params, "fn_idx": part, "hue_factor": None} for part in (order[:at], order[at + 1 :])
        )
        changed = super().transform(inpt, before)
        changed = adjusted_hue(changed, params["hue_factor"])
        result: Tensor = super().transform(changed, after)
        return result


def adjusted_hue(image: Tensor, factor: float) -> Tensor:
    """The pixels of torchvision's `adjust_hue` of a uint8 image `[3, height, width]`.

    `factor` from -0.5 to 0.5 is a part of the colour circle. Operations on floats are torchvision's
    in their order, or others with the same rounding; bytes are compared and chosen as bytes.
    """
    red, green, blue = image.unbind()
    highest = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    grey = highest == lowest
    floats = functional.to_dtype(
        torch.stack((red, green, blue, highest, lowest)), torch.float32, scale=True
    )
    value = floats[3]
    spread = value - floats[4]
    saturation = spread / value.masked_fill(grey, 1.0)
    r, g, b = (value - floats[:3]).div_(spread.masked_fill_(grey, 1.0))
    hue = torch.where(
        highest == red,
        b - g,
        torch.where(highest == green, (r + 2.0).sub_(b), (g + 4.0).sub_(r)),
    )
    # From 5/6 to 11/6 before the first of them, where `fmod` and `remainder`, which are slow, round
    # as these do.
    hue = hue.mul_(1.0 / 6.0).add_(1.0).frac_().add_(factor)
    hue.sub_(hue.floor()).mul_(6)
    sector = hue.floor()
    part = hue.sub_(sector).mul_(saturation)
    paler = saturation.neg_().add_(1.0)
    planes = torch.stack((paler, 1.0 - part, part.add_(paler))).mul_(value).clamp_(0.0, 1.0)
    p, q, t = functional.to_dtype(planes, torch.uint8, scale=True)
    # All bits of a byte are set where a pixel lies in the sector; a full turn is none.
    turned = sector.to(torch.uint8)
    first, second, third, fourth, fifth, sixth = (
        (turned == number).view(torch.uint8).neg_() for number in range(6)
    )
    first |= (turned == 6).view(torch.uint8).neg_()
    return torch.stack(
        (
            highest & (first | sixth) | q & second | p & (third | fourth) | t & fifth,
            highest & (second | third) | q & fourth | p & (fifth | sixth) | t & first,
            highest & (fourth | fifth) | q & sixth | p & (first | second) | t & third,
        )
    )
