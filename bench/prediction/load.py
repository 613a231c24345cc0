"""From a run folder to a trained network that classifies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.prediction.choice import Chosen, chosen_trial
from bench.results.folder import Run, read_run

if TYPE_CHECKING:
    from bench.prediction.model import TrainedModel

CHECKPOINTS = "checkpoints"


def load(run: str | Path | Run, trial: str | None = None, *, device: str = "auto") -> TrainedModel:
    """Open a trained trial of a run: the one that `trial` names, else the one to use.

    Neither the cache nor the data of the run are needed. `device` is as for `bench run`.

    Raises `BenchError` if there is no such trial, no checkpoint of it, or the device is not here.
    """
    found = run if isinstance(run, Run) else read_run(run)
    return open_trial(found, chosen_trial(found, trial), device=device)


def open_trial(run: Run, chosen: Chosen, *, device: str = "auto") -> TrainedModel:
    """The trial's network on a device."""
    import torch

    from bench.data.inputs import PREPROCESSING, Preprocessing
    from bench.models.checkpoints import read_checkpoint
    from bench.prediction.model import TrainedModel
    from bench.system.machine import resolve_device

    path = run.folder / CHECKPOINTS / f"{chosen.id}.safetensors"
    if not path.is_file():
        raise BenchError(f"the run kept no weights of the trial {chosen.id}: {path} is not there")
    checkpoint = read_checkpoint(path)
    try:
        preprocessing = Preprocessing.from_json(checkpoint.metadata[PREPROCESSING])
    except (KeyError, ValueError) as error:
        raise BenchError(f"{path} does not say how samples become inputs ({error})") from error
    place = torch.device(resolve_device(device))
    network = checkpoint.network(preprocessing.classes)
    network.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    cores = os.cpu_count() or 1
    return TrainedModel(
        network=network,
        spec=checkpoint.spec,
        preprocessing=preprocessing,
        chosen=chosen,
        parallel_batches=max(1, cores // checkpoint.spec.threads) if place.type == "cpu" else 1,
    )
