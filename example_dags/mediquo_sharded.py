"""Upsert millions of members from several workers at once, each with its share of the rate limit.

mediQuo allows 600 requests a minute per IP address, and more workers do not raise that. Shards help
if rows are slow to read, or if a failed shard must be retried on its own. If one worker can read 1,000
rows a second, which nearly all can, `mediquo_warehouse` is just as fast, and it checks all members
together: with shards, duplicates and missing plans are checked within each shard only.

Add the connection `warehouse`, and a pool and a connection that split the rate among four tasks:

    airflow pools set mediquo 4 "Tasks that write to mediQuo at a time"
    airflow connections add mediquo_quarter --conn-type mediquo --conn-login API_KEY \
        --conn-password SECRET_KEY --conn-extra '{"requests_per_minute": 150}'
"""

# [START sharded]
import os
from pathlib import Path

from airflow.sdk import Param, dag, task
from pendulum import datetime, duration

from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator

REJECTS = os.environ.get("MEDIQUO_REJECTS", Path.home() / "mediquo-rejects")


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tz="Europe/Madrid"),
    catchup=False,
    max_active_runs=1,
    # Retries help when a worker, a server, or the network fails. Errors that need human action
    # (keys, settings, invalid members) and a sensor that timed out are not retried.
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    params={
        # A smaller shard is not worth a task of its own.
        "size": Param(50_000, type="integer", minimum=1, description="Members of a shard"),
        "rejects": Param(
            str(REJECTS), type="string", description="A folder, or s3://conn_id@bucket/folder"
        ),
    },
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_sharded():
    # Key ranges with this many members each, whatever gaps the key has.
    @task
    def shards(params: dict) -> list[dict]:
        from airflow.sdk import BaseHook

        ranges = BaseHook.get_hook("warehouse").get_records(
            """
            SELECT min(id), max(id)
            FROM (
                SELECT id, floor((row_number() OVER (ORDER BY id) - 1) / %(size)s) AS shard
                FROM members
            ) AS numbered
            GROUP BY shard ORDER BY shard
            """,
            parameters={"size": params["size"]},
        )
        return [{"first": first, "last": last} for first, last in ranges]

    upsert = SqlToMediquoOperator.partial(
        task_id="upsert",
        sql_conn_id="warehouse",
        sql="""
            SELECT member_id AS code, first_name, last_name, birth_date, email, phone,
                   product AS plan
            FROM members
            WHERE id BETWEEN %(first)s AND %(last)s
        """,
        # The pool limits how many of these tasks run at once.
        pool="mediquo",
        mediquo_conn_id="mediquo_quarter",
        max_rejects=0.001,
        rejects_path="{{ params.rejects }}",
    ).expand(parameters=shards())

    # One sensor for all ledgers. It checks 20 members of each shard.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        mediquo_conn_id="mediquo_quarter",
        written=upsert.output,
        deferrable=True,
        timeout=15 * 60,
    )


mediquo_sharded()
# [END sharded]
