"""One operation as a value: the request, and the meaning of each answer."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ConnectionSettingsError,
    MediquoError,
    RejectedRequestError,
    ServerError,
)

T = TypeVar("T")

MAX_BACKOFF = 60.0  # seconds that a 5xx with Retry-After may ask for
MAX_PAUSE = 3600.0  # seconds that a 429 may ask for: a mistake must not stop a triggerer for days
MAX_LEVELS = 64  # of a response; Python runs out of stack at some hundreds
_REFUSALS = frozenset({400, 409, 413, 422})


def _no_invalid_records(content: Any) -> dict[int, set[str]]:
    return {}


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One request to mediQuo and how to read its answer.

    :param endpoint: the name under which mediQuo's rate limit counts it.
    :param read: the answer's JSON -> its value; raises ValueError for an undocumented body.
    :param can_be_missing: whether a 404 means None instead of an error.
    :param parse_invalid_records: the JSON of a 400 or 422 -> the records that it names: position in
        the request, from 0 -> fields.
    """

    endpoint: str
    method: str
    path: str
    read: Callable[[Any], T]
    body: bytes | None = field(default=None, repr=False)
    can_be_missing: bool = False
    parse_invalid_records: Callable[[Any], Mapping[int, Collection[str]]] = _no_invalid_records

    @property
    def name(self) -> str:
        """Method and endpoint, for messages."""
        return f"{self.method} {self.endpoint}"


@dataclass(frozen=True)
class Result(Generic[T]):
    """What came back.

    :param sent_at: the server's clock when the first attempt left, in seconds since 1970, rounded
        down; None if the server shows no clock.
    :param lacks_limit: whether the answer lacks the rate limit, which all of mediQuo's have unless a
        proxy removes it: then a 404 may be a gateway's, which looks the same otherwise.
    """

    value: T | None
    sent_at: int | None
    lacks_limit: bool


@dataclass
class Sending(Generic[T]):
    """An operation in progress, over all its attempts."""

    operation: Operation[T]
    stats: RequestStats
    first_left: float | None = None


@dataclass(frozen=True)
class RawResponse:
    """An answer as it came over the wire; its body may hold a patient or a token.

    :param headers: found in any case, as in requests' CaseInsensitiveDict.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def read_result(
    operation: Operation[T], response: RawResponse, *, base_url_verified: bool = False
) -> T | None:
    """Turn an answer, other than a 429, into its value or raise the error it means.

    :param base_url_verified: whether mediQuo has answered there before. If so, a response that is
        not mediQuo's comes from an intermediary; otherwise the Base URL is wrong.
    """
    value, error = _read(operation, response, base_url_verified)
    if error:  # raised here, because tools show an error's variables: none of these is a value
        raise error
    return value


def rate_limit(response: RawResponse) -> int | None:
    """Return how many requests a minute mediQuo allows, as its answer says."""
    return whole_number(response.headers.get("x-ratelimit-limit"))


def sent_at(response: RawResponse, seconds_ago: float) -> int | None:
    """Return the server's clock so many seconds before this answer, rounded down."""
    server_now = _http_date(response.headers.get("Date"))
    return None if server_now is None else math.floor(server_now - seconds_ago)


def retry_after(response: RawResponse) -> float | None:
    """Return the seconds that an answer asks to wait, by the server's own clock; an hour at most."""
    asked = response.headers.get("Retry-After")
    seconds = whole_number(asked)
    if seconds is not None:
        return min(float(seconds), MAX_PAUSE)
    until = _http_date(asked)
    if until is None:
        return None
    left = until - (_http_date(response.headers.get("Date")) or time.time())
    return min(max(0.0, left), MAX_PAUSE)


def whole_number(text: str | None) -> int | None:
    """Return the whole number in a header; None if it is anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 100 else None


def _read(
    operation: Operation[T], response: RawResponse, base_url_verified: bool
) -> tuple[T, None] | tuple[None, MediquoError | None]:
    is_json, content = _parse(response.body)
    if response.status == 404 and is_json and operation.can_be_missing:
        return None, None
    if 200 <= response.status < 300 and is_json:
        try:
            return operation.read(content), None
        except ValueError:
            pass
    is_intermediary = base_url_verified and not is_json
    return None, _error(operation, response, content, base_url_verified, is_intermediary)


def _error(
    operation: Operation[Any],
    response: RawResponse,
    content: Any,
    base_url_verified: bool,
    is_intermediary: bool,
) -> MediquoError:
    status = response.status
    what = f"mediQuo answered {status} to {operation.method} {operation.endpoint}"
    if 200 <= status < 300:
        return ServerError(
            f"{what} with an unexpected response body; the outcome is unknown.", status=status
        )
    if status == 401 or (status == 403 and not is_intermediary):
        return AuthenticationError(
            f"{what}: invalid keys, or they lack permission.\nCheck the API key (Login) and the "
            "Secret key (Password) of the connection.",
            status=status,
        )
    if status in _REFUSALS:  # a 409 may be that of a proxy
        stored = "" if status == 409 else ", and stored nothing of this request"
        return RejectedRequestError(
            f"{what}: it refuses the data{stored}.",
            status=status,
            named={} if status == 413 else operation.parse_invalid_records(content),
        )
    if status >= 500 or status == 408:
        return ServerError(
            f"{what}: mediQuo had a server error.",
            status=status,
            retry_after=min(retry_after(response) or 0.0, MAX_BACKOFF),
        )
    return _unexpected(what, status, base_url_verified)


def _unexpected(what: str, status: int, base_url_verified: bool) -> MediquoError:
    if base_url_verified:
        return ServerError(
            f"{what}, an unexpected status after earlier successes.\nA proxy or load balancer may "
            "be failing.",
            status=status,
        )
    return ConnectionSettingsError(
        f"{what}, which is not a mediQuo response.\nCheck the Base URL (Host) of the connection, "
        "with its version: https://sdk.mediquo.com/v1.",
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
