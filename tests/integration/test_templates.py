"""A template in data is text: it is rendered nowhere between its source and mediQuo."""

import gzip
import json
import sqlite3
from contextlib import closing

import pytest
from airflow.sdk import task

from airflow_provider_mediquo.operators.patients import (
    MediquoAuthenticatePatientOperator,
    MediquoGetPatientOperator,
    MediquoUpsertPatientsOperator,
)
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator

pytestmark = pytest.mark.usefixtures("dag")

TEMPLATES = [
    "{{ conn.mediquo_default.password }}",
    "{{ var.value.x }}{% raw %}",
    "{% for n in range(9) %}{{ 1 + 1 }}{% endfor %}{# #}",
    "{{ 1/0 }}",
]
TEMPLATE = "".join(TEMPLATES)
PATIENT = {
    "code": "m-{{ 1 + 1 }}",
    "first_name": TEMPLATE,
    "plan": "{{ ds }}",
    "meta": {"{{ ds }}": ["{{ run_id }}"]},
}


@task
def source(number=0):
    """What it returns is given by the test."""


def upsert_of_a_list(tmp_path):
    return MediquoUpsertPatientsOperator(task_id="upsert", patients=[PATIENT])


def upsert_of_lists(tmp_path):
    return MediquoUpsertPatientsOperator.partial(task_id="upsert").expand(patients=[[PATIENT]])


def upsert_of_another_task(tmp_path):
    return MediquoUpsertPatientsOperator(task_id="upsert", patients=source())


def upsert_of_a_mapped_task(tmp_path):
    return MediquoUpsertPatientsOperator(task_id="upsert", patients=source.expand(number=[1]))


def function(tmp_path):
    @task.mediquo_upsert
    def upsert():
        yield PATIENT

    return upsert().operator


def function_with_arguments(tmp_path):
    @task.mediquo_upsert
    def upsert(patients, *, more):
        yield from (*patients, *more)

    return upsert([PATIENT], more=[]).operator


def function_with_what_another_task_returned(tmp_path):
    @task.mediquo_upsert
    def upsert(patients):
        yield from patients

    return upsert(source()).operator


def csv_file(tmp_path):
    meta = json.dumps(PATIENT["meta"]).replace('"', '""')
    cells = f'{PATIENT["code"]},{TEMPLATE},{PATIENT["plan"]},"{meta}"'
    (tmp_path / "{{ ds }}.csv").write_text(f"code,first_name,plan,meta\n{cells}\n")
    return FileToMediquoOperator(task_id="upsert", path=f"{tmp_path}/*.csv")


def json_lines(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(json.dumps(PATIENT).encode()))
    return FileToMediquoOperator(task_id="upsert", path=str(tmp_path))


def database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "members")) as members:
        members.execute("CREATE TABLE members (code, first_name, plan, meta)")
        values = PATIENT | {"meta": json.dumps(PATIENT["meta"])}
        members.execute("INSERT INTO members VALUES (?, ?, ?, ?)", [*values.values()])
        members.commit()
    return SqlToMediquoOperator(
        task_id="upsert", sql_conn_id="members", sql="SELECT * FROM members"
    )


SOURCES = [
    *(upsert_of_a_list, upsert_of_lists, upsert_of_another_task, upsert_of_a_mapped_task),
    *(function, function_with_arguments, function_with_what_another_task_returned),
    *(csv_file, json_lines, database),
]


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_a_template_in_a_record_is_sent_as_it_is(box, run_task, tmp_path, monkeypatch, make):
    connection = json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "members")})
    monkeypatch.setenv("AIRFLOW_CONN_MEMBERS", connection)
    index = 0 if make is upsert_of_lists else -1
    given = {("source", -1): [PATIENT], ("source", 0): [PATIENT]}
    run = run_task(make(tmp_path), xcoms=given, map_index=index)
    assert run.state == "success"
    (patient,) = box.patients.values()
    assert {name: patient[name] for name in PATIENT} == PATIENT
    assert box.secret_key not in run.everything


# --- in what comes back from an upsert, or from mediQuo -------------------------------------------


@pytest.fixture
def ledger(box, run_task):
    """Of an upsert of the patient, as it comes out of XCom."""
    run = run_task(MediquoUpsertPatientsOperator(task_id="upsert", patients=[PATIENT]))
    return run.result


def test_nor_in_the_ledger_that_a_sensor_gets(box, run_task, ledger):
    assert list(ledger["sample"]) == [PATIENT["code"]]
    sensor = MediquoPatientSensor(task_id="wait", written=source())
    run = run_task(sensor, xcoms={("source", -1): ledger})
    assert run.state == "success"
    assert PATIENT["code"] in str(run.rendered["written"])


def test_nor_in_the_ledgers_of_a_mapped_task(box, run_task, ledger):
    sensor = MediquoPatientSensor(task_id="wait", written=source.expand(number=[1]))
    assert run_task(sensor, xcoms={("source", 0): ledger}).state == "success"


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_nor_in_codes_that_a_sensor_gets(box, run_task, ledger, deferrable, listed):
    codes = [PATIENT["code"]] if listed else PATIENT["code"]
    sensor = MediquoPatientSensor(task_id="wait", codes=source(), deferrable=deferrable, timeout=60)
    assert run_task(sensor, xcoms={("source", -1): codes}).state == "success"


@pytest.mark.parametrize(
    "kind", [MediquoGetPatientOperator, MediquoAuthenticatePatientOperator], ids=["get", "token"]
)
def test_nor_in_a_code_that_an_operator_gets(box, run_task, ledger, kind):
    operator = kind(task_id="read", code=source())
    run = run_task(operator, xcoms={("source", -1): PATIENT["code"]})
    assert run.state == "success"
    assert run.result["code"] == PATIENT["code"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (MediquoGetPatientOperator, "code"),
        (MediquoAuthenticatePatientOperator, "code"),
        (MediquoPatientSensor, "codes"),
    ],
)
def test_nor_in_codes_that_a_task_is_mapped_over(box, run_task, ledger, kind, name):
    mapped = kind.partial(task_id="read").expand(**{name: source()})
    run = run_task(mapped, xcoms={("source", -1): [PATIENT["code"]]}, map_index=0)
    assert run.state == "success"


def test_nor_in_a_folder_that_another_task_returned(box, run_task, tmp_path):
    operator = MediquoUpsertPatientsOperator(
        task_id="upsert", patients=[{"code": "m-1"}], max_rejects=1, rejects_path=source()
    )
    run = run_task(operator, xcoms={("source", -1): f"{tmp_path}/{{{{ 1 + 1 }}}}"})
    assert run.result["rejects_path"].startswith(f"{tmp_path}/{{{{ 1 + 1 }}}}/")


def test_nor_in_what_mediquo_answers(box, run_task, ledger):
    run = run_task(
        MediquoGetPatientOperator(task_id="read", code=source()),
        xcoms={("source", -1): PATIENT["code"]},
    )
    assert run.result["first_name"] == TEMPLATE
