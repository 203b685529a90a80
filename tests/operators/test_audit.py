"""The audit operator, run through Airflow's own task runner against a mediQuo on a socket."""

import json

import pytest
import requests

from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoAuditPatientsOperator

pytestmark = pytest.mark.usefixtures("dag")


@pytest.fixture
def known(box, people, tmp_path, monkeypatch):
    """Forty members that mediQuo and the state have."""
    state = {"conn_type": "sqlite", "host": str(tmp_path / "state.db")}
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps(state))
    MediquoHook().upsert_patients(people(40), state_conn_id="state")
    return people(40)


@pytest.fixture
def changed(box, known):
    """One of them was changed behind our back."""
    sent = {"patients": [known[6] | {"first_name": "Eva"}]}
    requests.put(
        f"{box.url}/patients", json=sent, headers=box.headers, timeout=10
    ).raise_for_status()


def audit(**options):
    return MediquoAuditPatientsOperator(task_id="audit", state_conn_id="state", **options)


def test_it_returns_what_it_found(known, run_task):
    run = run_task(audit())
    assert run.state == "success"
    found = run.result
    assert (found["known"], found["checked"], found["differ"], found["not_found"]) == (40, 40, 0, 0)
    assert found["at_most"] == pytest.approx(1 - 0.05 ** (1 / 40))
    assert found["confidence"] == 0.95
    assert run.audit == found


def test_a_try_that_takes_too_long_leaves_the_next_one_alone(box, known, run_task, time_over):
    at_once = 10
    box.script("get", *["hang"] * at_once)
    task = audit(execution_timeout=time_over(when=lambda: box.counters.in_flight == at_once))
    assert type(run_task(task).error).__name__ == "AirflowTaskTimeout"
    assert box.counters.requests["get"].total() <= at_once  # it does not read the rest first
    task.execution_timeout = None
    assert run_task(task, try_number=2).state == "success"


def test_it_fails_without_a_retry_if_too_many_are_wrong_and_they_are_sent_again(
    changed, known, run_task
):
    run = run_task(audit())
    assert run.state == "failed"
    assert "Wrong: 1 of 40 members.\nDiffer: 1 (first_name 1). Not found: 0." in str(run.error)
    assert "more than `max_wrong` (0)" in str(run.error)
    assert run.audit["codes"] == ["m-7"]
    assert MediquoHook().upsert_patients(known, state_conn_id="state").resent == 1


@pytest.mark.no_cover
@pytest.mark.parametrize("max_wrong", [1, 0.03, "1", "{{ params.max_wrong }}"])
def test_so_many_may_be_wrong(changed, run_task, dag, max_wrong):
    dag.params = {"max_wrong": 1}
    run = run_task(audit(max_wrong=max_wrong))
    assert run.state == "success"
    assert run.result["fields"] == {"first_name": 1}


def test_a_state_without_a_member_is_a_warning(box, tmp_path, monkeypatch, run_task):
    """As it is before the first sync, and if `state_conn_id` is wrong."""
    state = {"conn_type": "sqlite", "host": str(tmp_path / "state.db")}
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps(state))
    run = run_task(audit())
    assert run.state == "success"
    logged = [json.loads(line) for line in run.log.splitlines()]
    (warning,) = [each["event"] for each in logged if each["level"] == "warning"]
    assert warning.startswith("The state has no member that can be checked.")


def test_a_state_with_members_is_none(known, run_task):
    assert "no member that can be checked" not in run_task(audit()).log


def test_a_fraction_is_of_those_who_were_checked(box, known, run_task):
    box.reset()
    run = run_task(audit(sample_size=10, max_wrong=0.3))
    assert run.state == "failed"
    assert "Wrong: 10 of 10 members" in str(run.error)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sample_size": 0}, "`sample_size` must be a whole number from 1 to 1,000,000"),
        ({"sample_size": "many"}, "`sample_size` must be a whole number from 1 to 1,000,000"),
        ({"max_wrong": -1}, "`max_wrong` must be a count (0, 10) or a fraction"),
    ],
)
def test_an_invalid_option_fails_without_a_retry(known, run_task, options, problem):
    run = run_task(audit(**options))
    assert run.state == "failed"
    assert problem in str(run.error)


def test_a_connection_that_is_no_database_fails_without_a_retry(box, run_task):
    run = run_task(MediquoAuditPatientsOperator(task_id="audit", state_conn_id="mediquo_default"))
    assert run.state == "failed"
    assert "The connection mediquo_default is not an SQL database" in str(run.error)
