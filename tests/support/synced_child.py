"""An upload with a state in a process of its own, to be killed; Airflow is not there.

`python -m tests.support.synced_child DATABASE MEDIQUO` sends 1,500 members.
"""

import sys

from sqlalchemy import create_engine

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.sync.settings import SyncSettings
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload


def main(database: str, mediquo: str) -> None:
    options = UploadOptions(state_conn_id="state", chunk_size=20, max_in_flight=2)
    settings = Settings(
        base_url=mediquo,
        api_key="sandbox-api-key",
        secret_key="sandbox-secret-key",
        requests_per_minute=1_000_000,
    )
    sync = SyncSettings("members", settings.secret_key, options.reading(), options.dropped())
    state = SyncRun(Store(create_engine(database)), sync)
    upload = Upload(MediquoClient(settings), options, RejectLog(), sync=state)
    upload.run(
        {"code": f"m-{number}", "first_name": "Ada", "plan": "premium"} for number in range(1, 1501)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
