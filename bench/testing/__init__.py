"""Contract tests for what others register: `check("strategy", "mine")`, in a test of one line.

Each raises `AssertionError` that says what an entry breaks. `vectors` is a plugin to try things
with: a generated data set of vectors and a small network, which train in milliseconds.
"""

from bench.testing.contracts import check, check_plugin

__all__ = ["check", "check_plugin"]
