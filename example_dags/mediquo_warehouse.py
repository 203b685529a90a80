"""Sync mediQuo every night with a table of members.

Copy it, replace `members` with your own table, and add two connections: `mediquo_default`, and
`warehouse` for your SQL database.
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
    # Concurrent runs would overwrite each other's patients in an unpredictable order.
    max_active_runs=1,
    # Retries help when a worker, a server, or the network fails. Errors that need human action
    # (keys, settings, invalid members) and a sensor that timed out are not retried.
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
    # Rows are streamed: no member is stored in Airflow, and a table of any size needs little memory.
    upsert = SqlToMediquoOperator(
        task_id="upsert",
        sql_conn_id="warehouse",
        sql="""
            SELECT member_id AS code, first_name, last_name, gender, birth_date, tax_id, email,
                   phone, product AS plan, locale
            FROM members
        """,
        # Valid members are always sent. Tolerate one reject in a thousand.
        max_rejects=0.001,
        rejects_path="{{ params.rejects }}",
        # DAGs scheduled on this asset find the counts in the `extra` of its event.
        outlets=[Asset("mediquo://patients")],
    )

    # mediQuo accepts a write before it shows it: wait until a sample of the patients is visible.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        written=upsert.output,
        deferrable=True,
        poke_interval=10,
        timeout=15 * 60,
    )


mediquo_warehouse()
# [END warehouse]
