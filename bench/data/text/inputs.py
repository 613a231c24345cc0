"""Texts as a network takes them: varied, as rows of tokens on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.images.augmentations import AUGMENTATIONS, varies, view_name
from bench.data.splits import Samples
from bench.data.text.tokens import Tokens, row_lengths
from bench.keys import derive_seed
from bench.suite import Entry
from bench.system.token_rows import PADDING, SHARE_ONE
from bench.system.transfers import on_device

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TextInputs:
    """`Inputs` of texts: batches are int32 [n, length] of token ids, with padding behind them.

    `ids` and `words` are those of `Tokenised`.
    """

    def __init__(
        self,
        ids: Tokens,
        words: Tokens,
        augmentation: Entry,
        *,
        num_classes: int,
        seed: int,
        device: torch.device,
    ) -> None:
        options = dict(augmentation.options)
        self._mix, self._alpha = options.pop("mix", None), options.pop("mix_alpha", 1.0)
        self._ids, self._words = ids, words
        self._augmentation = augmentation
        self._num_classes = num_classes
        self._seed = seed
        self._device = device
        function = AUGMENTATIONS.get(augmentation.name).function
        self._transform = function(ids.shape[1], **options) if self.varies else None

    @property
    def varies(self) -> bool:
        """Whether a text reads differently in every epoch."""
        return varies(self._augmentation)

    @property
    def mixes(self) -> bool:
        """Whether `mix` changes training batches."""
        return self._mix is not None

    def view(self, epoch: int) -> tuple[Any, ...]:
        """See `Inputs`."""
        return view_name(self._augmentation, seed=self._seed, epoch=epoch)

    def batch(self, samples: Samples, epoch: int) -> Tensor:
        """The tokens of the views of `samples`."""
        import torch

        rows = np.ascontiguousarray(self._ids[samples])
        if self._transform is not None:
            words = self._words[samples]
            for at, (sample, count) in enumerate(zip(samples, row_lengths(rows), strict=True)):
                key = derive_seed(self._seed, "augmentation", epoch, int(sample))
                kept = self._transform(words[at, :count], np.random.default_rng(key))
                row = rows[at, kept]
                rows[at] = PADDING
                rows[at, : len(row)] = row
        return on_device(torch.from_numpy(rows), self._device)

    def mix(self, batch: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Each text with the one before it: int32 [n, 3, length], see `bench.system.token_rows`.

        The network mixes their embeddings (Guo, Mao and Zhang, wordMixup, 2019).
        """
        import torch
        import torch.nn.functional as F

        draw = np.random.default_rng(derive_seed(self._seed, "mix", epoch, step))
        share = round(draw.beta(self._alpha, self._alpha) * SHARE_ONE)
        shares = torch.full_like(batch, share)
        one_hot = F.one_hot(labels, self._num_classes) if labels.ndim == 1 else labels
        targets = one_hot.float()
        part = share / SHARE_ONE
        soft = targets * part + targets.roll(1, 0) * (1 - part)
        return torch.stack([batch, batch.roll(1, 0), shares], dim=1), soft
