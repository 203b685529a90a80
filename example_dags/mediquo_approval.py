"""Keep mediQuo in sync with a table of members, and ask before many of them lose their plan.

Each night starts with a dry run. If no more members would lose their plan than the guard allows, the
run goes on by itself. If there are more, somebody has to approve the number first.

Use it instead of `mediquo_warehouse`, with the same connections: `mediquo_default`, `warehouse`, and
`mediquo_state`.
"""

# [START approval]
import os
from pathlib import Path

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, dag, task
from pendulum import datetime, duration

from airflow_provider_mediquo.sensors.patients import MediquoPatientSensor
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator

# The dry run and the run after it have these options in common.
SYNC = {
    "sql_conn_id": "warehouse",
    "sql": """
        SELECT member_id AS code, first_name, last_name, gender, birth_date, tax_id, email, phone,
               product AS plan, locale
        FROM members
    """,
    "state_conn_id": "mediquo_state",
    # As in mediquo_warehouse: another name would be another sync, which sends every member once.
    "sync_name": "members",
    "on_missing": "unsubscribe",
    # An approval counts only for its own run: if you clear an old run after a newer one, `apply`
    # fails.
    "as_of": "{{ dag_run.run_after }}",
    "rejects_path": str(os.environ.get("MEDIQUO_REJECTS", Path.home() / "mediquo-rejects")),
}

# Airflow stores this text: counts only, never codes.
QUESTION = """\
{%- set plan = ti.xcom_pull(task_ids="plan") -%}
**{{ "{:,}".format(plan.would_unsubscribe) }} members would lose their plan.** That is more than \
`max_unsubscribed` ({{ guard }}) allows. The counts of the dry run:
{% for name in ["read", "new", "changed", "unchanged", "rejected", "withheld", "missing"] %}
- {{ name }}: {{ "{:,}".format(plan[name]) }}
{%- endfor %}

**Approve**: everything is sent, and no more than these {{ "{:,}".format(plan.would_unsubscribe) }} \
members lose their plan.
**Reject**: nothing is sent.
"""


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tz="Europe/Madrid"),
    catchup=False,
    # The next run waits until this one has an answer; without one, this one fails before that.
    max_active_runs=1,
    dagrun_timeout=duration(hours=20),
    default_args={"retries": 3, "retry_delay": duration(minutes=5)},
    # Without an approval, one in a hundred may lose their plan.
    user_defined_macros={"guard": 0.01},
    tags=["mediquo"],
    doc_md=__doc__,
)
def mediquo_approval():
    plan = SqlToMediquoOperator(
        task_id="plan",
        dry_run=True,
        max_unsubscribed="{{ guard }}",
        # Only count rejects here: `apply` decides whether they are too many.
        max_rejects=0.99,
        **SYNC,
    )

    @task.branch
    def compare_with_guard(ledger):
        """Above the guard's limit, the dry run counts nobody as `unsubscribed`."""
        return "approve" if ledger["would_unsubscribe"] > ledger["unsubscribed"] else "apply"

    approve = ApprovalOperator(
        task_id="approve",
        subject="mediQuo: {{ ti.xcom_pull(task_ids='plan').would_unsubscribe }} plans would be lost",
        body=QUESTION,
        # No `defaults`: no answer is not an approval.
    )

    apply = SqlToMediquoOperator(
        task_id="apply",
        # If more would lose their plan by now than were approved, all of them keep it.
        max_unsubscribed="""{{ ti.xcom_pull(task_ids="plan").would_unsubscribe
            if (ti.xcom_pull(task_ids="approve") or {}).get("chosen_options") == ["Approve"]
            else guard }}""",
        max_rejects=10,
        # List the codes of those who lose their plan, next to the reject report.
        unsubscribed_report=True,
        outlets=[Asset("mediquo://patients")],
        # Also if there was nothing to approve, but not after a rejection.
        trigger_rule="none_failed_min_one_success",
        **SYNC,
    )

    MediquoPatientSensor(
        task_id="wait_until_visible",
        written=apply.output,
        deferrable=True,
        poke_interval=10,
        timeout=15 * 60,
    )

    compare_with_guard(plan.output) >> [approve, apply]
    approve >> apply


mediquo_approval()
# [END approval]
