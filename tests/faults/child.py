"""An upload in a process of its own, to be killed; Airflow is not there.

`python -m tests.faults.child` reads what to do from its standard input.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import tenacity
from sqlalchemy import Engine, create_engine

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.rate_limit import RateLimiter, RateLimiters
from airflow_provider_mediquo.api.client.retry import RetryPolicy
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.sync.settings import SyncSettings
from airflow_provider_mediquo.api.sync.store import Store
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


def sync_of(engine: Engine, options: UploadOptions, secret_key: str) -> SyncRun:
    """Make a run of a sync, as the hook makes it."""
    settings = SyncSettings(
        name=options.sync_name or "members",
        secret_key=secret_key,
        reading=options.reading(),
        dropped=options.dropped(),
        resend_after=timedelta(days=1_000_000),  # nothing is sent again because it is old
        dry_run=options.dry_run,
    )
    return SyncRun(Store(engine), settings)


def main() -> None:
    asked = json.load(sys.stdin)
    settings, options = Settings(**asked["settings"]), UploadOptions(**asked["options"])
    state = asked.get("state")
    upload = Upload(
        MediquoClient(settings, retry=RETRY, limiters=short_limiters()),
        options,
        RejectLog(LocalFile(Path(asked["rejects"]))),
        sync=sync_of(create_engine(state), options, settings.secret_key) if state else None,
    )
    try:
        upload.run(asked["records"])
    except MediquoError as error:
        print(type(error).__name__)


if __name__ == "__main__":
    main()
