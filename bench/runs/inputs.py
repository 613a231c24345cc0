"""What the trials of a run see: the rules of preprocessing, and a few inputs to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data import (
    ImageDataset,
    PreparedData,
    Preprocessing,
    Splits,
    label_text,
    preprocessing_of,
)
from bench.data.dataset import PixelForm
from bench.data.images.channels import shown
from bench.models import takes, text_family
from bench.results.folder import InputView
from bench.runs.resolve import ResolvedRun, ResolvedTrial
from bench.suite import Entry

SHOWN = 3
EVALUATION = "evaluation"
_KEPT_APART = ("classes", "tokenizer")
"""What is told elsewhere, and what is as long as a book."""


def describe_inputs(resolved_run: ResolvedRun) -> list[dict[str, Any]]:
    """`inputs` of `data.json`: every rule of preprocessing among the trials, and who uses it."""
    dataset, suite = resolved_run.dataset, resolved_run.loaded.suite
    rules: dict[tuple[Preprocessing, tuple[str, ...], str], dict[str, None]] = {}
    for resolved in resolved_run.trials:
        trial, weights = resolved.trial, resolved.weights
        rule = preprocessing_of(
            dataset,
            size=resolved.input_size,
            resize=trial.settings.resize,
            interpolation=weights.interpolation,
            mean=weights.mean,
            std=weights.std,
            tokenizer=weights.tokenizer,
        )
        label = suite.weights_label(trial.settings.weights)
        users = rules.setdefault((rule, weights.unknown, _unit(trial.backbone.name)), {})
        users[f"{trial.backbone.label} · {label}"] = None
    images = isinstance(dataset, ImageDataset)
    native = dataset.native_size if images else None
    squares = isinstance(dataset, ImageDataset) and (dataset.squares or native is not None)
    return [
        {
            "used_by": list(users),
            **{name: own for name, own in rule.described().items() if name not in _KEPT_APART},
            "native_size": native,
            "squares": squares,
            "unknown": list(unknown),
            **({"unit": unit} if unit else {}),
        }
        for (rule, unknown, unit), users in rules.items()
    ]


def _unit(backbone: str) -> str:
    """What a text is read in, where that is not tokens."""
    return "bytes" if takes(backbone) == "text" and text_family(backbone).per_token > 1 else ""


def input_views(resolved: ResolvedTrial, data: PreparedData, splits: Splits) -> list[InputView]:
    """Training images as the network of a trial sees them: to be evaluated, and varied."""
    weights, trial = resolved.weights, resolved.trial
    rule = data.preprocessing(weights.mean, weights.std)
    if rule.kind != "image":
        return []
    samples = _of_each_class(data.labels, splits.train)
    views = [(EVALUATION, Entry(name="none"))]
    if trial.augmentation.name != "none":
        views.append((f"training: {trial.augmentation.label}", trial.augmentation))
    found = []
    for name, augmentation in views:
        try:
            pixels = _pixels(trial.settings.seed, augmentation, rule, data, samples)
        except Exception:  # an augmentation from outside: it fails its trials, which tell why
            continue
        found += [
            InputView(
                sample=data.sample_ids[sample],
                label=label_text(data, int(sample)),
                view=name,
                pixels=own,
            )
            for sample, own in zip(samples, pixels, strict=True)
        ]
    return found


def _of_each_class(
    labels: npt.NDArray[np.int64], among: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """A few samples, of as many classes as can be."""
    _, first = np.unique(labels[among], return_index=True)
    chosen = list(among[first][:SHOWN])
    rest = (sample for sample in among if sample not in chosen)
    return np.array([*chosen, *rest][:SHOWN], np.int64)


def _pixels(
    seed: int,
    augmentation: Entry,
    rule: Preprocessing,
    data: PreparedData,
    samples: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint8]:
    """What the network is given in the first epoch `[n, height, width, 3]`, as pixels again."""
    import torch

    inputs = data.inputs(augmentation, rule, seed=seed, device=torch.device("cpu"))
    batch = inputs.batch(samples, 0)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (rule.mean, rule.std))
    pixels = ((batch * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    seen: npt.NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).numpy()
    return shown(seen, PixelForm(channels=rule.channels))
