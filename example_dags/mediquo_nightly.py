"""Sync mediQuo every night with a CSV file of members.

Copy it, replace the CSV with your own source, and add a connection `mediquo_default`.
"""

# [START nightly]
import os
from collections.abc import Iterator
from pathlib import Path

from airflow.sdk import Param, dag, task
from pendulum import datetime, duration

from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor

MEMBERS = Path(__file__).parent / "data" / "members.csv"
REJECTS = os.environ.get("MEDIQUO_REJECTS", Path.home() / "mediquo-rejects")


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tz="Europe/Madrid"),
    catchup=False,
    # Concurrent runs would overwrite each other's patients in an unpredictable order.
    max_active_runs=1,
    # Retries help when a worker, a server, or the network fails. Errors that need human action
    # (keys, settings, invalid members) and a sensor that timed out are not retried.
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    params={
        "members": Param(str(MEMBERS), type="string", description="A CSV file, with a header"),
        "rejects": Param(str(REJECTS), type="string", description="A folder on the worker"),
    },
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_nightly():
    # The function runs inside the task, so no member goes through XCom. Rows are streamed, so a file
    # of any size needs little memory. A normal task that returns a list would store every member in
    # Airflow's database.
    @task.mediquo_upsert(
        columns={"member_id": "code", "product": "plan"},
        # Tolerate up to this many rejects. They do not hold back the valid members.
        max_rejects=10,
        rejects_path="{{ params.rejects }}",
    )
    def upsert(params: dict) -> Iterator[dict]:
        import csv

        # utf-8-sig: with or without the byte order mark that Excel adds.
        with Path(params["members"]).open(newline="", encoding="utf-8-sig") as file:
            # A truncated row is rejected, because `...` is not text. With blanks instead, it would
            # clear fields in mediQuo, and a blank plan would unsubscribe the patient.
            yield from csv.DictReader(file, restval=...)

    # mediQuo accepts a write before it shows it. The ledger that the upsert returns contains 20
    # codes, each with a proof of what was written. Wait until mediQuo shows these changes.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        written=upsert(),
        deferrable=True,
        poke_interval=10,
        timeout=15 * 60,
    )


mediquo_nightly()
# [END nightly]
