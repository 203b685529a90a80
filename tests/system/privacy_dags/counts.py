"""So many patients that their number is nowhere else, apart because a DAG of them is read slowly."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Asset

from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from tests.system.canaries import COUNT, PATIENT
from tests.system.privacy_dags.told import write_down

with DAG("counts", schedule=None, default_args={"on_failure_callback": write_down}):
    many = MediquoUpsertPatientsOperator(
        task_id="many",
        patients=[PATIENT] * COUNT,
        max_rejects=COUNT,
        outlets=[Asset("mediquo://patients")],
    )
    MediquoUpsertPatientsOperator(task_id="too_many", patients=[PATIENT] * COUNT)
    many >> ApprovalOperator(
        task_id="question",
        subject="{{ ti.xcom_pull(task_ids='many').read }} records",
        defaults="Reject",
        response_timeout=timedelta(seconds=10),
    )
