"""Sync mediQuo every night with files that another system delivers.

Copy it, set `path` to the location of your files, and add a connection `mediquo_default`.
"""

# [START files]
import os
from pathlib import Path

from airflow.sdk import Param, dag
from pendulum import datetime, duration

from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator

MEMBERS = Path(__file__).parent / "data" / "members*"
REJECTS = os.environ.get("MEDIQUO_REJECTS", Path.home() / "mediquo-rejects")


@dag(
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tz="Europe/Madrid"),
    catchup=False,
    # Concurrent runs would overwrite each other's patients in an unpredictable order.
    max_active_runs=1,
    # Retries help when a worker, a server, or the network fails. Errors that need human action
    # (keys, settings, invalid members) and a sensor that timed out are not retried.
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    params={
        "path": Param(str(MEMBERS), type="string", description="A file, a folder or a glob"),
        "rejects": Param(str(REJECTS), type="string", description="A folder on the worker"),
    },
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_files():
    # CSV, JSON Lines, or Parquet, plain or gzip: the format is detected from the content. Files are
    # streamed, so their size does not matter, and no member goes through XCom.
    upsert = FileToMediquoOperator(
        task_id="upsert",
        # On S3: path="s3://clinic/members/{{ ds }}/", path_conn_id="aws_default".
        path="{{ params.path }}",
        columns={"member_id": "code", "product": "plan"},
        # Tolerate up to this many rejects. They do not hold back the valid members.
        max_rejects=10,
        # The reject report names the file and line of each reject.
        rejects_path="{{ params.rejects }}",
        # Retries also wait for late files.
        retries=6,
        retry_delay=duration(minutes=10),
    )

    # mediQuo accepts a write before it shows it. The ledger that the upsert returns contains 20
    # codes, each with a proof of what was written. Wait until mediQuo shows these changes.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        written=upsert.output,
        deferrable=True,
        poke_interval=10,
        timeout=15 * 60,
    )


mediquo_files()
# [END files]
