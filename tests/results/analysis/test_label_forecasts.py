"""What more training images are likely to bring: shown where a law has shown that it predicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import curve_fit

from bench.results.analysis.label_forecasts import (
    Forecast,
    NoForecast,
    fit_law,
    forecast,
    held_out,
)
from bench.results.analysis.scores import Scores
from bench.results.metric import ACCURACY, Metric
from tests.results.label_models import Curve, drawn, exponential, power, sigmoid

SIZES = (2.0, 5.0, 10.0, 20.0, 40.0, 96.0)
BRIER = Metric(name="brier", label="Brier score", higher_is_better=False, percent=False)
SCORE = Metric(name="score", label="score", higher_is_better=True, percent=False)


def _scores(figures: Sequence[float], seeds: int = 3) -> list[dict[str, Scores]]:
    """Scores whose means are these figures, the same for all seeds and nearly so for samples."""
    names = tuple(f"test/{index}" for index in range(50))
    spread = np.linspace(-0.01, 0.01, 50)
    tables = [np.tile(each + spread, (seeds, 1)) for each in figures]
    return [{"": Scores(seeds=tuple(range(seeds)), samples=names, values=t)} for t in tables]


@pytest.mark.parametrize(
    ("scale", "exponent", "floor", "count"),
    [(0.5, 0.5, 0.0, 4), (0.4, 0.12, 0.0, 3), (0.5, 0.8, 0.06, 6), (0.3, 0.4, 0.0, 6)],
)
def test_a_law_is_found_again(scale: float, exponent: float, floor: float, count: int) -> None:
    images = np.array(SIZES[:count])
    law = fit_law(images.tolist(), scale * images**-exponent + floor)
    assert (law.scale, law.exponent, law.floor) == pytest.approx((scale, exponent, floor), abs=2e-3)
    assert law.at(200) == pytest.approx(scale * 200**-exponent + floor, abs=1e-4)


@pytest.mark.parametrize("count", [4, 6])
def test_the_fit_is_that_of_scipy(count: int) -> None:
    images = np.array(SIZES[:count])
    errors = (0.45 * images**-0.6 + 0.07) * (1 + 0.03 * np.cos(7 * images))

    def law(n: np.ndarray, *numbers: float) -> np.ndarray:
        scale, exponent, *floor = numbers
        return scale * n**-exponent + (floor[0] if floor else 0.0)

    start = [0.4, 0.5, 0.05][: 3 if count >= 5 else 2]
    wanted, _ = curve_fit(
        law, images, errors, p0=start, sigma=errors, bounds=(0, [np.inf, 3, 1][: len(start)])
    )
    found = fit_law(images.tolist(), errors)
    assert [found.scale, found.exponent, found.floor][: len(start)] == pytest.approx(
        wanted, rel=1e-3
    )


def test_each_size_is_predicted_from_those_before_it() -> None:
    errors = np.array([0.4, 0.3, 0.24, 0.2, 0.19, 0.12])
    off_law, off_last = held_out(SIZES, errors)
    assert off_last == pytest.approx([0.04, 0.01, 0.07])
    assert off_law == pytest.approx(
        [abs(fit_law(SIZES[:n], errors[:n]).at(SIZES[n]) - errors[n]) for n in (3, 4, 5)]
    )


def test_a_law_that_predicts_is_shown_no_further_than_it_was_tried() -> None:
    figures = [1 - 0.5 * n**-0.5 for n in SIZES]
    found = forecast(SIZES, _scores(figures), ACCURACY)
    assert isinstance(found, Forecast)
    assert found.images == 192
    assert found.last == pytest.approx(figures[-1])
    assert found.figure == pytest.approx(1 - 0.5 * 192**-0.5, abs=1e-3)
    assert found.interval[0] < found.figure < found.interval[1]
    assert found.off_law < 1e-3 < found.off_last
    near = forecast((2, 5, 10, 15), _scores([1 - 0.5 * n**-0.5 for n in (2, 5, 10, 15)]), ACCURACY)
    assert isinstance(near, Forecast)
    assert near.images == pytest.approx(22.5)
    less = forecast(SIZES, _scores([0.5 * n**-0.5 for n in SIZES]), BRIER)
    assert isinstance(less, Forecast)
    assert less.figure == pytest.approx(0.5 * 192**-0.5, abs=1e-3)


def test_with_two_seeds_a_forecast_has_no_interval() -> None:
    found = forecast(SIZES, _scores([1 - 0.5 * n**-0.5 for n in SIZES], seeds=2), ACCURACY)
    assert isinstance(found, Forecast)
    assert np.isnan(found.interval).all()


@pytest.mark.parametrize(
    ("figures", "metric", "why"),
    [
        ([0.6, 0.7, 0.8], ACCURACY, "sizes"),
        ([0.6, 0.8, 0.88, 0.89, 0.89, 0.89], ACCURACY, "last"),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.9], ACCURACY, "last"),
        ([0.9, 0.8, 0.7, 0.6], ACCURACY, "last"),
        ([0.6, 0.8, 0.9, 1.0], ACCURACY, "error"),
        ([0.6, 0.7, 0.8, 0.9], SCORE, "error"),
    ],
)
def test_where_the_last_value_is_as_good_there_is_none(
    figures: Sequence[float], metric: Metric, why: str
) -> None:
    found = forecast(SIZES[: len(figures)], _scores(figures), metric)
    assert isinstance(found, NoForecast)
    assert found.why == why


def test_sizes_that_were_not_trained_are_left_out() -> None:
    scores = [*_scores([0.5, 0.6, 0.7]), None, None, None]
    found = forecast(SIZES, scores, ACCURACY)
    assert isinstance(found, NoForecast)
    assert found.why == "sizes"


OTHERS: dict[str, Curve] = {
    "early plateau": exponential(0.55, 0.88, 5),
    "late plateau": exponential(0.55, 0.9, 20),
    "sigmoid": sigmoid(0.5, 0.95, 15, 2),
    "late sigmoid": sigmoid(0.5, 0.95, 60, 2.5),
    "rises and falls": lambda n: 0.6 + 0.3 * np.exp(-(np.log(n / 25) ** 2) / 2),
}


@pytest.mark.campaign
@pytest.mark.parametrize("curve", OTHERS.values(), ids=OTHERS)
def test_a_curve_that_is_no_power_law_misleads_seldom(curve: Curve) -> None:
    """Of 60 runs a forecast is shown in a fifth at most, and its interval nearly always holds."""
    found = _forecasts(curve)
    assert len(found) <= 12
    assert sum(_holds(each, curve) for each in found) >= len(found) - 1


@pytest.mark.campaign
def test_a_power_law_is_seen_and_better_than_the_last_value() -> None:
    curve = power(0.0, 0.5, 0.5)
    found = _forecasts(curve)
    true = [float(curve(np.array(each.images))) for each in found]
    assert len(found) >= 30
    law = np.mean([abs(each.figure - own) for each, own in zip(found, true, strict=True)])
    last = np.mean([abs(each.last - own) for each, own in zip(found, true, strict=True)])
    assert law < last
    assert sum(_holds(each, curve) for each in found) >= 0.9 * len(found)


def _forecasts(curve: Curve) -> list[Forecast]:
    """Those that are shown of 60 runs, half of them with few images and seeds."""
    found = []
    for seeds, samples in ((3, 150), (5, 1000)):
        for run in range(30):
            rng = np.random.default_rng([run, seeds, samples])
            scores = drawn({"a": curve}, SIZES, seeds=seeds, samples=samples, rng=rng)
            own = forecast(SIZES, [each["a"] for each in scores.values()], ACCURACY)
            if isinstance(own, Forecast):
                found.append(own)
    return found


def _holds(found: Forecast, curve: Curve) -> bool:
    low, high = found.interval
    return low <= float(curve(np.array(found.images))) <= high
