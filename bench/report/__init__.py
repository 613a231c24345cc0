"""Reports of a run, made from its files alone."""

from bench.plots import mistaken_samples
from bench.report.document import document
from bench.report.evidence import Findings
from bench.report.html import render_html
from bench.report.markdown import render_markdown
from bench.report.write import FORMATS, write_report

__all__ = [
    "FORMATS",
    "Findings",
    "document",
    "mistaken_samples",
    "render_html",
    "render_markdown",
    "write_report",
]
