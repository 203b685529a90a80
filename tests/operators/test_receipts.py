"""The receipt of a task's run says which task it was."""

import json
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta

import pytest

from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from tests.support.airflow_runner import RUN_ID

STATE = {"state_conn_id": "state", "sync_name": "members"}


@pytest.fixture
def receipts(tmp_path, monkeypatch):
    """Whose receipts there are."""
    file = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(file)}))

    def read():
        names = "held_by, dag_id, run_id, task_id, outcome, error"
        with closing(sqlite3.connect(file)) as database:
            return database.execute(f"SELECT {names} FROM mediquo_receipt ORDER BY run").fetchall()

    return read


def test_it_names_the_dag_its_run_and_the_task(box, dag, run_task, people, receipts):
    records = [*people(1), {"code": "bad"}]
    run = run_task(MediquoUpsertPatientsOperator(task_id="upsert", patients=records, **STATE))
    assert run.state == "failed"
    who = (f"{dag.dag_id}.upsert of {RUN_ID}", dag.dag_id, RUN_ID, "upsert")
    assert receipts() == [(*who, "failed", "TooManyRejectsError")]
    assert run.ledger["receipt"]["fields"] == ["code", "first_name", "plan"]


def test_a_run_that_airflow_times_out_has_one(box, dag, run_task, receipts, time_over):
    from time import sleep

    from airflow.sdk import task

    begun = threading.Event()

    @task.mediquo_upsert(execution_timeout=time_over(when=begun.is_set), **STATE)
    def upsert():
        yield {"code": "m-1", "first_name": "Ada"}
        begun.set()
        sleep(60)

    run = run_task(upsert().operator)
    assert run.state == "up_for_retry"
    assert [row[4:] for row in receipts()] == [("failed", "AirflowTaskTimeout")]


def test_through_the_hook_there_is_no_dag(box, people, receipts):
    MediquoHook().upsert_patients(people(1), **STATE)
    ((held_by, *names, outcome, _),) = receipts()
    assert held_by.startswith("process ")
    assert (names, outcome) == ([None] * 3, "succeeded")


@pytest.mark.parametrize(("days", "kept"), [(400, 2), (300, 1)])
def test_they_are_kept_for_as_long_as_the_option_says(box, people, receipts, tmp_path, days, kept):
    MediquoHook().upsert_patients(people(1), **STATE)
    with closing(sqlite3.connect(tmp_path / "state.db")) as database, database:
        database.execute(
            "UPDATE mediquo_receipt SET started_at = datetime(started_at, '-350 days')"
        )
    MediquoHook().upsert_patients(people(1), **STATE, receipts_for=timedelta(days=days))
    assert len(receipts()) == kept
