"""What leaks on purpose."""

from airflow.sdk import DAG, Param, task

from tests.system.canaries import LEAK
from tests.system.privacy_dags.leaking import LeakingOperator
from tests.system.privacy_dags.told import write_down

print(f"Found by the DAG processor: {LEAK}")

with DAG("own_leaks", schedule=None, params={"leak": Param(LEAK)}):
    for name in ("upsert", "get", "authenticate"):
        LeakingOperator(task_id=f"{name}_leak", leak=LEAK)

    @task(on_failure_callback=write_down)
    def own_error(leak):
        raise LookupError(leak)

    own_error(LEAK)  # zqkLeak is in the code, too
