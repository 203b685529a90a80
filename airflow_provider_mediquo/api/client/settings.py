"""The settings needed to reach mediQuo, validated once."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from airflow_provider_mediquo.api.errors import ConnectionSettingsError

DEFAULT_BASE_URL = "https://sdk.mediquo.com/v1"
DEFAULT_REQUESTS_PER_MINUTE = 600
DEFAULT_TIMEOUT = 30.0
MAX_TIMEOUT = 3600
MAX_REQUESTS_PER_MINUTE = 1_000_000
MAX_KEY = 4096
"""Characters: web servers take headers of 8 KiB or so."""

MAX_URL = 2000
"""Characters."""


@dataclass(frozen=True)
class Settings:
    """How to reach mediQuo. Raises ConnectionSettingsError if a setting is invalid.

    :param base_url: with the version: `https://sdk.mediquo.com/v1`.
    :param requests_per_minute: the most that this process sends per endpoint.
    :param timeout: seconds for one whole answer.
    :param verify: whether to verify the certificate, or the path of a CA file to verify it with.
    :param allow_http: send the keys unencrypted to a host that is not this machine.
    """

    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE
    timeout: float = DEFAULT_TIMEOUT
    verify: bool | str = True
    allow_http: bool = False

    def __post_init__(self) -> None:
        _check_keys({"API key (Login)": self.api_key, "Secret key (Password)": self.secret_key})
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        _check_base_url(self.base_url, allow_http=self.allow_http)
        _require(
            1 <= self.requests_per_minute <= MAX_REQUESTS_PER_MINUTE,
            f"`requests_per_minute` must be 1 or more, and {MAX_REQUESTS_PER_MINUTE} at most",
        )
        _require(
            0 < self.timeout <= MAX_TIMEOUT,
            f"`timeout` must be seconds above 0, and {MAX_TIMEOUT} at most",
        )
        _require(
            isinstance(self.verify, bool) or _holds_certificates(self.verify),
            "`verify` must be true, false or the path of an existing CA file on this worker (PEM)",
        )

    @cached_property
    def is_loopback(self) -> bool:
        """Whether it leads to this machine."""
        return _is_loopback(self.host)

    @property
    def host(self) -> str:
        """The host's name, for messages."""
        return urlsplit(self.base_url).hostname or ""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConnectionSettingsError(f"Invalid mediQuo connection: {otherwise}.")


def _check_keys(keys: dict[str, str]) -> None:
    advice = "Copy keys from mediQuo's dashboard, and percent-encode them in a URI"
    missing = " and the ".join(name for name, key in keys.items() if not key)
    _require(not missing, f"it lacks the {missing}.\n{advice}")
    for name, key in keys.items():
        _require(len(key) <= MAX_KEY, f"the {name} has more than {MAX_KEY} characters.\n{advice}")
        _require(
            key.isascii() and key.isprintable() and key == key.strip(),
            f"the {name} has whitespace around it or a character that no header allows.\n{advice}",
        )


def _check_base_url(url: str, *, allow_http: bool) -> None:
    example = f"It should look like {DEFAULT_BASE_URL}"
    _require(len(url) <= MAX_URL, f"the Base URL (Host) is longer than {MAX_URL}.\n{example}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    _require(port != 0 and bool(parts.hostname), f"the Base URL (Host) is not a URL.\n{example}")
    _require(
        url.isascii() and url.isprintable() and not set(url) & set(" \\"),
        f"the Base URL (Host) has characters that no URL has.\n{example}",
    )
    _require(
        parts.scheme in ("https", "http"), f"the Base URL must begin with https://.\n{example}"
    )
    _require(
        not (parts.username or parts.password or set(url) & set("?#")),
        f"the Base URL must not hold a user, a query or a fragment.\n{example}",
    )
    _require(
        not {".", ".."} & {*unquote(parts.path).split("/")},
        f"no part of the path of the Base URL may be `.` or `..`.\n{example}",
    )
    _require(
        parts.scheme == "https" or allow_http or _is_loopback(parts.hostname or ""),
        "http:// would send the keys and the patients unencrypted.\nUse https://, or set "
        "`allow_http` if this is a sandbox",
    )


def _holds_certificates(path: str) -> bool:
    """Whether the path is a regular file with PEM certificates."""
    try:
        if not Path(path).is_file():
            return False
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError):  # not readable, or a certificate in place of its path
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
