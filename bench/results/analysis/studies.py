"""The studies of a search for settings, as the run folder keeps them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from bench.results.folder.tuning import PARAM_PREFIX
from bench.results.grid import is_missing, value_text
from bench.results.metric import Metric

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Tuning


EDGE = 0.05
"""A value within this share of the range from one of its ends lies at the edge."""

Side = Literal["lower", "upper"]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure that the search made as large or as small as it could."""

    name: str
    maximize: bool

    def gain(self, value: float) -> float:
        """`value` so that more is better."""
        return value if self.maximize else -value


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What was searched of one setting: numbers from `low` to `high`, or `choices`.

    `limits` says of the lower and of the upper end whether the setting cannot be beyond it; None
    where that is not known, as in folders of earlier versions. `asked` is the range that the suite
    gave, in words, where the search has widened it.
    """

    name: str
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    choices: tuple[Any, ...] = ()
    limits: tuple[bool, bool] | None = None
    asked: str | None = None

    @property
    def numeric(self) -> bool:
        """Whether it is a range of numbers."""
        return not self.choices

    @property
    def ordered(self) -> bool:
        """Whether it is a list of numbers, of which it is known where they may end."""
        return self.limits is not None and bool(self.choices) and all(map(is_number, self.choices))

    def open_sides(self, value: float, tried: Collection[float]) -> list[tuple[Side, bool]]:
        """On which sides better values than `value` may lie beyond those that were `tried`.

        A side is open if the value lies within `EDGE` of that end of the range, or is that end of a
        list of numbers, unless the setting cannot go beyond; else if nothing farther out was tried.
        With each goes whether it is the end that is in the way.
        """
        position = self.position(value)
        if math.isnan(position):
            return []
        at_low, at_high = self.limits or (False, False)
        sides: list[tuple[Side, bool]] = []
        if position <= EDGE:
            sides += [] if at_low else [("lower", True)]
        elif not any(other < value for other in tried):
            sides.append(("lower", False))
        if position >= 1 - EDGE:
            sides += [] if at_high else [("upper", True)]
        elif not any(other > value for other in tried):
            sides.append(("upper", False))
        return sides

    def position(self, value: float) -> float:
        """Where `value` lies in the range: 0 at the lower end, 1 at the upper.

        On a log scale where the search was. Of a list of numbers only its ends are told, the rest
        lies halfway. NaN in what has no ends.
        """
        if not self.numeric:
            if not self.ordered:
                return math.nan
            low, high = min(self.choices), max(self.choices)
            return 0.0 if value <= low else 1.0 if value >= high else 0.5
        ends = (self.low, value, self.high)
        if self.log:
            if min(ends) <= 0:
                return math.nan
            ends = (math.log(self.low), math.log(value), math.log(self.high))
        low, at, high = ends
        return (at - low) / (high - low) if high > low else math.nan

    def text(self, value: Any) -> str | None:
        """A cell of the table in words; None where it is not known."""
        if self.numeric:
            return None if is_missing(value) else number_text(float(value))
        for choice in self.choices:
            if _is_choice(value, choice):
                return value_text(choice)
        return None if is_missing(value) else str(value)

    @property
    def range_text(self) -> str:
        """`0.0001 to 1 (log)`, `a, b`."""
        if not self.numeric:
            return ", ".join(value_text(choice) for choice in self.choices)
        scale = " (log)" if self.log else ""
        return f"{number_text(self.low)} to {number_text(self.high)}{scale}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """The search over the settings of one cell of the grid.

    `trials` are its rows of the tuning table in order of their numbers; `best` the number of the
    chosen one. The configs stand for the cell in the trials before and after tuning.
    """

    name: str
    space: tuple[Setting, ...]
    trials: pd.DataFrame
    best: int | None
    untuned_config: str | None
    tuned_config: str | None

    @property
    def complete(self) -> pd.DataFrame:
        return self.trials[self.trials["state"] == "complete"]

    @property
    def searched(self) -> tuple[str, ...]:
        """The names of the settings."""
        return tuple(setting.name for setting in self.space)

    @cached_property
    def chosen(self) -> Mapping[str, Any] | None:
        """The row of the chosen trial; None if there is none."""
        return None if self.best is None else self._row(self.trials["number"] == self.best)

    @cached_property
    def suite(self) -> Mapping[str, Any] | None:
        """The row of the suite's own values; None if they were not tried."""
        return self._row(self.trials["origin"] == "suite")

    @property
    def unchanged(self) -> bool:
        """Whether the search found nothing better than the suite's own values."""
        same = self.tuned_config is not None and self.tuned_config == self.untuned_config
        return same or (self.chosen is not None and self.chosen["origin"] == "suite")

    def values_of(self, row: Mapping[str, Any] | None) -> dict[str, str]:
        """The searched settings of a row in words, those that are known."""
        texts = {
            setting.name: None
            if row is None
            else setting.text(row.get(PARAM_PREFIX + setting.name))
            for setting in self.space
        }
        return {name: text for name, text in texts.items() if text is not None}

    def column(self, setting: Setting) -> pd.Series[Any]:
        """A setting's value in every trial: numbers of a range, choices in words."""
        import pandas as pd

        name = PARAM_PREFIX + setting.name
        cells = self.trials.get(name, pd.Series(None, index=self.trials.index, dtype=object))
        # Where another study has words for it, the column holds numbers as text.
        return pd.to_numeric(cells, errors="coerce") if setting.numeric else cells.map(setting.text)

    def _row(self, wanted: pd.Series[bool]) -> Mapping[str, Any] | None:
        rows = self.trials[wanted].to_dict("records")
        return {str(name): value for name, value in rows[0].items()} if rows else None


def read_studies(tuning: Tuning) -> list[Study]:
    """The studies of a search, in the order in which they are described."""
    rows = tuning.trials.sort_values("number", kind="stable")
    own = {str(name): group for name, group in rows.groupby("study", sort=False)}
    return [
        Study(
            name=name,
            space=tuple(_setting(each, about["space"][each]) for each in about["space"]),
            trials=own.get(name, rows.iloc[:0]).reset_index(drop=True),
            best=about.get("best"),
            untuned_config=about.get("untuned_config"),
            tuned_config=about.get("tuned_config"),
        )
        for name, about in tuning.description["studies"].items()
    ]


def read_goals(tuning: Tuning) -> list[Goal]:
    """What the search optimised, the most important first."""
    return [
        Goal(name=each["name"], maximize=each["direction"] == "maximize")
        for each in tuning.description["objectives"]
    ]


def goal_of(metric: Metric) -> Goal:
    """The validation figures of the metric that chose the epochs, as the search knows them."""
    name = "val_accuracy" if metric.is_accuracy else "val_metric"
    return Goal(name=name, maximize=metric.higher_is_better)


def number_text(value: float) -> str:
    """A setting's number to three digits; whole ones in full."""
    return f"{value:z.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.3g}"


def _setting(name: str, about: Mapping[str, Any]) -> Setting:
    limits, asked = about.get("limits"), about.get("asked")
    more: dict[str, Any] = {
        "limits": None if limits is None else tuple(limits),
        "asked": None if asked is None else _setting(name, asked).range_text,
    }
    if "choices" in about:
        return Setting(name=name, choices=tuple(about["choices"]), **more)
    return Setting(
        name=name,
        low=float(about["low"]),
        high=float(about["high"]),
        log=bool(about.get("log", False)),
        **more,
    )


def is_number(choice: Any) -> bool:
    """Whether a choice is a number; True is none."""
    return isinstance(choice, int | float) and not isinstance(choice, bool)


def _is_choice(cell: Any, choice: Any) -> bool:
    if is_missing(cell) or choice is None:
        return is_missing(cell) and choice is None
    if isinstance(choice, int | float) and isinstance(cell, int | float):
        return float(choice) == float(cell)
    return str(choice) == str(cell)
