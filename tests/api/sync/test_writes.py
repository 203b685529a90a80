"""The writes of several threads in one transaction."""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.api.sync.lease import Lease
from airflow_provider_mediquo.api.sync.statements import Doubt, doubt
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import MEMBER, SYNC
from airflow_provider_mediquo.api.sync.writes import Act, GroupedWrites

DEADLINE = 30.0  # seconds


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(create_engine(f"sqlite:///{tmp_path}/state.db"))
    store.create()
    yield store
    store.close()


@pytest.fixture
def lease(store: Store) -> Lease:
    return Lease(store, "members")


def add(code: str) -> Act:
    return lambda connection, own, _: doubt(connection, own, [Doubt(code, False, True)])


def codes(store: Store) -> set[str]:
    return set(store.read(lambda c: c.execute(select(MEMBER.c.code)).scalars().all()))


def transactions(store: Store) -> int:
    return int(store.read(lambda c: c.execute(select(SYNC.c.heartbeats)).scalar()) or 0)


class Crowd:
    """Writes that all wait, because another one is in its transaction."""

    def __init__(self, writes: GroupedWrites) -> None:
        self._writes = writes
        self._threads = ThreadPoolExecutor(10)
        self._may_end, self._is_in = threading.Event(), threading.Event()

    def write(self, *acts: Act, items: Sequence[Sequence[Any]] = ()) -> list[Future[Any]]:
        """Let writes wait, then let the first one end; return all, the first one included."""
        each = itertools.zip_longest(acts, items, fillvalue=())

        def block(connection: Connection, own: int, items: object) -> None:
            self._is_in.set()
            assert self._may_end.wait(DEADLINE)

        first = self._threads.submit(self._writes.write, block)
        assert self._is_in.wait(DEADLINE)
        others = [self._threads.submit(self._writes.write, *one) for one in each]
        until = time.monotonic() + DEADLINE
        while len(self._writes._waiting) < len(acts) and time.monotonic() < until:
            time.sleep(0.01)
        self._may_end.set()
        self._threads.shutdown()
        return [first, *others]


def test_all_that_wait_for_another_write_are_one_transaction(store, lease):
    written = Crowd(GroupedWrites(lease)).write(*(add(f"m-{n}") for n in range(5)))
    assert [each.result() for each in written] == [None] * 6
    assert codes(store) == {f"m-{n}" for n in range(5)}
    assert transactions(store) == 2


def test_the_items_of_equal_acts_are_written_together(store, lease):
    called = []

    def act(connection: Connection, own: int, items: Sequence[Any]) -> None:
        called.append((own, sorted(items)))

    others: list[Act] = [act, act, lambda connection, own, items: called.append(sorted(items)), act]
    items = [["a", "b"], ["c"], ["d"], ["e"]]
    Crowd(GroupedWrites(lease)).write(*others, items=items)
    assert sorted(called, key=len) == [["d"], (lease.sync_id, ["a", "b", "c", "e"])]


def test_where_one_fails_nobody_takes_anything_for_written(store, lease):
    def fail(connection: Connection, own: int, items: object) -> None:
        raise StateError("full")

    first, *others = Crowd(GroupedWrites(lease)).write(add("m-1"), fail, add("m-2"))
    assert first.result() is None
    for each in others:
        with pytest.raises(StateError, match="full"):
            each.result()
    assert codes(store) == set()


def test_the_next_write_is_none_of_those_that_failed(store, lease):
    writes = GroupedWrites(lease)
    with pytest.raises(ZeroDivisionError):
        writes.write(lambda connection, own, _: 1 / 0)
    writes.write(add("m-1"))
    assert codes(store) == {"m-1"}


def test_who_lost_the_lease_writes_nothing(store, lease):
    store.write(lease.free)
    with pytest.raises(StateError, match="taken over"):
        GroupedWrites(lease).write(add("m-1"))
    assert codes(store) == set()
