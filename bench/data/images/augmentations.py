"""Augmentations: how training images are varied, per sample and per batch.

A per-sample augmentation is one function from the image size to a transform of
`torchvision.transforms.v2` that takes a uint8 image `[3, S, S]` (S ≥ size: cached images keep a
margin for random crops) to `[3, size, size]`; other channels, and int32 for 16-bit values, where a
data set has them. A mix is one function from the number of classes to
a transform of a whole batch. The draws of a sample depend on (seed, epoch, sample) alone, those of
a mix on (seed, epoch, step), so trials that share a seed see the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from bench.data.inputs import CENTRAL
from bench.errors import nearest
from bench.keys import derive_seed
from bench.suite import Entry
from bench.suite.registry import NoTraits, Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Transform = Any
"""A transform of torchvision.transforms.v2, which carries no types."""

Alpha = Annotated[
    float,
    Field(
        gt=0,
        allow_inf_nan=False,
        description="The share of one of the two images is drawn from Beta(α, α): near 0 or 1 for "
        "small α, uniform for 1.",
        examples=[0.2],
    ),
]
MIXES: Registry[Callable[..., Transform], NoTraits] = Registry(
    "mix", NoTraits, takes=("num_classes",)
)


def _known_mix(name: str | None) -> str | None:
    if name is not None and name not in MIXES:
        raise ValueError(f"must be a known mix{nearest(name, MIXES)}")
    return name


MixName = Annotated[
    str | None,
    AfterValidator(_known_mix),
    Field(
        description="How the images of a batch and their labels are mixed; `NAME+mixup` says the "
        "same. null: not at all.",
        examples=["mixup"],
    ),
]


@dataclass(frozen=True, kw_only=True)
class AugmentationTraits:
    """What it varies: `inputs` of one kind; whether it changes `colours`.

    Only images in red, green and blue of 8 bits have any.
    """

    colours: bool = False
    inputs: Literal["image", "text"] = "image"


AUGMENTATIONS: Registry[Callable[..., Transform], AugmentationTraits] = Registry(
    "augmentation",
    AugmentationTraits,
    takes=("size",),
    shared_options={
        "mix": (MixName, None),
        "mix_alpha": (Alpha, 1.0),
    },
)


@AUGMENTATIONS.register("none")
def none(size: int) -> Transform:
    """No variation: the central view that evaluation uses."""
    from torchvision.transforms import v2

    return v2.CenterCrop(size)


@AUGMENTATIONS.register("flip")
def flip(size: int) -> Transform:
    """A mirror image (left and right exchanged) in half of all views, and nothing else."""
    from torchvision.transforms import v2

    return v2.Compose([none(size), v2.RandomHorizontalFlip()])


@AUGMENTATIONS.register("flip_crop")
def flip_crop(
    size: int,
    *,
    min_scale: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="The crop covers between this share of the area and all of it.",
            examples=[0.7],
        ),
    ] = 0.7,
) -> Transform:
    """A random crop of at least `min_scale` of the area, resized, and a mirror image."""
    from torchvision.transforms import v2

    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(min_scale, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
        ]
    )


@AUGMENTATIONS.register("standard", colours=True)
def standard(
    size: int,
    *,
    degrees: Annotated[
        float,
        Field(
            ge=0,
            le=180,
            description="Rotations are drawn from −degrees to degrees.",
            examples=[15],
        ),
    ] = 15.0,
) -> Transform:
    """Rotation, random crop, mirror image, and changes of brightness, contrast and colour."""
    from torchvision.transforms import v2

    from bench.data.images.colour_jitter import ColourJitter

    return v2.Compose(
        [
            v2.RandomRotation(degrees, interpolation=v2.InterpolationMode.BILINEAR),
            flip_crop(size),
            ColourJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05),
        ]
    )


@AUGMENTATIONS.register("advanced", colours=True)
def advanced(
    size: int,
    *,
    erasing: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Probability that a rectangle of a view is erased.",
            examples=[0.25],
        ),
    ] = 0.25,
) -> Transform:
    """Affine maps, perspective, crop, mirror image, colour, blur and random erasing."""
    from torchvision.transforms import v2

    from bench.data.images.colour_jitter import ColourJitter

    bilinear = v2.InterpolationMode.BILINEAR
    return v2.Compose(
        [
            v2.RandomAffine(
                15, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=10, interpolation=bilinear
            ),
            v2.RandomPerspective(distortion_scale=0.3, p=0.5, interpolation=bilinear),
            flip_crop(size),
            ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05),
            v2.RandomApply([v2.GaussianBlur(kernel_size=3, sigma=(0.1, 1.5))], p=0.3),
            v2.RandomErasing(p=erasing),
        ]
    )


@AUGMENTATIONS.register("trivial_augment", colours=True)
def trivial_augment(size: int) -> Transform:
    """One random operation of random strength (Müller and Hutter, TrivialAugment, 2021)."""
    from torchvision.transforms import v2

    return v2.Compose([flip_crop(size), v2.TrivialAugmentWide()])


@AUGMENTATIONS.register("rand_augment", colours=True)
def rand_augment(
    size: int,
    *,
    operations: Annotated[
        int,
        Field(ge=1, le=10, description="Operations one after the other.", examples=[2]),
    ] = 2,
    magnitude: Annotated[
        int,
        Field(
            ge=0,
            le=30,
            description="Strength of all operations, as a bin of torchvision: 30 is the strongest.",
            examples=[9],
        ),
    ] = 9,
) -> Transform:
    """`operations` random operations of one strength (Cubuk et al., RandAugment, 2020)."""
    from torchvision.transforms import v2

    return v2.Compose([flip_crop(size), v2.RandAugment(num_ops=operations, magnitude=magnitude)])


@AUGMENTATIONS.register("aug_mix", colours=True)
def aug_mix(
    size: int,
    *,
    severity: Annotated[
        int,
        Field(
            ge=1,
            le=10,
            description="Strength of the operations: 10 is the strongest.",
            examples=[3],
        ),
    ] = 3,
) -> Transform:
    """A blend of several chains of operations (Hendrycks et al., AugMix, 2020)."""
    from torchvision.transforms import v2

    return v2.Compose([flip_crop(size), v2.AugMix(severity=severity)])


@MIXES.register("mixup")
def mixup(num_classes: int, *, alpha: Alpha = 1.0) -> Transform:
    """Convex combinations of images and of labels (Zhang et al., mixup, 2018)."""
    from torchvision.transforms import v2

    return v2.MixUp(alpha=alpha, num_classes=num_classes)


@MIXES.register("cutmix")
def cutmix(num_classes: int, *, alpha: Alpha = 1.0) -> Transform:
    """Rectangles of one image pasted into another (Yun et al., CutMix, 2019)."""
    from torchvision.transforms import v2

    return v2.CutMix(alpha=alpha, num_classes=num_classes)


@MIXES.register("mixup_cutmix")
def mixup_cutmix(num_classes: int, *, alpha: Alpha = 1.0) -> Transform:
    """MixUp or CutMix with equal probability, drawn per batch."""
    from torchvision.transforms import v2

    return v2.RandomChoice([mixup(num_classes, alpha=alpha), cutmix(num_classes, alpha=alpha)])


def varies(entry: Entry) -> bool:
    """Whether a sample looks different in every epoch."""
    return entry.name != "none"


def view_name(entry: Entry, *, seed: int, epoch: int) -> tuple[Any, ...]:
    """What names the views of `epoch`: equal names mean equal pixels of every sample.

    Mixing comes after it, and is no part of it.
    """
    if not varies(entry):
        return CENTRAL
    own = entry.options.keys() - AUGMENTATIONS.shared_options.keys()
    options = {key: value for key, value in entry.options.items() if key in own}
    return ({"name": entry.name, **options}, seed, epoch)


class Augmenter:
    """One augmentation, ready to be applied with keyed draws."""

    def __init__(self, entry: Entry, *, size: int, num_classes: int, seed: int) -> None:
        options = dict(entry.options)
        mix, alpha = options.pop("mix", None), options.pop("mix_alpha", 1.0)
        self._entry = entry
        self._seed = seed
        self._transform = AUGMENTATIONS.get(entry.name).function(size, **options)
        self._mix = MIXES.get(mix).function(num_classes, alpha=alpha) if mix else None

    @property
    def varies(self) -> bool:
        """Whether a sample looks different in every epoch."""
        return varies(self._entry)

    def view(self, epoch: int) -> tuple[Any, ...]:
        """The name of the views of `epoch`, see `view_name`."""
        return view_name(self._entry, seed=self._seed, epoch=epoch)

    @property
    def mixes(self) -> bool:
        """Whether `mix` changes batches."""
        return self._mix is not None

    def images(self, images: Tensor, samples: Iterable[int], *, epoch: int) -> Tensor:
        """Varied views `[n, 3, size, size]` of the cached uint8 `images` `[n, 3, S, S]`."""
        import torch

        if not self.varies:
            result: Tensor = self._transform(images)
            return result
        views = []
        with _restored_cpu_rng() as generator:
            for image, sample in zip(images, samples, strict=True):
                generator.manual_seed(derive_seed(self._seed, "augmentation", epoch, sample))
                views.append(self._transform(image))
        return torch.stack(views)

    def mix(
        self, images: Tensor, labels: Tensor, *, epoch: int, step: int
    ) -> tuple[Tensor, Tensor]:
        """Mixed float images `[n, 3, size, size]` and soft labels `[n, classes]` of a batch."""
        assert self._mix is not None
        with _restored_cpu_rng() as generator:
            generator.manual_seed(derive_seed(self._seed, "mix", epoch, step))
            mixed, soft = self._mix(images, labels)
        return mixed, soft


@contextmanager
def _restored_cpu_rng() -> Iterator[torch.Generator]:
    """Torch's CPU generator, which the transforms draw from; its state is put back afterwards."""
    import torch

    state = torch.get_rng_state()
    try:
        yield torch.default_generator
    finally:
        torch.set_rng_state(state)
