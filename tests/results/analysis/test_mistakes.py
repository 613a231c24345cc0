"""Which test images trials are most confidently wrong about, and their small copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.results.analysis import confident_mistakes
from bench.results.folder import read_thumbnails, write_thumbnails
from bench.results.plots import draw_figures, pictured_samples
from tests.damage import DAMAGES, damage
from tests.made_up_run import made_up_run


def _predictions() -> pd.DataFrame:
    rows = [
        ("one", "x", "ants", 0.1, 0.9),
        ("one", "y", "ants", 0.02, 0.98),
        ("one", "z", "bees", 0.4, 0.6),
        ("two", "x", "ants", 0.2, 0.8),
        ("two", "y", "ants", 0.9, 0.1),
        ("two", "z", "bees", 0.55, 0.45),
        ("other", "z", "bees", 1.0, 0.0),
    ]
    columns = ["trial", "sample", "label", "probability_ants", "probability_bees"]
    frame = pd.DataFrame(rows, columns=columns)
    ahead = frame["probability_bees"] > frame["probability_ants"]
    return frame.assign(predicted=np.where(ahead, "bees", "ants"))


def test_what_several_seeds_are_sure_of_comes_first() -> None:
    first, second, third = confident_mistakes(_predictions(), ["one", "two"], count=5)
    assert (first.sample, first.predicted, first.wrong, first.trials) == ("x", "bees", 2, 2)
    assert first.confidence == pytest.approx(0.85)
    assert (second.sample, second.wrong) == ("y", 1)
    assert second.confidence == pytest.approx(0.98)
    assert (third.sample, third.label, third.predicted) == ("z", "bees", "ants")
    assert confident_mistakes(_predictions(), ["one", "two"], count=1) == [first]
    assert confident_mistakes(_predictions().iloc[[2]], ["one"], count=5) == []


def test_thumbnails_are_small_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    flat = {"a": np.full((224, 112, 3), (10, 200, 30), np.uint8)}
    write_thumbnails(tmp_path, {**flat, "b/ü.jpg": rng.integers(0, 255, (40, 60, 3), np.uint8)})
    found = read_thumbnails(tmp_path)
    assert {name: picture.shape for name, picture in found.items()} == {
        "a": (112, 56, 3),
        "b/ü.jpg": (40, 60, 3),
    }
    assert (found["a"] == (10, 200, 30)).all()


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_thumbnails_are_left_out(tmp_path: Path, how: str) -> None:
    write_thumbnails(tmp_path, {"a": np.zeros((9, 9, 3), np.uint8)})
    damage(tmp_path / "thumbnails.parquet", how)
    assert read_thumbnails(tmp_path) == {}
    assert read_thumbnails(tmp_path / "nowhere") == {}


def test_the_sheet_shows_the_mistakes_of_the_best(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "r", strategies=["a", "b"], schedules=["s"], epochs=2)
    assert "mistakes" not in dict(draw_figures(run))
    samples = pictured_samples(run)
    assert len(samples) == len(set(samples)) > 15
    write_thumbnails(run.folder, {name: np.zeros((8, 8, 3), np.uint8) for name in samples})
    sheet = dict(draw_figures(run))["mistakes"]
    best = run.trials.groupby("strategy")["test_accuracy"].mean().idxmax()
    trials = list(run.trials.loc[run.trials["strategy"] == best, "trial"])
    expected = confident_mistakes(run.predictions, trials, count=15)
    titles = [ax.get_title() for ax in sheet.axes]
    shown = [title.replace("\n", " ") for title in titles]
    for title, mistake in zip(shown, expected, strict=True):
        assert title.startswith(mistake.label)
        assert mistake.predicted in title
    assert f"{expected[0].wrong} of 3 seeds" in titles[0]
