"""An upload in a process of its own, to be killed; Airflow is not there.

`python -m tests.faults.child` reads what to do from its standard input.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tenacity

from airflow_provider_mediquo.api.client import client
from airflow_provider_mediquo.api.client import rate_limit as pacing
from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_files import LocalFile
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload

MINUTE = 0.2
"""Seconds over which a limit counts here, on both sides."""


def hurry(put: Callable[[Any, str, Any], None]) -> None:
    """Make the client's minute short, and let it repeat at once."""
    put(pacing, "WINDOW", MINUTE)
    put(client, "WINDOW", MINUTE)
    put(client, "BACKOFF", tenacity.wait_none())


def main() -> None:
    hurry(setattr)
    asked = json.load(sys.stdin)
    upload = Upload(
        MediquoClient(Settings(**asked["settings"])),
        UploadOptions(**asked["options"]),
        RejectLog(LocalFile(Path(asked["rejects"]))),
    )
    try:
        upload.run(asked["records"])
    except MediquoError as error:
        print(type(error).__name__)


if __name__ == "__main__":
    main()
