"""Reports of a run, made from its files alone."""

from bench.results.plots import pictured_samples
from bench.results.report.document import document
from bench.results.report.evidence import Findings
from bench.results.report.html import render_html
from bench.results.report.markdown import render_markdown
from bench.results.report.write import FORMATS, write_report

__all__ = [
    "FORMATS",
    "Findings",
    "document",
    "pictured_samples",
    "render_html",
    "render_markdown",
    "write_report",
]
