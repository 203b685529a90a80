"""Writes of several threads in one transaction: each commit waits for the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.sync.lease import Lease

Act = Callable[[Connection, int, Sequence[Any]], object]
"""Writes items in a transaction, for the sync with this ID. It may be called again, if that failed."""


@dataclass(eq=False)
class _Write:
    """A write that a thread waits for.

    :param error: what its transaction raised.
    """

    act: Act
    items: Sequence[Any]
    is_committed: bool = False
    error: BaseException | None = None


class GroupedWrites:
    """Writes while a lease is held.

    While one thread writes, others wait. The first of them to go on writes for all: the items of equal
    acts together, because each statement is a round trip to the database.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._waiting: list[_Write] = []
        self._list_lock = threading.Lock()
        self._turn = threading.Lock()

    def write(self, act: Act, items: Sequence[Any] = ()) -> None:
        """Return when a write is committed; raises what its transaction raised.

        :param items: what the act writes. It may get the items of other threads too, if their act is equal.
        """
        own = _Write(act, items)
        with self._list_lock:
            self._waiting.append(own)
        with self._turn:
            if not own.is_committed and not own.error:
                self._write_group(own)
        if own.error:
            raise own.error

    def _write_group(self, own: _Write) -> None:
        with self._list_lock:
            others = [each for each in self._waiting if each is not own]
            self._waiting = []
        # Its own first: a signal that came between may have lost it from the list.
        group = [own, *others]
        try:
            self._commit(group)
        except BaseException as error:  # noqa: BLE001  # a signal, too: raised in each thread
            for each in group:
                each.error = error
        else:
            for each in group:
                each.is_committed = True

    def _commit(self, group: Sequence[_Write]) -> None:
        together: dict[Act, list[Any]] = {}
        for each in group:
            together.setdefault(each.act, []).extend(each.items)

        def write(connection: Connection) -> None:
            for act, items in together.items():
                act(connection, self._lease.sync_id, items)

        self._lease.write(write)
