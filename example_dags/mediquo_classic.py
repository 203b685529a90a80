"""Upsert a few patients that are written in the DAG, wait until they are visible, and read one.

Use this for a handful of patients, such as a support team's test accounts. For members use
`mediquo_nightly`: patients in the code, or passed from one task to another, are stored in Airflow's
database.
"""

# [START classic]
from airflow.sdk import DAG
from pendulum import datetime

from airflow_provider_mediquo.operators.patients import (
    MediquoGetPatientOperator,
    MediquoUpsertPatientsOperator,
)
from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor

TEST_ACCOUNTS = [
    {
        "code": "test-account-1",
        "first_name": "Alba",
        "last_name": "Ejemplo",
        "gender": "female",
        "birth_date": "1990-04-12",
        "email": "alba@example.com",
        "phone": "+44 7700 900123",
        "plan": "premium",
        "locale": "es",
    },
    # No plan: this account shows what an unsubscribed patient sees.
    {"code": "test-account-2", "first_name": "Bruno", "meta": {"team": "support"}},
]

with DAG(
    dag_id="mediquo_classic",
    schedule=None,
    start_date=datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["mediquo"],
    doc_md=__doc__,
):
    upsert = MediquoUpsertPatientsOperator(
        task_id="upsert",
        patients=TEST_ACCOUNTS,
        max_without_plan=1,
    )
    wait = MediquoPatientSensor(
        task_id="wait_until_visible",
        written=upsert.output,
        # The worker is free between two checks.
        mode="reschedule",
        poke_interval=5,
        timeout=10 * 60,
    )
    read = MediquoGetPatientOperator(
        task_id="read",
        code="test-account-1",
        # List only the fields you need: the result is stored as XCom.
        fields=["code", "plan", "updated_at"],
    )
    wait >> read
# [END classic]
