"""What was counted, as lines of a terminal and rows of a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.validity.cells import Cell

KEYS = ("name", "strategies", "seeds", "samples", "lead")


class Table:
    """Prints each cell as it comes, and writes it to a file where one is given."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.rows: list[dict[str, str | int | float]] = []
        self.cells: list[Cell] = []

    def add(self, cell: Cell) -> None:
        """Show a cell and keep it."""
        self.cells.append(cell)
        print(line(cell), flush=True)
        self.rows.append(row(cell))
        if self.out is not None:
            self._write(self.out)

    def worst(self, share: float) -> list[Cell]:
        """The cells whose rate of false claims may lie above `share`, worst first."""
        judged = [cell for cell in self.cells if "false" in cell.counts]
        missed = [cell for cell in judged if cell.counts["false"].upper > share]
        return sorted(missed, key=lambda cell: -cell.counts["false"].rate)

    def _write(self, out: Path) -> None:
        names = list(dict.fromkeys(name for each in self.rows for name in each))
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)


def line(cell: Cell) -> str:
    """The cell in words; of false claims the upper end of the interval too."""
    lead = f" lead {100 * cell.lead:.0f}" if cell.lead else ""
    head = (
        f"{cell.name:24} {cell.strategies:2} strategies {cell.seeds:2} seeds "
        f"{cell.samples:4} images{lead}"
    )
    shown = []
    for name, count in cell.counts.items():
        upper = f" (≤ {100 * count.upper:.1f})" if name.startswith("false") else ""
        shown.append(f"{name.replace('_', ' ')} {100 * count.rate:.1f}{upper}")
    shown += [f"{name.replace('_', ' ')} {value:.2f}" for name, value in cell.figures.items()]
    runs = max((count.of for name, count in cell.counts.items() if name == "false"), default=0)
    return f"{head}: {', '.join(shown)}" + (f"; {runs} runs" if runs else "")


def row(cell: Cell) -> dict[str, str | int | float]:
    """The cell with the rate, the upper end and the number behind each figure."""
    found: dict[str, str | int | float] = {name: getattr(cell, name) for name in KEYS}
    for name, count in cell.counts.items():
        found[name] = round(count.rate, 5)
        found[f"{name}_upper"] = round(count.upper, 5)
        found[f"{name}_of"] = count.of
    return found | {name: round(value, 5) for name, value in cell.figures.items()}
