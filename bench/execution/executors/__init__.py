"""Executors: who runs the tasks, and where."""

from bench.execution.executors.base import Executor, OnEpoch
from bench.execution.executors.choose import Where
from bench.execution.executors.in_process import InProcessExecutor
from bench.execution.executors.process_pool import ProcessPoolExecutor

__all__ = ["Executor", "InProcessExecutor", "OnEpoch", "ProcessPoolExecutor", "Where"]
