"""Turns an Airflow connection, stored as JSON, as a URI or by the form, into settings."""

from __future__ import annotations

import ipaddress
import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from airflow_provider_mediquo.api.client.settings import (
    DEFAULT_BASE_URL,
    DEFAULT_REQUESTS_PER_MINUTE,
    DEFAULT_TIMEOUT,
    Settings,
)
from airflow_provider_mediquo.api.errors import ConnectionSettingsError
from airflow_provider_mediquo.api.text import listed, shown
from airflow_provider_mediquo.get_provider_info import CONNECTION_TYPE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

ENCODE = (
    "percent-encode the keys of a URI (`/` is %2F, `@` is %40, `%` is %25), or write the "
    "connection as JSON"
)
_TYPE = CONNECTION_TYPE["connection-type"]
_EXTRAS = CONNECTION_TYPE["conn-fields"]
# Airflow's command line stores `generic` for a type whose provider is not installed.
_TYPES = (_TYPE, "generic", "", None)
MAX_EXTRA = 1 << 16  # characters

log = logging.getLogger(__name__)


def parse_connection(connection: Connection) -> Settings:
    """Return the settings of a connection. Raises ConnectionSettingsError if they are invalid."""
    for key in filter(None, (connection.login, connection.password)):
        mask_secret(key)
    everything = _extra(connection)
    _check_split(connection, everything)
    extra = {name: value for name, value in everything.items() if not _is_blank(value)}
    settings = Settings(
        api_key=connection.login or "",
        secret_key=connection.password or "",
        base_url=_base_url(connection),
        requests_per_minute=int(_number(extra, "requests_per_minute", DEFAULT_REQUESTS_PER_MINUTE)),
        timeout=_number(extra, "timeout", DEFAULT_TIMEOUT),
        verify=_truth_or_path(extra),
        allow_http=_truth(extra, "allow_http", default=False),
    )
    _warn(connection, everything)
    return settings


def read_connection(
    get_connection: Callable[[str], Connection], conn_id: str
) -> Settings | ConnectionSettingsError:
    """Return the settings of a connection, or why they are invalid."""
    try:
        connection = get_connection(conn_id)
    except AirflowNotFoundException as error:
        # Airflow reports a connection that it cannot parse in the same way.
        problem = str(error)
    else:
        try:
            return parse_connection(connection)
        except ConnectionSettingsError as error:
            return error
    raise AirflowNotFoundException(
        f"{problem}, or Airflow cannot read it.\nIf it exists, check its JSON, whose keys are `login` and "
        f"`password`, with all options inside `extra`; {ENCODE}."
    )


def _extra(connection: Connection) -> dict[str, Any]:
    """Parse the extra. Airflow itself reads invalid JSON as an empty extra."""
    text = connection.extra or "{}"
    try:
        extra = json.loads(text) if len(text) <= MAX_EXTRA else None
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        raise ConnectionSettingsError(
            'The connection\'s extra must be a JSON object of at most 64 KiB, such as {"timeout": 30}.'
        )
    return extra


def _check_split(connection: Connection, extra: Mapping[str, Any]) -> None:
    """Raise if a key of a URI ended too early: the rest of it would become the host."""
    if "@" in "".join([connection.schema or "", *extra]):
        raise ConnectionSettingsError(
            f"Invalid mediQuo connection: a key in its URI is not percent-encoded.\nFix it: {ENCODE}."
        )


def _base_url(connection: Connection) -> str:
    """Build the URL. A path may be in the host or, if the connection is a URI, in the schema."""
    url = (connection.host or "").strip() or DEFAULT_BASE_URL
    path = (connection.schema or "").strip().strip("/")
    if path.lower() in ("http", "https"):  # as in Airflow's HTTP connections
        url, path = url if "://" in url else f"{path}://{url}", ""
    if "://" not in url:
        url = f"https://{_with_brackets(url)}"
        _check_name(url.split("/")[2], connection.conn_type)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url  # Settings reports what is wrong
    if not url.isprintable():
        return url  # Settings reports it; `urlsplit` would silently drop a line end
    if connection.port and port not in (None, connection.port):
        raise ConnectionSettingsError(
            "The Base URL (Host) and Port of the connection name different ports: leave Port empty."
        )
    if connection.port and not port:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    if path and (not connection.host or not parts.path.strip("/")):
        parts = parts._replace(path=f"/{path}")
    return parts.geturl()


def _with_brackets(url: str) -> str:
    """Return an IPv6 address in brackets, which Airflow removes when it reads a URI."""
    host, slash, path = url.partition("/")
    try:
        return f"[{ipaddress.IPv6Address(host)}]{slash}{path}"
    except ValueError:
        return url


def _check_name(host: str, conn_type: str | None) -> None:
    """Raise for a name without a dot: likely part of a key that is not percent-encoded."""
    if "." in host or host.startswith(("localhost", "[")):
        return
    if conn_type and conn_type != "mediquo":
        raise ConnectionSettingsError(
            f"Invalid mediQuo connection: its type is {conn_type!r}, and its Base URL (Host) has no dot.\n"
            "Check `mediquo_conn_id`."
        )
    raise ConnectionSettingsError(
        "Invalid mediQuo connection: its Base URL (Host) has no dot.\n"
        f"If it is right, put https:// in front. If it is part of a key, {ENCODE}."
    )


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _number(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name, default)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number):
        return number
    raise ConnectionSettingsError(
        f"`{name}` in the connection's extra must be a number, such as {default:g}."
    )


def _truth_or_path(extra: Mapping[str, Any]) -> bool | str:
    value = extra.get("verify")
    if isinstance(value, str) and value.strip().lower() not in ("true", "false"):
        return value.strip()
    return _truth(extra, "verify", default=True)


def _truth(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = extra.get(name, default)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ConnectionSettingsError(f"`{name}` in the connection's extra must be true or false.")


def _warn(connection: Connection, extra: Mapping[str, Any]) -> None:
    """Warn about a wrong type and about extras that are ignored, such as misspelt ones."""
    if connection.conn_type not in _TYPES:
        log.warning(
            "The connection has type %r; it is used as type %r.",
            shown(connection.conn_type or ""),
            _TYPE,
        )
    if unknown := sorted(set(extra) - set(_EXTRAS)):
        # If there is an `@`, the name may be part of a key: see `_check_split`.
        named = len(unknown) if "@" in (connection.extra or "") else listed([*map(repr, unknown)])
        log.warning(
            "Unknown extras of the connection are ignored: %s. Known extras: %s.",
            named,
            ", ".join(map(repr, _EXTRAS)),
        )
