"""How a measured process reports the cost of its own code."""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path


def report(call: Callable[[], object]) -> None:
    """Make the call, and print its cost, and its error if it failed.

    What the process has spent before is its start: Python's own and, where the code needs it to be
    there, Airflow's, which every task has behind it when its code begins.
    """
    before, wall, cpu, error = peak(), time.monotonic(), time.process_time(), None
    try:
        call()
    except Exception as problem:  # noqa: BLE001  # any error is part of the result
        error = described(problem)
    said = {
        "wall": time.monotonic() - wall,
        "cpu": time.process_time() - cpu,
        "peak": peak(),
        "before": before,
        "error": error,
    }
    print(json.dumps(said))


def described(error: BaseException) -> str:
    """Return the first line of an error, or of its root cause."""
    while error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def held() -> tuple[float, int, int]:
    """Return the memory in MB, the open files and the threads of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    memory = int(status["VmRSS"].split()[0]) / 1024
    return memory, len(os.listdir("/proc/self/fd")) - 1, threading.active_count()


def peak() -> float:
    """Return the peak memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Here, getrusage may report the process that started this one.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)
