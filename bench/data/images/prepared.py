"""Prepared images: decoded and resized once, then memory-mapped by every process.

A prepared data set is a folder of the cache with `images.npy` (uint8 [n, S, S, 3], or what its
`PixelForm` says) and `metadata.json`. Pillow does every resize, antialiased and bilinear unless the
weights ask for another interpolation, so there is one definition of what a network sees.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import warnings
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from bench.data.dataset import (
    MAX_KEPT,
    RGB,
    Converted,
    DataIssue,
    Decoded,
    DecodeFailure,
    ImageDataset,
    PixelForm,
    Pixels,
    naming,
    plain_grouping,
    plain_targets,
    strata_names,
)
from bench.data.images.channels import as_bytes, shown
from bench.data.images.inputs import ImageInputs
from bench.data.images.noticed import VERSION as LOOK_VERSION
from bench.data.images.noticed import Look, look_at, noticed
from bench.data.inputs import Inputs, Preprocessing
from bench.data.prepared import PreparedSamples, opening, plain_issues, samples_of
from bench.errors import DataError, counted
from bench.suite import Entry, Interpolation
from bench.system.cache import atomic_file, atomic_folder, cache_root, folder_label
from bench.system.cache_mirror import stored
from bench.system.download import OnProgress
from bench.system.lru_folder import make_room

if TYPE_CHECKING:
    import torch
    from PIL import Image

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Part of the fingerprint: raise it with every change that alters a stored pixel."""
CROP_MARGIN = 0.875
"""224 / 256: the part of the stored side that an evaluation crop takes."""
GENERATED_CHUNK = 256
IMAGES_FILE, METADATA_FILE = "images.npy", "metadata.json"
CHECKSUMS_FILE = "checksums.json"
"""CRC-32 of the other two, in a file of its own: what is not in it yet is taken as it is."""

_Remark: TypeAlias = tuple[str, str]
"""(sample id, what there is to say about it)"""

Resize: TypeAlias = Literal["crop", "squash", "pad", "auto"]

BILINEAR: Interpolation = "bilinear"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData(PreparedSamples):
    """A prepared data set. Cheap to open in every process: the pixels are mapped, not read.

    `images` is [n, S, S, channels] of the `form`, read-only. `image_size` is what a
    network sees, S the stored side: larger with `resize` "crop", so that training can crop at
    random and evaluation takes the centre.
    """

    images: Pixels
    image_size: int
    resize: Resize
    interpolation: Interpolation = BILINEAR
    bits: int = 16
    channels: int | None = None
    deep: bool = False

    @property
    def form(self) -> PixelForm:
        """How pixels are kept."""
        return PixelForm(channels=self.channels, bits=self.bits, deep=self.deep)

    @property
    def input_size(self) -> int:
        """The side of what a network sees, in pixels."""
        return self.image_size

    def preprocessing(self, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
        """What these images have been through, and what is still to be done."""
        return image_preprocessing(
            self.image_size, self.resize, self.interpolation, self.classes, mean, std, self.form
        )

    def inputs(
        self, augmentation: Entry, preprocessing: Preprocessing, *, seed: int, device: torch.device
    ) -> Inputs:
        """The images under an augmentation, with the draws of `seed`."""
        return ImageInputs(self.images, augmentation, preprocessing, seed=seed, device=device)

    def pictures(self, sample_ids: Sequence[str]) -> dict[str, Pixels]:
        """These images as they are stored, or what of them can be shown in RGB."""
        index = {sample: position for position, sample in enumerate(self.sample_ids)}
        return {name: shown(self.images[index[name]], self.form) for name in sample_ids}

    @classmethod
    def open(cls, folder: Path) -> ImageData:
        """Open what `prepare_images` returned; raises `DataError` if it is damaged."""
        with opening("images", folder):
            return cls._open(folder)

    @classmethod
    def _open(cls, folder: Path) -> ImageData:
        actual = _checksum(folder / METADATA_FILE)
        if _checksums(folder).get(METADATA_FILE, actual) != actual:
            raise ValueError(f"the checksum of {METADATA_FILE} is wrong")
        metadata = json.loads((folder / METADATA_FILE).read_text(encoding="ascii"))
        metadata.pop("looked", None)
        if metadata.pop("format") != FORMAT_VERSION:
            raise ValueError("another format version")
        metadata["given_splits"] = metadata.pop("source_splits")
        metadata["issues"] = [*metadata.pop("source_issues"), *metadata.pop("decode_issues")]
        images = np.load(folder / IMAGES_FILE, mmap_mode="r")
        data = cls(folder=folder, images=images, **samples_of(metadata), **metadata)
        side = stored_size(data.image_size, data.resize)
        if data.images.dtype != data.form.dtype or data.images.shape != (
            len(data.sample_ids),
            side,
            side,
            data.form.depth,
        ):
            raise ValueError(f"{IMAGES_FILE} has shape {data.images.shape}")
        return data


def stored_size(image_size: int, resize: Resize) -> int:
    """The side in pixels of stored images; "auto" must have been resolved."""
    assert resize != "auto"
    return round(image_size / CROP_MARGIN) if resize == "crop" else image_size


def resolve_resize(resize: Resize, dataset: ImageDataset) -> Resize:
    """What "auto" means: "squash" where all images are squares already, else "crop".

    A square needs no crop to become one: squashing takes it as it is, or resizes all of it.
    """
    if resize != "auto":
        return resize
    return "squash" if dataset.squares or dataset.native_size is not None else "crop"


def image_preprocessing(
    image_size: int,
    resize: Resize,
    interpolation: Interpolation,
    classes: tuple[str, ...],
    mean: Sequence[float],
    std: Sequence[float],
    form: PixelForm = RGB,
) -> Preprocessing:
    """What images go through on their way into a network; "auto" must have been resolved.

    Mean and deviation of red, green and blue hold for other channels too: in turns, and those of
    one channel are the means of the three.
    """
    assert resize != "auto"
    return Preprocessing(
        kind="image",
        size=image_size,
        classes=classes,
        resize=resize,
        resized_to=stored_size(image_size, resize),
        interpolation=interpolation,
        mean=for_channels(mean, form.channels),
        std=for_channels(std, form.channels),
        bits=form.bits,
        channels=form.channels,
        deep=form.deep,
    )


def for_channels(values: Sequence[float], channels: int | None) -> tuple[float, ...]:
    """Three values, of red, green and blue, as those of so many channels (None: of these three)."""
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(islice(cycle(values), channels or len(values)))


def prepare_images(
    dataset: ImageDataset,
    *,
    image_size: int,
    resize: Resize,
    interpolation: Interpolation = BILINEAR,
    progress: OnProgress | None = None,
) -> Path:
    """Decode and resize all images of `dataset` once; the folder for `ImageData.open`.

    "crop" brings the shorter side to the stored size and keeps the central square, "squash" the
    whole image to a square, "pad" puts it on a black square. Images that cannot be decoded are left
    out and become an issue. Takes constant memory, and several processes may do it at once.

    What is there already is verified by its checksum, and made again if it is damaged, or if an
    earlier version did not look at what it decoded.

    Raises `DataError` if no image can be decoded, the disk is too small, or the data set changes
    meanwhile.
    """
    resize = resolve_resize(resize, dataset)
    fingerprint = prepared_fingerprint(dataset, image_size, resize, interpolation)
    label = folder_label(dataset.name) or "images"
    folder = cache_root() / "images" / f"{label}-{image_size}-{resize}-{fingerprint[:16]}"
    if _is_whole(folder):
        logger.info("prepared images are in the cache: %s", folder)
    else:
        logger.info("prepared images are not in the cache: %s is made", folder)
        with atomic_folder(folder, keep=_is_whole) as temporary:
            if not _fetched(folder.name, temporary):
                _decode(dataset, temporary, image_size, resize, interpolation, progress)
    _renew_source_issues(folder, dataset)
    return folder


def _fetched(name: str, folder: Path) -> bool:
    """Whether another machine's images came whole from the cache's store."""
    behind, files = stored("images"), (IMAGES_FILE, METADATA_FILE, CHECKSUMS_FILE)
    return behind is not None and behind.fetch_folder(name, folder, files) and _is_whole(folder)


def _decode(
    dataset: ImageDataset,
    folder: Path,
    image_size: int,
    resize: Resize,
    interpolation: Interpolation,
    progress: OnProgress | None,
) -> None:
    described = {
        "format": FORMAT_VERSION,
        "looked": LOOK_VERSION,
        "name": dataset.name,
        "fingerprint": prepared_fingerprint(dataset, image_size, resize, interpolation),
        "image_size": image_size,
        "resize": resize,
        "generated": dataset.generated,
        "bits": dataset.bits,
        **_told_form(dataset.form),
        "classes": dataset.classes,
        "source_issues": plain_issues(dataset.issues),
        **_write_images(dataset, folder / IMAGES_FILE, image_size, resize, interpolation, progress),
    }
    if interpolation != BILINEAR:  # which earlier versions did not name
        described["interpolation"] = interpolation
    _check_unchanged(dataset)
    (folder / METADATA_FILE).write_text(json.dumps(described), encoding="ascii")
    (folder / CHECKSUMS_FILE).unlink(missing_ok=True)
    _write_checksums(folder, IMAGES_FILE, METADATA_FILE)


def _told_form(form: PixelForm) -> dict[str, Any]:
    """What earlier versions did not name, as all was RGB."""
    return {} if form.channels is None else {"channels": form.channels, "deep": form.deep}


def _check_unchanged(dataset: ImageDataset) -> None:
    """Pixels must not be kept under the fingerprint of other files."""
    if dataset.current is not None and dataset.current() != dataset.fingerprint:
        raise DataError(
            f"the images of {dataset.name} changed while they were read; run the same command "
            "again when no other program changes them"
        )


def resize_image(
    pixels: Pixels, side: int, resize: Resize, interpolation: Interpolation = BILINEAR
) -> Pixels:
    """`pixels` [height, width, channels] as a square of the given side.

    "crop" rounds as torchvision's `Resize(side)` and `CenterCrop(side)` do.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    if (height, width) == (side, side):
        return pixels
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.asarray(_resized_image(Image.fromarray(pixels), side, resize, interpolation))
    own = np.moveaxis(pixels, 2, 0).astype(np.uint8 if pixels.dtype == np.uint8 else np.float32)
    each = (Image.fromarray(np.ascontiguousarray(channel)) for channel in own)
    found = np.stack(
        [np.asarray(_resized_image(image, side, resize, interpolation)) for image in each], axis=2
    )
    if found.dtype == np.uint8:
        return found
    # Some interpolations leave the range, which 8 bits are cut to.
    within: Pixels = np.rint(found.clip(0, pixels.max())).astype(np.uint16)
    return within


def _resized_image(
    image: Image.Image, side: int, resize: Resize, interpolation: Interpolation
) -> Image.Image:
    from PIL import Image

    width, height = image.size
    resampling = Image.Resampling[interpolation.upper()]
    if resize == "squash":
        return image.resize((side, side), resampling)
    if resize == "pad":
        scale = side / max(width, height)
        inside = image.resize(
            (max(1, round(width * scale)), max(1, round(height * scale))), resampling
        )
        square = Image.new(image.mode, (side, side))
        square.paste(inside, ((side - inside.width) // 2, (side - inside.height) // 2))
        return square
    box = _central_box(width, height, side)
    return image.resize((side, side), resampling, box=box)


def _central_box(width: int, height: int, side: int) -> tuple[float, float, float, float]:
    """The part of the image that the central square shows once the shorter side is `side`.

    Resizing only that part keeps the memory bounded for images of extreme aspect ratios.
    """
    short = min(width, height)
    resized = [
        side if length == short else int(side * length / short) for length in (width, height)
    ]
    left, top = (round((length - side) / 2.0) for length in resized)
    to_x, to_y = width / resized[0], height / resized[1]
    return left * to_x, top * to_y, (left + side) * to_x, (top + side) * to_y


def _write_images(
    dataset: ImageDataset,
    path: Path,
    image_size: int,
    resize: Resize,
    interpolation: Interpolation,
    progress: OnProgress | None,
) -> dict[str, Any]:
    """Write the pixels one image after the other; the metadata of those that were kept."""
    side = stored_size(image_size, resize)
    _check_disk(path.parent, len(dataset) * side * side * dataset.form.pixel_bytes)
    kept: list[int] = []
    failed: list[_Remark] = []
    converted: list[_Remark] = []
    looks: list[Look] = []
    with path.open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on files that decode nevertheless
        file.write(_npy_header(len(dataset), side, dataset.form))
        looked = _resized_images(dataset, side, resize, interpolation)
        for index, (image, look) in enumerate(looked):
            if isinstance(image, DecodeFailure):
                failed.append((dataset.sample_ids[index], image.reason))
            else:
                if isinstance(image, Converted):
                    converted.append((dataset.sample_ids[index], image.note))
                    image = image.pixels
                file.write(np.ascontiguousarray(image).data)
                kept.append(index)
                looks += [look] if look is not None else []
            if progress is not None:
                progress(f"decode {dataset.name}", index + 1, len(dataset))
        file.seek(0)
        file.write(_npy_header(len(kept), side, dataset.form))
    if not kept:
        raise DataError(f"no image of {dataset.name} can be decoded: {_shown(failed)}")
    sample_ids = [dataset.sample_ids[index] for index in kept]
    return {
        "sample_ids": sample_ids,
        "labels": dataset.labels[kept].tolist(),
        "source_splits": dataset.splits[kept].tolist(),
        **plain_grouping(dataset, kept),
        **plain_targets(dataset, kept),
        "decode_issues": plain_issues(
            [
                *_issue("unreadable", "left out because decoding failed", failed),
                *_issue(
                    "converted", "decoded with a default that you may want to check", converted
                ),
                *noticed(looks, sample_ids, dataset.labels[kept], strata_names(dataset)),
            ]
        ),
    }


def _resized_images(
    dataset: ImageDataset, side: int, resize: Resize, interpolation: Interpolation
) -> Iterator[tuple[Decoded, Look | None]]:
    """All images in order, with a look at each as it was decoded; generated ones need none.

    Reading and resizing run ahead in threads, a few images at most.
    """

    def read(indices: Sequence[int]) -> list[tuple[Decoded, Look | None]]:
        return [
            (
                _resized(decoded, side, resize, interpolation),
                None if dataset.generated else _look(decoded, dataset.form),
            )
            for decoded in dataset.read(indices)
        ]

    step = GENERATED_CHUNK if dataset.generated else 1
    chunks = (
        range(start, min(start + step, len(dataset))) for start in range(0, len(dataset), step)
    )
    workers = 1 if dataset.generated else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[list[tuple[Decoded, Look | None]]]] = deque()
        for chunk in chunks:
            ahead.append(pool.submit(read, chunk))
            if len(ahead) > 2 * workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


def _look(decoded: Decoded, form: PixelForm) -> Look | None:
    if isinstance(decoded, DecodeFailure):
        return None
    return look_at(as_bytes(decoded.pixels if isinstance(decoded, Converted) else decoded, form))


def _resized(decoded: Decoded, side: int, resize: Resize, interpolation: Interpolation) -> Decoded:
    if isinstance(decoded, DecodeFailure):
        return decoded
    if isinstance(decoded, Converted):
        return Converted(resize_image(decoded.pixels, side, resize, interpolation), decoded.note)
    return resize_image(decoded, side, resize, interpolation)


def _issue(kind: str, what: str, remarks: Sequence[_Remark]) -> Iterator[DataIssue]:
    if remarks:
        yield DataIssue(
            kind=kind,
            message=f"{counted(len(remarks), 'image')} {what}: {_shown(remarks)}.",
            count=len(remarks),
            samples=tuple(sample for sample, _ in remarks[:MAX_KEPT]),
        )


def _shown(remarks: Sequence[_Remark]) -> str:
    return naming([f"{sample} ({remark})" for sample, remark in remarks])


def _npy_header(count: int, side: int, form: PixelForm) -> bytes:
    """The header of `images.npy`; of one length for every count, so that it can be rewritten."""
    buffer = io.BytesIO()
    shape = (count, side, side, form.depth)
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": form.dtype.str, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def _check_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed and make_room(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"the prepared images need {needed / 2**30:.1f} GiB, {cache_root()} has "
            f"{free / 2**30:.1f} GiB free; make room or point BENCH_CACHE to another disk"
        )


def prepared_fingerprint(
    dataset: ImageDataset,
    image_size: int,
    resize: Resize,
    interpolation: Interpolation = BILINEAR,
) -> str:
    """What names the prepared images; `resize` must have been resolved."""
    named = [] if interpolation == BILINEAR else [interpolation]
    key = json.dumps([FORMAT_VERSION, dataset.fingerprint, image_size, resize, *named])
    return hashlib.sha256(key.encode()).hexdigest()


def _is_prepared(folder: Path) -> bool:
    try:
        ImageData.open(folder)
    except DataError:
        return False
    return True


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds prepared images that were looked at, and as they were written."""
    if not _is_prepared(folder) or not _was_looked_at(folder):
        return False
    known = _checksums(folder)
    if IMAGES_FILE in known:
        return known[IMAGES_FILE] == _checksum(folder / IMAGES_FILE)
    with suppress(OSError):  # an earlier version prepared them
        _write_checksums(folder, IMAGES_FILE, METADATA_FILE)
    return True


def _was_looked_at(folder: Path) -> bool:
    metadata = json.loads((folder / METADATA_FILE).read_text(encoding="ascii"))
    return bool(metadata["generated"] or metadata.get("looked") == LOOK_VERSION)


def _renew_source_issues(folder: Path, dataset: ImageDataset) -> None:
    """What lies beside the images may have changed while the images have not."""
    metadata = json.loads((folder / METADATA_FILE).read_text(encoding="ascii"))
    if metadata["source_issues"] == plain_issues(dataset.issues):
        return
    # Whoever opens the images meanwhile finds no checksum of the metadata, and no wrong one.
    _write_checksums(folder, IMAGES_FILE)
    with atomic_file(folder / METADATA_FILE) as temporary:
        changed = metadata | {"source_issues": plain_issues(dataset.issues)}
        temporary.write_text(json.dumps(changed), encoding="ascii")
    _write_checksums(folder, IMAGES_FILE, METADATA_FILE)


def _checksums(folder: Path) -> dict[str, int]:
    """The checksums of the files in the folder, as far as they were noted."""
    path = folder / CHECKSUMS_FILE
    return dict(json.loads(path.read_text(encoding="ascii"))) if path.exists() else {}


def _write_checksums(folder: Path, *names: str) -> None:
    """Note the checksums of these files, and of no others; what is known stays known."""
    known = _checksums(folder)
    if METADATA_FILE in names:
        known.pop(METADATA_FILE, None)  # it may have been written anew
    sums = {n: known[n] if n in known else _checksum(folder / n) for n in names}
    with atomic_file(folder / CHECKSUMS_FILE) as temporary:
        temporary.write_text(json.dumps(sums), encoding="ascii")


def _checksum(path: Path) -> int:
    sum_ = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sum_ = zlib.crc32(block, sum_)
    return sum_
