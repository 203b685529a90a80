"""Paths on this machine, and on any storage that ObjectStoragePath supports."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

_FILE = re.compile("^file://(localhost(?=/))?")
_URL = re.compile(r"([^/]+://[^/]*)/?(.*)", re.DOTALL)


def local_path(path: str) -> str | None:
    """Return a path on this machine, also of a `file://` URL; None for any other URL."""
    local = _FILE.sub("", path)
    return None if _URL.fullmatch(local) else local


def storage_path(path: str, conn_id: str | None = None) -> ObjectStoragePath:
    """Return a path with all its characters.

    ObjectStoragePath reads what it is given as a URL: a `?` or `#` at the end, and line breaks, would
    be lost. What is joined to it is kept; in Airflow 3.1, until something else is joined to that.
    """
    from airflow.sdk import ObjectStoragePath

    root, name = _split(path)
    # Airflow 3.1 would use None instead of the connection in the URL.
    given = ObjectStoragePath(root, **({"conn_id": conn_id} if conn_id else {}))
    return given / name if name else given


def _split(path: str) -> tuple[str, str]:
    """Return the storage, and the path in it."""
    local = local_path(path)
    if local is None and (url := _URL.fullmatch(path)):
        # Nothing can be joined to a web page's address in Airflow 3.1.
        return (path, "") if url[1].startswith("http") else (url[1], url[2])
    # Airflow 3.1 reads a relative path as one below `/`.
    return "/", os.path.abspath(local or path).lstrip("/")
