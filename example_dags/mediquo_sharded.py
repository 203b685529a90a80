"""Upsert millions of members from several workers at once, each with its share of the rate.

mediQuo counts 600 requests a minute for an address: more workers do not raise that, but one that
is slow to read its rows no longer holds up the rest, and a shard that fails is run again alone.
Where one worker can read 1,000 rows a second, which nearly all can, `mediquo_warehouse` is as fast,
and sees all members at once: here duplicates and missing plans are judged shard by shard.

Set up `warehouse`, and a pool and a connection that share the rate, here among four tasks:

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
    # For workers, servers and networks that fail. What a retry cannot heal (keys, settings, bad
    # members, a wait that took too long) fails at once all the same.
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
    # Ranges of the key, each with so many members, whatever gaps the key has.
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
        # As many of them at a time as there are shares of the rate.
        pool="mediquo",
        mediquo_conn_id="mediquo_quarter",
        max_rejects=0.001,
        rejects_path="{{ params.rejects }}",
    ).expand(parameters=shards())

    # One sensor for the ledgers of them all: 20 members of each shard.
    MediquoPatientSensor(
        task_id="wait_until_visible",
        mediquo_conn_id="mediquo_quarter",
        written=upsert.output,
        deferrable=True,
        timeout=15 * 60,
    )


mediquo_sharded()
# [END sharded]
