"""How fast does `bench predict` classify files, and in how much memory?

A linear probe is trained for an epoch on the photographs, and opened. Four sides go in turns:
`predict` from files to a CSV file; the pass of the frozen trunk as training makes it, over images
that are decoded and resized already; decoding and resizing alone, as training prepares a data set;
the opened module by hand, a batch after the other. What `predict` does is the second and the third
together, so it is compared with both: with the pass alone, and with preparing and then passing.

With `--files`, hard links to a few small images are classified by a process of its own for each
number of them, and its largest resident size is shown.

    python benchmarks/predicting.py PHOTOS --backbone resnet18 --rounds 7
    python benchmarks/predicting.py PHOTOS --rounds 0 --files 1000 10000 100000
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

import bench
from bench.data.images.decode import IMAGE_SUFFIXES, decode_file
from bench.methods.plan import HEAD
from bench.models.evaluation import EVALUATION_BATCH, Trunk, autocast
from bench.prediction.classify import classify
from bench.prediction.model import TrainedModel
from bench.prediction.samples import samples_of

CODE = """
import re
from pathlib import Path
from bench.cli.start import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
"""A command that ends with its largest resident size in KiB (Linux)."""
SMALL = 20
"""So many small images are linked to."""

Pixels = np.ndarray


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path, help="a folder of classes")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, nargs="*", default=[])
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        if given.rounds:
            data = {"name": "folder", "path": str(given.photos.absolute())}
            run = probe(place, data, given.backbone, given.size, given.precision, given.device)
            show_speed(bench.load(run, device=given.device), given.photos, place, given.rounds)
        if given.files:
            data = {"name": "fractals", "classes": 3, "train_per_class": 8, "image_size": 32}
            show_memory(probe(place, data, "shufflenet_v2_x0_5", 32), place, given.files)


def probe(
    place: Path,
    data: dict[str, object],
    backbone: str,
    size: int,
    precision: str = "fp32",
    device: str = "cpu",
) -> Path:
    """The folder of a run with one trial: its head alone is trained."""
    suite = {
        "name": f"probe-{size}",
        "dataset": data,
        "backbone": backbone,
        "image_size": size,
        # Speed does not depend on the values: these are made in a moment, nothing is downloaded.
        "weights": {"name": "fractals", "classes": 2, "images_per_class": 4, "epochs": 1},
        "strategy": "linear_probe",
        "augmentation": "none",
        "epochs": 1,
        "precision": precision,
        "seed": 0,
    }
    return bench.run(suite, out=place / "runs", device=device, workers=1).folder


# Speed --------------------------------------------------------------------------------------------


def show_speed(model: TrainedModel, photos: Path, place: Path, rounds: int) -> None:
    """Images a second of each of the four, in turns, and ratios of the same round."""
    paths = sorted(p for p in photos.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    stored = prepared(model, paths)
    sides: dict[str, Callable[[], object]] = {
        "predict": lambda: classify(model, samples_of(paths), out=place / "found.csv"),
        "frozen pass": partial(frozen_pass, model, stored),
        "preparing": partial(prepared, model, paths),
        "module by hand": partial(by_hand, model, stored),
    }
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - began)
    print(f"{model.spec.backbone}, {model.preprocessing.size} px, {model.spec.precision}, ", end="")
    print(f"{model.device}, {len(paths)} photographs, {rounds} rounds")
    for name, each in seconds.items():
        print(f"{name}: {spread([len(paths) / s for s in each])} images a second")
    one, two, three = (seconds[name] for name in ("predict", "frozen pass", "preparing"))
    pairs = list(zip(one, two, three, strict=True))
    print(f"predict ÷ frozen pass: {spread([b / a for a, b, _ in pairs], 2)}")
    print(f"predict ÷ (preparing, then the pass): {spread([(b + c) / a for a, b, c in pairs], 2)}")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, smallest and largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def prepared(model: TrainedModel, paths: Sequence[Path]) -> Pixels:
    """The images as training keeps them, decoded in as many threads as there are cores."""

    def read(path: Path) -> Pixels:
        decoded = decode_file(path)
        assert isinstance(decoded, np.ndarray), decoded
        return model.prepared(decoded)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(read, paths)))


def frozen_pass(model: TrainedModel, stored: Pixels) -> None:
    """What training does to keep the features of a frozen trunk."""
    trunk = Trunk(
        model.network.to(model.device),
        model.spec.boundary or HEAD,
        precision=model.spec.precision,
        parallel_batches=model.parallel_batches,
    )
    for _ in trunk(batch.to(model.device) for batch in batches(model, stored)):
        pass


def by_hand(model: TrainedModel, stored: Pixels) -> None:
    """What somebody does with `.module`: one batch after the other, with all threads of torch."""
    with torch.inference_mode(), autocast(model.device, model.spec.precision):
        for batch in batches(model, stored):
            model.module(batch.to(model.device)).cpu()


def batches(model: TrainedModel, stored: Pixels) -> object:
    """Batches of what the network takes."""
    parts = range(0, len(stored), EVALUATION_BATCH)
    return (model.inputs(stored[at : at + EVALUATION_BATCH]) for at in parts)


# Memory -------------------------------------------------------------------------------------------


def show_memory(run: Path, place: Path, numbers: Sequence[int]) -> None:
    """The largest resident size of a process that classifies so many files."""
    originals = place / "originals"
    originals.mkdir()
    draw = np.random.default_rng(0)
    for number in range(SMALL):
        pixels = draw.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(originals / f"{number}.png")
    for count in numbers:
        folder = place / f"links-{count}"
        for number in range(count):
            parent = folder / f"{number // 1000:04}"
            parent.mkdir(parents=True, exist_ok=True)
            os.link(originals / f"{number % SMALL}.png", parent / f"{number:07}.png")
        for suffix in (".csv", ".parquet", ".jsonl"):
            out = place / f"found{suffix}"
            began = time.perf_counter()
            words = [str(run), str(folder), "--out", str(out), "--device", "cpu"]
            command = [sys.executable, "-c", CODE, "predict", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = int(done.stdout.split()[-1]) / 2**10
            seconds, size = time.perf_counter() - began, out.stat().st_size / 2**20
            print(
                f"{count:,} files to {suffix}: {peak:.0f} MiB at most, "
                f"{seconds:.1f} s, a file of {size:.1f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
