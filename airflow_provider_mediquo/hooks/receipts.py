"""Writes the receipts of a state to a file."""

from __future__ import annotations

import csv
import os
from contextlib import closing
from datetime import datetime
from io import TextIOWrapper
from typing import Any

from airflow.sdk import ObjectStoragePath

from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.api.sync.receipts import COLUMNS, read_receipts
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.hooks.database import engine_of
from airflow_provider_mediquo.hooks.reports import report_path


def export(conn_id: str, path: str | os.PathLike[str], killed: StopFlag) -> int:
    """Write the receipts of a state as CSV; return how many there are."""
    with closing(Store(engine_of(conn_id), killed)) as store:
        store.check_version()  # before the file is touched
        return _write(store, report_path(path))


def _write(store: Store, path: Any) -> int:
    lines = [*read_receipts(store)]  # read first: if that fails, the last export stays
    if not isinstance(path, ObjectStoragePath):
        path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, TextIOWrapper(file, "utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        writer.writerows(map(_shown, line) for line in lines)
    return len(lines)


def _shown(value: Any) -> Any:
    return f"{value.isoformat(timespec='seconds')}Z" if isinstance(value, datetime) else value
