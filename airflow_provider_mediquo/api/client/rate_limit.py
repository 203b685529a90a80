"""How fast requests may leave: never more than the limit in any 60 seconds.

A sliding log: a request takes a slot before it leaves and keeps it until 60 seconds after its
answer. mediQuo counted it somewhere in between, so however long an answer takes and wherever
mediQuo's own minute begins, its count never passes the limit; and a run shorter than the limit is
not slowed down. Libraries free a slot 60 seconds after the request *left*, which a slow request
followed by a fast one breaks.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW = 60.0
"""Seconds over which mediQuo counts, from https://sdk.mediquo.com/docs/overview#rate-limiting."""

_UNTIL_AN_ANSWER = 0.02  # seconds to wait while all slots are in flight


class RateLimiter:
    """The requests of one process to one endpoint.

    :param window: seconds over which mediQuo counts.
    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, window: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        self.window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._in_flight = 0
        self._answered: deque[float] = deque()
        self._reported_limit: int | None = None
        self._paused_until = 0.0
        self._throttled_since: float | None = None

    def try_acquire(self, limit: int) -> float:
        """Take a slot and return 0.0, or return the seconds to wait before asking again.

        :param limit: requests per window; a lower one that mediQuo reports wins.
        """
        with self._lock:
            now = self._clock()
            if now < self._paused_until:
                return self._paused_until - now
            while self._answered and self._answered[0] + self.window <= now:
                self._answered.popleft()
            if self._in_flight + len(self._answered) < min(limit, self._reported_limit or limit):
                self._in_flight += 1
                return 0.0
            return self._answered[0] + self.window - now if self._answered else _UNTIL_AN_ANSWER

    def release(self, reported_limit: int | None = None) -> None:
        """Start the window of a slot: its request was answered, or never will be.

        :param reported_limit: the `x-ratelimit-limit` of the answer.
        """
        with self._lock:
            self._in_flight -= 1
            self._answered.append(self._clock())
            self._reported_limit = reported_limit or self._reported_limit

    def on_success(self) -> None:
        """Note that mediQuo accepts requests."""
        with self._lock:
            self._throttled_since = None

    def on_throttled(self, seconds: float) -> tuple[float, bool]:
        """Start no request for so many seconds.

        Return for how many seconds no request has succeeded, and whether this starts a pause.
        """
        with self._lock:
            now = self._clock()
            if self._throttled_since is None or now > self._paused_until + self.window:
                self._throttled_since = now  # the first, or the first of a later run
            is_new = now >= self._paused_until
            self._paused_until = max(self._paused_until, now + seconds)
            return now - self._throttled_since, is_new


class RateLimiters:
    """The rate limiters of one process: all its clients share one for each endpoint.

    :param new: makes a limiter.
    """

    def __init__(self, new: Callable[[], RateLimiter] = RateLimiter) -> None:
        self._new = new
        self._limiters: dict[tuple[str, str], RateLimiter] = {}

    def get(self, base_url: str, endpoint: str) -> RateLimiter:
        """Return the limiter of an endpoint."""
        return self._limiters.setdefault((base_url, endpoint), self._new())

    def clear(self) -> None:
        """Forget what was sent."""
        self._limiters.clear()


SHARED_LIMITERS = RateLimiters()

if hasattr(os, "register_at_fork"):  # the child never sees the answers to its parent's requests
    os.register_at_fork(after_in_child=SHARED_LIMITERS.clear)
