"""One exchange as a value: what is asked of mediQuo, and what each answer to it means."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ConnectionSettingsError,
    MediquoError,
    RejectedRequestError,
    ServerError,
)

T = TypeVar("T")

MAX_BACKOFF = 60.0  # seconds that a 5xx with Retry-After may ask for
MAX_PAUSE = 3600.0  # seconds that a 429 may ask for; a triggerer lives longer than a mistake
MAX_LEVELS = 64  # of an answer; what takes it apart would run out of stack at some hundreds


def _blame_nothing(content: Any) -> dict[int, set[str]]:
    return {}


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One request to mediQuo and how to read its answer.

    :param endpoint: what mediQuo's rate limit counts it under.
    :param read: the answer's JSON -> its value; raises ValueError for what is not documented.
    :param can_be_missing: whether a 404 is an answer, None, rather than an error.
    :param parse_invalid_records: the JSON of a 400 or 422 -> what it blames: place in the request -> fields.
    """

    endpoint: str
    method: str
    path: str
    read: Callable[[Any], T]
    body: bytes | None = field(default=None, repr=False)
    can_be_missing: bool = False
    parse_invalid_records: Callable[[Any], Mapping[int, Collection[str]]] = _blame_nothing


@dataclass(frozen=True)
class Result(Generic[T]):
    """What came back.

    :param sent_at: the server's clock, in whole seconds since 1970 and never late, when the first
        attempt left; None if the server shows no clock.
    """

    value: T | None
    sent_at: int | None


@dataclass(frozen=True)
class RawResponse:
    """An answer as it came over the wire; its body may hold a patient or a token."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def read_answer(
    exchange: Operation[T], received: RawResponse, *, base_url_verified: bool = False
) -> T | None:
    """Turn an answer, other than a 429, into its value or raise the error it means.

    :param was_right: whether mediQuo has answered there before: then what it never says is the
        word of something in between, which may pass, and no wrong Base URL.
    """
    value, error = _read(exchange, received, base_url_verified)
    if error:  # raised here, where no variable holds what was read: tools show those of an error
        raise error
    return value


def sent_at(received: RawResponse, seconds_ago: float) -> int | None:
    """Return the server's clock so many seconds before this answer, rounded down."""
    server_now = _http_date(received.headers.get("Date"))
    return None if server_now is None else math.floor(server_now - seconds_ago)


def retry_after(received: RawResponse) -> float | None:
    """Return the seconds that an answer asks to wait, by the server's own clock; an hour at most."""
    asked = received.headers.get("Retry-After")
    seconds = whole_number(asked)
    if seconds is not None:
        return min(float(seconds), MAX_PAUSE)
    until = _http_date(asked)
    if until is None:
        return None
    left = until - (_http_date(received.headers.get("Date")) or time.time())
    return min(max(0.0, left), MAX_PAUSE)


def whole_number(text: str | None) -> int | None:
    """Read a header that should be a whole number."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 100 else None


def _read(
    exchange: Operation[T], received: RawResponse, base_url_verified: bool
) -> tuple[T, None] | tuple[None, MediquoError | None]:
    status = received.status
    is_json, content = _parse(received.body)
    if status == 404 and is_json and exchange.can_be_missing:
        return None, None
    if 200 <= status < 300 and is_json:
        try:
            return exchange.read(content), None
        except ValueError:
            pass
    return None, _error(exchange, received, content, base_url_verified)


def _error(
    exchange: Operation[Any], received: RawResponse, content: Any, base_url_verified: bool
) -> MediquoError:
    status = received.status
    what = f"mediQuo answered {status} to {exchange.method} {exchange.endpoint}"
    if 200 <= status < 300:
        return ServerError(
            f"{what} with something that is not documented, so nothing is known about it.",
            status=status,
        )
    if status in (401, 403):
        return AuthenticationError(
            f"{what}: it does not accept these keys, or they may not do this. Check the API "
            "key (Login) and the Secret key (Password) of the connection.",
            status=status,
        )
    if status in (400, 413, 422):
        return RejectedRequestError(
            f"{what}: it refuses the data, and stored nothing of this request.",
            status=status,
            named={} if status == 413 else exchange.parse_invalid_records(content),
        )
    if status >= 500 or status == 408:
        return ServerError(
            f"{what}: its side failed.",
            status=status,
            retry_after=min(retry_after(received) or 0.0, MAX_BACKOFF),
        )
    if base_url_verified:
        return ServerError(
            f"{what}, which its API never does, and has answered before: something between here "
            "and there fails.",
            status=status,
        )
    return ConnectionSettingsError(
        f"{what}, which its API never does. Check the Base URL (Host) of the connection, with its "
        "version: https://sdk.mediquo.com/v1.",
        status=status,
    )


def _parse(body: bytes) -> tuple[bool, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False, None
    return (False, None) if _is_too_deep(content) else (True, content)


def _is_too_deep(content: Any) -> bool:
    level = [content] if isinstance(content, dict | list) else []
    for _ in range(MAX_LEVELS):
        lists = [each.values() if isinstance(each, dict) else each for each in level]
        level = [item for items in lists for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _http_date(text: str | None) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(text or "")
        return (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
