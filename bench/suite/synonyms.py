"""What other tools call the keys of a suite: a mistake then names the key that is meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bench.errors import nearest

_WORDS: Mapping[str, str] = {
    "dataset": "data datasets data_dir data_path data_root dataset_name dataset_path image_folder "
    "images root",
    "backbone": "arch architecture backbones base_model encoder feature_extractor model model_name "
    "models net network",
    "strategy": "approach finetune finetuning fine_tuning method methods strategies transfer",
    "schedule": "lr_policy lr_schedule lr_scheduler sched scheduler schedules",
    "augmentation": "aug augment augmentations augs data_augmentation transform transforms",
    "weights": "checkpoint init initialization pretrained pretrained_weights",
    "head": "classifier heads",
    "optimizer": "opt optim optimiser optimizers solver",
    "lr": "base_lr eta initial_lr learning_rate learning_rates lr0 lrs",
    "weight_decay": "decay l2 l2_regularization wd",
    "label_smoothing": "smoothing",
    "grad_clip_norm": "clip clip_grad clip_grad_norm clip_norm grad_clip gradient_clip_norm "
    "gradient_clip_val gradient_clipping max_grad_norm",
    "epochs": "epoch max_epochs n_epochs nb_epochs num_epochs num_train_epochs",
    "batch_size": "batch batch_sizes batchsize bs mini_batch_size per_device_train_batch_size "
    "train_batch_size",
    "micro_batch": "accumulate_grad_batches gradient_accumulation_steps micro_batch_size",
    "early_stopping": "early_stop early_stopping_patience patience",
    "class_weights": "class_weight",
    "shots": "few_shot images_per_class k_shot n_shot samples_per_class",
    "image_size": "crop_size image_sizes img_size imgsz input_size resolution size",
    "precision": "amp dtype fp16 mixed_precision",
    "threads": "num_threads",
    "metric": "metrics monitor scoring",
    "folds": "cross_validation cv k_fold k_folds kfold n_folds n_splits num_folds",
    "seed": "manual_seed n_seeds num_seeds random_seed random_seeds random_state repeats seeds",
    "exclude": "excludes skip",
    "include": "includes",
    "tune": "hpo hyperparameter_search search search_space sweep tuning",
    "name": "experiment_name run_name suite_name",
}
_KEY_OF = {word: key for key, words in _WORDS.items() for word in words.split()}
_NUMBERS_OF_SEEDS = frozenset({"n_seeds", "num_seeds", "repeats", "seeds"})
_MOST_SEEDS = 100


def plain(key: str) -> str:
    """The key as the table has it: `Learning-Rate` is `learning_rate`."""
    return key.strip().lower().replace("-", "_").replace(" ", "_")


def meant(key: str, valid: Collection[str]) -> str | None:
    """The valid key that other tools call so, or that is written so; None if none is known."""
    word = plain(key)
    found = word if word in valid else _KEY_OF.get(word)
    return found if found in valid else None


def nearest_key(key: str, valid: Iterable[str]) -> str:
    """As `nearest`, for keys of a suite: it knows what other tools call them."""
    keys = list(valid)
    found = meant(key, keys)
    return nearest(key, keys) if found is None else f"; did you mean {found!r}?"


def value_meant(key: str, value: Any) -> Any:
    """The value for the key that is meant: `seeds: 3` are three seeds, `pretrained: true` weights.

    Any other value is the same under both keys.
    """
    word = plain(key)
    if word in _NUMBERS_OF_SEEDS and type(value) is int and 1 <= value <= _MOST_SEEDS:
        return list(range(value))
    if word == "pretrained" and isinstance(value, bool):
        return "imagenet" if value else "none"
    return value
