"""Executors: who runs the tasks, and where."""

from bench.executors.base import Executor, OnEpoch
from bench.executors.choose import Where
from bench.executors.in_process import InProcessExecutor
from bench.executors.process_pool import ProcessPoolExecutor

__all__ = ["Executor", "InProcessExecutor", "OnEpoch", "ProcessPoolExecutor", "Where"]
