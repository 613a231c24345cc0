"""The section `resources`: checked like the rest, in no id, kept in the resolved suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.runs.catalogue import catalogue
from bench.suite import Resources, dump_suite, expand, load_suite
from tests.tiny import SMOKE_SUITE

SECTION = "resources: {minutes: 30, memory_gib: 1.5}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def test_limits_are_read_and_written_and_change_no_id(tmp_path: Path) -> None:
    plain = load_suite(written(tmp_path, SMOKE_SUITE), catalogue())
    limited = load_suite(written(tmp_path, SMOKE_SUITE + SECTION), catalogue())
    assert not plain.suite.resources.limited
    assert limited.suite.resources == Resources(minutes=30, memory_gib=1.5)
    assert limited.suite.resources.seconds == 1800
    ids = [[trial.id({}) for trial in expand(loaded, catalogue())] for loaded in (plain, limited)]
    assert ids[0] == ids[1]
    assert "resources" not in dump_suite(plain.suite)
    again = load_suite(written(tmp_path, dump_suite(limited.suite)), catalogue())
    assert again.suite.resources == limited.suite.resources


def test_a_limit_on_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, SMOKE_SUITE)
    loaded = load_suite(path, catalogue(), ["resources.minutes=0.5"])
    assert loaded.suite.resources == Resources(minutes=0.5)


@pytest.mark.parametrize(
    ("section", "messages"),
    [
        ("{minuts: 3}", ["unknown key 'minuts' for 'resources'; did you mean 'minutes'?"]),
        ("{minutes: 0, memory_gib: x}", ["minutes must be greater than 0, got 0", "memory_gib"]),
        ("[30]", ["resources must be a mapping such as {minutes: 30, memory_gib: 4}, got [30]"]),
    ],
)
def test_mistakes_have_file_and_line(tmp_path: Path, section: str, messages: list[str]) -> None:
    path = written(tmp_path, f"{SMOKE_SUITE}resources: {section}\n")
    line = SMOKE_SUITE.count("\n") + 1
    with pytest.raises(SuiteError) as caught:
        load_suite(path, catalogue())
    assert len(caught.value.problems) == len(messages)
    for message in messages:
        assert message in str(caught.value)
    assert f"({path}:{line})" in str(caught.value)
