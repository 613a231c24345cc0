"""Writes `docs/settings.md` from the rules that suites are checked by."""

from pathlib import Path

from bench.runs.catalogue import catalogue
from bench.suite.reference import reference_page

if __name__ == "__main__":
    page = reference_page(catalogue())
    Path(__file__).with_name("settings.md").write_text(page, encoding="utf-8", newline="\n")
