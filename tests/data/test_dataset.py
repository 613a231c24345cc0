"""What every data set takes: how its splits are drawn, and where its groups stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.data import DATASETS, Dataset, open_dataset
from bench.errors import DataError
from tests.data.pictures import write_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    return write_folder(root / "f", {f"{c}/p{n}": 1 for c in ("ants", "bees") for n in range(3)})


def opened(photos: Path, **options: Any) -> Dataset:
    checked = DATASETS.get("folder").options(path=str(photos), splits={}, **options)
    return open_dataset("folder", checked.model_dump())


def test_a_folder_has_groups_by_an_expression(photos: Path) -> None:
    dataset = opened(photos, group=r"/(p\d)/", split={"by": "group"})
    assert dataset.groups == ("p0", "p1", "p2") * 2
    plain = opened(photos)
    assert plain.groups is None
    assert dataset.fingerprint != plain.fingerprint
    assert dataset.current() == dataset.fingerprint  # type: ignore[attr-defined]
    assert opened(photos, group=r"(p\d)").fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "(p[01])"}, "finds none in ants/p2/000.png, bees/p2/000.png"),
        ({"group": "(p?)"}, "finds none in"),
        ({"split": {"by": "group"}}, "needs the group of every sample, which f does not have"),
        ({"split": {"by": "time", "at": "2024"}}, "needs the time of every sample"),
    ],
)
def test_what_a_data_set_lacks_is_told(photos: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(photos, **options)
    assert message in str(caught.value)


def test_why_a_table_has_no_groups_is_told(photos: Path) -> None:
    table = photos.parent / "labels.csv"
    rows = [f"f/{c}/p{n}/000.png,{c},1,2\n" for c in ("ants", "bees") for n in range(3)]
    table.write_text("path,label,site,camera\n" + "".join(rows))
    options: dict[str, Any] = {"path": str(table), "split": {"by": "group"}}
    with pytest.raises(DataError, match=r"The group may be in site, camera of labels\.csv"):
        open_dataset("table", options)
    options["columns"] = {"group": "site"}
    assert open_dataset("table", options).groups == ("1",) * 6


@pytest.mark.parametrize(
    "options",
    [
        {"split": {"by": "time"}},
        {"split": {"by": "time", "at": "06/01/2024"}},
        {"split": {"by": "group", "at": "2024-06-01"}},
        {"split": {"by": "patient"}},
        {"split": "group"},
        {"group": "patient"},
        {"group": "(a)(b)"},
        {"group": "(a"},
    ],
)
def test_rules_of_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        DATASETS.get("folder").options(path="photos", **options)
