"""How a run accounts for what it sent: in its ledger, and with a state in a receipt."""

from __future__ import annotations

import logging

from airflow_provider_mediquo import __version__
from airflow_provider_mediquo.api.client.settings import Settings
from airflow_provider_mediquo.api.errors import MediquoError, StateError, StoppedError
from airflow_provider_mediquo.api.report import Receipt
from airflow_provider_mediquo.api.sync.receipts import FAILED, STOPPED, SUCCEEDED
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.visibility.fingerprint import key_id

log = logging.getLogger(__name__)


def receipt_of(settings: Settings) -> Receipt:
    """Return the receipt of a run that has sent nothing yet."""
    return Receipt(settings.base_url, __version__, key_id(settings.secret_key))


def close_ledger(ledger: Ledger, seconds: float, stopped_because: str | None) -> None:
    """Close the ledger, and log it."""
    report = ledger.close(seconds, stopped_because)
    note = " of a dry run: nothing was sent" if report.is_dry_run else ""
    log.info("Ledger%s\n%s", note, report.as_text())
    if unsubscribed := report.unsubscribed_as_text():
        log.info("%s", unsubscribed)


def close_sync(
    sync: SyncRun,
    error: BaseException | None,
    stopped_by: MediquoError | None,
    *,
    was_cut: bool,
) -> StateError | None:
    """Write the receipt and let the next run begin; return why that cannot be done.

    :param error: how the run ended, if it did not succeed.
    :param stopped_by: what ended it early.
    :param was_cut: whether requests were given up that may still arrive.
    """
    outcome = FAILED if error else SUCCEEDED
    if isinstance(stopped_by, StoppedError):
        outcome = STOPPED
    try:
        sync.close(outcome, type(error).__name__ if error else None, was_cut=was_cut)
    except StateError as raised:
        problem = raised
    except Exception as raised:  # noqa: BLE001  # such as a driver's, which may hold values
        problem = StateError(f"Cannot write the receipt of this run: {type(raised).__name__}.")
    else:
        return None
    log.warning("%s", problem.as_line())
    return problem
