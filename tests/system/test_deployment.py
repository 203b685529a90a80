"""The nightly example in a deployment whose parts are killed while it runs."""

import csv
from datetime import UTC, datetime

import psutil
import pytest

from airflow_provider_mediquo.sandbox import Sandbox
from tests.system.deployment import SOON_TAKEN_FOR_DEAD, copy_examples, running_deployment, variant

MEMBERS = 20_000
MEMBER = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "gender": "female",
    "birth_date": "1985-12-10",
    "phone": "+447700900123",
    "product": "premium",
    "locale": "en",
}
NOBODY = """
from airflow.sdk import dag
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor


@dag(schedule=None)
def waits_for_nobody():
    MediquoPatientSensor(
        task_id="wait", codes=["nobody"], deferrable=True, poke_interval=2, timeout=TIMEOUT
    )


waits_for_nobody()
"""
TIMEOUT = 45  # seconds
WAITED = 25  # seconds, of those, before the triggerer is killed


@pytest.fixture(scope="module")
def box():
    with Sandbox() as box:
        yield box


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("deployment")
    dags = copy_examples(home)
    variant(
        dags,
        "mediquo_nightly",
        "nightly_with_quick_retries",
        default_args='{"retries": 3, "retry_delay": duration(seconds=1)}',
        poke_interval="2",
    )
    (dags / "waits_for_nobody.py").write_text(NOBODY.replace("TIMEOUT", str(TIMEOUT)))
    return home


@pytest.fixture(scope="module")
def airflow(home, box, postgres, say, nothing_left):
    with postgres.fresh() as database:
        say("Starting API server, scheduler, DAG processor and triggerer on PostgreSQL")
        connections = {"mediquo_default": box.connection}
        with running_deployment(home, database, connections, SOON_TAKEN_FOR_DEAD) as airflow:
            airflow.wait_until_ready(
                "mediquo_nightly", "nightly_with_quick_retries", "waits_for_nobody"
            )
            yield airflow
            say("Stopping them")
    nothing_left(home)


@pytest.fixture(autouse=True)
def fresh(box):
    box.reset()
    box.settings.lag, box.settings.latency = 2, 0.05


@pytest.fixture(scope="module")
def members(home):
    """A file of many members."""
    path = home / "members.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["member_id", "email", *MEMBER])
        writer.writeheader()
        for number in range(MEMBERS):
            code = f"M-{number:06}"
            writer.writerow({"member_id": code, "email": f"{code}@example.com".lower(), **MEMBER})
    return path


def waiting_in_triggerer(run, task_id):
    """Wait until the task is deferred and a trigger of it is with a triggerer."""

    def is_there():
        (task,) = run.tasks(task_id)
        return task["state"] == "deferred" and task["triggerer_job"] and task

    return run.wait_for(f"{task_id} in the triggerer", is_there)


def seconds_of(task):
    """How long a task has been running, waiting included."""
    end = datetime.fromisoformat(task["end_date"]) if task["end_date"] else datetime.now(UTC)
    return (end - datetime.fromisoformat(task["start_date"])).total_seconds()


def processes_of(run, task_id):
    """The process that runs a task, and the worker above it."""
    (task,) = run.tasks(task_id)
    process = psutil.Process(task["pid"])
    assert "airflow worker" in process.name() + " ".join(process.cmdline())
    return process, process.parent()


def patient(row):
    """What mediQuo is to show of a member."""
    renamed = {"member_id": "code", "product": "plan"}
    return {renamed.get(name, name): value for name, value in row.items()}


def test_the_nightly_example_defers_and_succeeds(airflow, box, home, say):
    box.settings.lag = 8
    say("The nightly example; mediQuo shows what was written 8 seconds later")
    run = airflow.trigger("mediquo_nightly", rejects=str(home / "rejects"))
    waiting_in_triggerer(run, "wait_until_visible")
    assert run.follow(say=say) == "success"

    ledger = run.xcom("upsert")
    assert (ledger["read"], ledger["upserted"], ledger["rejected"]) == (300, 292, 8)
    assert len(box.patients) == 292


def test_a_triggerer_that_is_killed_neither_loses_a_wait_nor_starts_its_time_again(
    airflow, box, home, say
):
    box.settings.lag = TIMEOUT
    say(f"Two waits: for nobody, {TIMEOUT} s long, and for what mediQuo shows after {TIMEOUT} s")
    nobody = airflow.trigger("waits_for_nobody")
    run = airflow.trigger("nightly_with_quick_retries", rejects=str(home / "rejects"))
    for each, task_id in ((nobody, "wait"), (run, "wait_until_visible")):
        waiting_in_triggerer(each, task_id)
    airflow.wait_for("a part of the wait", lambda: seconds_of(*nobody.tasks("wait")) > WAITED)

    say(f"Killing the triggerer after {WAITED} s, and starting another")
    airflow.kill("triggerer")
    asked = box.counters.total
    airflow.start("triggerer")
    airflow.wait_for("a look by the new one", lambda: box.counters.total > asked)

    assert nobody.follow(say=say) == "failed"
    (task,) = nobody.tasks("wait")
    say(f"The wait for nobody ended after {seconds_of(task):.0f} s")
    assert TIMEOUT <= seconds_of(task) < TIMEOUT + WAITED - 5
    assert run.follow(say=say) == "success"


def test_a_worker_that_is_killed_leaves_nobody_out(airflow, box, home, members, say):
    box.settings.latency = 1
    run = airflow.trigger(
        "nightly_with_quick_retries", members=str(members), rejects=str(home / "rejects")
    )
    say(f"{MEMBERS} members, in 200 requests of a second each, ten at a time")
    run.wait_for("a part of them", lambda: box.counters.accepted >= 3_000)
    task, worker = processes_of(run, "upsert")
    say(f"Killing the task ({box.counters.accepted} accepted), as the system does without memory")
    task.kill()

    again = box.counters.accepted + 5_000
    run.wait_for("the next try", lambda: box.counters.accepted >= again)
    task, worker = processes_of(run, "upsert")
    say(f"Killing the worker and its task ({box.counters.accepted} accepted), as a power cut does")
    worker.kill()
    task.kill()

    assert run.follow(say=say) == "success"
    (upsert,) = run.tasks("upsert")
    assert upsert["try_number"] == 3
    ledger = run.xcom("upsert")
    say(f"The ledger: { ({name: ledger[name] for name in ('read', 'upserted', 'requests')}) }")
    assert (ledger["read"], ledger["upserted"], ledger["unsettled"]) == (MEMBERS, MEMBERS, 0)
    assert (ledger["requests"], ledger["retries"]) == (200, 0)
    assert not box.counters.requests["upsert"]["429"]
    with members.open(newline="") as file:
        for row in csv.DictReader(file):
            assert box.patients[row["member_id"]].items() >= patient(row).items()
    assert len(box.patients) == MEMBERS
