"""Where the reports of an upload are written."""

from __future__ import annotations

import os
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import ObjectStoragePath

from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_files import LocalFile, RejectFile, StoredParts


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


def _file(folder: str, name: str) -> RejectFile:
    local = re.sub("^file://(localhost(?=/))?", "", folder)
    if "://" not in local:
        return LocalFile(Path(os.path.expanduser(local)) / name)
    return StoredParts(ObjectStoragePath(folder) / name)
