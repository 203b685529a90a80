"""What a run of a sync needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple


class Holder(NamedTuple):
    """Who runs a sync.

    :param text: for messages.
    :param dag_id: of the task; None if it is no task.
    """

    text: str
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None


_UNKNOWN = Holder("an unknown process")


@dataclass(frozen=True)
class SyncSettings:
    """What a run of a sync needs.

    :param name: identifies the sync in the state.
    :param secret_key: of the connection to mediQuo; all fingerprints are made with it.
    :param reading: all that decides how a record of the source is read.
    :param dropped: columns of the source that are not read.
    :param resend_after: how long until an unchanged member is sent again.
    :param conn_id: ID of the connection to the state.
    :param held_by: who runs it.
    :param as_of: time of the source's data, in microseconds since 1970.
    :param dry_run: write nothing, and let others run.
    :param receipts_for: how long the receipts of this sync are kept.
    """

    name: str
    secret_key: str = field(repr=False)
    reading: object = None
    dropped: frozenset[str] = frozenset()
    resend_after: timedelta = timedelta(days=30)
    conn_id: str | None = None
    held_by: Holder = _UNKNOWN
    as_of: int | None = None
    dry_run: bool = False
    receipts_for: timedelta = timedelta(days=400)
