"""The rate limit: requests of one address to one endpoint within a minute."""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_mediquo.sandbox.settings import Settings


@dataclass(frozen=True, slots=True)
class Hit:
    """What the limit says about one request; `free_in` is seconds until the next one passes."""

    limit: int
    remaining: int
    free_in: float
    refused: bool


class RateLimits:
    """Counts every request but those it refuses: a 429 does not extend the minute."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._passed: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def hit(self, address: str, endpoint: str) -> Hit:
        """Count a request, or refuse it."""
        now, limit = self._clock(), self._settings.requests_per_minute
        passed = self._passed[address, endpoint]
        self._forget(passed, now - self._settings.minute)
        refused = len(passed) >= limit
        if not refused:
            passed.append(now)
        return Hit(limit, max(limit - len(passed), 0), self._free_in(passed, now), refused)

    def restart(self) -> None:
        self._passed.clear()

    reset = restart

    def _forget(self, passed: deque[float], since: float) -> None:
        if self._settings.window == "fixed":
            if passed and passed[0] <= since:
                passed.clear()
            return
        while passed and passed[0] <= since:
            passed.popleft()

    def _free_in(self, passed: deque[float], now: float) -> float:
        # More than the limit can have passed: it may have been lowered since.
        excess = max(len(passed) - self._settings.requests_per_minute, 0)
        first = passed[0 if self._settings.window == "fixed" else excess]
        return first + self._settings.minute - now
