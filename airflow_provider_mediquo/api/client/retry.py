"""How often a request is tried, and how long it waits in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tenacity

Backoff = Callable[[tenacity.RetryCallState], float]


@dataclass(frozen=True)
class RetryPolicy:
    """When to send a request again, and when to give up.

    :param attempts: how often a request is sent that gets no answer or a 5xx.
    :param backoff: seconds between two attempts; by default about 1, 1.5, 2.5 and 4.5.
    :param max_throttled_seconds: seconds of nothing but 429 after which sending stops.
    :param connect_timeout: seconds to connect, for each address of the host. Airflow kills a task
        5 seconds after SIGTERM.
    """

    attempts: int = 5
    backoff: Backoff = tenacity.wait_exponential(multiplier=0.5, max=30) + tenacity.wait_random(
        0, 1
    )
    max_throttled_seconds: float = 600.0
    connect_timeout: float = 4.0


DEFAULT_RETRY = RetryPolicy()
