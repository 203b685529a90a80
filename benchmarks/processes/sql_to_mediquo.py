"""`SqlToMediquoOperator`: the rows of a statement, read as a stream.

Usage: sql_to_mediquo.py SQL [STATE_CONN_ID]
"""

import sys

# A task process has imported this before the task's code starts.
import airflow.sdk.execution_time.task_runner  # noqa: F401
from call import report


def upsert(sql: str, state: str | None = None) -> None:
    """Send the patients; with a state, those that changed."""
    from airflow_provider_mediquo.hooks.mediquo import MediquoHook
    from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator

    operator = SqlToMediquoOperator(task_id="upsert", sql_conn_id="postgres", sql=sql)
    MediquoHook().upsert_patients(operator.read_patients({}), state_conn_id=state)


report(lambda: upsert(*sys.argv[1:]))
