"""Feed changed files to everything that reads one: does each end in success or in a message?

Suites are changed as text and as trees, images, weights, archives and tables in their bytes, tables
also in their cells and files of JSON in their values. Every input has a seed of its own, so that
one can be made again alone. What ends in anything but success or a `BenchError`, takes more than
`CPU_SECONDS` or more memory than `MEMORY_GIB` is kept, with the traceback, in a folder.

    python -m benchmarks.fuzz --inputs 2000 --seed 1

`--inputs` is the number for each kind. Should the process itself die, what killed it is the input
in the folder `current`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from bench.data.images.decode import decode_file
from bench.data.images.hymenoptera import open_hymenoptera
from bench.errors import BenchError
from bench.models.state_dicts import load_weights, read_state_dict
from bench.results.folder import TABLES, read_run
from bench.runs.catalogue import catalogue
from bench.suite import expand, load_suite
from tests.data.pictures import photograph
from tests.hostile import NASTY_TEXTS, changed_cells, mutated_bytes, mutated_text, mutated_tree
from tests.made_up_run import made_up_run
from tests.made_up_tuning import made_up_tuning
from tests.results.folder.test_hostile import rewrite, use
from tests.suite.test_hostile import VALID

CPU_SECONDS = 30
MEMORY_GIB = 12
IMAGES = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "ICO", "PPM")


class TooSlowError(Exception):
    """An input took more processor time than any should."""


def suite_text(rng: random.Random, folder: Path) -> None:
    """A valid suite, changed as text."""
    _load(mutated_text(VALID, rng), folder)


def suite_tree(rng: random.Random, folder: Path) -> None:
    """A valid suite, changed as a tree and written as YAML."""
    _load(yaml.safe_dump(mutated_tree(yaml.safe_load(VALID), rng), allow_unicode=True), folder)


def suite_override(rng: random.Random, folder: Path) -> None:
    """A valid suite with overrides made of pieces of it and of nasty texts."""
    keys = ("lr", "strategy.1", "dataset.classes", "seed", "include.0.lr", rng.choice(NASTY_TEXTS))
    pieces = (*NASTY_TEXTS, mutated_text("{name: step, lr: [1, 2]}", rng))
    _load(VALID, folder, [f"{rng.choice(keys)}={rng.choice(pieces)}" for _ in range(2)])


def random_text(rng: random.Random, folder: Path) -> None:
    """Random characters, of which many mean something in YAML."""
    common = "-:?{}[]&*!|>'\"%@` \n\tab01.#,<~"
    characters = [
        rng.choice(common) if rng.random() < 0.8 else chr(rng.randint(0, 0x10FFFF))
        for _ in range(rng.randint(0, 80))
    ]
    _load("".join(characters), folder)


def _load(text: str, folder: Path, overrides: Sequence[str] = ()) -> None:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    (folder / "overrides.txt").write_text("\n".join(overrides), errors="backslashreplace")
    expand(load_suite(path, catalogue(), overrides), catalogue())


def image(rng: random.Random, folder: Path) -> None:
    """A small image of any format, changed in its bytes."""
    path = folder / "image"
    path.write_bytes(mutated_bytes(_image(rng.choice(IMAGES)), rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decode_file(path)


@cache
def _image(kind: str) -> bytes:
    written = io.BytesIO()
    photograph(1).save(written, kind)
    return written.getvalue()


def safetensors(rng: random.Random, folder: Path) -> None:
    """Weights of a small model as safetensors, changed in their bytes."""
    path = folder / "weights.safetensors"
    save_file(_model().state_dict(), path)
    _read_weights(path, rng)


def checkpoint(rng: random.Random, folder: Path) -> None:
    """Weights of a small model as `torch.save` writes them, changed in their bytes."""
    path = folder / "weights.pth"
    torch.save(
        {"model": _model().state_dict(), "epoch": 3},
        path,
        _use_new_zipfile_serialization=rng.random() < 0.7,
    )
    _read_weights(path, rng)


def _read_weights(path: Path, rng: random.Random) -> None:
    path.write_bytes(mutated_bytes(path.read_bytes(), rng))
    state = read_state_dict(path)
    load_weights(_model(), state, origin="file", classifiers=(), with_classifiers=True)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def archive(rng: random.Random, folder: Path) -> None:
    """A zip archive of any compression, changed in its bytes."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression=rng.choice((0, 8, 12, 14))) as opened:
        opened.writestr("hymenoptera_data/train/ants/a.jpg", b"content" * 20)
    path = folder / "archive.zip"
    path.write_bytes(mutated_bytes(written.getvalue(), rng))
    manifest = {"train/ants/a.jpg": "0" * 64}
    open_hymenoptera(path=str(path), url="unused:", manifest=manifest, progress=None)


def table_bytes(rng: random.Random, folder: Path) -> None:
    """A table of a run folder, changed in its bytes."""
    shutil.copytree(_run(), folder, dirs_exist_ok=True)
    path = folder / f"{rng.choice(TABLES)}.parquet"
    path.write_bytes(mutated_bytes(path.read_bytes(), rng))
    use(read_run(folder))


def table_cells(rng: random.Random, folder: Path) -> None:
    """A table of a run folder, changed in a few cells."""
    shutil.copytree(_run(), folder, dirs_exist_ok=True)

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        return changed_cells(frame, rng)

    rewrite(folder / f"{rng.choice(TABLES)}.parquet", change)
    use(read_run(folder))


def tuning_table(rng: random.Random, folder: Path) -> None:
    """The table of a search for settings, changed in a few cells."""
    shutil.copytree(_tuned(), folder, dirs_exist_ok=True)

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        return changed_cells(frame, rng)

    rewrite(folder / rng.choice(("tuning.parquet", "untuned.parquet")), change)
    use(read_run(folder))


def json_values(rng: random.Random, folder: Path) -> None:
    """`data.json` or `environment.json` of a run folder, changed in values and keys."""
    shutil.copytree(_run(), folder, dirs_exist_ok=True)
    path = folder / rng.choice(("data.json", "environment.json"))
    path.write_text(json.dumps(mutated_tree(json.loads(path.read_text()), rng)))
    use(read_run(folder))


@cache
def _run() -> Path:
    folder = Path(tempfile.mkdtemp()) / "run"
    made_up_run(folder, strategies=["a", "b"], schedules=["s"], seeds=2, epochs=3)
    shutil.rmtree(folder / "parts")
    return folder


@cache
def _tuned() -> Path:
    folder = Path(tempfile.mkdtemp()) / "tuned"
    made_up_tuning(folder, strategies=["a", "b"], seeds=2, trials=3)
    shutil.rmtree(folder / "parts")
    return folder


Kind = Callable[[random.Random, Path], None]
KINDS: tuple[Kind, ...] = (
    suite_text, suite_tree, suite_override, random_text, image, safetensors, checkpoint, archive,
    table_bytes, table_cells, tuning_table, json_values,
)  # fmt: skip


def fuzz(kind: Kind, *, inputs: int, seed: int, kept: Path) -> tuple[int, int]:
    """Try so many inputs of a kind; how many were refused, and how many ended badly."""
    refused = bad = 0
    for number in range(inputs):
        current = kept / "current"
        shutil.rmtree(current, ignore_errors=True)
        current.mkdir(parents=True)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            kind(random.Random(f"{kind.__name__}/{seed}/{number}"), current)
        except BenchError:
            refused += 1
        except Exception:
            bad += 1
            signal.setitimer(signal.ITIMER_PROF, 0)
            (current / "traceback.txt").write_text(
                traceback.format_exc(), encoding="utf-8", errors="backslashreplace"
            )
            place = kept / f"{kind.__name__}-{seed}-{number}"
            shutil.rmtree(place, ignore_errors=True)
            current.rename(place)
            print(f"  {place}: {traceback.format_exc().strip().splitlines()[-1][:200]!a}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    shutil.rmtree(kept / "current", ignore_errors=True)
    return refused, bad


def _too_slow(*_: object) -> None:
    raise TooSlowError(f"more than {CPU_SECONDS} s of processor time")


def main() -> int:
    """Fuzz every kind, or those that are named, and print what was tried."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=[kind.__name__ for kind in KINDS])
    parser.add_argument("--kept", type=Path, default=Path("fuzzed"))
    arguments = parser.parse_args()
    signal.signal(signal.SIGPROF, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB << 30, resource.RLIM_INFINITY))
    torch.set_num_threads(1)
    Image.init()
    total = failures = 0
    for kind in KINDS:
        if arguments.only and kind.__name__ not in arguments.only:
            continue
        start = time.process_time()
        with contextlib.redirect_stderr(io.StringIO()):  # libtiff and libjpeg talk
            refused, bad = fuzz(
                kind, inputs=arguments.inputs, seed=arguments.seed, kept=arguments.kept
            )
        seconds = time.process_time() - start
        good = arguments.inputs - refused - bad
        print(
            f"{kind.__name__:15} {arguments.inputs:7,} inputs: {good:6,} used, {refused:6,} "
            f"refused, {bad:3} bad, {seconds:6.1f} s",
            flush=True,
        )
        total += arguments.inputs
        failures += bad
    print(f"{total:,} inputs, {failures} ended in neither success nor a message")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
