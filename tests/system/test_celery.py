"""The sharded example on Celery: workers that share the account's rate."""

import json
from contextlib import contextmanager

import pytest

from airflow_provider_mediquo.sandbox import Sandbox
from tests.support.services import as_nobody, folder, free_port, program, running
from tests.system.deployment import (
    SOON_TAKEN_FOR_DEAD,
    copy_examples,
    running_deployment,
    sqlalchemy_url,
    variant,
)

MEMBERS = 50_000
SHARD = 12_500
SHARES = 4
RATE = 400  # requests a minute of the account: less than what is to be sent
WORKERS = ("worker-1", "worker-2")


@contextmanager
def running_redis():
    """Start a Redis; give its URL."""
    import redis

    port = free_port()
    with folder() as home:
        command = [*as_nobody(), program("redis-server"), "--port", str(port)]
        command += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with redis.Redis(port=port) as client, running(command, home, client.ping):
            yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def box():
    with Sandbox(window="sliding") as box:
        yield box


@pytest.fixture(scope="module")
def warehouse(postgres):
    with postgres.fresh() as database:
        # Every third number is missing, so that the key has gaps.
        database.run(
            "CREATE TABLE members AS SELECT n AS id, 'm-' || n AS member_id, "
            "'Ada' AS first_name, 'Lovelace' AS last_name, date '1935-01-01' + n %% 29000 AS "
            "birth_date, 'm-' || n || '@example.com' AS email, '+447700900123' AS phone, "
            "(ARRAY['premium', 'family', 'essential'])[n %% 3 + 1] AS product "
            "FROM generate_series(1, %s) AS n WHERE n %% 3 > 0",
            [MEMBERS * 3 // 2],
        )
        yield database


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, box, postgres, warehouse, say, nothing_left):
    home = tmp_path_factory.mktemp("celery")
    dags = copy_examples(home)
    variant(
        dags,
        "mediquo_sharded",
        "sharded_with_quick_retries",
        default_args='{"retries": 3, "retry_delay": duration(seconds=1)}',
        mediquo_conn_id='"mediquo_default"',
    )
    connections = {"mediquo_default": box.connection, "warehouse": warehouse.connection}
    with running_redis() as broker, postgres.fresh() as database:
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": "db+" + sqlalchemy_url(database),
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
            **SOON_TAKEN_FOR_DEAD,
        }
        workers = [
            (name, "celery", "worker", "--celery-hostname", f"{name}@%h", "--skip-serve-logs")
            for name in WORKERS
        ]
        say("Starting the four parts, Redis and two Celery workers")
        with running_deployment(home, database, connections, settings, *workers) as airflow:
            # As the example's text says.
            airflow.run("pools", "set", "mediquo", str(SHARES), "Tasks that write to mediQuo")
            share = json.dumps({"requests_per_minute": RATE // SHARES})
            add = ["--conn-type", "mediquo", "--conn-host", box.url, "--conn-extra", share]
            add += ["--conn-login", box.api_key, "--conn-password", box.secret_key]
            airflow.run("connections", "add", "mediquo_quarter", *add)
            airflow.wait_until_ready("mediquo_sharded", "sharded_with_quick_retries")
            yield airflow
            say("Stopping them")
    nothing_left(home)


@pytest.fixture(autouse=True)
def fresh(box):
    box.reset()


def assert_all_are_there(box, warehouse):
    rows = warehouse.run("SELECT member_id, birth_date, email, product FROM members")
    assert len(rows) == len(box.patients) == MEMBERS
    for code, birth_date, email, plan in rows:
        expected = {"birth_date": birth_date.isoformat(), "email": email, "plan": plan}
        assert box.patients[code].items() >= expected.items()


def test_shards_on_two_workers_keep_to_the_rate_together(airflow, box, warehouse, say, tmp_path):
    box.settings.requests_per_minute = RATE
    run = airflow.trigger("mediquo_sharded", size=SHARD, rejects=str(tmp_path))
    say(f"{MEMBERS} members, {SHARES} shards, {RATE // SHARES} of {RATE} requests a minute each")
    assert run.follow(say=say) == "success"

    ledgers = [run.xcom("upsert", index) for index in range(MEMBERS // SHARD)]
    assert [ledger["upserted"] for ledger in ledgers] == [SHARD] * SHARES
    assert box.counters.requests["upsert"] == {"200": MEMBERS // 100}
    starts, ends = (
        [task[moment] for task in run.tasks("upsert")] for moment in ("start_date", "end_date")
    )
    assert max(starts) < min(ends), "They did not run at the same time."
    for name in WORKERS:
        assert "execute_workload" in (airflow.home / f"{name}.log").read_text()
    assert {*box.accepted.values()} == {1}
    assert_all_are_there(box, warehouse)


def test_a_worker_that_is_killed_leaves_no_shard_out(airflow, box, warehouse, say, tmp_path):
    box.settings.requests_per_minute = 10_000
    box.settings.latency = 1
    run = airflow.trigger("sharded_with_quick_retries", size=SHARD, rejects=str(tmp_path))
    run.wait_for("a part of them", lambda: box.counters.accepted > MEMBERS // 5)
    say(f"Killing one of the two workers ({box.counters.accepted} accepted)")
    airflow.kill(WORKERS[0])
    box.settings.latency = 0.05
    assert run.follow(say=say) == "success"
    tries = [task["try_number"] for task in run.tasks("upsert")]
    say(f"The tries of each shard: {tries}")
    assert 2 in tries
    assert_all_are_there(box, warehouse)
