"""Every way to write each operator, and all of them succeed."""

import os

from airflow.sdk import DAG, Param, task

from airflow_provider_mediquo.operators.patients import (
    MediquoAuthenticatePatientOperator,
    MediquoGetPatientOperator,
    MediquoUpsertPatientsOperator,
)
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.file_to_mediquo import FileToMediquoOperator
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator
from tests.system.canaries import CODE, OWN_KEY, OWN_PATIENT, OWN_TOKEN, PATIENT

FILES = os.environ["PRIVACY_FILES"]

with DAG("ways", schedule=None, max_active_tasks=32, params={"name": Param(OWN_PATIENT["plan"])}):
    plain = MediquoUpsertPatientsOperator(task_id="plain", patients=[PATIENT])

    @task
    def own_patients():
        return [OWN_PATIENT]

    @task
    def own_lists():
        return [[OWN_PATIENT], [OWN_PATIENT]]

    one, lists = own_patients(), own_lists()
    MediquoUpsertPatientsOperator(task_id="from_xcom", patients=one)
    MediquoUpsertPatientsOperator(
        task_id="next_to_xcom",
        patients=[one, PATIENT, PATIENT],
        max_rejects=1,
        rejects_path=os.environ["PRIVACY_REJECTS"],
    )
    MediquoUpsertPatientsOperator.partial(task_id="mapped").expand(patients=lists)

    @task.mediquo_upsert
    def function():
        yield PATIENT

    @task.mediquo_upsert
    def arguments(first, *others, name, patients):
        assert name == PATIENT["first_name"]
        return patients

    @task.mediquo_upsert
    def templates(name, *, other, params):
        assert name == other == params["name"]
        return [PATIENT]

    @task.mediquo_upsert
    def mapped_function(patients):
        yield from patients

    @task.mediquo_upsert(retries=1, retry_delay=0.1)
    def tried_again(patients, ti):
        yield from patients
        if ti.try_number == 1:
            raise LookupError("the cursor is closed")

    function()
    arguments(PATIENT, PATIENT["email"], name=PATIENT["first_name"], patients=[PATIENT])
    templates("{{ params.name }}", other="{{ params['name'] }}")
    mapped_function.expand(patients=lists)
    tried_again([PATIENT])

    for form in ("csv", "jsonl.gz", "parquet"):
        FileToMediquoOperator(task_id=f"file_{form[:3]}", path=f"{FILES}/members.{form}")
    table = SqlToMediquoOperator(
        task_id="table",
        sql_conn_id="warehouse",
        sql="SELECT * FROM patients WHERE code = %(code)s",
        parameters={"code": CODE},
    )

    MediquoUpsertPatientsOperator(
        task_id="in_step",
        patients=[PATIENT, OWN_PATIENT],
        state_conn_id="mediquo_state",
        sync_name="ways",
    )

    @task.mediquo_upsert(mediquo_conn_id="mediquo_stored")
    def stored():
        yield PATIENT

    stored()

    MediquoGetPatientOperator(task_id="get_all", code=CODE)
    MediquoGetPatientOperator(task_id="few_fields", code=CODE, fields=["code", "updated_at"])
    MediquoAuthenticatePatientOperator(task_id="authenticate", code=CODE)

    @task
    def own_token():
        from airflow_provider_mediquo.hooks.mediquo import MediquoHook

        hook = MediquoHook("mediquo_own")
        token = hook.authenticate_patient(CODE)
        assert (token.access_token, hook.settings.secret_key) == (OWN_TOKEN, OWN_KEY)
        print(f"The token is {OWN_TOKEN}, the key {OWN_KEY}; {token!r}")

    own_token()

    for mode in ("poke", "reschedule", "deferrable"):
        how = {"deferrable": True} if mode == "deferrable" else {"mode": mode}
        MediquoPatientSensor(task_id=f"sees_{mode}", written=plain.output, poke_interval=1, **how)

with DAG("own_literals", schedule=None):
    MediquoUpsertPatientsOperator.partial(task_id="own_expand").expand(patients=[[OWN_PATIENT]])
