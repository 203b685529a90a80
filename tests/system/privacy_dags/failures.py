"""Every operator, failing in every way that it can."""

import os
from itertools import cycle

from airflow.sdk import DAG, task

from airflow_provider_mediquo.operators.patients import (
    MediquoAuthenticatePatientOperator,
    MediquoGetPatientOperator,
    MediquoUpsertPatientsOperator,
)
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator
from tests.system.canaries import CODE, COLUMN, NOBODY, PATIENT
from tests.system.privacy_dags.told import write_down

FILES = os.environ["PRIVACY_FILES"]
REJECTS = os.environ["PRIVACY_REJECTS"]
HASTE = {"poke_interval": 1, "timeout": 3}
SENSORS = {
    "poke": HASTE,
    "reschedule": HASTE | {"mode": "reschedule"},
    # Longer: a busy triggerer has to check before the time is up.
    "deferrable": HASTE | {"deferrable": True, "timeout": 60},
}
TOLD = {"on_failure_callback": write_down}


def wrong(**changes):
    return PATIENT | changes


with DAG("faults", schedule=None, max_active_tasks=32, default_args=TOLD):
    turns = cycle(SENSORS.items())
    for fault in os.environ["PRIVACY_FAULTS"].split():
        conn = {"mediquo_conn_id": f"mediquo_{fault}"}
        MediquoUpsertPatientsOperator(task_id=f"upsert_{fault}", patients=[PATIENT], **conn)
        MediquoGetPatientOperator(task_id=f"get_{fault}", code=CODE, **conn)
        MediquoAuthenticatePatientOperator(task_id=f"authenticate_{fault}", code=CODE, **conn)
        mode, how = next(turns)
        MediquoPatientSensor(task_id=f"{mode}_{fault}", codes=[CODE], **how, **conn)

with DAG("failures", schedule=None, max_active_tasks=32, default_args=TOLD):
    MediquoUpsertPatientsOperator(
        task_id="schema",
        rejects_path=REJECTS,
        patients=[
            PATIENT,
            PATIENT,
            *(wrong(**{name: f"{value}\n\x00"}) for name, value in PATIENT.items()),
            wrong(**{COLUMN: PATIENT["plan"]}),
            wrong(**{PATIENT["last_name"]: 1}),
            PATIENT["email"],
        ],
    )
    MediquoUpsertPatientsOperator(
        task_id="logged",
        patients=[PATIENT, PATIENT, wrong(code=f"{CODE}-2", phone=PATIENT["tax_id"])],
        mediquo_conn_id="mediquo_refusing",
    )
    MediquoUpsertPatientsOperator(
        task_id="plan_guard",
        patients=[wrong(code=f"{CODE}-{number}", plan="") for number in range(100)],
    )
    MediquoUpsertPatientsOperator(
        task_id="lost_plan",
        patients=[wrong(code=f"{CODE}-lost", plan=None), wrong(code=f"{CODE}-lost")],
    )
    MediquoUpsertPatientsOperator(
        task_id="no_folder", patients=[PATIENT], rejects_path=f"{FILES}/members.csv/in"
    )
    MediquoUpsertPatientsOperator(task_id="no_list", patients=PATIENT)
    MediquoUpsertPatientsOperator(task_id="option", patients=[PATIENT], chunk_size=1000)
    MediquoUpsertPatientsOperator(
        task_id="template", patients=[PATIENT], rejects_path="{{ 1 / 0 }}"
    )
    MediquoUpsertPatientsOperator(
        task_id="killed", patients=[PATIENT], mediquo_conn_id="mediquo_slow"
    )
    MediquoGetPatientOperator(task_id="get_nobody", code=NOBODY)
    MediquoGetPatientOperator(task_id="get_no_code", code=f"{CODE}\n2")
    MediquoGetPatientOperator(task_id="get_wrong_field", code=CODE, fields=["nickname"])
    MediquoAuthenticatePatientOperator(task_id="authenticate_nobody", code=NOBODY)

    @task.mediquo_upsert
    def generator(patients):
        yield from patients
        raise LookupError("the cursor is closed")

    @task.mediquo_upsert
    def argument(patients, name):
        yield from patients

    generator([PATIENT])
    argument([PATIENT], "{{ there.is.none }}")

    for name in ("cut.jsonl.gz", "no_header.csv", "quotes.csv", "cut.parquet", "columns.csv"):
        FileToMediquoOperator(
            task_id=f"file_{name[:-4]}", path=f"{FILES}/broken/{name}", rejects_path=REJECTS
        )
    for name, sql in {
        "cast": "SELECT code, first_name, plan::int AS plan FROM patients",
        "syntax": "SELECT code, first_name, FROM patients",
        "column": f'SELECT code, first_name, plan AS "{COLUMN}" FROM patients',
    }.items():
        SqlToMediquoOperator(task_id=f"sql_{name}", sql_conn_id="warehouse", sql=sql)
    for fault in ("refusing", "keys"):
        conn = {"mediquo_conn_id": f"mediquo_{fault}"}
        FileToMediquoOperator(task_id=f"file_{fault}", path=f"{FILES}/members.csv", **conn)
        SqlToMediquoOperator(
            task_id=f"sql_{fault}", sql_conn_id="warehouse", sql="SELECT * FROM patients", **conn
        )
        task.mediquo_upsert(task_id=f"function_{fault}", **conn)(lambda: [PATIENT])()

    # What mediQuo shows of these is what was there before.
    late = MediquoUpsertPatientsOperator(
        task_id="late", patients=[PATIENT], mediquo_conn_id="mediquo_late"
    )
    for mode, how in SENSORS.items():
        MediquoPatientSensor(task_id=f"nobody_{mode}", codes=[NOBODY], **how)
        MediquoPatientSensor(
            task_id=f"differs_{mode}",
            written=late.output,
            mediquo_conn_id="mediquo_late",
            **how,
        )
        MediquoPatientSensor(
            task_id=f"rekeyed_{mode}",
            written=late.output,
            mediquo_conn_id="mediquo_rekeyed",
            **how,
        )
    MediquoPatientSensor(task_id="no_ledger", written={"sample": {CODE: "no proof"}})
