"""Deletes a person from the state, and says where else the code may be."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError
from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.api.patients.code import as_text
from airflow_provider_mediquo.api.sync.lease import clock, has_fresh_heartbeat
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import MEMBER, SYNC

ELSEWHERE = {
    "your source": "Remove the person there first: the next run sends whoever is in it.",
    "mediQuo": "Ask mediQuo to delete the patient. This package cannot.",
    "reject report": "The files in `rejects_path`, lists of the unsubscribed included.",
    "XCom of an upsert": "The ledger, with up to 20 codes a run: `airflow db clean`.",
    "XCom of a get": "`airflow db clean`.",
    "XCom of an authenticate": "`airflow db clean`.",
    "task log": "Also that of the triggerer, and where you copy logs to.",
    "output of scheduler and workers": "Where your system keeps it.",
    "rendered fields": "`airflow db clean`.",
    "run configuration": "`airflow db clean`.",
    "audit log": "`airflow db clean`.",
    "DAG's code": "If codes or patients are written in a DAG.",
    "serialized DAG": "If codes or patients are written in a DAG.",
    "trigger table": "While a sensor waits.",
    "deferred task": "While a sensor waits.",
    "OpenLineage": "If `sql`, a path or a run's configuration has the code.",
    "errors": "What your callbacks and error tools keep.",
    "variables of an error": "What your error tool keeps.",
    "your database's query log, your proxy's log": "Where they are kept.",
    "backups": "Of the state's database, of Airflow's, and of the files above.",
}
"""Where a code may be after its person is forgotten: as `docs/privacy.md` names it -> what to do."""


@dataclass(frozen=True)
class Forgotten:
    """What was deleted, and what was not.

    :param syncs: the syncs that knew the person; empty if the state had no row.
    :param elsewhere: where else the code may be -> what to do there.
    """

    syncs: tuple[str, ...]
    elsewhere: dict[str, str]

    def __str__(self) -> str:
        done = (
            f"Deleted from the state ({', '.join(self.syncs)})."
            if self.syncs
            else "Not in the state."
        )
        places = "\n".join(f"- {place}: {what}" for place, what in self.elsewhere.items())
        return f"{done} The code may also be in:\n{places}"


def forget(store: Store, code: Any) -> Forgotten:
    """Delete a person. Raises StateError while a sync runs, ValueError for an invalid code.

    A running sync would write the person again, or send what it read before.
    """
    text = None
    with suppress(ValidationError):  # a number with more digits than any code has
        text = as_text(code)
    if not isinstance(text, str) or not text.strip():
        raise ValueError("`code` must be the code of a patient")
    syncs: tuple[str, ...] = ()
    if store.check_version():
        syncs = store.write(lambda connection: _delete(connection, text.strip()))
    return Forgotten(syncs, dict(ELSEWHERE))


def _delete(connection: Connection, code: str) -> tuple[str, ...]:
    # Changes each row, so that no run can begin until this is committed.
    connection.execute(update(SYNC).values(heartbeats=SYNC.c.heartbeats + 1))
    now = connection.execute(select(clock(connection))).scalar_one()
    names: dict[int | None, str] = {}
    for sync in connection.execute(select(SYNC)):
        if sync.holder and has_fresh_heartbeat(sync, now):
            raise StateError(
                f"The sync {sync.name!r} has been running since {sync.since:%Y-%m-%d %H:%M:%S} UTC.\nIt "
                "may send this person again, so nobody was forgotten. Try again when it has ended."
            )
        names[sync.id] = sync.name
    owners = select(MEMBER.c.sync_id, MEMBER.c.in_doubt_by).where(MEMBER.c.code == code)
    found = {owner for row in connection.execute(owners) for owner in row if owner is not None}
    connection.execute(delete(MEMBER).where(MEMBER.c.code == code))
    return tuple(sorted(names.get(owner, str(owner)) for owner in found))
