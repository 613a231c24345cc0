"""When samples were taken: moments as tables and suites write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EXIF = re.compile(r"(\d{4}):(\d\d):(\d\d)(?=$|[ T])")
_YEAR = re.compile(r"\d{4}")


def as_moment(text: str) -> datetime | None:
    """A date, or date and time, in ISO 8601 or as cameras write it; None for anything else.

    Without a time zone it counts as UTC; a date is its first moment, and so is a year. Dates such
    as 06/01/2024 are none: nobody can know which number is the month.
    """
    text = _EXIF.sub(r"\1-\2-\3", text.strip())
    if _YEAR.fullmatch(text):
        text += "-01-01"
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # in another time zone, the first day may be none
        return None


def microseconds(moment: datetime) -> int:
    """How many have passed since 1970 began in UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def time_of(text: str) -> int:
    """The microseconds of what `as_moment` knows; raises `ValueError` for anything else."""
    moment = as_moment(text)
    if moment is None:
        raise ValueError(f"no date or time: {text!r}")
    return microseconds(moment)


def as_text(time: int) -> str:
    """Such a number as date and time, or as a date where it is the first moment of one."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)
    text = moment.replace(tzinfo=None).isoformat(" ")
    return text.removesuffix(" 00:00:00")
