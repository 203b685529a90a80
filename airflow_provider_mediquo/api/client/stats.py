"""What sending costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class RequestStats:
    """What sending has cost, counted from any number of threads."""

    requests: int = 0
    retries: int = 0
    last_bad_status: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _waiting: int = 0
    _since: float = 0.0
    _throttled: float = 0.0

    def add_request(self) -> None:
        """Count a request that leaves."""
        with self._lock:
            self.requests += 1

    def add_retry(self) -> None:
        """Count an attempt that repeats one without an answer; what waits out a 429 is none."""
        with self._lock:
            self.retries += 1

    def seconds_throttled(self) -> float:
        """Return the seconds in which somebody waited for the pace; a moment counts once."""
        with self._lock:
            return self._throttled + (time.monotonic() - self._since) * bool(self._waiting)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in here as throttled."""
        with self._lock:
            self._since = self._since if self._waiting else time.monotonic()
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self._throttled += time.monotonic() - self._since
