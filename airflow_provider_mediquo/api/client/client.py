"""How an exchange is sent: headers, time-outs, retries, pauses.

The only user of `requests`, with `session.py` and `transport.py`.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import requests
import tenacity

from airflow_provider_mediquo.api.client.rate_limit import WINDOW, RateLimiter, rate_limiter_for
from airflow_provider_mediquo.api.client.request import (
    Operation,
    RawResponse,
    Result,
    read_answer,
    retry_after,
    sent_at,
    whole_number,
)
from airflow_provider_mediquo.api.client.session import (
    clear_frames,
    new_session,
    problem_of_certificate,
)
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.errors import (
    ConnectionSettingsError,
    MediquoError,
    RateLimitedError,
    ServerError,
    StoppedError,
    UnreachableError,
)

T = TypeVar("T")

ATTEMPTS = 5
BACKOFF = tenacity.wait_exponential(multiplier=0.5, max=30) + tenacity.wait_random(0, 1)
"""Seconds between attempts: about 1, 1.5, 2.5 and 4.5."""

MAX_THROTTLED_SECONDS = 600.0
"""Seconds of nothing but 429 after which sending stops."""

_CONNECT_TIMEOUT = 4.0  # seconds, per address of the host; Airflow kills 5 s after SIGTERM
MAX_BODY_BYTES = 1 << 20  # of an answer; the longest documented one has 500
_NO_PROXY = {"http": "", "https": ""}  # what stays on this machine shall not leave it


@dataclass
class _Sending(Generic[T]):
    """An exchange under way, over all its attempts."""

    exchange: Operation[T]
    tally: RequestStats
    first_left: float | None = None


class MediquoClient:
    """Sends exchanges, from any number of threads, within the pace of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stopping = threading.Event()
        self._aborted = threading.Event()
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._base_url_verified = False  # the Base URL: mediQuo has answered there

    def __repr__(self) -> str:
        return f"<MediquoClient of {self.settings.base_url}>"

    def send(self, exchange: Operation[T], tally: RequestStats | None = None) -> Result[T]:
        """Return the answer, after as many attempts and pauses as it takes.

        Connection failures, time-outs and 5xx are tried ATTEMPTS times. A 429 is not an attempt:
        it pauses the endpoint for this process. Raises the MediquoError of the last attempt.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_wait,
            retry=tenacity.retry_if_exception_type((ServerError, UnreachableError)),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._attempt, _Sending(exchange, tally or RequestStats()))

    def send_once(self, exchange: Operation[T]) -> Result[T]:
        """Send it now, once. The caller has taken a slot of the pace, which is given back."""
        return self._send_once(_Sending(exchange, RequestStats()))

    def take_slot(self, exchange: Operation[Any], tally: RequestStats | None = None) -> None:
        """Wait until the pace lets one request of this kind leave, which must then leave."""
        pace, limit = self.pace(exchange), self.settings.requests_per_minute
        self._check_stopping()
        if not (seconds := pace.take(limit)):
            return
        with (tally or RequestStats()).waiting():
            while seconds:
                if seconds > MAX_THROTTLED_SECONDS:
                    raise RateLimitedError(
                        f"mediQuo has asked to send no {exchange.method} {exchange.endpoint} for "
                        f"another {seconds:.0f} s.",
                        retry_after=seconds,
                    )
                self._sleep(seconds)
                seconds = pace.take(limit)

    def pace(self, exchange: Operation[Any]) -> RateLimiter:
        """Return the pace that the exchange has to keep."""
        return rate_limiter_for(self.settings.base_url, exchange.endpoint)

    def stop(self, *, abort: bool = False) -> None:
        """Let no further attempt begin; with `abort`, end those under way too."""
        if abort:
            self._aborted.set()
        self._stopping.set()

    def close(self) -> None:
        """Close every thread's connection."""
        while self._sessions:
            self._sessions.pop().close()

    def _attempt(self, sending: _Sending[T]) -> Result[T]:
        if sending.first_left is not None:
            sending.tally.add_retry()
        while True:
            self.take_slot(sending.exchange, sending.tally)
            try:
                return self._send_once(sending)
            except RateLimitedError as error:
                if error.is_final:
                    raise

    def _sleep(self, seconds: float) -> None:
        self._stopping.wait(seconds)
        self._check_stopping()

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise _stopped()

    def _send_once(self, sending: _Sending[T]) -> Result[T]:
        pace, left = self.pace(sending.exchange), time.monotonic()
        again = sending.first_left is not None
        sending.first_left = sending.first_left or left
        sending.tally.add_request()
        received = self._receive(sending.exchange, pace)
        if received.status >= 300:
            sending.tally.last_bad_status = received.status
        if received.status == 429:
            # It was not taken in, so it was no attempt: the first is still to come.
            sending.first_left = sending.first_left if again else None
            raise self._rate_limited(sending.exchange, received, pace)
        if received.status < 500:
            pace.served()
        value = read_answer(sending.exchange, received, base_url_verified=self._base_url_verified)
        self._base_url_verified |= received.status < 300
        return Result(value, sent_at(received, time.monotonic() - sending.first_left))

    def _receive(self, exchange: Operation[Any], pace: RateLimiter) -> RawResponse:
        received, problem, certificate = None, "", ""
        try:
            received = self._request(exchange)
        except BaseException as error:
            problem, certificate = type(error).__name__, problem_of_certificate(error)
            clear_frames(error)  # a time-out of Airflow's, too, wherever it strikes
            if not isinstance(error, Exception):
                raise
        finally:
            limit = received.headers.get("x-ratelimit-limit") if received else None
            pace.answered(whole_number(limit))
        # Raised out here because requests' errors hold the request: the body and both keys.
        if received is None:
            raise self._unreachable(problem, certificate)
        return received

    def _request(self, exchange: Operation[Any]) -> RawResponse:
        with self._session().request(
            exchange.method,
            self.settings.base_url + exchange.path,
            data=exchange.body,
            timeout=(min(_CONNECT_TIMEOUT, self.settings.timeout), self.settings.timeout),
            verify=self.settings.verify,
            allow_redirects=False,
            proxies=_NO_PROXY if self.settings.is_loopback else None,
            stream=True,
        ) as response:
            # None was asked for: a bomb is not unpacked, and its bytes are no JSON.
            response.raw.headers.pop("Content-Encoding", None)
            body = b""
            for block in response.iter_content(1 << 14):
                body += block
                if len(body) > MAX_BODY_BYTES:
                    break  # leaving closes the connection
            body = body if len(body) <= MAX_BODY_BYTES else b""
            return RawResponse(response.status_code, response.headers, body)

    def _session(self) -> requests.Session:
        if getattr(self._local, "process", None) != os.getpid():  # a fork has its parent's sockets
            self._local.process = os.getpid()
            self._local.session = new_session(self.settings, self._aborted)
            self._sessions.append(self._local.session)
        return self._local.session  # type: ignore[no-any-return]  # a thread's attributes are Any

    def _rate_limited(
        self, exchange: Operation[Any], received: RawResponse, pace: RateLimiter
    ) -> RateLimitedError:
        asked = retry_after(received)
        seconds = WINDOW if asked is None else max(asked, 1.0)
        without_success = pace.refused(seconds)
        is_final = (
            seconds > MAX_THROTTLED_SECONDS
            or without_success >= MAX_THROTTLED_SECONDS
            or without_success + seconds > MAX_THROTTLED_SECONDS + WINDOW
        )
        return RateLimitedError(
            f"mediQuo answered 429 to {exchange.method} {exchange.endpoint} and asks to wait "
            f"{seconds:.0f} s; nothing has succeeded for {without_success:.0f} s. Others may be "
            "using the same limit: lower `requests_per_minute` here or there.",
            retry_after=seconds,
            is_final=is_final,
        )

    def _unreachable(self, name: str, certificate: str) -> MediquoError:
        host = self.settings.host
        if self._aborted.is_set():
            return _stopped()
        if certificate and not self._base_url_verified:  # else a byte of it was spoiled on its way
            return ConnectionSettingsError(
                f"The certificate of {host} was refused: {certificate}. If it is signed by your "
                "own authority, give its CA file as `verify` in the connection."
            )
        return UnreachableError(
            f"No answer from {host} ({name}). Check the host, the network and any proxy."
        )


def _stopped() -> StoppedError:
    return StoppedError("Stopped before the request had its answer. Safe to run again.")


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return max(BACKOFF(state), getattr(error, "retry_after", 0.0))
