"""How an upsert passes its ledger on: as an XCom, to callbacks, and with its error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_mediquo.api.report import UploadReport

log = logging.getLogger(__name__)

LEDGER_KEY = "mediquo_ledger"
"""Of the XCom that holds the ledger, whether the task succeeds or fails."""

Callback = Callable[[Any], Any]
"""As Airflow's `on_failure_callback` takes it: a function of the context, or a notifier."""


def push_ledger(report: UploadReport, context: Context) -> None:
    """Push a ledger as XCom."""
    context["ti"].xcom_push(key=LEDGER_KEY, value=report.as_dict())


def add_report(error: BaseException, report: UploadReport | None) -> None:
    """Set the `report` of an error, which callbacks read, unless it has one."""
    with suppress(Exception):  # it may allow no such attribute
        error.report = getattr(error, "report", report)  # type: ignore[attr-defined]  # for callbacks


def push_ledger_of(error: BaseException, context: Context) -> None:
    """Push the ledger of a run that failed, if it got so far."""
    report = getattr(error, "report", None)
    if report is None:
        return
    try:
        push_ledger(report, context)
    except BaseException as problem:  # noqa: BLE001  # whatever it is, the task has its error
        log.warning("Cannot push the XCom %s (%s).", LEDGER_KEY, type(problem).__name__)


def warn(
    callbacks: Callback | Sequence[Callback] | None,
    context: Context,
    report: UploadReport,
    warn_rejects: float | None,
) -> None:
    """Call callbacks with the context and the ledger in it, `report`, if there are too many rejects.

    Their errors are logged: what was sent is sent.
    """
    from airflow_provider_mediquo.api.upload.options import is_within

    if is_within(warn_rejects or 0, report.rejected, report.read):
        return
    each = callbacks if isinstance(callbacks, Sequence) else [callbacks] if callbacks else []
    for callback in each:
        try:
            callback({**context, "report": report})
        except Exception:
            log.warning("`on_warn_callback` failed.", exc_info=True)
