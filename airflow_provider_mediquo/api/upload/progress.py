"""What a run says while it goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.report import UploadReport

log = logging.getLogger(__name__)

BEAT = 30.0
"""Seconds between two reports."""


@contextmanager
def every(seconds: float, *acts: Callable[[], None]) -> Iterator[None]:
    """Do something again and again in a thread of its own, for as long as this is entered."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(seconds):
            for act in acts:
                act()

    thread = threading.Thread(target=beat, name="mediquo-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class Progress:
    """Counts as a line of the log.

    :param total: records that there will be; 0 if nobody knows.
    """

    def __init__(self, report: UploadReport, tally: RequestStats, total: int) -> None:
        self._report = report
        self._tally = tally
        self._total = total
        self._started = time.monotonic()

    def log(self) -> None:
        """Write it."""
        log.info("%s", str(self))  # as it is now

    def __str__(self) -> str:
        report, tally = self._report, self._tally
        rate = report.read / max(time.monotonic() - self._started, 0.001)
        return (
            f"{report.read:,} read ({rate:,.0f} a second), {report.upserted:,} upserted, "
            f"{report.rejected:,} rejected, {tally.requests:,} requests, "
            f"{tally.seconds_throttled():,.0f} s paused{self._left(rate)}"
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
