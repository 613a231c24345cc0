"""Calibration before and after a temperature, computed again from the metrics themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from bench.methods.metrics import METRICS
from bench.methods.temperature import fit_temperature, tempered
from bench.results.analysis.calibration import reliability
from bench.results.analysis.scores import Folds
from bench.results.analysis.temperatures import JUDGED, Calibration, calibration
from bench.results.analysis.verdict import around
from bench.results.metric import ACCURACY, metric_called

CLASSES = ("ants", "bees", "wasps")


def side(trial: str, seed: int, images: int, *, sharpness: float = 3.0) -> pd.DataFrame:
    """Predictions of which exact probabilities are raised to `sharpness`: above 1 too sure."""
    rng = np.random.default_rng([seed, images])
    probabilities = softmax(2 * rng.normal(size=(images, 3)), axis=1)
    labels = np.array([rng.choice(3, p=own) for own in probabilities])
    sharp = probabilities**sharpness
    sharp /= sharp.sum(axis=1, keepdims=True)
    return pd.DataFrame(
        {
            "trial": trial,
            "sample": [f"{index:04}.jpg" for index in range(images)],
            "label": np.array(CLASSES)[labels],
            "predicted": np.array(CLASSES)[sharp.argmax(axis=1)],
            **{f"probability_{name}": sharp[:, i] for i, name in enumerate(CLASSES)},
        }
    )


def arrays(own: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    labels = own["label"].map({name: i for i, name in enumerate(CLASSES)}).to_numpy(np.int64)
    return labels, own[[f"probability_{name}" for name in CLASSES]].to_numpy(float)


def both(seeds: int, *, images: int = 240) -> tuple[pd.DataFrame, pd.DataFrame]:
    test = [side(f"t{seed}", 1, images) for seed in range(seeds)]
    val = [side(f"t{seed}", 50 + seed, 120) for seed in range(seeds)]
    return pd.concat(test, ignore_index=True), pd.concat(val, ignore_index=True)


def trials(count: int) -> dict[int, tuple[str, ...]]:
    return {seed: (f"t{seed}",) for seed in range(count)}


def known(found: Calibration | None) -> Calibration:
    assert found is not None
    return found


@pytest.mark.parametrize("seeds", [1, 3])
def test_figures_are_means_of_the_metrics_with_temperatures_of_validation(seeds: int) -> None:
    test, val = both(seeds)
    found = known(calibration(test, val, trials(seeds)))
    fitted = []
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in JUDGED}
    for name in (f"t{seed}" for seed in range(seeds)):
        labels, probabilities = arrays(test[test["trial"] == name])
        val_labels, val_probabilities = arrays(val[val["trial"] == name])
        fitted.append(fit_temperature(val_probabilities, val_labels))
        after = tempered(probabilities, fitted[-1])
        for metric, pairs in figures.items():
            function = METRICS.get(metric).function
            pairs.append((function(labels, probabilities), function(labels, after)))
        error = reliability(probabilities, labels).expected_calibration_error
        assert figures["ece"][-1][0] == pytest.approx(error)
    assert found.temperatures == pytest.approx(tuple(fitted))
    assert [each.metric.name for each in found.judged] == list(JUDGED)
    for each in found.judged:
        before, after = np.mean(figures[each.metric.name], axis=0)
        assert each.before.value == pytest.approx(before)
        assert each.before.interval[0] < before < each.before.interval[1]
        assert each.after is not None
        assert each.after.figure.value == pytest.approx(after)
        assert each.after.change.difference == pytest.approx(after - before)
        assert each.after.change.comparisons == 3


def test_too_sure_probabilities_are_mended_and_it_is_claimed() -> None:
    test, val = both(3, images=600)
    found = known(calibration(test, val, trials(3)))
    assert all(2 < temperature < 4.5 for temperature in found.temperatures)
    for each in found.judged:
        assert each.after is not None
        assert each.after.change.verdict == "better"
        assert each.after.change.interval[1] < 0


def test_a_calibration_error_near_0_is_not_taken_for_a_share() -> None:
    """Wilson's interval of a share as small reaches to nearly 1."""
    ece = metric_called("ece")
    assert around(1e-4, 0.01, 200, ece) == pytest.approx((0.0, 0.0101))
    assert around(0.3, 0.01, 200, ece) == pytest.approx((0.29, 0.31))
    assert around(0.999, 0.01, 200, ece)[1] == 1.0
    assert around(1e-4, 0.01, 200, ACCURACY)[1] > 0.2


def test_the_error_of_exact_probabilities_is_what_they_show() -> None:
    errors = [
        METRICS.get("ece").function(*arrays(side("t", seed, 150, sharpness=1.0)))
        for seed in range(60)
    ]
    test, val = side("t0", 7, 150, sharpness=1.0), side("t0", 8, 150, sharpness=1.0)
    found = known(calibration(test, val.iloc[:0], trials(1)))
    assert found.exact == pytest.approx(float(np.mean(errors)), rel=0.1)


def test_without_validation_predictions_of_all_there_is_no_temperature() -> None:
    test, val = both(2)
    for kept in (val.iloc[:0], val[val["trial"] == "t0"]):
        found = known(calibration(test, kept, trials(2)))
        assert found.temperatures == ()
        assert all(each.after is None for each in found.judged)
    assert calibration(test[test["trial"] == "t0"], val, trials(2)) is None
    unknown = test.assign(probability_ants=np.nan)
    assert calibration(unknown, val, trials(2)) is None


def test_of_folds_each_has_its_own_temperature_and_figure() -> None:
    names = {seed: tuple(f"t{seed}{fold}" for fold in "abc") for seed in range(2)}
    parts = [(name, 10 * seed + i) for seed, own in names.items() for i, name in enumerate(own)]
    test = pd.concat([side(name, i, 60) for name, i in parts])
    val = pd.concat([side(name, 90 + i, 60) for name, i in parts])
    found = known(calibration(test, val, names, folds=Folds(test=60, train=120)))
    assert len(found.temperatures) == 6
    errors = [
        METRICS.get("ece").function(*arrays(test[test["trial"] == name])) for name, _ in parts
    ]
    assert found.judged[2].before.value == pytest.approx(np.mean(errors))
    assert found.judged[0].after is not None
    assert found.judged[0].after.change.folds == 3


@pytest.mark.campaign
@pytest.mark.parametrize("name", JUDGED)
@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_what_other_images_give(name: str, seeds: int) -> None:
    """Of trainings that share their images and have skill of their own.

    The truth is the mean over many studies: a calibration error on so many images is above that on
    endless ones, and the interval is of the former.
    """
    rng = np.random.default_rng(0)
    figures, intervals = [], []
    for _ in range(250):
        logits = 2 * rng.normal(size=(150, 3))
        labels = np.array([rng.choice(3, p=own) for own in softmax(logits, axis=1)])
        frames = []
        for seed in range(seeds):
            seen = 1.8 * logits + 0.7 * rng.normal(size=logits.shape)
            own = softmax(seen, axis=1)
            frames.append(
                pd.DataFrame(
                    {
                        "trial": f"t{seed}",
                        "sample": [f"{index:04}.jpg" for index in range(150)],
                        "label": np.array(CLASSES)[labels],
                        "predicted": np.array(CLASSES)[own.argmax(axis=1)],
                        **{f"probability_{name}": own[:, i] for i, name in enumerate(CLASSES)},
                    }
                )
            )
        test = pd.concat(frames, ignore_index=True)
        found = known(calibration(test, test.iloc[:0], trials(seeds)))
        (own_judged,) = (each for each in found.judged if each.metric.name == name)
        figures.append(own_judged.before.value)
        intervals.append(own_judged.before.interval)
    truth = float(np.mean(figures))
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert covered > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 250)
