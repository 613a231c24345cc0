"""How samples became inputs, from the files of a run, also of one that does not say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from bench.errors import BenchError
from bench.results.folder import InputView, Run, read_input_views, read_run, write_input_views
from bench.results.folder.inputs import InputRule, read_inputs
from tests.damage import DAMAGES, damage
from tests.made_up_run import made_up_run

CROP: dict[str, Any] = {
    "kind": "image",
    "size": 64,
    "resize": "crop",
    "resized_to": 73,
    "interpolation": "bilinear",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
}


def made(folder: Path, *, dataset: str = "hymenoptera", **settings: Any) -> Run:
    """An earlier version's run: nothing of inputs in data.json, `settings` in every trial."""

    def change(row: dict[str, Any], _: dict[str, Any]) -> None:
        row["settings"] = json.dumps({"resize": "auto", "image_size": 64, **settings})

    made_up_run(folder, strategies=["a", "b"], schedules=["s"], seeds=1, epochs=1, change=change)
    (folder / "suite.yaml").write_text(f"name: old\ndataset: {dataset}\n")
    return read_run(folder)


def keep(run: Run, content: object) -> None:
    """A checkpoint of the first trial that says this."""
    folder = run.folder / "checkpoints"
    folder.mkdir(exist_ok=True)
    packed = json.dumps({"crc32": "0", "preprocessing": json.dumps(content)})
    path = folder / f"{run.trials['trial'].iloc[0]}.safetensors"
    save_file({"w": np.ones(1, np.float32)}, path, {"bench": packed})


def test_what_the_run_says_goes_first(tmp_path: Path) -> None:
    run = made(tmp_path)
    content = json.loads((tmp_path / "data.json").read_text())
    told = {**CROP, "used_by": ["x · y"], "native_size": None, "squares": False, "unknown": ["std"]}
    (tmp_path / "data.json").write_text(json.dumps({**content, "inputs": [told]}))
    keep(run, {**CROP, "size": 32})
    (rule,) = read_inputs(read_run(tmp_path))
    assert rule == InputRule.of(told)
    assert (rule.size, rule.mean, rule.unknown) == (64, (0.5, 0.5, 0.5), ("std",))


def test_checkpoints_tell_the_rule_of_earlier_runs(tmp_path: Path) -> None:
    run = made(tmp_path)
    keep(run, {**CROP, "classes": ["ants", "bees"]})
    (rule,) = read_inputs(run)
    assert (rule.resize, rule.resized_to, rule.interpolation) == ("crop", 73, "bilinear")
    row = run.trials.iloc[0]
    assert rule.used_by == (f"{row['backbone']} · {row['weights']}",)


@pytest.mark.parametrize(
    ("dataset", "settings", "rule"),
    [
        ("hymenoptera", {}, "crop"),
        ("{name: folder, path: photos}", {}, "crop"),
        ("{name: folder, path: photos}", {"resize": "pad"}, "pad"),
        ("fractals", {}, "squash"),
        ("{name: torchvision, dataset: CIFAR10}", {}, None),
    ],
)
def test_settings_tell_it_where_there_is_no_checkpoint(
    dataset: str, settings: dict[str, Any], rule: str | None, tmp_path: Path
) -> None:
    (found,) = read_inputs(made(tmp_path, dataset=dataset, **settings))
    assert (found.size, found.resize, found.mean) == (64, rule, ())


@pytest.mark.parametrize(
    "content",
    [None, 3, [], {}, {**CROP, "size": "64"}, {**CROP, "resize": "x"}, {**CROP, "mean": [1] * 99}],
)
def test_a_checkpoint_that_says_something_else_is_left_out(content: Any, tmp_path: Path) -> None:
    run = made(tmp_path)
    keep(run, content)
    (rule,) = read_inputs(run)
    assert rule.interpolation is None, "from the settings"


def test_files_that_are_no_checkpoints_are_left_out(tmp_path: Path) -> None:
    run = made(tmp_path)
    keep(run, CROP)
    (path,) = (run.folder / "checkpoints").iterdir()
    for content in (b"", b"x" * 99, b"\xff" * 99, (10).to_bytes(8, "little") + b"[" * 10):
        path.write_bytes(content)
        assert read_inputs(run)[0].interpolation is None
    path.unlink()
    path.symlink_to("/dev/zero")
    assert read_inputs(run)[0].interpolation is None


@pytest.mark.parametrize(
    "inputs", [3, [3], [{}], [{**CROP, "used_by": "x"}], [{**CROP, "used_by": [], "size": -1}]]
)
def test_inputs_that_no_run_writes_are_refused(inputs: Any, tmp_path: Path) -> None:
    made(tmp_path)
    content = json.loads((tmp_path / "data.json").read_text())
    (tmp_path / "data.json").write_text(json.dumps({**content, "inputs": inputs}))
    with pytest.raises(BenchError, match=r"data\.json is damaged \(inputs"):
        read_run(tmp_path)


# Views ----------------------------------------------------------------------------------------


def view(side: int, name: str = "evaluation") -> InputView:
    rng = np.random.default_rng(side)
    pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
    return InputView(sample="a/ü.jpg", label="a", view=name, pixels=pixels)


def test_views_are_kept_as_they_are(tmp_path: Path) -> None:
    kept = [view(64), view(65, "training: flip")]
    write_input_views(tmp_path, kept)
    for one, other in zip(kept, read_input_views(tmp_path), strict=True):
        assert (one.sample, one.label, one.view) == (other.sample, other.label, other.view)
        assert np.array_equal(one.pixels, other.pixels)
    write_input_views(tmp_path, [view(600)])
    assert read_input_views(tmp_path)[0].pixels.shape == (512, 512, 3)
    write_input_views(tmp_path, [])
    assert read_input_views(tmp_path) == []


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_views_are_left_out(tmp_path: Path, how: str) -> None:
    write_input_views(tmp_path, [view(9)])
    damage(tmp_path / "inputs.parquet", how)
    assert read_input_views(tmp_path) == []


def test_views_that_no_run_writes_are_left_out(tmp_path: Path) -> None:
    for png in (b"", b"GIF89a", None):
        row = {"sample": ["a"], "label": ["a"], "view": ["x"], "png": [png]}
        pq.write_table(pa.table(row), tmp_path / "inputs.parquet")
        assert read_input_views(tmp_path) == []
