"""Statistics of the requests that were sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class RequestStats:
    """Requests, retries and pauses, counted from any number of threads."""

    requests: int = 0
    retries: int = 0
    last_bad_status: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _waiting: int = 0
    _since: float = 0.0
    _throttled_seconds: float = 0.0

    def add_request(self) -> None:
        """Count a request that leaves."""
        with self._lock:
            self.requests += 1

    def add_retry(self) -> None:
        """Count an attempt that repeats one without an answer; waiting for a 429 does not count."""
        with self._lock:
            self.retries += 1

    def throttled_seconds(self) -> float:
        """Return the seconds in which any thread waited for the rate limit, each counted once."""
        with self._lock:
            return self._throttled_seconds + self._current_wait()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as throttled."""
        with self._lock:
            self._since = self._since if self._waiting else time.monotonic()
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._throttled_seconds += self._current_wait() if self._waiting == 1 else 0.0
                self._waiting -= 1

    def _current_wait(self) -> float:
        return time.monotonic() - self._since if self._waiting else 0.0
