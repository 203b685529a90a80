"""How operations are sent: retries, pauses, errors. What goes over the wire is in `http.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity

from airflow_provider_mediquo.api.client.certificates import refusal_of_certificate
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
    rate_limit,
    read_result,
    retry_after,
    sent_at,
)
from airflow_provider_mediquo.api.client.retry import (
    DEFAULT_RETRY,
    RetryPolicy,
    log_pause,
    log_retry,
    too_many_requests,
)
from airflow_provider_mediquo.api.client.session import clear_frames
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
        self._base_url_verified = False  # whether mediQuo has answered there
        self._shows_limit: bool | None = None  # whether with the header of its rate limit

    def __repr__(self) -> str:
        return f"<MediquoClient of {self.settings.base_url}>"

    def send(
        self,
        operation: Operation[T],
        stats: RequestStats | None = None,
        *,
        attempts: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> Result[T]:
        """Return the answer, after as many attempts and pauses as it takes.

        Connection failures, timeouts and 5xx are retried. A 429 does not count as an attempt: it
        pauses the endpoint for this process. Raises the MediquoError of the last attempt.

        :param attempts: default: those of the retry policy.
        :param check: called before each attempt; raises what must keep it from leaving.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts or self._retry.attempts),
            wait=self._seconds_between,
            retry=tenacity.retry_if_exception_type((ServerError, UnreachableError)),
            before_sleep=lambda state: log_retry(operation.name, state),
            sleep=self.pause,
            reraise=True,
        )
        return retrying(self._attempt, Sending(operation, stats or RequestStats()), check)

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

    def pause(self, seconds: float) -> None:
        """Wait; raises StoppedError as soon as the client is stopped."""
        self._stopping.wait(seconds)
        self._check_stopping()

    def close(self) -> None:
        """Close the connection of every thread."""
        self._http.close()

    def _attempt(self, sending: Sending[T], check: Callable[[], None] | None) -> Result[T]:
        if sending.first_left is not None:
            sending.stats.add_retry()
        while True:
            self._acquire_slot(sending)
            self._run_check(sending, check)
            try:
                return self._send_once(sending)
            except RateLimitedError as error:
                if error.is_final:
                    raise

    def _run_check(self, sending: Sending[Any], check: Callable[[], None] | None) -> None:
        try:
            check and check()
        except BaseException:
            self.limiter(sending.operation).release()
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
                        f"mediQuo asked to pause {operation.name} for another {seconds:.0f} s.",
                        retry_after=seconds,
                    )
                self.pause(seconds)
                seconds = limiter.try_acquire(limit)

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
        if response.status == 429:  # mediQuo ignored it, so it is not the first attempt
            sending.first_left = sending.first_left if is_retry else None
            raise self._rate_limited(operation, response, limiter)
        if response.status < 500:
            limiter.on_success()
        value = read_result(operation, response, base_url_verified=self._base_url_verified)
        if has_limit := rate_limit(response) is not None:
            self._shows_limit = True
        if response.status < 300:
            self._base_url_verified = True
            self._shows_limit = self._shows_limit or has_limit
        lacks_limit = not has_limit and self._shows_limit is not False
        return Result(value, sent_at(response, time.monotonic() - sending.first_left), lacks_limit)

    def _receive(self, operation: Operation[Any], limiter: RateLimiter) -> RawResponse:
        response, problem, certificate = None, "", ""
        try:
            response = self._http.request(operation)
        except BaseException as error:
            problem = type(error).__name__
            certificate = refusal_of_certificate(error, self.settings.verify)
            clear_frames(error)  # also of Airflow's timeout, wherever it strikes
            if not isinstance(error, Exception):
                raise
        finally:
            limiter.release(rate_limit(response) if response else None)
        # Raised out here because the errors of requests hold the request: the body and both keys.
        if response is None:
            raise self._unreachable(problem, certificate)
        return response

    def _rate_limited(
        self, operation: Operation[Any], response: RawResponse, limiter: RateLimiter
    ) -> RateLimitedError:
        name, max_seconds = operation.name, self._retry.max_throttled_seconds
        asked = retry_after(response)
        seconds = limiter.window if asked is None else max(asked, 1.0)
        without_success, is_new = limiter.on_throttled(seconds)
        if is_new:
            log_pause(name, seconds)
        return too_many_requests(name, seconds, without_success, max_seconds, limiter.window)

    def _unreachable(self, name: str, certificate: str) -> MediquoError:
        host = self.settings.host
        if self._aborted.is_set():
            return _stopped()
        if certificate and not self._base_url_verified:  # else a byte was changed on its way
            return ConnectionSettingsError(f"The certificate of {host} was refused:\n{certificate}")
        about_tls = " A server without TLS needs http:// in its Base URL." if "SSL" in name else ""
        return UnreachableError(
            f"No answer from {host} ({name}).\nCheck the host, the network and any proxy.{about_tls}"
        )

    def _seconds_between(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(self._retry.backoff(state), getattr(error, "retry_after", 0.0))


def _stopped() -> StoppedError:
    return StoppedError("Stopped before the request had its answer. Safe to run again.")
