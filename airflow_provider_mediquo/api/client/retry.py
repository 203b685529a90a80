"""How often a request is tried, and how long it waits in between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import tenacity

from airflow_provider_mediquo.api.errors import RateLimitedError

log = logging.getLogger(__name__)

Backoff = Callable[[tenacity.RetryCallState], float]


@dataclass(frozen=True)
class RetryPolicy:
    """When to send a request again, and when to give up.

    :param attempts: how often to send a request that gets no answer or a 5xx.
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


def log_retry(what: str, state: tenacity.RetryCallState) -> None:
    """Log that an attempt failed, by its status alone.

    :param what: method and endpoint.
    """
    error = state.outcome.exception() if state.outcome else None
    log.warning(
        "%s: attempt %d failed (%s), next in %.1f s.",
        what,
        state.attempt_number,
        getattr(error, "status", None) or "no answer",
        state.upcoming_sleep,
    )


def log_pause(what: str, seconds: float) -> None:
    """Log that mediQuo asked to pause."""
    log.warning("%s: mediQuo answered 429, pausing for %.0f s.", what, seconds)


def too_many_requests(
    what: str, seconds: float, without_success: float, max_seconds: float, window: float
) -> RateLimitedError:
    """Return the error for a 429.

    :param seconds: that mediQuo asks to wait.
    :param without_success: seconds since something succeeded.
    :param max_seconds: seconds without a success after which it is final.
    :param window: seconds over which mediQuo counts.
    """
    is_final = (
        seconds > max_seconds
        or without_success >= max_seconds
        or without_success + seconds > max_seconds + window
    )
    return RateLimitedError(
        f"mediQuo answered 429 to {what} and asks to wait {seconds:.0f} s; nothing has succeeded for "
        f"{without_success:.0f} s.\nOthers may be using the same limit: lower `requests_per_minute` here "
        "or there.",
        retry_after=seconds,
        is_final=is_final,
    )
