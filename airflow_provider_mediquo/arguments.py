"""Keyword arguments that operators pass on, spelled out for type checkers and editors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from airflow.sdk import DAG, TaskGroup


class TaskArguments(TypedDict, total=False):
    """The arguments of Airflow's BaseOperator, in Airflow 3.1 and later."""

    task_id: str
    owner: str
    email: str | Sequence[str] | None
    email_on_retry: bool
    email_on_failure: bool
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float
    max_retry_delay: timedelta | float | None
    retry_policy: Any
    start_date: datetime | None
    end_date: datetime | None
    depends_on_past: bool
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    wait_for_downstream: bool
    dag: DAG | None
    params: MutableMapping[str, Any] | None
    default_args: dict[str, Any] | None
    priority_weight: int
    weight_rule: Any
    queue: str
    pool: str | None
    pool_slots: int
    sla: timedelta | None
    execution_timeout: timedelta | None
    on_execute_callback: Any
    on_failure_callback: Any
    on_success_callback: Any
    on_retry_callback: Any
    on_skipped_callback: Any
    pre_execute: Any
    post_execute: Any
    trigger_rule: str
    resources: dict[str, Any] | None
    run_as_user: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    executor: str | None
    executor_config: dict[str, Any] | None
    do_xcom_push: bool
    multiple_outputs: bool
    inlets: Any
    outlets: Any
    task_group: TaskGroup | None
    doc: str | None
    doc_md: str | None
    doc_json: str | None
    doc_yaml: str | None
    doc_rst: str | None
    task_display_name: str | None
    logger_name: str | None
    allow_nested_operators: bool
    render_template_as_native_obj: bool | None


class MediquoArguments(TaskArguments, total=False):
    """The arguments of every mediQuo operator."""

    mediquo_conn_id: str


class UpsertArguments(MediquoArguments, total=False):
    """The arguments of every upsert; see MediquoUpsertBaseOperator."""

    max_rejects: float | str
    rejects_path: str | None
    max_without_plan: float | str | None
    columns: Mapping[str, str | None] | None
    chunk_size: int | str
    max_in_flight: int | str
    transform: Callable[[Any], Any] | None
    omit_invalid: bool
    phone_region: str | None
    min_records: int | str
    state_conn_id: str | None
    sync_name: str | None
    on_missing: Literal["keep", "unsubscribe"]
    max_unsubscribed: float | str | None
    resend_after: timedelta
    receipts_for: timedelta
    as_of: str | datetime | None
    dry_run: bool
    unsubscribed_report: bool
    warn_rejects: float | str | None
    on_warn_callback: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None


class SensorArguments(TaskArguments, total=False):
    """The arguments of Airflow's BaseSensorOperator."""

    mode: Literal["poke", "reschedule"]
    soft_fail: bool
    exponential_backoff: bool
    max_wait: timedelta | float | None
    silent_fail: bool
    never_fail: bool
