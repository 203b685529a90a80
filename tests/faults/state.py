"""A state in a file, which fails at a moment that a test chooses."""

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, NullPool, create_engine, func, inspect, select, update

from airflow_provider_mediquo.api.sync.tables import MEMBER, SYNC, metadata

HOUR = 3600  # seconds
LONG_AGO = datetime(2000, 1, 1)
THIEF = "thief"


@dataclass(frozen=True)
class Moment:
    """Something that is done once, around a certain commit: only a commit lasts.

    :param number: of the commit, from 1.
    """

    number: int
    when: Literal["before", "after"]
    act: Callable[[], None]


class _Unsynced(sqlite3.Connection):
    """Does not wait for the disk: what a killed process has committed is there all the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous = OFF")


class State:
    """The database of a state, and the view that a test has of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._own = create_engine(self.url, poolclass=NullPool, connect_args={"factory": _Unsynced})
        self._lock = threading.Lock()
        self._commits = 0
        self._failing = 0
        self._moment: Moment | None = None

    def engine(self) -> Engine:
        """Return an engine for a run, whose commits are counted and may fail."""
        state = self

        class Connection(_Unsynced):
            def commit(self) -> None:
                number = state._count()
                state._maybe_act(number, "before")
                super().commit()
                state._maybe_act(number, "after")

        return create_engine(self.url, connect_args={"timeout": 5, "factory": Connection})

    def plan(self, moment: Moment | None = None) -> None:
        """Say what happens during the next run; it can be reached again."""
        with self._lock:
            self._commits, self._failing, self._moment = 0, 0, moment

    def fail(self, commits: int) -> None:
        """Let so many commits fail from now on, the one that is under way too."""
        with self._lock:
            self._failing = commits

    def take_lease(self) -> list[Any]:
        """Let another run have the lease; return the members that the state has then."""
        with self._own.begin() as connection:
            connection.execute(
                update(SYNC).values(holder=THIEF, heartbeat=func.current_timestamp())
            )
            return list(connection.execute(select(MEMBER).order_by(MEMBER.c.code)).all())

    def free_lease(self) -> None:
        """Let a minute pass in which no run gave a sign of life."""
        if self.exists():
            with self._own.begin() as connection:
                connection.execute(update(SYNC).values(heartbeat=LONG_AGO))

    def an_hour_passes(self) -> None:
        """Let all that was sent be an hour old."""
        self.free_lease()
        if self.exists():
            with self._own.begin() as connection:
                earlier = {name: MEMBER.c[name] - HOUR for name in ("sent_at", "in_doubt_since")}
                connection.execute(update(MEMBER).values(**earlier))

    def members(self) -> list[Any]:
        """Return the rows of the members."""
        if not self.exists():
            return []
        with self._own.begin() as connection:
            return list(connection.execute(select(MEMBER).order_by(MEMBER.c.code)).all())

    def exists(self) -> bool:
        """Return whether there are tables."""
        return self.path.exists() and all(
            inspect(self._own).has_table(name) for name in metadata.tables
        )

    def bytes(self) -> bytes:
        """Return the file."""
        return self.path.read_bytes() if self.path.exists() else b""

    def _count(self) -> int:
        with self._lock:
            self._commits += 1
            return self._commits

    def _maybe_act(self, number: int, when: str) -> None:
        moment = self._moment
        if moment and (number, when) == (moment.number, moment.when):
            moment.act()
        with self._lock:
            is_failing = self._failing > 0
            self._failing -= is_failing
        if is_failing:
            raise sqlite3.OperationalError("unable to open database file")
