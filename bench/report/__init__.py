"""Reports of a run, made from its files alone."""

from bench.report.markdown import render_markdown, write_report

__all__ = ["render_markdown", "write_report"]
