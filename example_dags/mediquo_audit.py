"""Check every week that mediQuo has the members as they were sent.

Reads 3,000 random members back, at mediQuo's pace: five minutes. If none of them is wrong, at most one in
a thousand of all members is wrong, with 95% confidence.

Copy it, and add two connections: `mediquo_default`, and `mediquo_state`, which `mediquo_warehouse`
writes to.
"""

# [START audit]
from airflow.sdk import dag
from pendulum import datetime, duration

from airflow_provider_mediquo.operators.patients import MediquoAuditPatientsOperator


@dag(
    # At a time when no sync runs: mediQuo may not show yet what was just sent.
    schedule="0 6 * * SUN",
    start_date=datetime(2026, 1, 1, tz="Europe/Madrid"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_audit():
    # Members that are wrong are sent again by the next run of the sync, whether this task fails or not.
    MediquoAuditPatientsOperator(
        task_id="audit",
        state_conn_id="mediquo_state",
        sample_size=3000,
        # Fail if a single one of them is wrong.
        max_wrong=0,
    )


mediquo_audit()
# [END audit]
