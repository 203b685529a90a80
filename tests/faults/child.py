"""An upload in a process of its own, to be killed; Airflow is not there.

`python -m tests.faults.child` reads what to do from its standard input.
"""

import json
import sys
from pathlib import Path

import tenacity

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.rate_limit import RateLimiter, RateLimiters
from airflow_provider_mediquo.api.client.retry import RetryPolicy
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_files import LocalFile
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload

MINUTE = 0.2
"""Seconds over which a limit counts here, on both sides."""


RETRY = RetryPolicy(backoff=tenacity.wait_none())


def short_limiters() -> RateLimiters:
    """Make rate limiters whose minute is short."""
    return RateLimiters(lambda: RateLimiter(window=MINUTE))


def main() -> None:
    asked = json.load(sys.stdin)
    upload = Upload(
        MediquoClient(Settings(**asked["settings"]), retry=RETRY, limiters=short_limiters()),
        UploadOptions(**asked["options"]),
        RejectLog(LocalFile(Path(asked["rejects"]))),
    )
    try:
        upload.run(asked["records"])
    except MediquoError as error:
        print(type(error).__name__)


if __name__ == "__main__":
    main()
