"""Writes the receipts of a state to a file."""

from __future__ import annotations

import csv
import os
import re
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath

from airflow_provider_mediquo.api.sync.receipts import COLUMNS, read_receipts
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.hooks.database import engine_of


def export(conn_id: str, path: str | os.PathLike[str]) -> int:
    """Write the receipts of a state as CSV; return how many there are."""
    store = Store(engine_of(conn_id))
    try:
        store.check_version()  # before the file is touched
        return _write(store, storage_path(path))
    finally:
        store.close()


def storage_path(path: str | os.PathLike[str]) -> Any:
    """Return the path of a file on this machine, or on any storage that ObjectStoragePath supports."""
    if isinstance(path, ObjectStoragePath):
        return path
    local = re.sub("^file://(localhost(?=/))?", "", os.fspath(path))
    if "://" in local:
        return ObjectStoragePath(local)
    return Path(os.path.expanduser(local))


def _write(store: Store, path: Any) -> int:
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        with path.open("wb") as file, TextIOWrapper(file, "utf-8", newline="") as text:
            lines = csv.writer(text)
            lines.writerow(COLUMNS)
            for receipt in read_receipts(store):
                lines.writerow(map(_shown, receipt))
                count += 1
    except BaseException:
        with suppress(
            Exception
        ):  # half a file would look like a whole one; each store has its errors
            path.unlink()
        raise
    return count


def _shown(value: Any) -> Any:
    return f"{value.isoformat(timespec='seconds')}Z" if isinstance(value, datetime) else value
