"""No patient value, key or token leaves the worker, except to mediQuo.

Each patient's field, both keys and the token hold text that is nowhere else; it is looked for in
every byte that goes to Airflow: the fields that the UI shows, XCom, states, the log at DEBUG, the
serialized DAG, what a trigger is made of and its events, and in the errors themselves.

Codes are no secret here: the ledger and the rejects name them. Known and not asserted: Airflow
stores literals in `.expand(patients=[...])` and `.partial(patients=[...])` in the serialized DAG,
and what a task returns, also to an upsert, as XCom.
"""

import json
import os
import pickle
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from airflow.sdk import DAG, Asset, task

from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import (
    MediquoAuthenticatePatientOperator,
    MediquoGetPatientOperator,
    MediquoUpsertPatientsOperator,
)
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator
from tests.support.airflow_runner import DagSerialization
from tests.support.carried import locals_of, texts_of

# What it runs, the tests of each operator run, too.
pytestmark = [pytest.mark.usefixtures("dag"), pytest.mark.no_cover]

API_KEY, SECRET_KEY, WRONG_KEY = (
    "canaryinamine-api-key",
    "canaryinamine-secret-key",
    "canaryinamine-wrong-key",
)
VALUES = {
    "first_name": "Canaryinaminefirst",
    "last_name": "Canaryinaminelast",
    "birth_date": "1961-07-23",
    "tax_id": "CANARYINAMINETAX",
    "email": "canaryinamine@example.com",
    "plan": "canaryinamineplan",
    "phone": "+44 7700 900777",
    "meta": {"canaryinaminekey": "canaryinaminemeta"},
}
PATIENT = {"code": "m-1", "gender": "female", "locale": "pt", **VALUES}
CANARIES = [
    *(value for value in VALUES.values() if isinstance(value, str)),
    "7700 900777",
    "7700900777",
    "canaryinaminekey",
    "canaryinaminemeta",
    API_KEY,
    SECRET_KEY,
    WRONG_KEY,
    "canaryinamine",  # and whatever else may be made of them
]


def found_in(text):
    text = text.lower()
    found = [canary for canary in CANARIES if canary.lower() in text]
    # As a word: what looks random, such as a proof, may hold six letters by chance.
    return found + re.findall(r"(?<![a-z0-9])female(?![a-z0-9])", text)


def assert_nothing_leaked(run):
    assert '"debug"' in run.log
    assert found_in(run.everything) == []
    assert found_in("\n".join(texts_of(run.error))) == []
    keys = {API_KEY, SECRET_KEY, WRONG_KEY}
    assert [told for told in locals_of(run.error) if keys & {*found_in(told[1])}] == []


@pytest.fixture
def box(start_box):
    return start_box(api_key=API_KEY, secret_key=SECRET_KEY)


# --- an upsert, however it is written, and however it ends ----------------------------------------


@task
def source():
    """What it returns is given by the test."""


def plain(patients, **options):
    return MediquoUpsertPatientsOperator(task_id="upsert", patients=patients, **options)


def from_another_task(patients, **options):
    return MediquoUpsertPatientsOperator(task_id="upsert", patients=source(), **options)


def mapped(patients, **options):
    partial = MediquoUpsertPatientsOperator.partial(task_id="upsert", **options)
    return partial.expand(patients=[patients])


def mapped_over_another_task(patients, **options):
    partial = MediquoUpsertPatientsOperator.partial(task_id="upsert", **options)
    return partial.expand(patients=source.override(task_id="lists")())


def next_to_what_another_task_returned(patients, **options):
    return MediquoUpsertPatientsOperator(
        task_id="upsert", patients=[source(), *patients], max_rejects=9, **options
    )


def function(patients, **options):
    @task.mediquo_upsert(**options)
    def upsert():
        yield from patients

    return upsert().operator


def function_with_arguments(patients, **options):
    @task.mediquo_upsert(**options)
    def upsert(first, *others, name, patients):
        assert name == "Canaryinaminefirst"
        yield from patients

    return upsert(*patients, patients, name="Canaryinaminefirst", patients=patients).operator


def function_with_what_another_task_returned(patients, **options):
    @task.mediquo_upsert(**options)
    def upsert(patients):
        yield from patients

    return upsert(source()).operator


def function_with_arguments_next_to_what_another_task_returned(patients, **options):
    @task.mediquo_upsert(**options)
    def upsert(one, *others, name, patients):
        yield from patients

    one = source()
    return upsert(one, *patients, name=VALUES["first_name"], patients=[one, *patients]).operator


def function_with_templates(patients, **options):
    @task.mediquo_upsert(params={"name": VALUES["first_name"]}, **options)
    def upsert(name, *, other):
        assert name == other == VALUES["first_name"]
        yield from patients

    return upsert("{{ params.name }}", other="{{ params['name'] }}").operator


def mapped_function(patients, **options):
    @task.mediquo_upsert(**options)
    def upsert(name, patients):
        yield from patients

    return upsert.partial(name=VALUES["first_name"]).expand(patients=[patients]).operator


def from_a_file(patients, **options):
    path = Path(tempfile.mkdtemp(dir=os.environ["AIRFLOW_HOME"])) / "members.jsonl"
    path.write_text("".join(json.dumps(patient) + "\n" for patient in patients))
    return FileToMediquoOperator(task_id="upsert", path=str(path), **options)


def from_a_table(patients, **options):
    path = Path(tempfile.mkdtemp(dir=os.environ["AIRFLOW_HOME"])) / "members.db"
    columns = ["code", "gender", "locale", *VALUES]
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE members ({', '.join(columns)})")
        rows = [[patient.get(name) for name in columns] for patient in patients]
        rows = [[json.dumps(v) if isinstance(v, dict) else v for v in row] for row in rows]
        marks = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO members VALUES ({marks})", rows)
        database.commit()
    os.environ["AIRFLOW_CONN_MEMBERS"] = json.dumps({"conn_type": "sqlite", "host": str(path)})
    return SqlToMediquoOperator(
        task_id="upsert", sql_conn_id="members", sql="SELECT * FROM members", **options
    )


WAYS = [
    plain,
    from_a_file,
    from_a_table,
    from_another_task,
    mapped,
    mapped_over_another_task,
    function,
    function_with_arguments,
    function_with_what_another_task_returned,
    function_with_templates,
    mapped_function,
]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def upsert(request, run_task):
    """Run an upsert, written in one of many ways."""

    def upsert(patients, **options):
        operator = request.param(patients, **options)
        map_index = 0 if "mapped" in request.param.__name__ else -1
        xcoms = {("source", -1): patients, ("lists", -1): [patients]}
        return run_task(operator, xcoms=xcoms, map_index=map_index)

    return upsert


def test_an_upsert_that_succeeds(box, upsert):
    run = upsert([PATIENT])
    assert run.state == "success"
    assert box.patients["m-1"]["tax_id"] == "CANARYINAMINETAX"
    assert_nothing_leaked(run)


def test_the_event_of_its_asset_and_its_lineage(box, upsert):
    run = upsert([PATIENT], outlets=[Asset("mediquo://patients")])
    assert '"read":1' in run.everything.replace(" ", "")
    assert_nothing_leaked(run)
    assert "/patients" in (lineage := repr(run.task.get_openlineage_facets_on_start()))
    assert found_in(lineage) == []


def test_one_whose_values_mediquo_refuses_and_quotes(box, upsert):
    box.settings.refuse_tax_id = "CANARYINAMINETAX"
    run = upsert([PATIENT])
    assert run.state == "failed"
    assert "422" in str(run.error)
    assert_nothing_leaked(run)


def test_one_whose_values_the_schema_refuses(box, upsert, tmp_path):
    wrong = {name: f"canaryinamine {value} \u2028" for name, value in VALUES.items()}
    patients = [
        PATIENT,
        PATIENT,
        wrong | {"code": "m-2"},
        wrong | {"code": "canaryinamine\ncode"},
        wrong
        | {
            "code": "m-3",
            "first_name": "A",
            "Canaryinamine O'Unknown": "canaryinamine",
            "canaryinaminefirst@": 1,
        },
        {"code": "m-4", **dict.fromkeys(VALUES, "canaryinamine")},
    ]
    run = upsert(patients, rejects_path=str(tmp_path))
    assert run.state == "failed"
    assert_nothing_leaked(run)
    (file,) = tmp_path.rglob("*.jsonl")
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) == 5
    assert found_in(text) == []


def test_one_that_lists_the_unsubscribed(box, upsert, tmp_path):
    patients = [PATIENT, PATIENT | {"code": "m-2", "plan": ""}]
    run = upsert(patients, rejects_path=str(tmp_path), unsubscribed_report=True)
    assert run.state == "success"
    assert_nothing_leaked(run)
    (file,) = tmp_path.rglob("*.jsonl")
    text = file.read_text(encoding="utf-8")
    assert '"m-2"' in text
    assert found_in(text) == []


def test_one_with_rejects_that_are_logged(box, upsert):
    run = upsert([{"code": "m-2", **dict.fromkeys(VALUES, "canaryinamine")}], max_rejects=1)
    assert run.state == "success"
    assert "Rejected" in run.log
    assert_nothing_leaked(run)


def test_one_with_wrong_keys(box, connect, upsert):
    connect(box, login=WRONG_KEY)
    run = upsert([PATIENT])
    assert run.state == "failed"
    assert_nothing_leaked(run)


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("outcome", ["lost_before", "503", "not_json", "400"])
def test_one_without_an_answer(box, run_task, outcome):
    box.script("upsert", *[outcome] * 5)
    run = run_task(plain([PATIENT]))
    assert run.state == ("failed" if outcome == "400" else "up_for_retry")
    assert_nothing_leaked(run)


def test_one_whose_template_is_wrong(box, upsert):
    run = upsert([PATIENT], rejects_path="{{ 1 / 0 }}")
    assert run.state == "up_for_retry"
    assert "ZeroDivisionError" in run.log
    assert_nothing_leaked(run)


def test_one_whose_option_is_wrong(box, upsert):
    run = upsert([PATIENT], chunk_size=1000)
    assert run.state == "failed"
    assert_nothing_leaked(run)


def test_one_whose_source_breaks(box, run_task):
    @task.mediquo_upsert
    def upsert(patient):
        yield patient
        raise LookupError("the cursor is closed")

    run = run_task(upsert(PATIENT).operator)
    assert run.state == "up_for_retry"
    assert "the cursor is closed" in run.log
    assert_nothing_leaked(run)


def test_one_whose_argument_is_a_wrong_template(box, run_task):
    @task.mediquo_upsert
    def upsert(patient, name):
        yield patient

    run = run_task(upsert(PATIENT, "{{ there.is.none }}").operator)
    assert run.state == "up_for_retry"
    assert_nothing_leaked(run)


def test_one_that_would_unsubscribe(box, run_task):
    patients = [PATIENT | {"code": f"m-{number}", "plan": ""} for number in range(100)]
    run = run_task(plain(patients))
    assert run.state == "failed"
    assert_nothing_leaked(run)


@pytest.mark.parametrize(
    "content",
    [
        "m-1,Canaryinaminefirst,Canaryinaminelast\nm-2,Canaryinamine,Canaryinamine\n",
        'code,first_name\nm-1,Canaryinamine,canaryinamine\nm-2,"Canaryinamine"canaryinamine\nm-3,"canaryinamine',
        '{"code": "m-1", "first_name": "Canaryinamine"',
        '[{"code": "m-1", "first_name": "Canaryinamine"}]',
    ],
    ids=["no header", "quotes", "cut off", "array"],
)
def test_one_of_a_broken_file(box, run_task, tmp_path, content):
    (tmp_path / "members").write_text(content)
    run = run_task(FileToMediquoOperator(task_id="upsert", path=str(tmp_path / "members")))
    assert run.state == "failed"
    assert_nothing_leaked(run)


@pytest.mark.parametrize("patients", ["canaryinamine", PATIENT, {"canaryinamine": 1}])
def test_one_of_what_is_no_list(box, run_task, patients):
    run = run_task(plain(patients))
    assert run.state == "failed"
    assert_nothing_leaked(run)


# --- with a state ---------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state in a file; return the rows of its tables."""
    file = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(file)}))

    def rows(*tables):
        with closing(sqlite3.connect(file)) as database:
            return "\n".join(
                repr(row) for table in tables for row in database.execute(f"SELECT * FROM {table}")
            )

    return rows


TABLES = ("mediquo_state", "mediquo_sync", "mediquo_member", "mediquo_receipt")


def test_one_with_a_state_that_warns(box, upsert, state, tmp_path):
    told = []

    def tell(context):
        report = context["report"]
        told.extend([repr(report), json.dumps(report.as_dict()), str(pickle.dumps(report))])

    wrong = {"code": "m-2", **dict.fromkeys(VALUES, "canaryinamine")}
    options = {"max_rejects": 9, "warn_rejects": 0, "on_warn_callback": tell}
    state_of_each = {"state_conn_id": "state", "sync_name": "members-{{ ti.map_index }}"}
    run = upsert([PATIENT, wrong], **state_of_each, **options)
    assert run.state == "success", run.error
    assert "More rejects than `warn_rejects`" in run.log
    assert_nothing_leaked(run)
    assert "'m-2'" not in state("mediquo_member")  # without quotes a proof may hold it by chance
    assert found_in(state(*TABLES)) == []
    assert "birth_date, code, email" in (receipts := state("mediquo_receipt"))
    assert "m-1" not in receipts
    assert told
    assert found_in("\n".join(told)) == []
    path = tmp_path / "receipts.csv"
    assert MediquoHook().export_receipts(path, state_conn_id="state") == 1
    assert found_in(exported := path.read_text(encoding="utf-8")) == []
    assert "m-1" not in exported


@pytest.mark.parametrize("is_source", [True, False], ids=["source", "rejects"])
def test_one_with_a_state_that_fails(box, run_task, state, is_source):
    @task.mediquo_upsert(state_conn_id="state", sync_name="members")
    def upsert():
        yield PATIENT
        yield PATIENT | {"code": "m-2", "email": "canaryinamine"}
        if is_source:
            raise LookupError("the cursor is closed")

    run = run_task(upsert().operator)
    assert run.state == ("up_for_retry" if is_source else "failed")
    assert_nothing_leaked(run)
    assert found_in(state(*TABLES)) == []
    receipts = state("mediquo_receipt")
    assert ("LookupError" if is_source else "TooManyRejectsError") in receipts
    assert "m-1" not in receipts


def test_one_whose_receipt_cannot_be_written(box, run_task, state, tmp_path):
    @task.mediquo_upsert(state_conn_id="state", sync_name="members")
    def upsert():
        yield PATIENT
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as database:
            database.execute("DROP TABLE mediquo_receipt")

    run = run_task(upsert().operator)
    assert run.state == "up_for_retry"
    assert "Cannot write the receipt of this run" in run.log
    assert_nothing_leaked(run)


def test_a_person_who_is_forgotten(box, state, caplog):
    hook = MediquoHook()
    hook.upsert_patients([PATIENT], state_conn_id="state")
    caplog.clear()
    caplog.set_level("DEBUG")
    forgotten = hook.forget_patient("m-1", state_conn_id="state")
    assert "m-1" not in state(*TABLES) + repr(forgotten) + str(forgotten) + caplog.text
    assert found_in(caplog.text) == []


# --- the other tasks ------------------------------------------------------------------------------


@pytest.fixture
def ledger(box):
    box.settings.clock_skew = -3600
    written = MediquoHook().upsert_patients([PATIENT]).as_dict()
    box.settings.clock_skew = 0
    return written


def test_a_patient_of_which_one_field_is_read(ledger, run_task):
    operator = MediquoGetPatientOperator(task_id="read", code="m-1", fields=["code", "updated_at"])
    run = run_task(operator)
    assert run.state == "success"
    assert_nothing_leaked(run)


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("outcome", ["400", "401", "500", "not_json", "lost_before"])
def test_a_patient_that_cannot_be_read(box, run_task, outcome):
    box.script("get", *[outcome] * 5)
    run = run_task(MediquoGetPatientOperator(task_id="read", code="m-1"))
    assert run.state == ("failed" if outcome in ("400", "401") else "up_for_retry")
    assert_nothing_leaked(run)


def test_a_patients_token(ledger, run_task, monkeypatch):
    tokens = []
    ask = MediquoHook.authenticate_patient
    monkeypatch.setattr(
        MediquoHook, "authenticate_patient", lambda *a: tokens.append(ask(*a)) or tokens[0]
    )
    run = run_task(MediquoAuthenticatePatientOperator(task_id="prove", code="m-1"))
    assert run.state == "success"
    assert_nothing_leaked(run)
    for part in tokens[0].access_token.split("."):
        assert part not in run.everything


@pytest.mark.usefixtures("no_backoff")
def test_a_token_in_an_answer_that_cannot_be_read(box, ledger, run_task):
    box.script("authenticate", *["not_json"] * 5)
    run = run_task(MediquoAuthenticatePatientOperator(task_id="prove", code="m-1"))
    assert run.state == "up_for_retry"
    assert_nothing_leaked(run)


def test_a_sensor_that_waits_for_a_change_until_it_gives_up(box, ledger, run_task):
    box.settings.lag = 10_000
    changed = {"last_name": "Canaryinaminenew", "email": "new.canaryinamine@example.com"}
    written = MediquoHook().upsert_patients([PATIENT | changed]).as_dict()
    sensor = MediquoPatientSensor(
        task_id="wait", written=written, deferrable=True, timeout=0.3, poke_interval=0.1
    )
    run = run_task(sensor)
    assert run.state == "deferred"
    assert_nothing_leaked(run)
    event = run.wait_in_triggerer()
    assert event["status"] == "timed out"
    assert "m-1 (last_name, email)" in event["detail"]
    assert found_in(json.dumps([run.trigger_kwargs, event])) == []
    ended = run_task(sensor, event=event)
    assert ended.state == "failed"
    assert_nothing_leaked(ended)


@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
def test_a_sensor_with_wrong_keys(box, connect, ledger, run_task, mode):
    connect(box, login=WRONG_KEY)
    options = {"deferrable": True} if mode == "deferrable" else {"mode": mode}
    run = run_task(MediquoPatientSensor(task_id="wait", written=ledger, **options))
    assert run.state == "failed"
    assert_nothing_leaked(run)


# --- the DAG as Airflow stores it -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "shown"),
    [
        (plain, "<1 patient>"),
        (from_another_task, "source"),
        (function, "<0 arguments>"),
        (function_with_arguments, "<2 arguments>"),
        (function_with_what_another_task_returned, "source"),
        (next_to_what_another_task_returned, "source"),
        (function_with_arguments_next_to_what_another_task_returned, "source"),
    ],
    ids=lambda way: getattr(way, "__name__", ""),
)
def test_the_serialized_dag_holds_a_count(way, shown):
    with DAG("stored", schedule=None) as dag:
        way([PATIENT])
    stored = json.dumps(DagSerialization.to_dict(dag))
    assert shown in stored
    assert found_in(stored) == []


def test_the_serialized_dag_is_the_same_each_time():
    """An address of an object in it would make a new version of the DAG with each parsing."""

    def stored():
        with DAG("stored", schedule=None) as dag:
            plain([dict(PATIENT)])
            function_with_arguments_of_its_own([dict(PATIENT)])
        return DagSerialization.to_dict(dag)

    def function_with_arguments_of_its_own(patients):
        @task.mediquo_upsert
        def another(patients):
            return patients

        return another(patients)

    assert stored() == stored()
