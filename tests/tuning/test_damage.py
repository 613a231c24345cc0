"""Whatever becomes of a file of a search, the same command ends as if it had been left alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from bench.results.folder import read_run, read_tuning
from bench.tuning import tune
from tests.damage import LOSSES, lose
from tests.tiny import SMOKE_SUITE

pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("damaged search")]

SUITE = f"""\
{SMOKE_SUITE.replace("seed: [0, 1]", "seed: [0]").replace("epochs: 2", "epochs: 1")}
tune:
  space: {{lr: {{low: 1e-4, high: 0.05, log: true}}}}
  trials: 3
"""
FILES = (
    "tuning.journal",
    "tuning.parquet",
    "tuned.yaml",
    "untuned.parquet",
    "untuned_predictions.parquet",
)
VOLATILE = ["started", "finished", "seconds"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("original")
    (folder / "tiny.yaml").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run.write_report", lambda *_: None)
        tune(folder / "tiny.yaml", out=folder / "out", workers=1)
        yield folder


def numbers(out: Path) -> list[pd.DataFrame]:
    folder = out / "tiny_tuned"
    found = read_tuning(folder)
    assert found is not None
    trials = read_run(folder).trials
    return [
        found.trials.drop(columns=VOLATILE),
        trials[["trial", "lr", "val_accuracy", "test_accuracy", "test_loss"]],
        found.untuned[["trial", "lr", "val_accuracy", "test_accuracy", "test_loss"]],
    ]


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("name", FILES)
def test_each_file_of_a_search(original: Path, tmp_path: Path, name: str, how: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(original / "out", out)
    lose(out / "tiny_tuned" / name, how)
    tune(original / "tiny.yaml", out=out, workers=1)
    for one, other in zip(numbers(original / "out"), numbers(out), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
