"""What a value that is refused was meant to be, and which key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import SuiteError, nearest
from bench.runs.catalogue import catalogue
from bench.suite import Settings, load_suite
from bench.suite.load import KEYS
from bench.suite.synonyms import _KEY_OF, meant, nearest_key

SUITE = "name: mine\ndataset: {name: fractals}\nbackbone: resnet18\nstrategy: linear_probe\n"


def messages(text: str) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        load_suite(text, catalogue())
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("early_stopping: None", "write null"),
        ("early_stopping: off", "write null"),
        ("early_stopping: no", "write null"),
        ("early_stopping: false", "write null"),
        ("early_stopping: 0", "write null"),
        ("grad_clip_norm: none", "write null"),
        ("grad_clip_norm: {max: 2.0}", "write 2.0"),
        ("shots: many", None),
        ("nesterov: yes", "write true"),
        ("nesterov: On", "write true"),
        ("nesterov: 'true'", "write true"),
        ("nesterov: off", "write false"),
        ("nesterov: null", "write false"),
        ("nesterov: 1", "write true"),
        ("class_weights: null", "write none"),
        ("class_weights: None", "write none"),
        ("class_weights: false", "write none"),
        ("augmentation: null", "write none"),
        ("augmentation: off", "write none"),
        ("weights: None", "write none"),
        ("weights: null", "write none"),
        ("optimizer: AdamW", "write adamw"),
        ("lr: '0.1'", "write 0.1"),
        ("lr: 1/8", "write 0.125"),
        ("lr: 1/0", None),
        ("label_smoothing: 10 %", "write 0.1"),
        ("batch_size: 1_000", "write 1000"),
        ("batch_size: 1,000", "write 1000"),
        ("epochs: 10.0", "write 10"),
        ("epochs: many", None),
        ("epochs: -3", None),
        ("folds: none", "write null"),
        ("claims: {margin: 2 %}", "write 0.02"),
        ("resources: {minutes: '30'}", "write 30"),
        ("tune: {space: {lr: [1, 2]}, trials: '20'}", "write 20"),
        ("strategy: {name: lp_ft, probe_epochs: '2'}", "write 2"),
    ],
)
def test_what_is_written_instead(line: str, hint: str | None) -> None:
    suite = "".join(x for x in SUITE.splitlines(True) if not line.startswith(x.partition(":")[0]))
    (message,) = messages(f"{suite}{line}\n")
    told = message.rpartition(" (line")[0].partition("; write ")[2]
    assert (f"write {told}" if told else None) == hint
    if hint is not None:
        key, value = line.partition(":")[0], hint.removeprefix("write ")
        if key in Settings.model_fields:
            load_suite(f"{suite}{key}: {value}\n", catalogue())


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("learning_rate: 0.1", "lr"),
        ("Num-Epochs: 3", "epochs"),
        ("wd: 0.1", "weight_decay"),
        ("img_size: 64", "image_size"),
        ("lr_scheduler: cosine", "schedule"),
        ("patience: 3", "early_stopping"),
        ("seeds: [0, 1]", "seed"),
        ("batchsize: 8", "batch_size"),
        ("optimiser: sgd", "optimizer"),
        ("augmentatoin: none", "augmentation"),
    ],
)
def test_the_key_that_is_meant_is_named(line: str, key: str) -> None:
    (message,) = messages(f"{SUITE}{line}\n")
    assert f"did you mean {key!r}?" in message


def test_a_number_of_seeds_is_told_as_seeds() -> None:
    (message,) = messages(f"{SUITE}seeds: 3\n")
    assert message == "unknown key 'seeds'; did you mean 'seed'? write seed: [0, 1, 2] (line 5)"


def test_a_required_key_under_another_name_is_told_once() -> None:
    found = messages("name: mine\ndata: ./a\nmodel: resnet18\nmethod: lp_ft\n")
    assert [message.partition(";")[0] for message in found] == [
        "unknown key 'data'", "unknown key 'model'", "unknown key 'method'",
    ]  # fmt: skip


def test_other_words_mean_keys_that_there_are() -> None:
    assert set(_KEY_OF.values()) <= set(KEYS)
    assert not _KEY_OF.keys() & set(KEYS)
    assert meant("learning_rate", ("epochs",)) is None
    assert nearest_key("learning_rate", ("epochs", "lr_decay")) != "; did you mean 'lr'?"


def test_all_keys_are_listed_once() -> None:
    first, second, *_ = messages(f"{SUITE}qqq: 1\nzzz: 2\n")
    assert all(f" {key}" in first for key in KEYS)
    assert second == "unknown key 'zzz' (line 6)"


def test_of_many_names_the_closest_are_listed() -> None:
    names = [f"name_{index:04}" for index in range(500)]
    found = nearest("qq0499", names)
    assert found.startswith("; valid: name_0499, ")
    assert found.endswith(", … (the closest 20 of 500)")
    assert nearest("NAME_0007", names) == "; did you mean 'name_0007'?"
    assert nearest("q", names[:60]).count("name_") == 60


def test_an_unknown_option_that_is_a_key_of_the_suite_has_its_place() -> None:
    text = "name: mine\ndataset: {path: ., image_size: 8}\nbackbone: resnet18\nstrategy: lp_ft\n"
    (message,) = messages(text)
    assert message == (
        "unknown key 'image_size' for 'folder'; it stands at the top level of the suite (line 2)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the suite is empty: a suite must be a mapping of keys to values; the least "),
        ("# nothing\n", "the suite is empty: "),
        ("- a\n", "a suite must be a mapping of keys to values, got a list; "),
        ("photos\n", "a suite must be a mapping of keys to values, got 'photos'; "),
    ],
)
def test_what_is_no_mapping_has_a_line_and_an_example(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError) as caught:
        load_suite(path, catalogue())
    (problem,) = caught.value.problems
    assert problem.message.startswith(message)
    assert problem.line == 1
    example = problem.message.partition("needs: ")[2]
    load_suite(example, catalogue(), ["name=mine"])


def test_the_name_of_the_file_is_that_of_the_suite(tmp_path: Path) -> None:
    path = tmp_path / "My Suite.yaml"
    path.write_text(SUITE.partition("\n")[2])
    with pytest.raises(SuiteError) as caught:
        load_suite(path, catalogue())
    (problem,) = caught.value.problems
    assert problem.message.endswith(
        "got 'My Suite', the name of the file, which is that of the suite and its run folder; "
        "rename the file or add: name: My-Suite"
    )
    assert load_suite(path, catalogue(), ["name=My-Suite"]).suite.name == "My-Suite"


def test_a_home_folder_is_meant_by_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    text = "dataset: ~/photos\nbackbone: resnet18\nstrategy: lp_ft\nweights: {file: ~/own.pth}\n"
    (tmp_path / "mine.yaml").write_text(text)
    (tmp_path / "photos").mkdir()
    (tmp_path / "own.pth").write_bytes(b"")
    suite = load_suite("~/mine.yaml", catalogue()).suite
    assert suite.dataset.options["path"] == str(tmp_path / "photos")
    (weights,) = suite.settings["weights"]
    found: dict[str, Any] = dict(weights.options)
    assert found["path"] == str(tmp_path / "own.pth")
