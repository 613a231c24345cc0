"""Files of strangers: run folders, images, archives and lists end in success or in a message."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import bench
from bench.errors import BenchError
from bench.models.tensor_files import read_tensor_file, write_tensor_file
from bench.prediction import chosen_trial
from bench.prediction.classify import classify
from bench.prediction.export.held_out import held_out
from bench.prediction.load import open_trial
from bench.prediction.model import TrainedModel
from bench.prediction.samples import NO_NUMBERS, samples_at, samples_of
from tests.cli.test_cli import call
from tests.cli.test_hostile_names import is_plain
from tests.hostile import mutated_bytes, mutated_tree

pytestmark = [
    pytest.mark.xdist_group("opened"),
    pytest.mark.skipif(os.name != "posix", reason="links, pipes and names of POSIX"),
]

NAMES = (
    b"=cmd|'C calc'!A0.png", b"@SUM(1).png", b"-1+2.png", b"\x1b[2J\x1b]8;;x\x07.png",
    b"two\nlines.png", b"a\tb;c,d\".png", b"caf\xe9\xff.png", "\u202egpj.exe.png".encode(),
    b"[bold]x[link=y].png", b"'.png",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(opened_run: bench.Run) -> TrainedModel:
    return bench.load(opened_run.folder, device="cpu")


@pytest.fixture
def folder(opened_run: bench.Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(opened_run.folder, tmp_path / "run"))


def png(side: int = 32) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(content, "png")
    return content.getvalue()


# Run folders -------------------------------------------------------------------------------------


def trial_of(run: bench.Run, strategy: str = "full_finetune") -> str:
    return str(run.trials.set_index("strategy").loc[strategy, "trial"].iloc[0])


@pytest.fixture
def strangers(opened_run: bench.Run, tmp_path: Path) -> bench.Run:
    """The run with the checkpoint of a trial that may be changed, and what it starts from."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    kept = opened_run.folder / "checkpoints"
    for path in (kept / f"{trial_of(opened_run)}.safetensors", *kept.glob("start-*")):
        shutil.copy(path, folder)
    return replace(opened_run, folder=folder.parent)


def rewritten(
    path: Path,
    *,
    tensors: Callable[[dict[str, torch.Tensor]], None] = lambda _: None,
    **facts: Callable[[dict[str, Any]], Any],
) -> None:
    """Change a checkpoint's tensors, or what its metadata say; its checksum is right again."""
    own, metadata = read_tensor_file(path)
    own = {name: tensor.clone() for name, tensor in own.items()}
    tensors(own)
    for name, change in facts.items():
        content = json.loads(metadata[name])
        changed = change(content)
        metadata[name] = json.dumps(content if changed is None else changed)
    metadata.pop("crc32")
    write_tensor_file(own, path, metadata)


def set_to(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({name: value})


MODEL_LIES = [
    ("num_classes", 10**9), ("num_classes", 4), ("num_classes", True), ("image_size", 10**9),
    ("image_size", 0), ("threads", 0), ("threads", 10**9), ("precision", "fp8"),
    ("boundary", "nowhere"), ("backbone", "../../etc/passwd"), ("backbone", "timm/hf-hub:a/b"),
    ("backbone", "resnet50"), ("head", "none"), ("head_options", {"hidden": 10**9}),
    ("head", "pretrained"), ("start", "/etc/passwd"), ("start", "../run/data.json"), ("seed", -1),
    ("weights_classes", ["a"] * 200_000), ("format", 99), ("further", 1), ("class_map", [1]),
    ("versions", {"torch": 2}),
]  # fmt: skip
INPUT_LIES = [
    ("size", 10**9), ("size", -1), ("size", 40), ("resized_to", 10**9), ("resized_to", None),
    ("resize", "explode"), ("interpolation", "open"), ("mean", [0.5]), ("mean", ["a", "b", "c"]),
    ("std", [0, 1, 1]), ("std", [float("nan")] * 3), ("bits", 400), ("kind", "sound"),
    ("classes", []), ("classes", ["a", "a", "b"]), ("classes", ["a", "b", "\ud800"]),
    ("classes", ["a", "b"]), ("classes", "abc"), ("classes", ["a"] * 200_000), ("further", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("model", *lie) for lie in MODEL_LIES] + [("preprocessing", *lie) for lie in INPUT_LIES],
)
def test_a_checkpoint_that_lies_is_one_message(
    strangers: bench.Run, part: str, name: str, value: Any
) -> None:
    chosen = chosen_trial(strangers, trial_of(strangers))
    path = strangers.folder / "checkpoints" / f"{chosen.id}.safetensors"
    rewritten(path, **{part: set_to(name, value)})
    with pytest.raises(BenchError) as error:
        open_trial(strangers, chosen, device="cpu")
    assert path.name in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_head_larger_than_its_file_is_not_built(strangers: bench.Run) -> None:
    """40 GB of values that nothing has trained."""
    trial, names = trial_of(strangers), [str(number) for number in range(100_000)]

    def large(content: dict[str, Any]) -> None:
        content.update(head="mlp", head_options={"hidden": 100_000}, num_classes=100_000)

    path = strangers.folder / "checkpoints" / f"{trial}.safetensors"
    rewritten(path, model=large, preprocessing=set_to("classes", names))
    with pytest.raises(BenchError, match=r"cannot be built \(a head of the widths"):
        open_trial(strangers, chosen_trial(strangers, trial), device="cpu")


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("part", ["model", "preprocessing"])
@pytest.mark.parametrize("text", [nested(100_000), "null", "7", '"x"', "{", "", "[]"])
def test_facts_that_are_none_are_one_message(strangers: bench.Run, part: str, text: str) -> None:
    trial = trial_of(strangers)
    path = strangers.folder / "checkpoints" / f"{trial}.safetensors"
    tensors, metadata = read_tensor_file(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    metadata[part] = text
    metadata.pop("crc32")
    write_tensor_file(tensors, path, metadata)
    with pytest.raises(BenchError, match=path.name):
        open_trial(strangers, chosen_trial(strangers, trial), device="cpu")
    (strangers.folder / "verdict.json").write_text(f'{{"recommended": {nested(100_000)}}}')
    assert "the best config on validation" in chosen_trial(strangers).why


def test_values_that_do_not_fit_or_are_no_numbers_are_one_message(strangers: bench.Run) -> None:
    chosen = chosen_trial(strangers, trial_of(strangers))
    path = strangers.folder / "checkpoints" / f"{chosen.id}.safetensors"
    kept = path.read_bytes()

    def endless(tensors: dict[str, torch.Tensor]) -> None:
        tensors["fc.bias"][0] = float("nan")

    def other(tensors: dict[str, torch.Tensor]) -> None:
        tensors["fc.bias"] = torch.zeros(5)

    for change, message in ((endless, "no numbers .fc.bias"), (other, "does not fit")):
        path.write_bytes(kept)
        rewritten(path, tensors=change)
        with pytest.raises(BenchError, match=message):
            open_trial(strangers, chosen, device="cpu")


def test_pickles_pipes_and_links_in_the_place_of_a_checkpoint(
    opened_run: bench.Run, folder: Path, tmp_path: Path
) -> None:
    trial = trial_of(opened_run)
    path = folder / "checkpoints" / f"{trial}.safetensors"
    executed = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (executed,)

    path.unlink()
    torch.save({"w": Evil()}, path)
    with pytest.raises(BenchError, match="is damaged"):
        bench.load(folder, trial, device="cpu")
    # Starting weights may be pickles: nothing in them runs.
    head = trial_of(opened_run, "linear_probe")
    (start,) = path.parent.glob("start-*")
    start.unlink()
    torch.save({"w": Evil()}, start)
    with pytest.raises(BenchError, match="does not have the hash in its name"):
        bench.load(folder, head, device="cpu")
    assert not executed.exists()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BenchError, match="kept no weights"):
        bench.load(folder, trial, device="cpu")
    path.unlink()
    (tmp_path / "secret").write_text("mine")
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(BenchError, match="is damaged") as error:
        bench.load(folder, trial, device="cpu")
    assert "mine" not in str(error.value)


@pytest.mark.campaign
def test_changed_facts_of_a_checkpoint_are_a_message_or_a_network(strangers: bench.Run) -> None:
    rng, chosen = random.Random(0), chosen_trial(strangers, trial_of(strangers))
    path = strangers.folder / "checkpoints" / f"{chosen.id}.safetensors"
    kept, opened = path.read_bytes(), 0
    for _ in range(300):
        path.write_bytes(kept)
        if rng.random() < 0.2:
            path.write_bytes(mutated_bytes(kept, rng))
        else:
            part = rng.choice(("model", "preprocessing"))
            rewritten(path, **{part: lambda content: mutated_tree(content, rng)})
        try:
            found = open_trial(strangers, chosen, device="cpu")
            table = found.predict(np.zeros((9, 700, 3), np.uint8))
        except BenchError:
            continue
        opened += 1
        assert len(table) == 1
    assert 0 < opened < 300


def test_an_export_downloads_nothing_to_where_a_run_says(
    opened_run: bench.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    def refuse(*_: Any, **options: Any) -> None:
        assert options.get("download") is not True
        raise RuntimeError("not found")

    monkeypatch.setattr(datasets.CIFAR10, "__init__", refuse)
    described = {"name": "torchvision", "dataset": "CIFAR10", "root": str(tmp_path / "theirs")}
    run = replace(opened_run, suite={"dataset": described})
    chosen = chosen_trial(opened_run)
    model = bench.load(opened_run.folder, device="cpu")
    found = held_out(run, chosen, model.preprocessing)
    assert found.missing == f"the data set CIFAR10 is not in {tmp_path / 'theirs'}"
    assert list(tmp_path.iterdir()) == []


# Images ------------------------------------------------------------------------------------------


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """Images called so that a terminal, a spreadsheet or a reader of lines may take them wrong."""
    place = tmp_path / "images"
    place.mkdir()
    for name in NAMES:
        try:
            with open(os.fsencode(place) + b"/" + name, "wb") as file:
                file.write(png())
        except OSError:
            pytest.skip("this file system does not take every name")
    return place


def written(names: Path) -> list[str]:
    return sorted(os.path.join(names, os.fsdecode(name)) for name in NAMES)


def test_names_are_text_in_the_terminal_and_in_every_file(
    opened_run: bench.Run,
    names: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (names / "bad\x1b[31m\n.png").write_bytes(b"no image")
    arguments = ("predict", opened_run.folder, names, "--device", "cpu")
    code, out, err = call(capsys, monkeypatch, *arguments)
    assert code == 1
    assert is_plain(out + err)
    assert "[bold]x[link=y].png" in out
    for suffix in ("csv", "jsonl", "parquet"):
        call(capsys, monkeypatch, *arguments, "--out", tmp_path / f"x.{suffix}")
    paths = [*written(names), str(names / "bad\x1b[31m\n.png")]
    # JSON lines give every name back, to the byte.
    lines = (tmp_path / "x.jsonl").read_text(encoding="ascii").splitlines()
    assert sorted(json.loads(line)["path"] for line in lines) == sorted(paths)
    table = pd.read_parquet(tmp_path / "x.parquet")
    assert set(paths) - set(table["path"]) == {path for path in paths if "\udcff" in path}
    text = (tmp_path / "x.csv").read_text(encoding="utf-8")
    assert is_plain(text.replace("\r\n", "\n"))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(paths)


def test_a_relative_name_is_no_formula(
    opened_run: bench.Run, names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(names)
    own = [os.fsdecode(name) for name in NAMES]
    bench.predict(opened_run.folder, own, out=tmp_path / "x.csv", device="cpu")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert paths[:3] == ["'=cmd|'C calc'!A0.png", "'@SUM(1).png", "'-1+2.png"]
    assert not any(path[:1] in "=+-@\t\r" for path in paths)


def test_names_that_no_system_takes_are_named(model: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png())
    bad = ["x" * 5000 + ".png", "~nobody-of-this-name/x.png", "/dev/zero", "/dev/stdin", "/", "."]
    rows = "\n".join(["path", *bad, "good.png"])
    (tmp_path / "list.csv").write_text(rows)
    listed = io.StringIO("\n".join(["a\0b.png", *bad, str(tmp_path / "good.png")]))
    for samples in (samples_at(str(tmp_path / "list.csv")), samples_at("-", listed=listed)):
        *failed, good = model.stream(samples)
        assert good.failure is None
        assert all(each.failure for each in failed)
        assert len(failed) >= len(bad)
    os.mkfifo(tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "pipe.zip")
    for name in ("pipe.csv", "pipe.zip", "a\0b", "x" * 5000, "~nobody-of-this-name/x"):
        with pytest.raises(BenchError):
            list(samples_at(str(tmp_path / name) if "pipe" in name else name))
    with pytest.raises(BenchError, match="one path a line"):
        list(samples_at("-", listed=io.StringIO("x" * 10**6)))


def test_names_on_standard_input_may_be_any_bytes(model: TrainedModel, names: Path) -> None:
    own = [name for name in NAMES if b"\n" not in name]
    content = b"\n".join(os.fsencode(names) + b"/" + name for name in own)
    listed = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    found = list(model.stream(samples_at("-", listed=listed)))
    assert [each.failure for each in found] == [None] * len(own)
    assert [os.fsencode(Path(each.name).name) for each in found] == own


def test_hostile_lists_are_one_message(tmp_path: Path) -> None:
    told = []
    for number, content in enumerate((
        b"path\n" + b"x" * 10**6, b"\xff\xfe", b"path\n\"" + b"\0" * 10**6, b"a" * 10**6 + b",b\n1",
        b",".join([b"x"] * 10**5), b"\n\n\n", b"\0", b"\xef\xbb\xbf", b'"',
    )):  # fmt: skip
        path = tmp_path / f"{number}.csv"
        path.write_bytes(content)
        try:
            found = len(list(samples_at(str(path))))
        except BenchError as error:
            told.append(str(error))
        else:
            assert found <= 1
    assert len(told) >= 6
    assert all(len(message) < 5000 for message in told)


def test_a_folder_that_cannot_be_read_is_named(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "good.png").write_bytes(png())
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = {Path(each.name).name: each.failure for each in model.stream(samples_of(tmp_path))}
    assert found == {
        "closed": "Permission denied",
        "good.png": None,
        "itself.png": "Too many levels of symbolic links",
    }


def test_what_takes_too_much_memory_is_named(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    prepared = model._prepared

    def short(decoded: Any) -> Any:
        if short.__dict__.setdefault("seen", []):
            return prepared(decoded)
        short.__dict__["seen"].append(1)
        raise MemoryError

    monkeypatch.setattr(model, "_prepared", short)
    failures = sorted(str(each.failure) for each in model.stream(samples_of(tmp_path)))
    assert failures == ["None", "there is not enough memory for it"]


def test_answers_that_are_no_numbers_are_named(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    out = tmp_path / "x.jsonl"
    monkeypatch.setattr(
        model, "_evaluation", lambda batches: (b.new_full((1, 3), float("nan")) for b in batches)
    )
    found = classify(model, samples_of(tmp_path / "a.png"), out=out)
    assert found.failures == 1
    assert json.loads(out.read_text())["failure"] == NO_NUMBERS


# Archives ----------------------------------------------------------------------------------------


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_members_lead_nowhere_and_bombs_are_named(model: TrainedModel, tmp_path: Path) -> None:
    good = png()
    members = {
        "../../up.png": good,
        "/etc/root.png": good,
        "C:\\x.png": good,
        "a/\x1b[2J.png": good,
    }
    path = archive(tmp_path / "a.zip", {**members, "bomb.bmp": bytes(300 * 2**20)})
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
        file.writestr(nameless, good)
    found = {each.name: each.failure for each in model.stream(samples_at(str(path)))}
    assert [name for name, failure in found.items() if failure is None] == [
        f"{path}/{name}" for name in members
    ]
    assert found[f"{path}/link.png"] == "not an image of a known format"
    assert "unpacks from 0.3 MiB to 300 MiB" in str(found[f"{path}/bomb.bmp"])
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]


def test_sizes_that_lie_and_encrypted_members_are_named(
    model: TrainedModel, tmp_path: Path
) -> None:
    path = archive(tmp_path / "a.zip", {"one.png": png(), "two.png": png(), "three.png": png()})
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    content[first + 24 : first + 28] = struct.pack("<I", 5)  # unpacked, it says, to 5 bytes
    content[second + 8] |= 1  # and this one is encrypted
    path.write_bytes(bytes(content))
    one, two, three = model.stream(samples_at(str(path)))
    assert one.failure
    assert two.failure
    assert "encrypted" in two.failure
    assert three.failure is None


@pytest.mark.campaign
def test_damaged_archives_and_many_members_end_in_a_message_or_in_rows(
    model: TrainedModel, tmp_path: Path
) -> None:
    rng = random.Random(0)
    kept = archive(tmp_path / "a.zip", {f"{n}.png": png() for n in range(4)}).read_bytes()
    for number in range(500):
        path = tmp_path / "b.zip"
        path.write_bytes(mutated_bytes(kept, rng))
        try:
            assert len(list(model.stream(samples_at(str(path))))) <= 5, number
        except BenchError:
            continue
    many = {f"{n}.png": b"" for n in range(100_000)}
    found = classify(
        model, samples_at(str(archive(tmp_path / "many.zip", many))), out=tmp_path / "x.csv"
    )
    assert (found.count, found.failures, len(found.failed)) == (100_000, 100_000, 10_000)


# What is written where ---------------------------------------------------------------------------


def refused(run: Path, what: Any, out: Path | str) -> str:
    with pytest.raises(BenchError) as error:
        bench.predict(run, what, out=out, device="cpu")
    return str(error.value)


def test_out_takes_the_place_of_no_input_no_folder_and_no_file_of_the_run(
    opened_run: bench.Run, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    listed = tmp_path / "list.csv"
    listed.write_text("path\na.png\n")
    run, kept = opened_run.folder, (opened_run.folder / "predictions.parquet").read_bytes()
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link-to-run").symlink_to(run)
    for out in ("folder.csv", "pipe.csv"):
        assert "must be a file, and" in refused(run, tmp_path / "a.png", tmp_path / out)
    for out in (
        run / "predictions.parquet",
        tmp_path / "link-to-run" / "x.csv",
        run / "a" / "b.csv",
    ):
        assert "must lie outside of the run folder" in refused(run, tmp_path / "a.png", out)
    for what in (listed, [listed], str(listed)):
        assert "must not be what is to be classified" in refused(run, what, listed)
    (tmp_path / "other.csv").symlink_to(listed)
    assert "must not be what is" in refused(run, [listed], tmp_path / "other.csv")
    secret = "s3://me:secret@b/x.csv"
    assert "a file on this machine, got s3://***@b" in refused(run, listed, secret)
    assert listed.read_text() == "path\na.png\n"
    assert (run / "predictions.parquet").read_bytes() == kept
    assert (tmp_path / "folder.csv").is_dir()


def test_a_link_is_replaced_and_what_it_leads_to_stays(
    opened_run: bench.Run, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "mine").write_text("mine")
    out = tmp_path / "x.csv"
    for target in ("mine", "nothing"):
        out.symlink_to(tmp_path / target)
        bench.predict(opened_run.folder, tmp_path / "a.png", out=out, device="cpu")
        assert not out.is_symlink()
        assert len(out.read_text().splitlines()) == 2
        out.unlink()
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


def test_an_export_takes_the_place_of_no_run_no_file_and_no_link(
    opened_run: bench.Run, tmp_path: Path
) -> None:
    run = opened_run.folder
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for out, message in (
        (run, "is not an earlier export"),
        (run / "checkpoints", "is not an earlier export"),
        (tmp_path / "file", "is not an earlier export"),
        (tmp_path / "link", "is a link"),
        ("s3://me:secret@b/x", r"a folder on this machine, got s3://\*\*\*@b"),
    ):
        with pytest.raises(BenchError, match=message):
            bench.export(run, format="safetensors", out=out)
    assert (run / "trials.parquet").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "mine"]


@pytest.fixture(autouse=True)
def nothing_beside(opened_run: bench.Run) -> Iterator[None]:
    """No test leaves anything in the run folder."""
    before = sorted(opened_run.folder.rglob("*"))
    yield
    assert sorted(opened_run.folder.rglob("*")) == before
