"""The receipts: what each run sent, in counts and names, whatever became of it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import delete, insert, inspect, select, tuple_, update
from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.report import OUTCOMES, UploadReport
from airflow_provider_mediquo.api.sync.lease import Lease, clock
from airflow_provider_mediquo.api.sync.settings import SyncSettings
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import RECEIPT

log = logging.getLogger(__name__)

RUNNING, SUCCEEDED, FAILED, STOPPED, LOST = "running", "succeeded", "failed", "stopped", "lost"
COLUMNS = tuple(column.name for column in RECEIPT.columns if column.name not in ("id", "sync_id"))
"""What a receipt has, as it is exported."""

_EPOCH = datetime(1970, 1, 1)  # like the database's clock in UTC
_ORDER = ("started_at", "sync_id", "run", "id")
_PAGE = 1000


class RunReceipt:
    """The receipt of one run.

    Its row is written before anything is sent, and its counts with each heartbeat, so that a run that
    is killed has one too.

    :param report: the ledger of the run, which others go on counting in.
    """

    def __init__(self, settings: SyncSettings, lease: Lease, report: UploadReport) -> None:
        self._id = uuid.uuid4().hex
        self._sync_id, self._run = lease.sync_id, lease.run
        self._settings, self.report = settings, report

    def open(self, connection: Connection) -> None:
        """Insert it. Earlier runs of the sync without an end were killed."""
        of_others = RECEIPT.c.sync_id == self._sync_id, RECEIPT.c.outcome == RUNNING
        connection.execute(update(RECEIPT).where(*of_others).values(outcome=LOST))
        self._compare_recipients(connection)
        holder = self._settings.held_by
        row = {
            "id": self._id,
            "sync_id": self._sync_id,
            "sync": self._settings.name,
            "run": self._run,
            "held_by": holder.text,
            "dag_id": holder.dag_id,
            "run_id": holder.run_id,
            "task_id": holder.task_id,
            "started_at": _now(connection),
            "outcome": RUNNING,
            **self._known(),
        }
        connection.execute(insert(RECEIPT), [row])

    def note(self, connection: Connection) -> None:
        """Write what is known so far."""
        is_open = RECEIPT.c.id == self._id, RECEIPT.c.outcome == RUNNING
        connection.execute(update(RECEIPT).where(*is_open).values(**self._known()))

    def close(self, connection: Connection, outcome: str, error: str | None) -> None:
        """Write how the run ended, and delete the sync's receipts that are too old."""
        now = _now(connection)
        ended = {"ended_at": now, "outcome": outcome, "error": error}
        is_own = RECEIPT.c.id == self._id
        connection.execute(update(RECEIPT).where(is_own).values(**self._known(), **ended))
        kept_since = now - min(self._settings.receipts_for, now - _EPOCH)
        is_old = RECEIPT.c.sync_id == self._sync_id, RECEIPT.c.started_at <= kept_since
        connection.execute(delete(RECEIPT).where(*is_old, RECEIPT.c.outcome != RUNNING, ~is_own))

    def _compare_recipients(self, connection: Connection) -> None:
        """Warn if the last run of the sync sent to another mediQuo."""
        is_known = RECEIPT.c.sync_id == self._sync_id, RECEIPT.c.recipient.is_not(None)
        last = select(RECEIPT.c.recipient).where(*is_known).order_by(RECEIPT.c.run.desc()).limit(1)
        before, now = connection.execute(last).scalar(), self._known()["recipient"]
        if before and now and before != now:
            log.warning(
                "The last run of this sync sent to %s, and this one sends to %s. A state belongs to one "
                "mediQuo account: if this is another account, use another state.",
                before,
                now,
            )

    def _known(self) -> dict[str, Any]:
        report = self.report
        receipt = report.receipt.as_dict() if report.receipt else {"fields": ()}
        return {
            **{name: getattr(report, name) for name in OUTCOMES},
            "fields": ", ".join(receipt["fields"]),
            "recipient": receipt.get("recipient"),
            "version": receipt.get("version"),
            "key_id": receipt.get("key"),
        }


def read_receipts(store: Store) -> Iterator[Sequence[Any]]:
    """Yield all receipts (COLUMNS), the oldest first; each page is a read of its own."""
    if not store.read(lambda connection: inspect(connection).has_table(RECEIPT.name)):
        return
    place = [RECEIPT.c[name] for name in _ORDER]
    columns = [RECEIPT.c[name] for name in COLUMNS]
    first = select(*place, *columns).order_by(*place).limit(_PAGE)
    page = store.read(partial(_all, first))
    while page:
        yield from (row[len(place) :] for row in page)
        last = tuple_(*page[-1][: len(place)])
        page = store.read(partial(_all, first.where(tuple_(*place) > last)))


def _all(statement: Any, connection: Connection) -> Sequence[Any]:
    return connection.execute(statement).all()


def _now(connection: Connection) -> datetime:
    # Read first: SQLite compares times as text, and its clock has another format than SQLAlchemy.
    now: datetime = connection.execute(select(clock(connection))).scalar_one()
    return now
