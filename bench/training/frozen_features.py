"""Frozen prefixes: what the frozen first groups of a network make of the samples, computed once.

A frozen group has no dropout, fixed norm statistics and no gradient, so its output depends on the
weights and the view of the sample alone. Trials that freeze the same first groups of the same
weights share these activations, across strategies, learning rates, schedules and runs. They are
always computed in padded batches of one size, so that neither the batch size of a trial nor a
sample's companions change a bit: what is shared equals what a trial computes for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data import Samples
from bench.keys import content_hash
from bench.models.evaluation import as_input
from bench.models.tensor_files import read_tensor_file, write_tensor_file
from bench.suite import Settings
from bench.system.lru_folder import FEATURES, cached_folder
from bench.system.transfers import on_device

MAX_VIEW_BYTES = 2**30
"""A larger view is computed batch by batch and not kept."""


def view_key(trunk_key: str, boundary: str, view: Sequence[Any], digest: str) -> str:
    """What names activations at `boundary` under `view`: equal names mean equal bits.

    `trunk_key` stands for the weights, the data and the arithmetic, `digest` for the samples.
    """
    return content_hash([trunk_key, boundary, view, digest], digits=32)


def reads_whole_views(settings: Settings, *, varies: bool, beside_all: bool = False) -> bool:
    """Whether a view of all samples is computed at once, and not one of a split.

    Where views do not vary, one serves every split and seed. Where they vary with the seed, it
    serves every fold of it: each sample trains in all folds but one. A few shots do not pay for it,
    unless they train `beside_all`: with trials that read the same view of all samples anyway.
    """
    everything = settings.shots is None or beside_all
    return everything and (not varies or settings.folds is not None)


def viewed_samples(among: Samples, *, of: int, whole: bool) -> Samples:
    """The samples that are computed together when some of `among` are asked for, ascending.

    All that there are (`of`) where views are computed as a `whole`.
    """
    return np.arange(of) if whole else np.unique(among)


def gather(view: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a view, as the network takes them: channels second, last in memory."""
    return as_input(view.index_select(0, on_device(rows, view.device)))


class FeatureStore:
    """Views of activations by content key, memory-mapped files under a limit.

    Without a folder (`--no-reuse`) nothing is kept and every view is computed when it is asked for.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._cache = None if folder is None else cached_folder(folder / FEATURES)
        # By key the file whose checksum is right: a view is opened in every epoch.
        self._verified: dict[str, int] = {}

    @property
    def shares(self) -> bool:
        """Whether what is computed once is kept."""
        return self._cache is not None

    def view(
        self, key: str, compute: Callable[[], Iterator[Tensor]], *, count: int
    ) -> Tensor | None:
        """The view called `key`, `count` rows as `Trunk` gives them, found or computed.

        None if it is too large to be kept.
        """
        if self._cache is None:
            return _gathered(compute(), count)
        found = self._find(key)
        if found is not None:
            return found
        with self._computing(key):
            found = self._find(key)  # another process may just have made it
            if found is not None:
                return found
            view = _gathered(compute(), count)
            if view is not None:
                self._add(key, view)
        return view

    def _find(self, key: str) -> Tensor | None:
        assert self._cache is not None
        path = self._cache.find(key)
        if path is None:
            return None
        try:
            file = path.stat().st_ino
            tensors, _ = read_tensor_file(path, verify=self._verified.get(key) != file)
            view = tensors["features"]
        except (OSError, ValueError, KeyError):
            return None  # damaged or just evicted: it is made again
        self._verified[key] = file
        return view

    def _add(self, key: str, view: Tensor) -> None:
        assert self._cache is not None
        # A full disk costs time later, and no trial.
        with suppress(OSError), self._cache.adding(key) as temporary:
            write_tensor_file({"features": view}, temporary)

    @contextmanager
    def _computing(self, key: str) -> Iterator[None]:
        """One process computes a view, the others wait for it.

        In a cache that cannot be written nothing is kept, so there is nothing to wait for.
        """
        assert self._cache is not None
        with ExitStack() as held:
            with suppress(OSError, NotImplementedError):
                held.enter_context(self._cache.lock(key))
            yield


def _gathered(pieces: Iterator[Tensor], count: int) -> Tensor | None:
    first = next(pieces)
    if first.nbytes // len(first) * count > MAX_VIEW_BYTES:
        return None
    return torch.cat([first, *pieces])


def positions(universe: Samples, samples: npt.NDArray[Any]) -> Tensor:
    """Where `samples` stand in the ascending `universe`."""
    return torch.from_numpy(np.searchsorted(universe, samples))
