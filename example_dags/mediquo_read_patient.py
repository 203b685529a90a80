"""Look up one patient and check that they can log in. For support: run it manually with a code."""

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
        # Support only needs to know when the patient last changed: no name, no birth date.
        fields=["code", "updated_at"],
    )
    authenticate = MediquoAuthenticatePatientOperator(
        task_id="authenticate",
        # The token is not stored as XCom. Code that needs it calls MediquoHook.authenticate_patient.
        code="{{ params.code }}",
    )
    read >> authenticate
# [END read]
