"""Keep mediQuo in step with a file of members, every night.

Copy it, put your own source in the place of the CSV, and set up a connection `mediquo_default`.
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
    # Two runs at once would write the same patients, in an order that nobody chose.
    max_active_runs=1,
    # For workers, servers and networks that fail. What a retry cannot heal (keys, settings, bad
    # members, a wait that took too long) fails at once all the same.
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    params={
        "members": Param(str(MEMBERS), type="string", description="A CSV file, with a header"),
        "rejects": Param(str(REJECTS), type="string", description="A folder on the worker"),
    },
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_nightly():
    # The function runs inside the task: no member goes through XCom, and what it yields is sent
    # while it reads, so a file of any size needs little memory. A task that returned a list would
    # write every member into Airflow's database.
    @task.mediquo_upsert(
        columns={"member_id": "code", "product": "plan"},
        # Good members are sent in any case; this many bad ones are no reason to wake somebody.
        max_rejects=10,
        rejects_path="{{ params.rejects }}",
    )
    def upsert(params: dict) -> Iterator[dict]:
        import csv

        # utf-8-sig: with or without the mark that Excel puts in front.
        with Path(params["members"]).open(newline="", encoding="utf-8-sig") as file:
            # A row that was cut off is rejected (`...` is no text): read as blanks, it would empty
            # what a patient has, and without a plan unsubscribe them.
            yield from csv.DictReader(file, restval=...)

    # mediQuo says "Success" before a patient can be seen. The ledger that the upsert returns holds
    # 20 codes, each with a proof of what was written; this waits until mediQuo shows just that.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        written=upsert(),
        deferrable=True,
        poke_interval=10,
        timeout=15 * 60,
    )


mediquo_nightly()
# [END nightly]
