"""The rate limit: requests from one IP address to one endpoint per minute."""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_mediquo.sandbox.settings import Settings


@dataclass(frozen=True, slots=True)
class Hit:
    """The effect of the limit on one request; `free_in`: seconds until the next one is accepted."""

    limit: int
    remaining: int
    free_in: float
    refused: bool


class RateLimits:
    """Counts the accepted requests only: a 429 does not extend the minute."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._accepted: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def hit(self, address: str, endpoint: str) -> Hit:
        """Count a request, or refuse it."""
        now, limit = self._clock(), self._settings.requests_per_minute
        accepted = self._accepted[address, endpoint]
        self._expire(accepted, now - self._settings.minute)
        refused = len(accepted) >= limit
        if not refused:
            accepted.append(now)
        return Hit(limit, max(limit - len(accepted), 0), self._free_in(accepted, now), refused)

    def restart(self) -> None:
        self._accepted.clear()

    reset = restart

    def _expire(self, accepted: deque[float], since: float) -> None:
        if self._settings.window == "fixed":
            if accepted and accepted[0] <= since:
                accepted.clear()
            return
        while accepted and accepted[0] <= since:
            accepted.popleft()

    def _free_in(self, accepted: deque[float], now: float) -> float:
        # The limit may have been lowered below the number of accepted requests.
        excess = max(len(accepted) - self._settings.requests_per_minute, 0)
        first = accepted[0 if self._settings.window == "fixed" else excess]
        return first + self._settings.minute - now
