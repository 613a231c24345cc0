"""The data set `torchvision`: any classification data set of `torchvision.datasets`, by name.

How a data set is split is read off its constructor: `train=True/False`, or the values that its
`split=` accepts. The few that follow neither habit stand in `PARTS`.
"""

from __future__ import annotations

import hashlib
import inspect
import operator
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.data.dataset import (
    DATASETS,
    SPLIT_NAMES,
    TEST,
    TRAIN,
    UNASSIGNED,
    VAL,
    Decoded,
    DecodeFailure,
    ImageDataset,
    fingerprint_of,
    val_as_test_issue,
)
from bench.data.images.decode import decode_image
from bench.data.images.file_hashes import file_hashes
from bench.errors import DataError, nearest
from bench.system.cache import cache_root
from bench.system.download import OnProgress

Arguments = Mapping[str, Any]

PARTS: Mapping[str, Mapping[int, Arguments]] = {
    "CLEVRClassification": {TRAIN: {"split": "train"}, VAL: {"split": "val"}},
    "EMNIST": {
        TRAIN: {"split": "balanced", "train": True},
        TEST: {"split": "balanced", "train": False},
    },
    "INaturalist": {TRAIN: {"version": "2021_train_mini"}, VAL: {"version": "2021_valid"}},
    "Omniglot": {UNASSIGNED: {"background": True}},
    "OxfordIIITPet": {TRAIN: {"split": "trainval"}, TEST: {"split": "test"}},
    "Places365": {
        TRAIN: {"split": "train-standard", "small": True},
        VAL: {"split": "val", "small": True},
    },
}
"""The arguments of each split, where the general rule would not find them."""

SPLIT_ARGUMENTS = ((TRAIN, "train"), (VAL, "val"), (VAL, "valid"), (TEST, "test"))
"""What `split=` may accept for each split, tried in this order."""

NATIVE_SIZES = {
    "CIFAR10": 32, "CIFAR100": 32, "EMNIST": 28, "EuroSAT": 64, "FashionMNIST": 28, "FER2013": 48,
    "KMNIST": 28, "MNIST": 28, "Omniglot": 105, "PCAM": 96, "QMNIST": 28, "SEMEION": 16,
    "STL10": 96, "SVHN": 32, "USPS": 16,
}  # fmt: skip

NOT_CLASSIFICATION = frozenset({
    "CREStereo", "CarlaStereo", "CelebA", "Cityscapes", "CocoCaptions", "CocoDetection",
    "DatasetFolder", "ETH3DStereo", "FakeData", "FallingThingsStereo", "Flickr30k", "Flickr8k",
    "FlyingChairs", "FlyingThings3D", "HD1K", "HMDB51", "ImageFolder", "InStereo2k", "Kinetics",
    "Kitti", "Kitti2012Stereo", "Kitti2015Stereo", "KittiFlow", "LFWPairs", "LSUN", "LSUNClass",
    "Middlebury2014Stereo", "MovingMNIST", "PhotoTour", "SBDataset", "SBU", "SceneFlowStereo",
    "Sintel", "SintelStereo", "UCF101", "VOCDetection", "VOCSegmentation", "VisionDataset",
    "WIDERFace",
})  # fmt: skip
"""Data sets of other tasks, videos, databases, base classes and noise; the rest classify images."""

LABEL_ATTRIBUTES = ("targets", "labels", "_labels", "y")
PAIR_ATTRIBUTES = ("_samples", "samples", "imgs", "_flat_character_images")
CLASS_ATTRIBUTES = ("classes", "categories")


@DATASETS.register("torchvision")
def torchvision_set(
    progress: OnProgress | None,
    /,
    *,
    dataset: Annotated[
        str,
        Field(
            description="The name of a class of torchvision.datasets that classifies images.",
            examples=["OxfordIIITPet"],
        ),
    ],
    root: Annotated[
        str | None,
        Field(
            description="Where torchvision looks and downloads to; a relative path starts at the "
            "suite's folder. null: in the cache.",
            examples=["downloads"],
        ),
    ] = None,
) -> ImageDataset:
    """A classification data set of torchvision.datasets by name, downloaded once.

    `root` is the folder that torchvision looks in and downloads to (default: in the cache). Raises
    `DataError` for an unknown name and where the data can be neither found nor downloaded.
    """
    constructor = _constructor(dataset)
    folder = Path(root).expanduser().absolute() if root else cache_root() / "torchvision"
    folder.mkdir(parents=True, exist_ok=True)
    parts = _open_parts(dataset, constructor, folder)
    return source_from_parts(name=dataset, parts=parts, folder=folder, progress=progress)


def classification_sets() -> list[str]:
    """The names that the option `dataset` accepts."""
    from torchvision import datasets

    return sorted(
        name
        for name in datasets.__all__
        if name not in NOT_CLASSIFICATION and inspect.isclass(getattr(datasets, name))
    )


def source_from_parts(
    *, name: str, parts: Mapping[int, Any], folder: Path, progress: OnProgress | None
) -> ImageDataset:
    """A data set of map-style ones of (PIL image, class index), one for each split.

    Images are fetched when they are read. Classes without a sample are left out.
    """
    raw_labels = {split: _labels(name, part, progress) for split, part in parts.items()}
    used, labels = np.unique(np.concatenate(list(raw_labels.values())), return_inverse=True)
    splits = np.concatenate([np.full(len(part), split, np.int8) for split, part in parts.items()])
    sample_ids = tuple(
        f"{SPLIT_NAMES.get(split, 'all')}/{index}"
        for split, part in parts.items()
        for index in range(len(part))
    )
    classes = tuple(_class_names(next(iter(parts.values())), used))
    return ImageDataset(
        name=name,
        classes=classes,
        sample_ids=sample_ids,
        labels=labels.astype(np.int64),
        splits=splits,
        fingerprint=fingerprint_of(
            classes=classes,
            sample_ids=sample_ids,
            labels=labels,
            splits=splits,
            contents=[name, *(_digest(part, folder, progress) for part in parts.values())],
        ),
        native_size=_native_size(name, next(iter(parts.values()))),
        read=partial(_read, list(parts.values())),
        issues=val_as_test_issue(splits),
    )


def _constructor(dataset: str) -> Callable[..., Any]:
    from torchvision import datasets

    if dataset in NOT_CLASSIFICATION and hasattr(datasets, dataset):
        raise DataError(
            f"dataset must be a classification data set of torchvision, {dataset!r} is not one"
            + ("; for a folder of your own give its path instead" if "Folder" in dataset else "")
        )
    names = classification_sets()
    if dataset not in names:
        raise DataError(
            f"dataset must be a classification data set of torchvision, "
            f"got {dataset!r}{nearest(dataset, names)}"
        )
    constructor: Callable[..., Any] = getattr(datasets, dataset)
    return constructor


def is_there(dataset: str, root: str) -> bool:
    """Whether `root` has the data set; nothing is downloaded, and no folder made."""
    folder = Path(root).expanduser().absolute()
    try:
        _open_parts(dataset, _constructor(dataset), folder, downloads=False)
    except DataError:
        return False
    return True


def _open_parts(
    name: str, constructor: Callable[..., Any], folder: Path, *, downloads: bool = True
) -> dict[int, Any]:
    known = known_parts(name, constructor)
    if known is not None:
        return {
            split: _open_part(name, constructor, folder, arguments, downloads=downloads)
            for split, arguments in known.items()
        }
    parts = {}
    for split, value in SPLIT_ARGUMENTS:
        try:
            parts[split] = _open_part(
                name, constructor, folder, {"split": value}, downloads=downloads
            )
        except DataError as error:
            if split == TRAIN or not isinstance(error.__cause__, ValueError):
                raise
    return parts


def known_parts(name: str, constructor: Callable[..., Any]) -> Mapping[int, Arguments] | None:
    """The arguments of each split; `None` if the values of `split=` must be tried out."""
    if name in PARTS:
        return PARTS[name]
    if _accepts(constructor, "train"):
        return {TRAIN: {"train": True}, TEST: {"train": False}}
    return None if _accepts(constructor, "split") else {UNASSIGNED: {}}


def _open_part(
    name: str,
    constructor: Callable[..., Any],
    folder: Path,
    arguments: Arguments,
    *,
    downloads: bool,
) -> Any:
    """A part of a data set, with `downloads` downloaded if it is missing."""
    tries: list[Arguments] = [{}]
    if _accepts(constructor, "download"):
        tries = [{"download": False}]
        tries += [{"download": True}] if downloads else []
    for each in tries:
        try:
            return constructor(root=folder, **arguments, **each)
        except Exception as error:  # each data set has its own way of saying that files are missing
            if each is tries[-1]:
                raise _unobtainable(name, folder, error) from error
    raise AssertionError("the last try returns or raises")


def _unobtainable(name: str, folder: Path, error: Exception) -> DataError:
    return DataError(
        f"torchvision's {name} is not in {folder} and could not be downloaded "
        f"({type(error).__name__}: {error}). Point the suite to a folder that has it in the form "
        f"that torchvision expects: dataset: {{name: torchvision, dataset: {name}, root: FOLDER}}"
    )


def _accepts(constructor: Callable[..., Any], parameter: str) -> bool:
    """Whether the constructor takes `parameter`, itself or by handing `**kwargs` to its base."""
    for base in inspect.getmro(constructor):  # type: ignore[arg-type]
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            if parameter in parameters:
                return True
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
                return False
    return False


def _labels(name: str, part: Any, progress: OnProgress | None) -> npt.NDArray[np.int64]:
    """The class index of each sample, without decoding all images where the data set lists them."""
    count = len(part)
    probes = _probes(part)
    for labels in _listed_labels(part):
        if len(labels) == count and all(labels[i] == label for i, (_, label) in probes.items()):
            return labels
    labels = np.empty(count, np.int64)
    for index in range(count):
        try:
            label = operator.index(part[index][1])
        except Exception as error:
            raise DataError(
                f"sample {index} of torchvision's {name} has no class label ({error})"
            ) from error
        labels[index] = label
        if progress is not None:
            progress(f"read labels of {name}", index + 1, count)
    return labels


def _probes(part: Any) -> dict[int, tuple[Any, Any]]:
    """The first, middle and last sample, as far as their images are not damaged."""
    probes = {}
    for index in (0, len(part) // 2, len(part) - 1):
        with suppress(Exception):
            probes[index] = part[index]
    return probes


def _listed_labels(part: Any) -> Iterator[npt.NDArray[np.int64]]:
    for attribute in LABEL_ATTRIBUTES:
        yield from _as_labels(getattr(part, attribute, None))
    for attribute in PAIR_ATTRIBUTES:
        pairs = getattr(part, attribute, None)
        if isinstance(pairs, list) and all(isinstance(pair, tuple) for pair in pairs):
            yield from _as_labels([pair[-1] for pair in pairs])


def _as_labels(values: Any) -> Iterator[npt.NDArray[np.int64]]:
    if values is None:
        return
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        return
    if array.ndim == 1 and array.dtype.kind in "iu":
        yield array.astype(np.int64)


def _class_names(part: Any, used: npt.NDArray[np.int64]) -> list[str]:
    """The name of each used class index; of several synonyms the first."""
    listed = next(
        (names for name in CLASS_ATTRIBUTES if (names := getattr(part, name, None))), None
    )
    if not isinstance(listed, list | tuple) or len(listed) <= int(used.max()):
        return [str(index) for index in used]
    names = [
        str(entry[0] if isinstance(entry, tuple | list) else entry)
        for entry in (listed[index] for index in used)
    ]
    repeated = {name for name, count in Counter(names).items() if count > 1}
    return [
        f"{name} ({index})" if name in repeated else name
        for name, index in zip(names, used, strict=True)
    ]


def _native_size(name: str, part: Any) -> int | None:
    size = NATIVE_SIZES.get(name)
    fits = all(image.size == (size, size) for image, _ in _probes(part).values())
    return size if fits else None


def _read(parts: Sequence[Any], indices: Sequence[int]) -> list[Decoded]:
    ends = np.cumsum([len(part) for part in parts]).tolist()
    images: list[Decoded] = []
    for index in indices:
        part = bisect_right(ends, index)
        start = ends[part - 1] if part else 0
        try:
            images.append(decode_image(parts[part][index - start][0]))
        except MemoryError:
            raise
        except Exception as error:  # whatever the data set's own decoder raises on a damaged file
            images.append(DecodeFailure(str(error) or type(error).__name__))
    return images


def _digest(part: Any, folder: Path, progress: OnProgress | None) -> str:
    """A hash of all that a data set holds: arrays, and the content of the files that it names."""
    digest = hashlib.sha256()
    files: list[Path] = []
    _feed({key: value for key, value in vars(part).items() if key != "root"}, digest, files)
    for content in file_hashes(folder, files, progress=progress):
        digest.update(content.encode())
    return digest.hexdigest()


def _feed(value: Any, digest: Any, files: list[Path]) -> None:
    """Feed plain values to `digest`, files to `files`; what is neither (functions) is left out."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            _feed(key, digest, files)
            _feed(value[key], digest, files)
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(item, digest, files)
    elif isinstance(value, str | Path) and Path(value).is_absolute():
        if Path(value).is_file():
            files.append(Path(value))
    elif value is None or isinstance(value, bool | int | float | str | np.integer):
        digest.update(repr(value).encode() + b"\0")
    elif hasattr(value, "__array__"):
        array = np.ascontiguousarray(np.asarray(value))
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.data)
