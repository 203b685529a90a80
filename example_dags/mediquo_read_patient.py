"""Look one patient up, and prove that they can log in: for support, started by hand with a code."""

# [START read]
from airflow.sdk import DAG, Param
from pendulum import datetime

from airflow_provider_mediquo.operators.patients import (
    MediquoAuthenticatePatientOperator,
    MediquoGetPatientOperator,
)

with DAG(
    dag_id="mediquo_read_patient",
    schedule=None,
    start_date=datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    params={"code": Param("M-000001", type="string", description="The patient's code")},
    tags=["mediquo"],
    doc_md=__doc__,
):
    read = MediquoGetPatientOperator(
        task_id="read",
        code="{{ params.code }}",
        # No name, no birth date: when mediQuo last changed the patient is what support asks for.
        fields=["code", "updated_at"],
    )
    authenticate = MediquoAuthenticatePatientOperator(
        task_id="authenticate",
        # The token stays out of XCom; code that needs it calls MediquoHook.authenticate_patient.
        code="{{ params.code }}",
    )
    read >> authenticate
# [END read]
