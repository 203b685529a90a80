"""Where the reports of an upload are written."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath

from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_files import (
    NO_NAME,
    LocalFile,
    RejectFile,
    StoredParts,
)
from airflow_provider_mediquo.sources.storage import local_path, storage_path


def report_files(options: UploadOptions, name: str | None) -> list[RejectFile]:
    """Return the file of the rejects, and that of the unsubscribed, if they are asked for."""
    if not options.rejects_path:
        return []
    name = name or f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.jsonl"
    names = [name, f"{name.removesuffix('.jsonl')}.unsubscribed.jsonl"]
    return [
        _file(options.rejects_path, each)
        for each in names[: 2 if options.unsubscribed_report else 1]
    ]


def file_name(name: str | None) -> str | None:
    """Return a name that stays in its folder; raises ValueError for any other."""
    if name and (not isinstance(name, str) or NO_NAME.search(name)):
        raise ValueError("`rejects_name` must be a file name: put the folder into `rejects_path`")
    return name


def _file(folder: str, name: str) -> RejectFile:
    path = report_path(f"{folder.rstrip('/')}/{name}")
    # Not the other way round: in Airflow 3.1 an ObjectStoragePath is a Path, too.
    return StoredParts(path) if isinstance(path, ObjectStoragePath) else LocalFile(path)


def report_path(path: str | os.PathLike[str]) -> Any:
    """Return a path on this machine (Path), or on any storage that ObjectStoragePath supports."""
    if isinstance(path, ObjectStoragePath):
        return path
    local = local_path(os.fspath(path))
    return storage_path(os.fspath(path)) if local is None else Path(os.path.expanduser(local))
