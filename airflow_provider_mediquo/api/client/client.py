"""How operations are sent: headers, timeouts, retries, pauses.

What is sent over the wire is in `http.py`.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import tenacity

from airflow_provider_mediquo.api.client.http import Http
from airflow_provider_mediquo.api.client.rate_limit import (
    SHARED_LIMITERS,
    RateLimiter,
    RateLimiters,
)
from airflow_provider_mediquo.api.client.request import (
    Operation,
    RawResponse,
    Result,
    Sending,
    read_result,
    retry_after,
    sent_at,
    whole_number,
)
from airflow_provider_mediquo.api.client.retry import (
    DEFAULT_RETRY,
    RetryPolicy,
    log_pause,
    log_retry,
)
from airflow_provider_mediquo.api.client.session import clear_frames, problem_of_certificate
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.api.errors import (
    ConnectionSettingsError,
    MediquoError,
    RateLimitedError,
    ServerError,
    StoppedError,
    UnreachableError,
)

T = TypeVar("T")


class MediquoClient:
    """Sends operations, from any number of threads, within the rate limit.

    :param retry: how often a request is tried; default: `retry.DEFAULT_RETRY`.
    :param limiters: the rate limiters that it shares with others.
    :param killed: once set, ends every request and every wait.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        retry: RetryPolicy | None = None,
        limiters: RateLimiters = SHARED_LIMITERS,
        killed: StopFlag | None = None,
    ) -> None:
        self.settings, self._limiters = settings, limiters
        self._retry = retry or DEFAULT_RETRY
        self._aborted = StopFlag(killed)
        self._stopping = StopFlag(self._aborted)
        self._http = Http(settings, self._retry.connect_timeout, self._aborted)
        self._base_url_verified = False  # mediQuo has answered there

    def __repr__(self) -> str:
        return f"<MediquoClient of {self.settings.base_url}>"

    def send(
        self,
        operation: Operation[T],
        stats: RequestStats | None = None,
        *,
        attempts: int | None = None,
    ) -> Result[T]:
        """Return the answer, after as many attempts and pauses as it takes.

        Connection failures, timeouts and 5xx are retried. A 429 does not count as an attempt: it
        pauses the endpoint for this process. Raises the MediquoError of the last attempt.

        :param attempts: default: those of the retry policy.
        """
        what = f"{operation.method} {operation.endpoint}"
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts or self._retry.attempts),
            wait=self._seconds_between,
            retry=tenacity.retry_if_exception_type((ServerError, UnreachableError)),
            before_sleep=lambda state: log_retry(what, state),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._attempt, Sending(operation, stats or RequestStats()))

    def try_send(self, operation: Operation[T]) -> Result[T]:
        """Send it once, now.

        If the rate limit allows no request yet, sends nothing and raises RateLimitedError without a
        status; `retry_after` says how long to wait.
        """
        self._check_stopping()
        limiter = self.limiter(operation)
        if seconds := limiter.try_acquire(self.settings.requests_per_minute):
            raise RateLimitedError(
                f"The limit of requests per minute is used up for another {seconds:.0f} s.",
                status=None,
                retry_after=seconds,
                is_final=False,
            )
        return self._send_once(Sending(operation, RequestStats()))

    def limiter(self, operation: Operation[Any]) -> RateLimiter:
        """Return the rate limiter that the operation waits for."""
        return self._limiters.get(self.settings.base_url, operation.endpoint)

    def stop(self, *, abort: bool = False) -> None:
        """Let no further attempt begin; with `abort`, end those in progress too.

        A signal handler may call it: it takes no lock.
        """
        if abort:
            self._aborted.set()
        self._stopping.set()

    def close(self) -> None:
        """Close the connection of every thread."""
        self._http.close()

    def _attempt(self, sending: Sending[T]) -> Result[T]:
        if sending.first_left is not None:
            sending.stats.add_retry()
        while True:
            self._acquire_slot(sending)
            try:
                return self._send_once(sending)
            except RateLimitedError as error:
                if error.is_final:
                    raise

    def _acquire_slot(self, sending: Sending[Any]) -> None:
        """Wait until the rate limit allows one request, which must then leave."""
        operation = sending.operation
        limiter, limit = self.limiter(operation), self.settings.requests_per_minute
        self._check_stopping()
        if not (seconds := limiter.try_acquire(limit)):
            return
        with sending.stats.waiting():
            while seconds:
                if seconds > self._retry.max_throttled_seconds:
                    raise RateLimitedError(
                        f"mediQuo asked to pause {operation.method} {operation.endpoint} for "
                        f"another {seconds:.0f} s.",
                        retry_after=seconds,
                    )
                self._sleep(seconds)
                seconds = limiter.try_acquire(limit)

    def _sleep(self, seconds: float) -> None:
        self._stopping.wait(seconds)
        self._check_stopping()

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise _stopped()

    def _send_once(self, sending: Sending[T]) -> Result[T]:
        operation, stats = sending.operation, sending.stats
        limiter, is_retry = self.limiter(operation), sending.first_left is not None
        sending.first_left = sending.first_left or time.monotonic()
        stats.add_request()
        response = self._receive(operation, limiter)
        if response.status >= 300:
            stats.last_bad_status = response.status
        if response.status == 429:
            # mediQuo ignored this request, so it is not the first attempt.
            sending.first_left = sending.first_left if is_retry else None
            raise self._rate_limited(sending, response, limiter)
        if response.status < 500:
            limiter.on_success()
        value = read_result(operation, response, base_url_verified=self._base_url_verified)
        self._base_url_verified |= response.status < 300
        return Result(value, sent_at(response, time.monotonic() - sending.first_left))

    def _receive(self, operation: Operation[Any], limiter: RateLimiter) -> RawResponse:
        response, problem, certificate = None, "", ""
        try:
            response = self._http.request(operation)
        except BaseException as error:
            problem, certificate = type(error).__name__, problem_of_certificate(error)
            clear_frames(error)  # also those of Airflow's timeout, which may strike anywhere
            if not isinstance(error, Exception):
                raise
        finally:
            limit = response.headers.get("x-ratelimit-limit") if response else None
            limiter.release(whole_number(limit))
        # Raised out here because the errors of requests hold the request: the body and both keys.
        if response is None:
            raise self._unreachable(problem, certificate)
        return response

    def _rate_limited(
        self, sending: Sending[Any], response: RawResponse, limiter: RateLimiter
    ) -> RateLimitedError:
        operation, patience = sending.operation, self._retry.max_throttled_seconds
        asked = retry_after(response)
        seconds = limiter.window if asked is None else max(asked, 1.0)
        without_success, is_new = limiter.on_throttled(seconds)
        count = sending.stats.add_throttled()
        if is_new:
            log_pause(f"{operation.method} {operation.endpoint}", seconds, count)
        is_final = (
            seconds > patience
            or without_success >= patience
            or without_success + seconds > patience + limiter.window
        )
        return RateLimitedError(
            f"mediQuo answered 429 to {operation.method} {operation.endpoint} and asks to wait "
            f"{seconds:.0f} s; nothing has succeeded for {without_success:.0f} s. Others may be "
            "using the same limit: lower `requests_per_minute` here or there.",
            retry_after=seconds,
            is_final=is_final,
        )

    def _unreachable(self, name: str, certificate: str) -> MediquoError:
        host = self.settings.host
        if self._aborted.is_set():
            return _stopped()
        if certificate and not self._base_url_verified:  # else a byte was changed in transit
            return ConnectionSettingsError(
                f"The certificate of {host} was refused: {certificate}. If it is signed by your "
                "own authority, give its CA file as `verify` in the connection."
            )
        return UnreachableError(
            f"No answer from {host} ({name}). Check the host, the network and any proxy."
        )

    def _seconds_between(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(self._retry.backoff(state), getattr(error, "retry_after", 0.0))


def _stopped() -> StoppedError:
    return StoppedError("Stopped before the request had its answer. Safe to run again.")
