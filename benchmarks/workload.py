"""What a suite trains, in terms that the plain loop understands, and everything made beforehand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from make_weights import write_weights
from naive import BATCH_SIZE, IMAGE_SIZE

from bench.data import ImageDataset, make_splits, prepare_images
from bench.methods.plan import Stage
from bench.models import layer_group_names
from bench.runs.resolve import ResolvedTrial, resolve_run
from bench.suite import Trial

Mode = tuple[str, str, bool]
"""(model, mode, augmented): the arguments of `naive.epoch_seconds`."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A suite with everything that is given on the command line.

    `overrides` are `key=value` texts for `--set`. `naive_epochs` counts the epochs of all trials by
    the kind of epoch that the plain loop would run. `train_images` is the size of the training
    split, `images` the folder with the images of the first trial's training and validation splits.
    """

    suite: Path
    overrides: tuple[str, ...]
    naive_epochs: Counter[Mode]
    train_images: int
    images: Path


def prepare(
    suite: Path, *, model: str, data: Path, work: Path, overrides: Sequence[str]
) -> Workload:
    """Make the weights, decode the images into the cache of `work`, plan the suite; not timed."""
    os.environ["BENCH_CACHE"] = str(work / "cache")
    weights = work / f"{model}.safetensors"
    if not weights.is_file():
        work.mkdir(parents=True, exist_ok=True)
        write_weights(model, weights)
    fixed = (f"backbone={model}", f"dataset.path={data}", f"weights.file={weights}")
    resolved_run = resolve_run(
        suite, out=work / "resolved", device="cpu", overrides=(*fixed, *overrides)
    )
    for resolved in resolved_run.trials:
        prepare_images(
            resolved_run.dataset,
            image_size=resolved.input_size,
            resize=resolved.trial.settings.resize,
        )
    images, train_images = _link_split(
        resolved_run.dataset, resolved_run.trials[0].trial, data, work
    )
    return Workload(
        suite=suite,
        overrides=(*fixed, *overrides),
        naive_epochs=_naive_epochs(resolved_run.trials),
        train_images=train_images,
        images=images,
    )


def _naive_epochs(trials: Sequence[ResolvedTrial]) -> Counter[Mode]:
    epochs: Counter[Mode] = Counter()
    for resolved in trials:
        trial = resolved.trial
        if (trial.settings.batch_size, resolved.input_size) != (BATCH_SIZE, IMAGE_SIZE):
            raise SystemExit(
                f"the plain loop takes batches of {BATCH_SIZE} images of {IMAGE_SIZE} px, "
                f"the suite has {trial.settings.batch_size} of {resolved.input_size} px"
            )
        groups = layer_group_names(trial.backbone.name)
        for stage in resolved.plan.stages:
            augmented = trial.augmentation.name != "none"
            epochs[trial.backbone.name, _mode(stage, groups), augmented] += stage.epochs
    return epochs


def _mode(stage: Stage, groups: Sequence[str]) -> str:
    """`full`, `probe` or `topN`, by the groups that the stage trains."""
    trained = [group for group in groups if stage.rule_for(f"{group}/weight").lr is not None]
    if trained != list(groups[len(groups) - len(trained) :]):
        raise SystemExit(f"the plain loop cannot train {', '.join(trained)} alone")
    if len(trained) == len(groups):
        return "full"
    return "probe" if len(trained) == 1 else f"top{len(trained) - 1}"


def _link_split(source: ImageDataset, trial: Trial, data: Path, work: Path) -> tuple[Path, int]:
    """Links to the images of the trial's splits, so that both sides see equally many an epoch."""
    options = trial.dataset.options
    splits = make_splits(
        source.labels,
        source.splits,
        source.classes,
        seed=trial.settings.seed,
        shots=trial.settings.shots,
        val_fraction=options["val_fraction"],
        test_fraction=options["test_fraction"],
        split_seed=options["split_seed"],
    )
    folder = work / f"split-{trial.settings.seed}"
    for phase, samples in (("train", splits.train), ("val", splits.val)):
        for sample in samples:
            file = data / source.sample_ids[sample]
            link = folder / phase / source.classes[source.labels[sample]] / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(file)
    return folder, len(splits.train)
