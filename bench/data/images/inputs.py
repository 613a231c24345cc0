"""Images as a network takes them: augmented, scaled, normalised, on the device."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.dataset import Pixels
from bench.data.images.augmentations import Augmenter
from bench.data.images.kept_views import KeptViews, kept_bytes
from bench.data.inputs import Preprocessing
from bench.data.splits import Samples
from bench.keys import content_hash
from bench.suite import Entry

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ImageInputs:
    """`Inputs` of prepared images `pixels` (uint8 [n, S, S, 3]); batches are [n, 3, size, size]."""

    def __init__(
        self,
        pixels: Pixels,
        augmentation: Entry,
        preprocessing: Preprocessing,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._pixels = pixels
        self._augmentation = augmentation
        self._kept: KeptViews | None = None
        self._preprocessing = preprocessing
        self._device = device
        self._augmenter = Augmenter(
            augmentation,
            size=preprocessing.size,
            num_classes=len(preprocessing.classes),
            seed=seed,
        )

    @property
    def varies(self) -> bool:
        """Whether a sample looks different in every epoch."""
        return self._augmenter.varies

    @property
    def mixes(self) -> bool:
        """Whether `mix` changes training batches."""
        return self._augmenter.mixes

    def view(self, epoch: int) -> tuple[Any, ...]:
        """See `Inputs`."""
        return self._augmenter.view(epoch)

    def batch(self, samples: Samples, epoch: int) -> Tensor:
        """Normalised views, channels last in memory."""
        import torch

        if self._kept is None:
            views = self._made(samples, epoch)
        else:
            views = torch.from_numpy(self._kept.of(samples, epoch)).permute(0, 3, 1, 2)
        images = views.to(self._device, memory_format=torch.channels_last)
        mean, std = self._normalisation
        return (images.float() / 255 - mean) / std

    def keep_views(self, key: str, among: Samples, *, epochs: int) -> None:
        """See `KeepsViews`; what does not vary, or is made fast, is not kept."""
        size = self._preprocessing.size
        if not kept_bytes(self._augmentation, len(among), size=size, epochs=epochs):
            return

        def make(samples: Samples, epoch: int) -> Pixels:
            views: Pixels = self._made(samples, epoch).permute(0, 2, 3, 1).contiguous().numpy()
            return views

        named = content_hash([key, size, self.view(0)])
        self._kept = KeptViews(named, among=among, size=size, make=make)

    def _made(self, samples: Samples, epoch: int) -> Tensor:
        """Views uint8 [n, 3, size, size]."""
        import torch

        # Channels last in memory, as they lie in the cache.
        cached = torch.from_numpy(np.ascontiguousarray(self._pixels[samples])).permute(0, 3, 1, 2)
        return self._augmenter.images(cached, samples, epoch=epoch)

    def mix(self, batch: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """See `Inputs`."""
        return self._augmenter.mix(batch, labels, epoch=epoch, step=step)

    @cached_property
    def _normalisation(self) -> tuple[Tensor, Tensor]:
        import torch

        mean, std = (
            torch.tensor(values, device=self._device).view(1, 3, 1, 1)
            for values in (self._preprocessing.mean, self._preprocessing.std)
        )
        return mean, std
