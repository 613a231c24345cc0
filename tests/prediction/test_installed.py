"""An installed wheel, images from outside the run, and nothing else that the run has had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bench
from tests.data.pictures import photograph

pytestmark = pytest.mark.campaign

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5
"""Of a probability: batches of another size round otherwise."""

SUITE = """\
name: outside
dataset: {name: folder, path: DATA}
backbone: shufflenet_v2_x0_5
weights: {name: fractals, classes: 3, images_per_class: 8, epochs: 1}
strategy: [full_finetune, linear_probe]
augmentation: flip_crop
resize: RESIZE
image_size: 48
epochs: 2
batch_size: 8
lr: 0.02
precision: fp32
seed: 0
"""

PREDICT = """
import sys
from pathlib import Path

import bench

site, run, images, out = map(Path, sys.argv[1:])
assert Path(bench.__file__).is_relative_to(site), bench.__file__
for trial in bench.read_run(run).trials["trial"]:
    found = bench.predict(run, images, trial=trial, out=out / f"{trial}.jsonl", device="cpu")
    assert found.failures == 0
    bench.export(run, trial, format="safetensors", out=out / trial)
"""

BY_HAND = """
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import shufflenet_v2_x0_5
from torchvision.transforms import v2

folder = Path(sys.argv[1])
rule = json.loads((folder / "preprocessing.json").read_text())
side = rule["resized_to"]
bilinear = v2.InterpolationMode.BILINEAR
resize = {
    "crop": [v2.Resize(side, bilinear), v2.CenterCrop(side)],
    "squash": [v2.Resize((side, side), bilinear)],
}[rule["resize"]]
transform = v2.Compose([
    *resize,
    v2.CenterCrop(rule["size"]),
    v2.ToImage(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(rule["mean"], rule["std"]),
])
network = shufflenet_v2_x0_5(num_classes=len(rule["classes"]))
network.load_state_dict(load_file(folder / "model.safetensors"))
network.eval()
found = {}
for name in json.load(sys.stdin):
    with Image.open(name) as image, torch.no_grad():
        logits = network(transform(image.convert("RGB"))[None])
    found[name] = logits.softmax(dim=1)[0].tolist()
assert "bench" not in sys.modules
json.dump({"classes": rule["classes"], "found": found}, sys.stdout)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel of this checkout is installed, and nothing else."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "bench", source / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(place), str(source)]
    subprocess.run(wheel, check=True, cwd=place)
    (built,) = place.glob("*.whl")
    target = place / "site"
    install = [*pip, "install", "--no-deps", "--target", str(target), str(built)]
    subprocess.run(install, check=True, cwd=place)
    shutil.rmtree(source)
    return target


def photographs(folder: Path, count: int, first: int) -> None:
    """JPEG and PNG files of many sizes, of two classes."""
    for number in range(count):
        own = folder / ("one", "two")[number % 2]
        own.mkdir(parents=True, exist_ok=True)
        picture = photograph(first + number, width=60 + 17 * (number % 7), height=50 + 9 * number)
        picture.save(own / f"{number:02}.{('jpg', 'png')[number % 3 == 0]}")


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_an_installed_wheel_predicts_what_torchvision_alone_does(
    site: Path, tmp_path: Path, resize: str
) -> None:
    photographs(tmp_path / "data", 24, first=0)
    suite = tmp_path / "suite.yaml"
    written = SUITE.replace("DATA", json.dumps(str(tmp_path / "data"))).replace("RESIZE", resize)
    suite.write_text(written)
    run = bench.run(suite, out=tmp_path / "out", device="cpu", workers=1)
    photographs(tmp_path / "outside", 20, first=1000)
    # What trained it is gone; the run folder alone has moved.
    shutil.rmtree(tmp_path / "data")
    shutil.move(run.folder, tmp_path / "moved")
    empty, results = tmp_path / "empty", tmp_path / "results"
    results.mkdir()
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BENCH_CACHE")}
    subprocess.run(
        [
            sys.executable, "-P", "-c", PREDICT,
            *map(str, (site, tmp_path / "moved", tmp_path / "outside", results)),
        ],
        env={**clean, "PYTHONPATH": str(site), "BENCH_CACHE": str(empty), "OMP_NUM_THREADS": "1"},
        cwd=empty.parent,
        check=True,
    )  # fmt: skip
    assert len(run.trials) == 2
    for trial in run.trials["trial"]:
        lines = (results / f"{trial}.jsonl").read_text().splitlines()
        rows = {row["path"]: row for row in map(json.loads, lines)}
        assert len(rows) == 20
        done = subprocess.run(
            [sys.executable, "-P", "-c", BY_HAND, str(results / trial)],
            input=json.dumps(list(rows)),
            env=clean,
            cwd=results,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        by_hand = json.loads(done.stdout)
        for path, expected in by_hand["found"].items():
            found = [rows[path][f"probability_{name}"] for name in by_hand["classes"]]
            assert found == pytest.approx(expected, abs=TOLERANCE), path
            assert rows[path]["predicted"] == by_hand["classes"][int(np.argmax(expected))]
