"""Keep mediQuo in step with files that another system delivers, every night.

Copy it, set `path` to where your files are, and set up a connection `mediquo_default`.
"""

# [START files]
import os
from pathlib import Path

from airflow.sdk import Param, dag
from pendulum import datetime, duration

from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator

MEMBERS = Path(__file__).parent / "data"
REJECTS = os.environ.get("MEDIQUO_REJECTS", Path.home() / "mediquo-rejects")


@dag(
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tz="Europe/Madrid"),
    catchup=False,
    # Two runs at once would write the same patients, in an order that nobody chose.
    max_active_runs=1,
    # For workers, servers and networks that fail. What a retry cannot heal (keys, settings, bad
    # members, a wait that took too long) fails at once all the same.
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    params={
        "path": Param(str(MEMBERS), type="string", description="A file, a folder or a glob"),
        "rejects": Param(str(REJECTS), type="string", description="A folder on the worker"),
    },
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_files():
    # CSV, JSON lines or Parquet, plain or gzip: each file says itself what it is. They are read
    # as a stream, so their size does not matter, and no member goes through XCom.
    upsert = FileToMediquoOperator(
        task_id="upsert",
        # Elsewhere: path="s3://clinic/members/{{ ds }}/", path_conn_id="aws_default".
        path="{{ params.path }}",
        columns={"member_id": "code", "product": "plan"},
        # Good members are sent in any case; this many bad ones are no reason to wake somebody.
        max_rejects=10,
        # Each with its file and line.
        rejects_path="{{ params.rejects }}",
        # Files that are late are waited for.
        retries=6,
        retry_delay=duration(minutes=10),
    )

    # mediQuo says "Success" before a patient can be seen. The ledger that the upsert returns holds
    # 20 codes, each with a proof of what was written; this waits until mediQuo shows just that.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        written=upsert.output,
        deferrable=True,
        poke_interval=10,
        timeout=15 * 60,
    )


mediquo_files()
# [END files]
