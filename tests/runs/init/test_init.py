"""`bench init`: the suite is ready to run, and what its comments say is true."""

from __future__ import annotations

import math
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import bench
from bench.cli.main import app
from bench.data import DataIssue, open_dataset, prepare_images
from bench.data.images.prepared import resolve_resize
from bench.data.images.sizes import image_size
from bench.errors import BenchError, DataError
from bench.runs.catalogue import catalogue
from bench.runs.init.backbone import choose_image_size
from bench.runs.init.choose import ChosenGrid, choices, richest
from bench.runs.init.comments import comment, quoted
from bench.runs.init.examine import Examined, examine, measure_sizes, wilson_half_width
from bench.runs.init.fit import Proposal, fitting, timed
from bench.runs.init.suite_text import settings_text, suite_text, summary
from bench.runs.init.write import WrittenSuite, dataset_path, safe_name, write_suite
from bench.runs.notes import PARTED
from bench.runs.resolve import ResolvedTrial, resolve_run
from bench.runs.time_estimate import Timings
from bench.suite import LoadedSuite, Trial, expand, load_suite
from bench.suite.yaml_file import read_yaml

HOSTILE = (
    "x\nstrategy: [evil]\n#",
    "# not: a comment",
    "'single' \"double\" \\ back",
    "a: {b: [c]} & *d !e | > %f @g `h`",
    "line\u2028separator\x85next\rreturn\ttab\x1b[31m",
    "1e3",
    "null",
    "- dash",
    "trailing ",
    "~root",
    "ümläut 😀 فارسی \u202eevil",
    "x" * 150,
)
COUNTS = {"ants": 8, "bees": 6}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    # What takes its time is tested below.
    monkeypatch.setattr("bench.runs.init.write.timed", lambda *_: lambda grid: 0.0)


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Blobs of colour: unlike noise, pictures of two seeds are far apart for a perceptual hash."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def fill(folder: Path, counts: Mapping[str, int], *, size: tuple[int, int] = (40, 30)) -> Path:
    """`counts` images in class folders; no two of a test are alike."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            seed = zlib.crc32(os.fsencode(f"{folder.name}/{name}/{index}"))
            picture(seed, size).save(folder / name / f"{index}.png")
    return folder


def load(path: Path) -> tuple[LoadedSuite, list[Trial]]:
    names = catalogue()
    loaded = load_suite(path, names)
    return loaded, expand(loaded, names)


def settings(written: WrittenSuite) -> dict[str, Any]:
    """Each setting of the suite, a list where it is an axis."""
    loaded, _ = load(written.path)
    return {
        key: values[0] if len(values) == 1 else list(values)
        for key, values in loaded.suite.settings.items()
    }


def comments(path: Path) -> str:
    """All comments as one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = (line.strip().removeprefix("#").strip() for line in lines if "#" in line)
    return re.sub(r"\s+", " ", " ".join(texts))


def made_up(counts: Mapping[str, Mapping[str, int]], **changes: Any) -> Examined:
    """Examined as on a machine and with a data set that a test does not have."""
    found = Examined(
        folder=Path("/data/flowers"),
        counts=counts,
        drawn=(),
        sizes=np.array([[500, 400], [300, 300]]),
        issues=(),
        device="cpu",
        precision="fp32",
        machine={"cpu": "Chip", "cores": 4, "memory_gib": 8.0, "device_name": "Chip"},
    )
    return replace(found, **changes)


def proposed(found: Examined, *, seconds: float = 60.0) -> Proposal:
    """The richest grid for these findings."""
    return fitting([richest(found)], lambda _: seconds, minutes=10)


def even(num_classes: int, *, train: int) -> dict[str, dict[str, int]]:
    names = [f"class-{index:03}" for index in range(num_classes)]
    return {
        split: dict.fromkeys(names, count)
        for split, count in (("train", train), ("val", 10), ("test", 50))
    }


# What is written ------------------------------------------------------------------------------


def test_a_flat_folder_becomes_a_suite_that_plans(tmp_path: Path) -> None:
    folder = fill(tmp_path / "insects", COUNTS)
    written = write_suite(folder)
    assert written.path == Path("insects.yaml")
    loaded, trials = load(written.path)
    assert loaded.suite.name == "insects"
    assert loaded.suite.dataset.options["path"] == str(folder)
    assert len({trial.config for trial in trials}) * 8 == len(trials)
    resolved = resolve_run(written.path, out=tmp_path / "results", device="cpu")
    assert len(resolved.pending) == len(trials)
    assert {trial.input_size for trial in resolved.trials} == {settings(written)["image_size"]}


def table_of(folder: Path, *, groups: int) -> Path:
    """A table that names the images of a folder, each class in this many groups."""
    rows = ["path,label,patient\n"]
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder).as_posix()
        rows.append(f"{name},{path.parent.name},p{int(path.stem) % groups}\n")
    table = folder / "labels.csv"
    table.write_text("".join(rows))
    return table


@pytest.mark.campaign
def test_a_table_becomes_a_suite_that_keeps_groups_whole(tmp_path: Path) -> None:
    written = write_suite(table_of(fill(tmp_path / "insects", COUNTS), groups=4))
    assert written.path == Path("labels.yaml")
    loaded, _ = load(written.path)
    dataset = loaded.suite.dataset
    assert dataset.name == "table"
    assert dataset.options["split"] == {"by": "group", "at": None}
    said = comments(written.path)
    assert "Images of one of the 4 groups, such as a patient, are alike" in said
    assert "The table has no test split" in said
    resolved = resolve_run(written.path, out=tmp_path / "results", device="cpu")
    assert not [issue for issue in resolved.issues if issue.kind == PARTED]
    assert re.search(r"^#   all 2 classes +(\d+) +(\d+) +(\d+)$", written.path.read_text(), re.M)


@pytest.mark.campaign
def test_an_archive_becomes_a_suite_that_plans(tmp_path: Path) -> None:
    folder = fill(tmp_path / "insects", COUNTS)
    archive = Path(shutil.make_archive(str(tmp_path / "insects"), "gztar", tmp_path, "insects"))
    written = write_suite(archive)
    assert written.path == Path("insects.yaml")
    resolved = resolve_run(written.path, out=tmp_path / "results", device="cpu")
    assert resolved.dataset.fingerprint == open_dataset("folder", {"path": folder}).fingerprint
    assert "All of insects.tar.gz lies in its folder insects" in comments(written.path)


def test_groups_that_cannot_be_kept_whole_are_not_proposed(tmp_path: Path) -> None:
    written = write_suite(table_of(fill(tmp_path / "insects", COUNTS), groups=2))
    loaded, _ = load(written.path)
    assert loaded.suite.dataset.options["split"] is None
    said = comments(written.path)
    assert "Groups cannot be kept whole: class 'ants' is in 1 group left" in said
    assert "2 groups of 2 on both sides of a split: p0, p1." in said


def test_the_later_run_finds_the_images_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Measuring takes seconds.
    monkeypatch.setattr("bench.training.precision.measured_precision", lambda *_: "fp32")
    folder = fill(tmp_path / "insects", COUNTS)
    link = tmp_path / "link"
    link.symlink_to(folder)
    written = write_suite(link)
    loaded, trials = load(written.path)
    before = sorted((tmp_path / "cache" / "images").iterdir())
    options = loaded.suite.dataset.options
    dataset = open_dataset("folder", options)
    size = resolve_run(written.path, out=tmp_path / "out", device="cpu").trials[0].input_size
    resize = trials[0].settings.resize
    assert prepare_images(dataset, image_size=size, resize=resize) == before[0]
    assert sorted((tmp_path / "cache" / "images").iterdir()) == before
    assert resolve_resize(resize, dataset) == "crop"


def test_comments_state_counts_sizes_and_what_runs(tmp_path: Path) -> None:
    folder = fill(tmp_path / "insects", COUNTS)
    picture(99, (90, 80)).save(folder / "ants" / "0.png")
    written = write_suite(folder)
    text = written.path.read_text()
    # 8 and 6 images: 2 and 1 for test, of the rest 1 and 1 for validation.
    assert re.search(r"^#   +train +val +test$", text, re.M)
    assert re.search(r"^#   ants +5 +1 +2$", text, re.M)
    assert re.search(r"^#   bees +4 +1 +1$", text, re.M)
    assert re.search(r"^#   all 2 classes +9 +2 +3$", text, re.M)
    said = comments(written.path)
    assert "Median size 40 × 30 pixels, smallest 40 × 30, largest 90 × 80." in said
    _, trials = load(written.path)
    epochs = settings(written)["epochs"] * len(trials)
    assert f"{len(trials)} trials (" in said
    assert f"{epochs:,} epochs, {epochs * 9:,} images to train on" in said
    assert "3 test images" in said
    assert "Always answering 'ants' would be right for 67%" in said
    assert "bench run insects.yaml" in said


def test_every_line_fits(tmp_path: Path) -> None:
    written = write_suite(fill(tmp_path / "insects", COUNTS))
    lines = written.path.read_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert not any(line != line.rstrip() for line in lines)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("train", [20, 300, 6000])
def test_alternatives_in_comments_can_be_taken(device: str, train: int, tmp_path: Path) -> None:
    found = made_up(
        even(2, train=train), device=device, folder=tmp_path, sizes=np.array([[40, 30]])
    )
    text = suite_text(found, proposed(found), path=Path("s.yaml"), name="s", dataset=str(tmp_path))
    alternatives = re.findall(r"^# (\w+): (.+)$", text, re.M)
    assert {"backbone", "weights", "augmentation", "image_size"} <= {key for key, _ in alternatives}
    for key, value in alternatives:
        line = f"{key}: {value}"
        if re.search(rf"^{key}:", text, re.M):
            changed = re.sub(rf"^{key}: .+$", line, text, flags=re.M)
        else:
            changed = f"{text}{line}\n"
        Path("s.yaml").write_text(changed)
        _, trials = load(Path("s.yaml"))
        assert len(trials) >= richest(found).num_trials


@pytest.mark.parametrize(("train", "vote"), [(7, True), (8, False)])
def test_few_labels_make_a_vote_of_rates_an_alternative(
    train: int, vote: bool, tmp_path: Path
) -> None:
    counts = even(2, train=train) | {"val": {"class-000": 2, "class-001": 4}}
    found = made_up(counts, folder=tmp_path, drawn=("val",))
    text = settings_text(found, richest(found), name="s", dataset=str(tmp_path))
    assert ("\n# after: vote\n# choose: last\n# lr: [0.001, 0.0002, 0.005]\n" in text) == vote
    own = replace(found, drawn=())
    assert "after: vote" not in settings_text(own, richest(own), name="s", dataset="d")


def test_own_splits_are_kept_and_nothing_is_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "insects"
    for split, counts in {"train": {"a": 6, "b": 5}, "val": {"a": 2, "b": 3}}.items():
        fill(folder / split, counts)
    fill(folder / "test", {"a": 4, "b": 1})
    written = write_suite(folder)
    text = written.path.read_text()
    assert re.search(r"^#   a +6 +2 +4$", text, re.M)
    assert re.search(r"^#   b +5 +3 +1$", text, re.M)
    assert "_fraction" not in text
    assert "validation split." not in comments(written.path).rpartition("Repetitions")[2]


def test_a_val_split_alone_is_the_test_split(tmp_path: Path) -> None:
    folder = tmp_path / "insects"
    fill(folder / "train", {"a": 10, "b": 10})
    fill(folder / "val", {"a": 3, "b": 4})
    written = write_suite(folder)
    text = written.path.read_text()
    assert re.search(r"^#   a +8 +2 +3$", text, re.M)
    assert "  val_fraction: 0.2\n" in text
    assert "test_fraction" not in text
    assert "its val split is used as the test split" in comments(written.path)


def test_imbalance_weights_the_loss_and_says_why(tmp_path: Path) -> None:
    written = write_suite(fill(tmp_path / "insects", {"rare": 5, "common": 25}))
    assert settings(written)["class_weights"] == "balanced"
    # 25 and 5: less 5 and 1 for test, less 4 and 1 for validation.
    assert "'common' has 16 training images, 5.3 times as many as 'rare' (3)" in comments(
        written.path
    )
    assert "5.3 times" in written.summary
    plain = write_suite(fill(tmp_path / "others", COUNTS))
    assert settings(plain)["class_weights"] == "none"
    assert settings(written)["metric"] == "balanced_accuracy"
    said = comments(written.path)
    # Of 6 test images 5 are common.
    assert "always answering 'common' would be right for 83%. Balanced accuracy" in said
    assert "balanced accuracy chooses" in written.summary
    assert settings(plain)["metric"] == "accuracy"
    assert "balanced" not in plain.path.read_text()
    other = written.path.read_text().replace("# metric: macro_f1", "metric: macro_f1")
    written.path.write_text(other.replace("\nmetric: balanced_accuracy", ""))
    assert settings(written)["metric"] == "macro_f1"


@pytest.mark.parametrize("counts", [(300, 100), (50, 50, 50)])
def test_up_to_three_to_one_accuracy_chooses(counts: tuple[int, ...]) -> None:
    names = {f"class {index}": count for index, count in enumerate(counts)}
    found = made_up(dict.fromkeys(("train", "val", "test"), names))
    assert not richest(found).balanced


def test_how_well_balanced_accuracy_is_known() -> None:
    """Against the spread of the mean of the recalls of two classes with 900 and 25 images."""
    names = {"common": 900, "rare": 25}
    found = made_up(dict.fromkeys(("train", "val", "test"), names))
    assert richest(found).balanced
    rng = np.random.default_rng(0)
    recalls = [rng.binomial(n, 0.9, size=20_000) / n for n in names.values()]
    spread = np.mean(recalls, axis=0).std()
    assert found.balanced_test_samples == pytest.approx(0.09 / spread**2, rel=0.05)
    even_counts = made_up(even(4, train=20))
    assert even_counts.balanced_test_samples == pytest.approx(even_counts.total("test"))
    text = suite_text(found, proposed(found), path=Path("s.yaml"), name="s", dataset="/data/x")
    plain = re.sub(r"\s+#\s+", " ", text)
    assert (
        f"count as much as {found.balanced_test_samples:.0f} images in classes of equal size"
        in plain
    )


def test_broken_and_converted_files_are_told(tmp_path: Path) -> None:
    folder = fill(tmp_path / "insects", COUNTS)
    (folder / "ants" / "torn.jpg").write_bytes(b"no image at all")
    (folder / "ants" / "empty.png").touch()
    (folder / "ants" / "notes.txt").write_text("x")
    frames = [picture(1), picture(2)]
    frames[0].save(folder / "bees" / "moving.gif", save_all=True, append_images=frames[1:])
    written = write_suite(folder)
    said = comments(written.path)
    for name in ("ants/empty.png", "ants/torn.jpg", "ants/notes.txt", "bees/moving.gif"):
        assert name in said
        assert name in written.summary
    assert re.search(r"^#   ants +5 +1 +2$", written.path.read_text(), re.M)


def test_copies_across_splits_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "insects"
    fill(folder / "train", {"a": 6, "b": 5})
    fill(folder / "test", {"a": 4, "b": 3})
    shutil.copy(folder / "train" / "a" / "0.png", folder / "test" / "a" / "copy.png")
    written = write_suite(folder)
    pair = "test/a/copy.png (test) and train/a/0.png"
    said = comments(written.path)
    assert pair in said
    assert "remove one of each pair" in said
    assert pair in written.summary


def test_small_images_get_a_smaller_size_and_large_ones_the_weights_own(tmp_path: Path) -> None:
    small = write_suite(fill(tmp_path / "small", COUNTS, size=(60, 50)))
    assert settings(small)["image_size"] == 128
    assert "median shorter side 50 px" in comments(small.path)
    large = write_suite(fill(tmp_path / "large", {"a": 3, "b": 3}, size=(300, 200)))
    assert settings(large)["image_size"] is None
    assert "the middle, about 51% of the median image" in comments(large.path)


# Names ----------------------------------------------------------------------------------------


def test_hostile_class_and_file_names_stay_in_comments(tmp_path: Path) -> None:
    folder = fill(tmp_path / "insects", {name.replace("/", "_"): 4 for name in HOSTILE})
    (folder / HOSTILE[0] / "y\nlr: 5\n.png").write_bytes(b"broken")
    written = write_suite(folder)
    loaded, trials = load(written.path)
    assert loaded.suite.dataset.options["path"] == str(folder)
    assert settings(written)["lr"] == 0.001
    assert "evil" not in {trial.strategy.name for trial in trials}
    innocent = write_suite(fill(tmp_path / "others", {"a": 10, "b": 10}))
    assert read_yaml(written.path).data.keys() == read_yaml(innocent.path).data.keys()
    assert all(text.isprintable() for text in written.summary.split("\n"))
    assert len(written.summary.split("\n")) < 25


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folder_names_are_found_again(name: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "work" / name, {"a": 3, "b": 3})
    written = write_suite(folder)
    loaded, _ = load(written.path)
    assert loaded.suite.dataset.options["path"] == str(folder.resolve())
    assert re.fullmatch(r"[A-Za-z0-9][\w.-]*\.yaml", str(written.path), re.A)


@pytest.mark.parametrize("text", [*HOSTILE, "\ufeff", "\x00\x7f"])
def test_quoted_text_is_one_line_that_reads_back(text: str, tmp_path: Path) -> None:
    line = quoted(text)
    assert len(line.splitlines()) == 1
    Path("s.yaml").write_text(
        f"dataset: {{name: folder, path: .}}\nbackbone: resnet18\nstrategy: {line}\n",
        encoding="utf-8",
    )
    with pytest.raises(BenchError, match="strategy must be a known name") as caught:
        load(Path("s.yaml"))
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_comment_stays_a_comment(text: str) -> None:
    for line in "\n".join(comment(f"{text} {text}", indent="  ", hang="  ")).splitlines():
        assert line.startswith("  # ")


@pytest.mark.skipif(os.name != "posix", reason="file names are text elsewhere")
def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with pytest.raises(DataError, match=r"UTF-8, got .*caf\\xe9; rename it"):
        write_suite(fill(folder, {"a": 3, "b": 3}))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("flowers", "flowers"),
        ("My Photos (2024)", "My-Photos-2024"),
        ("données", "donnees"),
        ("фото", "images"),
        ("../..", "images"),
        (".hidden", "hidden"),
    ],
)
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_file_name_that_no_suite_may_have_gets_a_name_inside(tmp_path: Path) -> None:
    written = write_suite(fill(tmp_path / "insects", COUNTS), Path("my suite!.yaml"))
    assert load(written.path)[0].suite.name == "my-suite"
    assert "bench run 'my suite!.yaml'" in comments(written.path)


def test_dataset_paths_are_relative_within_one_tree_and_survive_links(tmp_path: Path) -> None:
    data, real = tmp_path / "data", tmp_path / "deep" / "real"
    data.mkdir()
    real.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(real)
    assert dataset_path(data, tmp_path) == "data"
    assert dataset_path(data, Path()) == "../data"
    assert dataset_path(link, tmp_path) == "link"
    # From inside the link, .. is the folder that its target lies in.
    assert dataset_path(data, link) == "../../data"
    assert dataset_path(Path("/somewhere/data"), Path("/else/where")) == "/somewhere/data"


# Refusals -------------------------------------------------------------------------------------


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    folder = fill(tmp_path / "insects", COUNTS)
    Path("insects.yaml").write_text("mine")
    with pytest.raises(BenchError, match=r"insects\.yaml exists already.*--force"):
        write_suite(folder)
    assert Path("insects.yaml").read_text() == "mine"
    assert not (tmp_path / "cache").exists(), "refused before any work"
    write_suite(folder, force=True)
    assert load(Path("insects.yaml"))[1]
    assert [path.name for path in Path().iterdir()] == ["insects.yaml"]


def test_a_dangling_link_counts_as_existing(tmp_path: Path) -> None:
    Path("insects.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(BenchError, match="exists already"):
        write_suite(fill(tmp_path / "insects", COUNTS))


def test_bad_outputs_are_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path / "insects", COUNTS)
    with pytest.raises(BenchError, match="there is no folder missing to write"):
        write_suite(folder, Path("missing/x.yaml"))
    with pytest.raises(BenchError, match="must name a file"):
        write_suite(folder, tmp_path / "work")
    for inside in (folder / "x.yaml", folder / "ants" / "x.yaml"):
        with pytest.raises(BenchError, match="must lie outside the data"):
            write_suite(folder, inside)
    with pytest.raises(BenchError, match="cannot write"):
        write_suite(folder, Path(f"{'x' * 240}.yaml"))


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "insects", COUNTS)
    with pytest.raises(DataError, match="did you mean 'insects'"):
        write_suite(tmp_path / "insect")
    with pytest.raises(DataError, match="at least two classes"):
        write_suite(fill(tmp_path / "lonely", {"a": 5}))
    with pytest.raises(DataError, match="too few"):
        write_suite(fill(tmp_path / "few", {"a": 5, "b": 1}))
    assert list(Path().iterdir()) == []


def test_the_command_line(tmp_path: Path) -> None:
    folder = fill(tmp_path / "insects", COUNTS)
    result = CliRunner().invoke(app, ["init", str(folder), "-o", "my [red] suite.yaml"])
    assert result.exit_code == 0, result.output
    assert "found 2 classes in insects; images: 9 train, 2 val, 3 test" in result.output
    assert "next: bench run 'my [red] suite.yaml'" in result.output
    again = CliRunner().invoke(app, ["init", str(folder), "-o", "my [red] suite.yaml"])
    assert isinstance(again.exception, BenchError)


# ChosenGrid --------------------------------------------------------------------------------------


def test_more_images_mean_larger_batches_and_fewer_epochs() -> None:
    chosen = [richest(made_up(even(2, train=n))) for n in (20, 200, 2000, 20_000)]
    batches, epochs, rates = (
        [getattr(c, key) for c in chosen] for key in ("batch_size", "epochs", "lr")
    )
    assert batches == sorted(set(batches))
    assert epochs == sorted(set(epochs), reverse=True)
    assert rates == sorted(rates)
    with_lp_ft = ["lp_ft" in str(choice.strategies) for choice in chosen]
    assert with_lp_ft == [True, True, False, False]


def test_the_strategies_fit_the_labels_and_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(**changes: Any) -> list[str]:
        grid = richest(made_up(even(2, **{"train": 40, **changes})))
        entries = "".join(f"  - {entry}\n" for _, entry in grid.strategies)
        head = f"dataset: fractals\nbackbone: {grid.backbone}\nstrategy:\n"
        Path("s.yaml").write_text(head + entries)
        loaded, _ = load(Path("s.yaml"))
        return [each.entry.name for each in loaded.suite.axes["strategy"]]

    always = ["from_scratch", "linear_probe", "full_finetune"]
    assert names() == [*always, "norm_only", "lp_ft"]
    assert names(train=100) == [*always, "two_rates", "lp_ft"]
    assert names(train=2000) == [*always, "two_rates"]
    monkeypatch.setattr("bench.runs.init.choose.backbones_for", lambda _: ("vit_b_16",))
    assert names() == [*always, "lora", "lp_ft"]


def test_labels_are_counted_by_class() -> None:
    few_of_many = richest(made_up(even(60, train=20)))
    assert "norm_only" in str(few_of_many.strategies)
    assert "lp_ft" not in str(few_of_many.strategies)  # 1,200 images


def test_the_device_chooses_the_backbone() -> None:
    counts = even(2, train=400)
    on_cpu, on_gpu = (richest(made_up(counts, device=device)) for device in ("cpu", "cuda"))
    assert (on_cpu.backbone, on_gpu.backbone) == ("resnet18", "resnet50")
    assert "vit_b_16" in on_gpu.others


def passes(grid: ChosenGrid) -> float:
    """Images of 224 px that a grid of 400 images trains on, from_scratch and all others alike."""
    images = 400 if grid.shots is None else 2 * grid.shots
    pixels = ((grid.image_size or grid.weights_size) / 224) ** 2
    return grid.num_trials * grid.epochs * images * pixels


def test_each_choice_takes_less_than_the_one_before_but_for_seeds() -> None:
    grids = list(choices(made_up(even(2, train=200), sizes=np.array([[300, 260]]))))
    assert grids[0] == richest(made_up(even(2, train=200), sizes=np.array([[300, 260]])))
    assert [len(g.schedules) for g in grids] == [2, *[1] * (len(grids) - 1)]
    sizes = [grid.image_size or grid.weights_size for grid in grids]
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) == {224, 160, 128} - ({160} - set(sizes))
    for one, other in pairwise(grids):
        assert passes(other) < passes(one) or len(other.seeds) > len(one.seeds)
    assert all(len(grid.seeds) >= 3 for grid in grids), "fewer can claim nothing"
    assert grids[-1].shots == 5
    assert [entry for _, entry in grids[-1].strategies] == [
        "{name: linear_probe, lr: 0.01}", "full_finetune",
    ]  # fmt: skip
    assert min(map(passes, grids)) < passes(grids[0]) / 100


@pytest.mark.parametrize("own", [16, 32, 64, 96, 200, 1000])
def test_images_are_never_made_smaller_than_they_are_nor_than_a_network_takes(own: int) -> None:
    sizes = np.array([[own, own]])
    found = [grid.image_size or 224 for grid in choices(made_up(even(2, train=50), sizes=sizes))]
    assert min(found) >= max(64, min(own, 96))


@pytest.mark.parametrize(
    ("each", "minutes", "seeds", "fits"),
    [(0.001, 10, 8, True), (0.02, 10, 3, True), (1e6, 10, 3, False), (1.0, 1e9, 8, True)],
)
def test_the_first_grid_that_fits_is_proposed(
    each: float, minutes: float, seeds: int, fits: bool
) -> None:
    found = made_up(even(2, train=200))
    proposal = fitting(choices(found), lambda grid: each * passes(grid), minutes=minutes)
    assert (len(proposal.grid.seeds), proposal.fits) == (seeds, fits)
    assert proposal.seconds == each * passes(proposal.grid)
    richer = [grid for grid in choices(found) if passes(grid) > passes(proposal.grid)]
    assert all(each * passes(grid) > 60 * minutes for grid in richer if fits and grid.shots is None)
    text = suite_text(found, proposal, path=Path("s.yaml"), name="s", dataset="/data/x")
    said = re.sub(r"\n#  +", " ", text)
    assert f"seed: [{', '.join(map(str, range(seeds)))}]" in text
    strategies = len(proposal.grid.strategies)
    assert f"{strategies} strategies, {seeds} seeds, 100 test images: differences of about" in said
    assert ("longer than the" in said) == (not fits)
    assert "--minutes" in said


def test_the_time_is_what_the_plan_says_and_equal_work_is_timed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.training.precision.measured_precision", lambda *_: "fp32")
    measured = []

    def measure(_: Timings, resolved: ResolvedTrial) -> tuple[float, float]:
        measured.append((resolved.trial.strategy.name, resolved.plan.stages[0].rules))
        return 0.5, 0.1

    monkeypatch.setattr(Timings, "_measure", measure)
    folder = fill(tmp_path / "insects", COUNTS)
    found = examine(folder)
    grids = [
        replace(richest(found), seeds=(0, 1, 2)),
        replace(richest(found), seeds=tuple(range(6))),
    ]
    texts: list[str] = []

    def text_of(grid: ChosenGrid) -> str:
        texts.append(settings_text(found, grid, name="x", dataset=str(folder)))
        return texts[-1]

    seconds = list(map(timed(text_of, tmp_path / "none"), grids))
    assert len(measured) == len({repr(each) for each in measured})
    planned = [bench.plan(text, out=str(tmp_path / "out")).time.seconds for text in texts]
    assert seconds == pytest.approx(planned)
    assert seconds[1] > 1.5 * seconds[0]
    assert not (tmp_path / "none").exists()


def test_impossible_minutes_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "insects", COUNTS)
    for minutes in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(BenchError, match="--minutes must be above 0, got"):
            write_suite(tmp_path / "insects", minutes=minutes)


@pytest.mark.parametrize(
    ("short", "size"), [(8, 96), (32, 96), (50, 128), (96, 192), (97, None), (3000, None)]
)
def test_image_sizes(short: int, size: int | None) -> None:
    assert choose_image_size(np.array([[2 * short, short]]), 224) == size
    assert choose_image_size(np.empty((0, 2), np.int64), 224) is None


@pytest.mark.parametrize(("accuracy", "n"), [(0.9, 153), (0.5, 10), (1.0, 7), (0.0, 1)])
def test_wilson_interval_solves_its_defining_equation(accuracy: float, n: int) -> None:
    """Its ends are the p with |accuracy - p| = z sqrt(p (1 - p) / n): roots of a quadratic."""
    z = 1.959964
    ends = np.roots([1 + z**2 / n, -(2 * accuracy + z**2 / n), accuracy**2])
    assert wilson_half_width(accuracy, n) == pytest.approx(float(np.ptp(ends.real)) / 2, abs=1e-6)


def test_many_classes_are_shown_by_their_extremes(tmp_path: Path) -> None:
    counts = even(300, train=10)
    counts["train"] |= {"class-111": 99, "class-222": 2}
    found = made_up(counts, drawn=("test", "val"))
    text = suite_text(found, proposed(found), path=Path("s.yaml"), name="s", dataset=str(tmp_path))
    table = re.findall(r"^#   class-(\d+) +(\d+)", text, re.M)
    assert len(table) == 20
    assert (table[0], table[-1]) == (("111", "99"), ("222", "2"))
    assert re.search(r"^#   all 300 classes +3,081 ", text, re.M)


def test_a_gpu_and_many_notes_are_described() -> None:
    issues = tuple(DataIssue(kind="k", message=f"Note {n}.", count=1) for n in range(30))
    machine = {"cpu": "Chip", "cores": 4, "memory_gib": 8.0, "device_name": "GPU X"}
    found = made_up(
        even(2, train=9000), device="cuda", precision="bf16", issues=issues, machine=machine
    )
    chosen = proposed(found)
    text = suite_text(found, chosen, path=Path("s.yaml"), name="s", dataset="/data/x")
    assert "It trains on GPU X (cuda) in bf16" in re.sub(r"\n# +", " ", text)
    assert text.count("# - Note ") == 30
    said = summary(found, chosen, path=Path("s.yaml"))
    assert "note: 24 more in the suite file" in said
    assert len(said.splitlines()) < 25


def test_a_card_without_bf16_trains_in_fp16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runs.init.examine.half_precision", lambda device: "fp16")
    found = examine(fill(tmp_path / "insects", COUNTS))
    text = suite_text(found, proposed(found), path=Path("s.yaml"), name="s", dataset="/data/x")
    assert "in fp16, which it computes natively" in re.sub(r"\n# +", " ", text)


def test_sizes_are_read_from_a_sample_and_broken_files_left_out(tmp_path: Path) -> None:
    picture(1, (12, 34)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    names = ["a.png", "b.png", "missing.png"]

    def size_of(index: int) -> tuple[int, int] | None:
        return image_size(tmp_path / names[index])

    assert measure_sizes(size_of, 3).tolist() == [[12, 34]]
    assert len(measure_sizes(lambda _: size_of(0), 3000)) == 500


def test_progress_is_told(tmp_path: Path) -> None:
    told: dict[str, int] = {}
    examine(
        fill(tmp_path / "insects", COUNTS),
        progress=lambda what, done, total: told.update({what: done}),
    )
    assert told["decode insects"] == 14
    assert told["compare insects"] == 14


@pytest.mark.parametrize(("minutes", "sizes"), [(20, [224, 160]), (1, [224, 128])])
def test_sizes_that_cannot_fit_are_not_measured(minutes: float, sizes: list[int]) -> None:
    measured: list[int] = []

    def seconds_of(grid: ChosenGrid) -> float:
        measured.append(grid.size)
        return 0.025 * passes(grid)

    grids = list(choices(made_up(even(2, train=200), sizes=np.array([[500, 375]]))))
    proposal = fitting(grids, seconds_of, minutes=minutes)
    assert list(dict.fromkeys(measured)) == sizes
    assert proposal.grid == next(grid for grid in grids if 0.025 * passes(grid) <= 60 * minutes)


def test_several_test_folders_become_test_sets(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for folder in ("train", "test_a", "test_b"):
        fill(root / folder, {"ants": 8, "bees": 8})
    written = write_suite(root, tmp_path / "x.yaml")
    data = load_suite(tmp_path / "x.yaml", catalogue()).suite.dataset.options
    assert data["splits"] == {"train": "train", "test": {"test_a": "test_a", "test_b": "test_b"}}
    assert written.path == tmp_path / "x.yaml"
