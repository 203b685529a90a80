"""What leaks on purpose."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param, task

from tests.system.canaries import LEAK
from tests.system.privacy_dags.leaking import LeakingOperator
from tests.system.privacy_dags.told import write_down

print(f"Found by the DAG processor: {LEAK}")

with DAG("own_leaks", schedule=None, params={"leak": Param(LEAK)}):
    for name in ("upsert", "get", "authenticate"):
        # Again, as often as a busy scheduler takes its deferral for a failure: every second time.
        LeakingOperator(
            task_id=f"{name}_leak", leak=LEAK, retries=30, retry_delay=timedelta(seconds=1)
        )

    ApprovalOperator(
        task_id="leaking_question",
        subject=LEAK,
        defaults="Reject",
        response_timeout=timedelta(seconds=10),
    )

    @task(on_failure_callback=write_down)
    def own_error(leak):
        raise LookupError(leak)

    own_error(LEAK)  # zqkwbrvnjLeak is in the code, too
