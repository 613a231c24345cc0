"""The figure of how much labelling pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from bench.results.analysis import read_label_curves
from bench.results.plots import LABEL_CURVES, draw_figures, looks
from bench.results.plots.label_curves import label_curves
from tests.results.label_models import sized_run

NAMES = [f"strategy_{place}" for place in range(10)]
SIZES = (2, None)


def test_every_strategy_has_a_line_with_its_intervals(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run = sized_run(
        tmp_path,
        {
            (name, size): rng.random((1, 60)) < 0.5 + 0.04 * place
            for place, name in enumerate(NAMES)
            for size in SIZES
        },
    )
    found = read_label_curves(run)
    assert found is not None
    figure = label_curves(found, looks(NAMES))
    assert figure is not None
    (ax,) = figure.axes
    assert len(ax.lines) == 10
    assert len(ax.collections) == 10 * len(SIZES)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "96\nall"]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == set(NAMES)
    by_name = dict(zip(found.names, ax.lines, strict=True))
    for size, verdict in enumerate(found.verdicts.values()):
        for each in verdict.contenders:
            assert by_name[each.name].get_ydata()[size] == pytest.approx(each.figure)
    places = np.array([line.get_xdata() for line in ax.lines])
    assert (np.diff(np.sort(places, axis=0), axis=0) > 0).all()  # no interval hides another
    assert np.exp(np.log(places).mean(axis=0)) == pytest.approx([2, 96])


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.5, 0.55), "No strategy is shown to be ahead of another with any number of images"),
        ((0.2, 0.9), "b is first with 2 images of a class (90.0 %) and with 96 (90.0 %)"),
    ],
)
def test_the_title_names_who_is_first_only_where_it_is_shown(
    tmp_path: Path, shares: tuple[float, float], message: str
) -> None:
    right = {
        (name, size): np.tile(np.arange(60) < 60 * share, (3, 1))
        for name, share in zip("ab", shares, strict=True)
        for size in SIZES
    }
    found = read_label_curves(sized_run(tmp_path, right))
    assert found is not None
    figure = label_curves(found, looks(["a", "b"]))
    assert figure is not None
    shown = [text.get_text() for text in figure.findobj(Text)]
    assert message in [" ".join(text.split()) for text in shown]


def test_a_run_of_one_size_has_no_such_figure(tmp_path: Path) -> None:
    right = np.ones((3, 20), dtype=bool)
    run = sized_run(tmp_path, {("a", 5): right, ("b", 5): right})
    assert LABEL_CURVES not in dict(draw_figures(run))
