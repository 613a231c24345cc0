"""Executors: who runs the jobs, and where."""

from bench.executors.base import Executor
from bench.executors.in_process import InProcessExecutor
from bench.executors.process_pool import ProcessPoolExecutor

__all__ = ["Executor", "InProcessExecutor", "ProcessPoolExecutor"]
