"""Keep mediQuo in step with a table of members, every night.

Copy it, put your own table in the place of `members`, and set up two connections:
`mediquo_default`, and `warehouse` of whatever SQL database it is in.
"""

# [START warehouse]
import os
from pathlib import Path

from airflow.sdk import Asset, Param, dag
from pendulum import datetime, duration

from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator

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
        "rejects": Param(
            str(REJECTS), type="string", description="A folder, or s3://conn_id@bucket/folder"
        ),
    },
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_warehouse():
    # The rows are read as a stream and sent while they are read: no member is kept in Airflow,
    # and a table of any size needs little memory.
    upsert = SqlToMediquoOperator(
        task_id="upsert",
        sql_conn_id="warehouse",
        sql="""
            SELECT member_id AS code, first_name, last_name, gender, birth_date, tax_id, email,
                   phone, product AS plan, locale
            FROM members
        """,
        # Good members are sent in any case; one bad one in a thousand is no reason to wake somebody.
        max_rejects=0.001,
        rejects_path="{{ params.rejects }}",
        # Who schedules on this asset finds the counts in `extra` of its event.
        outlets=[Asset("mediquo://patients")],
    )

    # mediQuo says "Success" before a patient can be seen: wait until a sample of them is.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        written=upsert.output,
        deferrable=True,
        poke_interval=10,
        timeout=15 * 60,
    )


mediquo_warehouse()
# [END warehouse]
