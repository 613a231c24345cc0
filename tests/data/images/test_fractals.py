"""The generated data set: keyed, bounded, and true to its recipe."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bench.data import open_dataset
from bench.data.dataset import DATASETS, TEST, TRAIN, VAL, Pixels
from bench.data.images import fractals
from bench.data.images.fractals import (
    MAX_MAPS,
    MAX_SINGULAR_VALUE,
    MIN_FILL,
    Floats,
    Recipe,
    chaos_game,
    coloured_noise,
    count_points,
    draw_system,
    generate_images,
    jitter_systems,
    largest_singular_value,
    log_density,
)

WHOLE = np.array([[1.0, 0.0, 0.0]], np.float32)
SIERPINSKI = np.zeros((1, MAX_MAPS, 2, 3), np.float32)
SIERPINSKI[0, :3, [0, 1], [0, 1]] = 0.5
SIERPINSKI[0, 1, 0, 2] = SIERPINSKI[0, 2, 1, 2] = 0.5

GOLDEN_MAP = [[0.361651, -0.0032128, 0.9396911], [-0.3724845, -0.015038, 0.3633456]]
GOLDEN_MEANS = [131.3154, 128.0122, 121.5222]


def recipe(*, family_seed: int = 0, image_size: int = 32, difficulty: float = 0.5) -> Recipe:
    return Recipe(family_seed=family_seed, image_size=image_size, difficulty=difficulty)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def play(maps: Floats, *, chains: int = 64, steps: int = 95) -> tuple[Floats, Floats]:
    return chaos_game(maps, rng().random((len(maps), steps, chains), np.float32))


KEYS = [(split, c, index) for split in range(3) for c in range(3) for index in range(7)]


def test_images_are_deterministic_and_independent_of_order_threads_and_neighbours() -> None:
    whole = generate_images(recipe(), KEYS, num_threads=1)
    threaded = generate_images(recipe(), KEYS[::-1] * 3, num_threads=5)
    for image, again in zip(whole, threaded[: len(KEYS)][::-1], strict=True):
        np.testing.assert_array_equal(image, again)
    for key in KEYS[::10]:
        np.testing.assert_array_equal(generate_images(recipe(), [key])[0], whole[KEYS.index(key)])


def test_every_key_gives_another_image() -> None:
    images = generate_images(recipe(), KEYS) + generate_images(recipe(family_seed=1), KEYS)
    assert len({image.tobytes() for image in images}) == 2 * len(KEYS)


@pytest.mark.parametrize("image_size", [16, 33, 64, 100])
@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_images_are_bounded_and_never_empty(image_size: int, difficulty: float) -> None:
    kind = recipe(image_size=image_size, difficulty=difficulty)
    for image in generate_images(kind, [(0, c, 0) for c in range(4)]):
        assert image.shape == (image_size, image_size, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.std() > 5


def test_the_stream_has_not_changed_without_a_new_generator_version() -> None:
    assert fractals.GENERATOR_VERSION == 1
    image = generate_images(recipe(image_size=64), [(0, 1, 2)])[0]
    np.testing.assert_allclose(draw_system(0, 0)[0], GOLDEN_MAP, atol=1e-5)
    np.testing.assert_allclose(image.mean(axis=(0, 1)), GOLDEN_MEANS, atol=0.05)


def test_families_and_classes_are_disjoint() -> None:
    systems = [draw_system(family, c) for family in range(3) for c in range(20)]
    for first, second in itertools.combinations(systems, 2):
        assert np.abs(first - second).max() > 0.1


def test_largest_singular_value_agrees_with_lapack() -> None:
    matrices = rng().uniform(-1, 1, (500, 2, 2)).astype(np.float32)
    expected = np.linalg.svd(matrices.astype(np.float64), compute_uv=False)[:, 0]
    np.testing.assert_allclose(largest_singular_value(matrices), expected, rtol=1e-5)


def test_systems_follow_the_recipe() -> None:
    systems = np.stack([draw_system(0, c) for c in range(150)])
    used = np.abs(systems).max(axis=(2, 3)) > 0
    assert set(used.sum(axis=1)) == {3, 4, 5, 6}
    norms = np.linalg.svd(systems[..., :2], compute_uv=False)[..., 0][used]
    assert norms.min() + 1e-6 >= 0.5
    assert norms.max() <= 0.85 + 1e-6
    assert np.abs(systems[..., 2]).max() <= 1


def test_jittered_systems_stay_contractive_and_keep_the_rest() -> None:
    systems = np.stack([draw_system(0, c) for c in range(200)])
    relative = rng().uniform(-0.24, 0.24, systems.shape).astype(np.float32)
    jittered = jitter_systems(systems, relative)
    norms = np.linalg.svd(jittered[..., :2], compute_uv=False)[..., 0]
    assert norms.max() <= MAX_SINGULAR_VALUE + 1e-5
    untouched = norms < MAX_SINGULAR_VALUE - 1e-3
    assert not untouched.all(), "the bound must act for some of these"
    expected = systems * (1 + relative)
    np.testing.assert_allclose(jittered[untouched], expected[untouched], rtol=1e-5)
    np.testing.assert_allclose(jittered[..., 2], expected[..., 2], rtol=1e-5)


def test_chaos_game_draws_the_sierpinski_triangle() -> None:
    x, y = play(SIERPINSKI, chains=256)
    cells = np.floor(np.stack([x, y]) * 16).astype(int)
    assert not (cells[0] & cells[1]).any(), "a cell of the triangle shares no binary digit"
    hit = np.unique(cells.reshape(2, -1), axis=1).shape[1]
    assert hit == 3**4


def test_maps_are_chosen_in_proportion_to_their_determinants() -> None:
    maps = np.zeros((1, MAX_MAPS, 2, 3), np.float32)
    maps[0, :3, 0, 0] = maps[0, :3, 1, 1] = np.sqrt([0.001, 0.002, 0.003])
    maps[0, :3, 0, 2] = [10, 20, 30]
    x, _ = play(maps, chains=1000)
    last_map = np.rint(x / 10).astype(int).ravel()
    shares = np.bincount(last_map, minlength=4) / x.size
    np.testing.assert_allclose(shares, [0, 1 / 6, 2 / 6, 3 / 6], atol=0.01)


def test_the_padding_is_never_chosen() -> None:
    highest = np.full((1, 40, 8), np.nextafter(np.float32(1), np.float32(0)), np.float32)
    for c in range(30):
        maps = draw_system(0, c)
        count = int((np.abs(maps).max(axis=(1, 2)) > 0).sum())
        x, y = chaos_game(maps[None], highest)
        matrix, shift = maps[count - 1, :, :2].astype(float), maps[count - 1, :, 2]
        fixed_point = np.linalg.solve(np.eye(2) - matrix, shift)
        np.testing.assert_allclose([x[-1, 0, 0], y[-1, 0, 0]], fixed_point, atol=0.02)


def test_classes_fill_enough_of_the_raster() -> None:
    systems = np.stack([draw_system(1, c) for c in range(40)])
    counts = count_points(*play(systems), WHOLE.repeat(40, axis=0), 32)
    # Drawn with other random numbers than the rule's own, hence the tolerance.
    assert ((counts > 0).mean(axis=(1, 2)) > MIN_FILL - 0.02).all()


def test_points_are_counted_where_they_lie() -> None:
    x = np.array([0.0, 1.0, 4.0, 4.0], np.float32).reshape(4, 1, 1)
    y = np.array([0.0, 0.0, 2.0, 2.0], np.float32).reshape(4, 1, 1)
    counts = count_points(x, y, np.array([[0.5, 0.0, 1.0]], np.float32), 16)[0]
    expected = np.zeros((16, 16), int)
    # The box takes 8 x 4 pixels at the left and lower end; its far edge belongs to the next pixel.
    expected[12, 0], expected[12, 2], expected[15, 8] = 1, 1, 2
    np.testing.assert_array_equal(counts, expected)
    density = log_density(counts[None])[0]
    assert density[15, 8] == 1
    assert density[12, 0] == pytest.approx(np.log(2) / np.log(3))
    assert density[0, 0] == 0


@pytest.mark.parametrize("exponent", [1.2, 2.0])
@pytest.mark.parametrize("size", [32, 45])
def test_noise_has_the_asked_spectrum(exponent: float, size: int) -> None:
    noise = np.stack([coloured_noise(rng(seed), size, exponent) for seed in range(200)])
    np.testing.assert_allclose(noise.mean(axis=(2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(noise.std(axis=(2, 3)), 1, rtol=1e-5)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=(0, 1)).ravel()[1:]
    along = np.fft.fftfreq(size) * size
    frequency = np.hypot(along[:, None], along[None]).ravel()[1:]
    slope, _ = np.polyfit(np.log(frequency), np.log(power), 1)
    assert slope == pytest.approx(-exponent, abs=0.03)
    channels = noise.transpose(1, 0, 2, 3).reshape(3, -1)
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.1


def test_an_image_without_noise_is_one_colour_direction_over_grey() -> None:
    keys = [(0, c, index) for c in range(2) for index in range(20)]
    levels = np.stack(generate_images(recipe(difficulty=0.0), keys)).astype(float) - 128
    directions = []
    for image in levels.reshape(len(keys), -1, 3):
        inside = image[(np.abs(image) < 127).all(axis=1)]
        _, values, vectors = np.linalg.svd(inside, full_matrices=False)
        assert values[1] / np.sqrt(len(inside)) < 1, "only rounding leaves the line"
        assert (image == 0).all(axis=1).mean() > 0.3, "the background is grey"
        directions.append(vectors[0])
    spread = np.linalg.svd(np.stack(directions), compute_uv=False) / np.sqrt(len(keys))
    assert spread.min() > 0.3, "colours tell nothing of the class"


def test_difficulty_raises_noise_and_jitter() -> None:
    easy, middle, hard = (recipe(difficulty=d) for d in (0.0, 0.5, 1.0))
    assert (easy.jitter, easy.noise) == (0, 0)
    assert (middle.jitter, middle.noise) == pytest.approx((0.12, 0.45))
    assert (hard.jitter, hard.noise) == pytest.approx((0.24, 0.9))


SMALL = {"classes": 3, "train_per_class": 5, "val_per_class": 2, "test_per_class": 4}


def read(options: dict[str, Any], indices: Sequence[int] | None = None) -> dict[str, Pixels]:
    dataset = open_dataset("fractals", {"image_size": 32, **options})
    chosen = range(len(dataset)) if indices is None else indices
    images = dataset.read(chosen)
    return {
        dataset.sample_ids[i]: np.asarray(image) for i, image in zip(chosen, images, strict=True)
    }


def test_the_source_knows_its_samples_without_generating() -> None:
    dataset = open_dataset("fractals", SMALL)
    assert dataset.classes == ("fractal-00", "fractal-01", "fractal-02")
    assert dataset.native_size == 64
    assert dataset.generated
    assert len(dataset) == 3 * (5 + 2 + 4)
    for split, name, count in ((TRAIN, "train", 5), (VAL, "val", 2), (TEST, "test", 4)):
        ids = [dataset.sample_ids[i] for i in np.flatnonzero(dataset.splits == split)]
        assert ids == [f"{name}/{c}/{index}" for c in range(3) for index in range(count)]
    labels = [int(sample.split("/")[1]) for sample in dataset.sample_ids]
    np.testing.assert_array_equal(dataset.labels, labels)


def test_more_images_or_classes_change_none_of_the_earlier_ones() -> None:
    few = read(SMALL)
    many = read({"classes": 5, "train_per_class": 9, "val_per_class": 4, "test_per_class": 6})
    assert few.keys() < many.keys()
    for sample, image in few.items():
        np.testing.assert_array_equal(image, many[sample])


def test_any_selection_reads_the_same_images() -> None:
    everything = read(SMALL)
    some = read(SMALL, [20, 3, 3, 0])
    assert set(some) <= set(everything)
    for sample, image in some.items():
        np.testing.assert_array_equal(image, everything[sample])
    assert read(SMALL, []) == {}


def test_a_source_travels_to_other_processes() -> None:
    dataset = open_dataset("fractals", SMALL)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.read([7])[0], dataset.read([7])[0])


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 4},
        {"train_per_class": 6},
        {"val_per_class": 3},
        {"test_per_class": 5},
        {"image_size": 48},
        {"difficulty": 0.6},
        {"family_seed": 1},
    ],
)
def test_every_option_and_the_version_are_in_the_fingerprint(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = open_dataset("fractals", SMALL).fingerprint
    assert open_dataset("fractals", dict(SMALL)).fingerprint == fingerprint
    assert open_dataset("fractals", {**SMALL, **change}).fingerprint != fingerprint
    monkeypatch.setattr(fractals, "GENERATOR_VERSION", fractals.GENERATOR_VERSION + 1)
    assert open_dataset("fractals", SMALL).fingerprint != fingerprint


def test_whole_difficulties_are_the_same_recipe_however_written() -> None:
    written = [open_dataset("fractals", {**SMALL, "difficulty": d}).fingerprint for d in (1, 1.0)]
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("classes", 1),
        ("train_per_class", 0),
        ("image_size", 8),
        ("difficulty", 1.01),
        ("difficulty", -0.1),
        ("family_seed", -1),
        ("classes", 2.5),
        ("colour", "red"),
    ],
)
def test_options_outside_their_rules_are_refused(option: str, value: object) -> None:
    with pytest.raises(ValidationError, match=option):
        DATASETS.get("fractals").options(**{option: value})
