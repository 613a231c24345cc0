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
from bench.system.transfers import RESIDENT_BYTES, ResidentRows, on_device

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ImageInputs:
    """`Inputs` of prepared images `pixels` [n, S, S, channels]; batches are [n, channels, size,
    size].

    Views that do not vary stay on a CUDA device if all of them take at most `resident_bytes`.
    """

    def __init__(
        self,
        pixels: Pixels,
        augmentation: Entry,
        preprocessing: Preprocessing,
        *,
        seed: int,
        device: torch.device,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        self._pixels = pixels
        self._augmentation = augmentation
        self._kept: KeptViews | None = None
        self._deep, self._white = preprocessing.deep, preprocessing.form.white
        self._preprocessing = preprocessing
        self._device = device
        self._augmenter = Augmenter(
            augmentation,
            size=preprocessing.size,
            num_classes=len(preprocessing.classes),
            seed=seed,
        )
        taken = len(pixels) * preprocessing.size**2 * pixels.shape[-1] * (4 if self._deep else 1)
        fits = device.type == "cuda" and not self.varies and taken <= resident_bytes
        self._resident = ResidentRows(len(pixels), device) if fits else None

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
        if self._resident is None:
            images = on_device(self._views(samples, epoch), self._device)
        else:
            images = self._resident.of(samples, lambda missing: self._views(missing, epoch))
        mean, std = self._normalisation
        return images.permute(0, 3, 1, 2).float().div_(self._white).sub_(mean).div_(std)

    def _views(self, samples: Samples, epoch: int) -> Tensor:
        """Views `[n, size, size, channels]` on the CPU, as images lie in the cache."""
        if self._kept is None:
            return self._made(samples, epoch)
        return self._tensor(self._kept.of(samples, epoch))

    def keep_views(self, key: str, among: Samples, *, epochs: int) -> None:
        """See `KeepsViews`; what does not vary, or is made fast, is not kept."""
        size = self._preprocessing.size
        form = self._preprocessing.form
        if not kept_bytes(
            self._augmentation, len(among), size=size, epochs=epochs, pixel_bytes=form.pixel_bytes
        ):
            return

        def make(samples: Samples, epoch: int) -> Pixels:
            views: Pixels = self._made(samples, epoch).numpy()
            return views.astype(form.dtype, copy=False)

        named = content_hash([key, size, self.view(0)])
        self._kept = KeptViews(named, among=among, size=size, make=make, form=form)

    def _made(self, samples: Samples, epoch: int) -> Tensor:
        cached = self._tensor(np.ascontiguousarray(self._pixels[samples])).permute(0, 3, 1, 2)
        views = self._augmenter.images(cached, samples, epoch=epoch)
        return views.permute(0, 2, 3, 1).contiguous()

    def _tensor(self, pixels: Pixels) -> Tensor:
        """Torch computes little with 16 bits: what is deep becomes int32."""
        import torch

        return torch.from_numpy(pixels.astype(np.int32) if self._deep else pixels)

    def mix(self, batch: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """See `Inputs`."""
        return self._augmenter.mix(batch, labels, epoch=epoch, step=step)

    @cached_property
    def _normalisation(self) -> tuple[Tensor, Tensor]:
        import torch

        mean, std = (
            on_device(torch.tensor(values).view(1, -1, 1, 1), self._device)
            for values in (self._preprocessing.mean, self._preprocessing.std)
        )
        return mean, std
