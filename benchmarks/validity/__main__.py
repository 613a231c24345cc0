"""The command line: which cells, how many runs, and where the table goes."""

from __future__ import annotations

import argparse
from pathlib import Path

import benchmarks.validity
from benchmarks.validity.calibration import calibrate
from benchmarks.validity.campaign import RUNS, kinds, simulated
from benchmarks.validity.table import Table, line

MOST_FALSE = 0.07
QUICK_RUNS = 400


def main() -> None:
    """Simulate, print every cell, and name those that claim too much."""
    given = _parser().parse_args()
    if given.calibrate:
        print(calibrate(given.calibrate))
        return
    if given.cell and not any(name.startswith(given.cell) for name in kinds(given.quick)):
        raise SystemExit(f"no cell begins with {given.cell!r}; there are {', '.join(kinds(False))}")
    table = Table(given.out)
    runs = given.runs or (QUICK_RUNS if given.quick else RUNS)
    for cell in simulated(given.cell, runs, given.quick):
        table.add(cell)
    worst = table.worst(MOST_FALSE)
    print(f"\n{len(worst)} of {len(table.cells)} cells may claim falsely in more than 7 %:")
    for cell in worst:
        print(line(cell))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.validity",
        description=benchmarks.validity.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few sizes and runs: some minutes")
    parser.add_argument("--cell", metavar="NAME", help="only cells whose name begins so")
    parser.add_argument("--runs", type=int, help=f"runs of equal strategies (default {RUNS})")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a CSV table too")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="RUN",
        help="print where the luck lies in a run folder's predictions, and simulate nothing",
    )
    return parser


if __name__ == "__main__":
    main()
