"""What a connection says -> settings, whichever way Airflow came by it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
# `generic` is what Airflow's command line makes of a type whose provider it does not have.
_TYPES = (_TYPE, "generic", "", None)
MAX_EXTRA = 1 << 16  # characters

log = logging.getLogger(__name__)


def parse_connection(connection: Connection) -> Settings:
    """Return what a connection says; raises ConnectionSettingsError for what cannot work."""
    for key in filter(None, (connection.login, connection.password)):
        mask_secret(key)
    extra = _extra(connection)
    _check_split(connection, extra)
    settings = Settings(
        api_key=connection.login or "",
        secret_key=connection.password or "",
        base_url=_base_url(connection),
        requests_per_minute=int(_number(extra, "requests_per_minute", DEFAULT_REQUESTS_PER_MINUTE)),
        timeout=_number(extra, "timeout", DEFAULT_TIMEOUT),
        verify=_truth_or_path(extra),
        allow_http=_truth(extra, "allow_http", default=False),
    )
    _warn(connection, extra)
    return settings


def _extra(connection: Connection) -> dict[str, Any]:
    """Parse the extra here: Airflow takes one that is not JSON for an empty one."""
    text = connection.extra or "{}"
    try:
        extra = json.loads(text) if len(text) <= MAX_EXTRA else None
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        raise ConnectionSettingsError(
            'The connection\'s extra must be a JSON object, such as {"timeout": 30}, of 64 KiB at '
            "most."
        )
    return extra


def _check_split(connection: Connection, extra: Mapping[str, Any]) -> None:
    """Raise where a URI's keys ended too early: what is left of them would name the host."""
    if "@" in "".join([connection.schema or "", *extra]):
        raise ConnectionSettingsError(
            f"The mediQuo connection cannot work: its URI breaks off within a key; {ENCODE}."
        )


def _base_url(connection: Connection) -> str:
    """Put the URL together: a path may come in the host or, from a URI, in the schema."""
    url = (connection.host or "").strip() or DEFAULT_BASE_URL
    path = (connection.schema or "").strip().strip("/")
    if path.lower() in ("http", "https"):  # as Airflow's own HTTP connections have it
        url, path = url if "://" in url else f"{path}://{url}", ""
    if "://" not in url:
        _check_name(url.partition("/")[0])
        url = f"https://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url  # Settings says what is wrong with it
    if not url.isprintable():
        return url  # the same: `urlsplit` would drop a line end, and join what is around it
    if connection.port and port not in (None, connection.port):
        raise ConnectionSettingsError(
            "The Base URL (Host) and Port of the connection name different ports: leave Port empty."
        )
    if connection.port and not port:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    if path and (not connection.host or not parts.path.strip("/")):
        parts = parts._replace(path=f"/{path}")
    return parts.geturl()


def _check_name(host: str) -> None:
    """Raise for a name without a dot: half a key, where a URI is not percent-encoded."""
    if "." not in host and not host.startswith(("localhost", "[")):
        raise ConnectionSettingsError(
            "The mediQuo connection cannot work: its Base URL (Host) has no dot. If it is right, "
            f"put https:// in front; if it is a piece of a key, {ENCODE}."
        )


def _number(extra: Mapping[str, Any], name: str, default: float) -> float:
    value = extra.get(name)
    if value is None or value == "":
        return default
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
    if isinstance(value, str) and value.strip().lower() not in ("", "true", "false"):
        return value.strip()
    return _truth(extra, "verify", default=True)


def _truth(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = extra.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ConnectionSettingsError(f"`{name}` in the connection's extra must be true or false.")


def _warn(connection: Connection, extra: Mapping[str, Any]) -> None:
    """Tell of what would be overlooked: misspelt, a limit has no effect."""
    if connection.conn_type not in _TYPES:
        log.warning(
            "A connection of the type %r is read as one of the type %r.",
            shown(connection.conn_type or ""),
            _TYPE,
        )
    if unknown := sorted(set(extra) - set(_EXTRAS)):
        # A name with an `@` in its value may be the rest of a key: see `_check_split`.
        named = len(unknown) if "@" in (connection.extra or "") else listed([*map(repr, unknown)])
        log.warning(
            "In the connection's extra, this has no effect: %s. Known are %s.",
            named,
            ", ".join(map(repr, _EXTRAS)),
        )
