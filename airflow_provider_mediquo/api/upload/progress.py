"""Logs the progress of a run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import length_hint
from typing import Any

from airflow_provider_mediquo.api import bounded
from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.report import UploadReport

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 30.0
"""Between two lines."""


@contextmanager
def run_periodically(seconds: float, *acts: Callable[[], None]) -> Iterator[None]:
    """Call functions every so many seconds, in a thread, while the context is open."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(seconds):
            for act in acts:
                act()

    thread = threading.Thread(target=repeat, name="mediquo-progress", daemon=True)
    try:
        bounded.start(thread)  # in here, because a time limit may strike before it returns
        yield
    finally:
        with bounded.deferring_time_limit():
            is_over.set()
        if thread.is_alive():
            thread.join()


def length_if_known(patients: Any) -> int:
    """Return the number of patients; 0 if it is not known before they are read."""
    is_known = isinstance(patients, list | tuple) or hasattr(patients, "__length_hint__")
    return length_hint(patients) if is_known else 0


class Progress:
    """Counts as a line of the log.

    :param total: records that are expected; 0 if unknown.
    """

    def __init__(self, report: UploadReport, stats: RequestStats, total: int) -> None:
        self._report = report
        self._stats = stats
        self._total = total
        self._started = time.monotonic()

    def log(self) -> None:
        """Log the counts."""
        log.info("%s", str(self))  # formatted now, with the counts of this moment

    def __str__(self) -> str:
        report, stats = self._report, self._stats
        rate = report.read / max(time.monotonic() - self._started, 0.001)
        return (
            f"{report.read:,} read ({rate:,.0f} a second), {report.upserted:,} upserted, "
            f"{report.rejected:,} rejected, {stats.requests:,} requests, "
            f"{stats.throttled_seconds():,.0f} s paused{self._left(rate)}"
        )

    def _left(self, rate: float) -> str:
        if not self._total or not rate:
            return ""
        seconds = max(0, self._total - self._report.read) / rate
        return (
            f", about {seconds / 60:,.0f} min left"
            if seconds > 90
            else f", about {seconds:.0f} s left"
        )
