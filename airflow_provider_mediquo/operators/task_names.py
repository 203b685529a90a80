"""Names made from a task's IDs: who holds a sync, and the reject report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mediquo.api.sync.settings import Holder


def holder_of(context: Context) -> Holder:
    """Return who runs a sync."""
    from airflow_provider_mediquo.api.sync.settings import Holder

    ti = context["ti"]
    text = f"{ti.dag_id}.{ti.task_id} of {ti.run_id}"
    return Holder(text, ti.dag_id, ti.run_id, ti.task_id)


def rejects_name(context: Context) -> str:
    """Return the name of a try's reject report."""
    from airflow_provider_mediquo.api.upload.reject_files import as_name

    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    dag, run, task = map(as_name, (ti.dag_id, ti.run_id, ti.task_id))
    return f"{dag}/{run}/{task}-{map_index}-{ti.try_number}.jsonl"
