"""The section `limits`: checked like the rest, in no id, kept in the resolved suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.runs.catalogue import catalogue
from bench.suite import Limits, dump_suite, expand, load_suite
from tests.tiny import SMOKE_SUITE


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def test_limits_are_read_and_written_and_are_in_no_id(tmp_path: Path) -> None:
    plain = load_suite(written(tmp_path, SMOKE_SUITE), catalogue())
    limited = load_suite(written(tmp_path, SMOKE_SUITE + "limits: {megapixels: 250.5}\n"),
                         catalogue())  # fmt: skip
    assert plain.suite.limits.pixels is None
    assert limited.suite.limits == Limits(megapixels=250.5)
    assert limited.suite.limits.pixels == 250_500_000
    ids = [[trial.id({}) for trial in expand(loaded, catalogue())] for loaded in (plain, limited)]
    assert ids[0] == ids[1]
    assert "limits" not in dump_suite(plain.suite)
    again = load_suite(written(tmp_path, dump_suite(limited.suite)), catalogue())
    assert again.suite.limits == limited.suite.limits


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{megapixel: 3}", "unknown key 'megapixel' for 'limits'; did you mean 'megapixels'?"),
        ("{megapixels: 0}", "limits: megapixels must be greater than 0, got 0"),
        ("300", "limits must be a mapping such as {megapixels: 400}, got 300"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load_suite(written(tmp_path, f"{SMOKE_SUITE}limits: {section}\n"), catalogue())
    assert message in str(caught.value)
