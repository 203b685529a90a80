"""One run of a sync at a time: a lease in its row, with a heartbeat."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, func, insert, select, update
from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.errors import StateError, StateMismatchError
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import SYNC

log = logging.getLogger(__name__)

LIFETIME = timedelta(seconds=50)
"""After which the lease of a run without a heartbeat is free."""

_POLL_SECONDS = 0.5
_FRESH = 30.0  # seconds after a heartbeat in which the lease cannot have been lost
_SQL_CLOCKS = {
    "postgresql": func.timezone("utc", func.clock_timestamp(), type_=DateTime),
    "mysql": func.utc_timestamp(type_=DateTime),
    "mariadb": func.utc_timestamp(type_=DateTime),
}


class Lease:
    """The right to run a sync. Raises StateError while another run has it.

    :param as_of: the time of the source's data, in microseconds since 1970.
    :param held_by: who runs it, in words.
    """

    def __init__(
        self, store: Store, name: str, as_of: int | None = None, held_by: str = "an unknown process"
    ) -> None:
        self._store = store
        self._name, self._held_by = name, held_by
        self._token = uuid.uuid4().hex
        self._confirmed = time.monotonic()
        store.write(self._create)
        try:
            row = store.write(lambda connection: self._acquire(connection, as_of))
        except BaseException as error:
            if not isinstance(error, Exception):  # a time limit, while the transaction goes on
                with suppress(Exception):
                    store.write(self.free)
            raise
        self.sync_id, self.run = int(row.id), int(row.run) + 1

    def fence(self, connection: Connection) -> None:
        """Start a transaction that only the holder may make; raises StateError if it is another."""
        is_held = SYNC.c.id == self.sync_id, SYNC.c.holder == self._token
        statement = (
            update(SYNC)
            .where(*is_held)
            .values(heartbeat=clock(connection), heartbeats=SYNC.c.heartbeats + 1)
        )
        if connection.execute(statement).rowcount != 1:
            self._confirmed = -math.inf  # so that the next `check` asks again
            raise StateError(
                f"Another run of the sync {self._name!r} has taken over.\nThis one was "
                "silent for too long. Safe to run again after that one."
            )

    def write(self, act: Callable[[Connection], object]) -> None:
        """Run a transaction that only the holder may make; it is a heartbeat, too."""

        def fenced(connection: Connection) -> None:
            self.fence(connection)
            act(connection)

        asked = time.monotonic()
        self._store.write(fenced)
        self._confirmed = asked  # not before it is committed

    def heartbeat(self) -> None:
        """Keep the lease."""
        self.write(lambda connection: None)

    def check(self) -> None:
        """Raise StateError if the lease may have been lost."""
        if time.monotonic() - self._confirmed > _FRESH:
            self.heartbeat()

    def free(self, connection: Connection, *, was_cut: bool = False) -> None:
        """Let the next run begin, once the transaction is committed.

        :param was_cut: whether requests were given up: the last heartbeat says how long ago.
        """
        values = {"holder": None} if was_cut else {"holder": None, "heartbeat": None}
        connection.execute(update(SYNC).where(SYNC.c.holder == self._token).values(**values))

    def _create(self, connection: Connection) -> None:
        if find(connection, self._name) is None:
            row = {"name": self._name, "run": 0, "heartbeats": 0}
            connection.execute(insert(SYNC), [row])

    def _acquire(self, connection: Connection, as_of: int | None) -> Any:
        row = find(connection, self._name)
        now = connection.execute(select(clock(connection))).scalar_one()
        if row.holder and has_fresh_heartbeat(row, now):
            raise StateError(
                f"The sync {self._name!r} has been running since {row.since:%Y-%m-%d %H:%M:%S} UTC.\nIt is "
                f"held by {row.held_by}. One run at a time: wait until that one has ended. If it was killed, the "
                "sync is free within a minute. Another source needs a `sync_name` of its own."
            )
        if has_fresh_heartbeat(row, now):
            raise StateError(
                f"A run of the sync {self._name!r} has just been killed.\nIts requests may still "
                "arrive. Safe to run again."
            )
        check_as_of(row, as_of)
        unchanged = SYNC.c.id == row.id, SYNC.c.run == row.run
        values: dict[str, Any] = {
            "run": row.run + 1,
            "holder": self._token,
            "held_by": self._held_by,
            "since": now,
            "heartbeat": now,
        }
        if as_of is not None:
            values["as_of"] = as_of
        if connection.execute(update(SYNC).where(*unchanged).values(**values)).rowcount != 1:
            raise StateError(f"The sync {self._name!r} has just been started by another run.")
        return row


def wait_for_late_requests(store: Store, name: str, check: Callable[[], None]) -> None:
    """After a graceful kill, wait until the lease of the killed run would have ended.

    mediQuo may have got a request that was cut off, and apply it later than those of the next run:
    older data would replace newer data that counts as certain. If a run went on after a request without
    an answer, this time has passed already: that run waited for the answer.

    :param check: raises what ends the wait.
    """
    left = store.read(lambda connection: _late_seconds(connection, name))
    if left > 0:
        log.info(
            "The last run was killed, and its requests may still arrive: waiting %.0f s.", left
        )
    ends = time.monotonic() + left
    while (left := ends - time.monotonic()) > 0:
        check()
        time.sleep(min(left, _POLL_SECONDS))


def _late_seconds(connection: Connection, name: str) -> float:
    row = find(connection, name)
    return _late(row, connection.execute(select(clock(connection))).scalar_one())


def _late(row: Any, now: datetime) -> float:
    if row is None or row.holder or not row.heartbeat:
        return 0.0
    silent: timedelta = now - row.heartbeat
    # Never more, whatever a clock that was set back says.
    return min(LIFETIME, LIFETIME - silent).total_seconds()


def has_fresh_heartbeat(row: Any, now: datetime) -> bool:
    """Return whether the last heartbeat of a sync is not older than a lease.

    One in the future means that the database's clock was set back: a live run writes a new one within
    seconds.
    """
    return row.heartbeat is not None and bool(abs(now - row.heartbeat) < LIFETIME)


def find(connection: Connection, name: str) -> Any:
    """Return the row of a sync, or None."""
    return connection.execute(select(SYNC).where(SYNC.c.name == name)).first()


def check_as_of(row: Any, as_of: int | None) -> None:
    """Raise StateError if the source is older than the last one of its sync."""
    if as_of is not None and row is not None and row.as_of is not None and as_of < row.as_of:
        last = datetime.fromtimestamp(row.as_of / 1e6, UTC).isoformat()
        raise StateMismatchError(
            f"`as_of` is earlier than that of the last run ({last}).\nOlder data would replace newer "
            "data. Run with the newest source. If the time of the last run is wrong, set `as_of` of this "
            "sync to NULL in the table mediquo_sync."
        )


def clock(connection: Connection) -> Any:
    """Return the database's clock in UTC: the clocks of workers differ."""
    return _SQL_CLOCKS.get(connection.dialect.name, func.current_timestamp())
