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
from functools import cache

WINDOW = 60.0
"""Seconds over which mediQuo counts, from https://sdk.mediquo.com/docs/overview#rate-limiting."""

_UNTIL_AN_ANSWER = 0.02  # seconds: all slots are in flight, one comes free with the next answer


class RateLimiter:
    """The requests of one process to one endpoint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self._answered: deque[float] = deque()
        self._told_limit: int | None = None
        self._paused_until = 0.0
        self._refused_since: float | None = None

    def take(self, limit: int) -> float:
        """Take a slot and return 0.0, or return the seconds to wait before asking again.

        :param limit: requests per 60 seconds; a lower one told by mediQuo goes first.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._paused_until:
                return self._paused_until - now
            while self._answered and self._answered[0] + WINDOW <= now:
                self._answered.popleft()
            if self._in_flight + len(self._answered) < min(limit, self._told_limit or limit):
                self._in_flight += 1
                return 0.0
            return self._answered[0] + WINDOW - now if self._answered else _UNTIL_AN_ANSWER

    def answered(self, told_limit: int | None = None) -> None:
        """Note that a request has its answer, or never will: its slot is free in 60 seconds.

        :param told_limit: the answer's `x-ratelimit-limit`.
        """
        with self._lock:
            self._in_flight -= 1
            self._answered.append(time.monotonic())
            self._told_limit = told_limit or self._told_limit

    def served(self) -> None:
        """Note that mediQuo takes requests in."""
        with self._lock:
            self._refused_since = None

    def refused(self, seconds: float) -> float:
        """Start no request for so many seconds; return for how long none has succeeded."""
        with self._lock:
            now = time.monotonic()
            if self._refused_since is None or now > self._paused_until + WINDOW:
                self._refused_since = now  # the first, or the first of a later run
            self._paused_until = max(self._paused_until, now + seconds)
            return now - self._refused_since


@cache
def rate_limiter_for(base_url: str, endpoint: str) -> RateLimiter:
    """Return the one pace that all clients of this process share for an endpoint."""
    return RateLimiter()


if hasattr(os, "register_at_fork"):  # what was in flight there has no answer here
    os.register_at_fork(after_in_child=rate_limiter_for.cache_clear)
