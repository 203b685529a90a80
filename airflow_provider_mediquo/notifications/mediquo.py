"""Tells people how an upsert ended, in counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from airflow_provider_mediquo.api.report import OUTCOMES
from airflow_provider_mediquo.operators.ledgers import LEDGER_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MediquoNotifier(BaseNotifier):
    """Lets other notifiers report how an upsert ended: `{{ mediquo }}` in their templates.

    The text has names and counts, no code and no value of a patient. For `on_failure_callback`,
    `on_retry_callback`, `on_success_callback`, and `on_warn_callback`.

    :param notifiers: such as `SlackWebhookNotifier(text="{{ mediquo }}")`, or functions of the context.
        They get neither the error nor the ledger: both may hold codes.
    """

    def __init__(self, *notifiers: Callable[[Any], Any]) -> None:
        super().__init__()
        self.notifiers = notifiers

    def notify(self, context: Context) -> None:
        """Call each notifier, then raise the first error; the other errors are logged."""
        # Empty, not left out: Airflow's templates fail on a name that is not there.
        names = {"exception": "", "report": "", "mediquo": ledger_text(context)}
        errors: list[Exception] = []
        for notifier in self.notifiers:
            try:
                notifier({**context, **names})
            except Exception as error:  # noqa: BLE001  # the others have to be called, too
                errors.append(error)
        for other in errors[1:]:
            self.log.error("Another notifier failed.", exc_info=other)
        if errors:
            raise errors[0]


def ledger_text(context: Mapping[str, Any]) -> str:
    """Return how the upsert of a callback ended: names and counts only."""
    ti, error = context["ti"], context.get("exception")
    index = getattr(ti, "map_index", None)
    task = f"{ti.task_id}[{index}]" if index is not None and index >= 0 else ti.task_id
    ledger = _ledger_of(context)
    counts = [
        f"{ledger[name]:,} {name}"
        for name in (*OUTCOMES, "unwritten")
        if type(ledger.get(name)) is int and ledger[name]
    ]
    if isinstance(error, BaseException):
        # What is not retried arrives as Airflow's AirflowFailException, which knows what it was.
        what = f"failed ({getattr(error, 'error_name', type(error).__name__)})"
    elif error:
        what = "failed"
    elif "report" in context:
        what = "succeeded, with more rejects than `warn_rejects`"
    else:
        what = "succeeded"
    dry = ", dry run" if ledger.get("is_dry_run") else ""
    none = "nothing was read" if ledger else "no ledger"
    return f"mediQuo: {ti.dag_id}.{task} of {ti.run_id} {what}{dry}.\n{', '.join(counts) or none}"


def _ledger_of(context: Mapping[str, Any]) -> Mapping[str, Any]:
    report = context.get("report") or getattr(context.get("exception"), "report", None)
    if report is not None:
        return dict(report.as_dict())
    ti = context["ti"]
    try:
        found = ti.xcom_pull(task_ids=ti.task_id, key=LEDGER_KEY, map_indexes=ti.map_index)
    except Exception:  # noqa: BLE001  # where Airflow calls back without a task, there is no XCom
        found = None
    return found if isinstance(found, Mapping) else {}
