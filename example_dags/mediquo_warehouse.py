"""Keep mediQuo in sync with a table of members, every night.

The first run sends every member. Each later run sends what changed, and takes the plan from members
that left the table.

Copy it, replace `members` with your own table, and add three connections: `mediquo_default`,
`warehouse` for your SQL database, and `mediquo_state` for the database that keeps the state
(PostgreSQL, MySQL, MariaDB or SQLite). The last two may be the same database.
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
    # A sync has one run at a time: a second one would fail.
    max_active_runs=1,
    # Retries help when a worker, a server, or the network fails. Errors that need human action
    # (keys, settings, invalid members) and a sensor that timed out are not retried.
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    params={
        "rejects": Param(
            str(REJECTS), type="string", description="A folder, or s3://conn_id@bucket/folder"
        ),
        # When a run has withheld, its message says which number to enter for the next one.
        "max_unsubscribed": Param(
            0.01, type="number", minimum=0, description="How many may lose their plan"
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
        # What mediQuo has is kept here, without names: only what changed is sent.
        state_conn_id="mediquo_state",
        # Keep this name: with another name, it is a new sync and sends everybody again.
        sync_name="members",
        # Members who are no longer in the table lose their plan ...
        on_missing="unsubscribe",
        # ... but if more than one in a hundred would lose it, all keep it and the task fails.
        max_unsubscribed="{{ params.max_unsubscribed }}",
        # Tolerate up to this many rejects. They do not hold back the valid members.
        max_rejects=10,
        rejects_path="{{ params.rejects }}",
        # Also list the codes of those who lose their plan: the state does not keep those who left.
        unsubscribed_report=True,
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
