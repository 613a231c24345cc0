"""Dates and times as people and programs write them."""

from __future__ import annotations

import pytest

from bench.data.times import as_moment, as_text, time_of

DAY = 24 * 3600 * 10**6


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1970-01-02", DAY),
        (" 1970-01-02T00:00:00 ", DAY),
        ("1970-01-02 00:00:00.000001", DAY + 1),
        ("1970-01-02T02:00+02:00", DAY),
        ("1970-01-02T00:00:00Z", DAY),
        ("1970:01:02 00:00:00", DAY),
        ("1970", 0),
        ("1969-12-31", -DAY),
    ],
)
def test_one_moment_in_many_ways(text: str, time: int) -> None:
    assert time_of(text) == time


@pytest.mark.parametrize(
    "text",
    ["", "June", "06/01/2024", "1.6.2024", "2024-13-01", "99999", "nan", "0001-01-01T00:00+05:00"],
)
def test_what_is_no_moment(text: str) -> None:
    assert as_moment(text) is None
    with pytest.raises(ValueError, match="no date or time"):
        time_of(text)


def test_as_text() -> None:
    assert as_text(DAY) == "1970-01-02"
    assert as_text(DAY + 1_500_000) == "1970-01-02 00:00:01.500000"
