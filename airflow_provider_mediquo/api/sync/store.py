"""Reads and writes the state: each write is one transaction, which only the holder of the lease may make."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import bindparam, func, insert, inspect, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from airflow_provider_mediquo.api import bounded
from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.api.errors import StateError, StateMismatchError
from airflow_provider_mediquo.api.sync.tables import MEMBER, STATE, VERSION, is_of, metadata

T = TypeVar("T")

OF_SYNC = ("code", "has_plan", "sent_at", "in_doubt_by", "in_doubt_since", "proof")
_PAGE = 10_000  # rows that one SELECT reads
_PAUSE = 0.01, 0.2  # seconds between two of them: other threads of other syncs go on meanwhile
# Seconds that a transaction may still take after a kill (Airflow waits 5 in all), and after a time limit.
_KILL_GRACE = 1.0
_ABORT_GRACE = 10.0
_TRIES = 5  # of what meets the write of another sync
_CONFLICTS = frozenset({"40001", "40P01", 1213, 1020})  # deadlocks, and rows that have just changed
_LOCKED = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED
_UNLOCK = (
    "The SQLite file is locked: another connection uses it. If the source is in the same file, "
    "give the state a file of its own, or use PostgreSQL, MySQL or MariaDB."
)
_CHECK = (
    "Check that it runs, and that its user may read and write the tables mediquo_*. Its message is "
    "hidden, because it may contain codes."
)
_USE_UTF8 = "It cannot store the characters of a code. Use a database whose encoding is UTF-8 (utf8mb4 in MySQL)."


class _ConflictError(Exception):
    """Another sync writes the same members at this moment."""


class Store:
    """The tables of one database.

    :param engine: an SQLAlchemy engine whose connections do not commit by themselves.
    :param killed: set when the task is being killed. From then on, a transaction waits a second for the
        database. If that is too short, later ones fail at once.
    """

    def __init__(self, engine: Engine, killed: StopFlag | None = None) -> None:
        self._engine = engine
        self._killed = killed or StopFlag()
        self._is_aborted = False
        self._is_silent = False  # a transaction was abandoned
        self._write_lock = threading.Lock()  # SQLite has one writer at a time
        # The driver's own too: rows are fetched, and text is encoded, without SQLAlchemy.
        driver: Any = engine.dialect.dbapi  # `loaded_dbapi` is new in SQLAlchemy 2
        self._errors = SQLAlchemyError, driver.Error, UnicodeError

    def abort(self) -> None:
        """Wait only ten seconds more for the database: the task has failed, or is over its time limit."""
        self._is_aborted = True

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def create(self) -> None:
        """Create the tables that are missing."""
        self.check_version()  # and whether there is a database at all
        for attempt in reversed(range(_TRIES)):
            try:
                self._bounded(lambda: metadata.create_all(self._engine))
                break
            except SQLAlchemyError as error:  # another run may be creating them too
                problem = describe(error)
            if not attempt:
                raise StateError(
                    f"Cannot create the state's tables: {problem}.\nAllow the user to create tables, "
                    "or create them as the docs show."
                )
        self.check_version()
        self.write(_insert_version)

    def check_version(self) -> bool:
        """Return whether there are tables; raises StateError for those of another package."""
        if not self._run(lambda connection: inspect(connection).has_table(MEMBER.name)):
            return False
        versions = self.read(lambda c: list(c.execute(select(STATE.c.version)).scalars()))
        if versions and versions != [VERSION]:
            raise StateMismatchError(
                f"The state has version {versions[-1]}, and this package knows version {VERSION}.\n"
                "Use the package that wrote it, or a newer one, or another database."
            )
        return True

    def read(self, act: Callable[[Connection], T]) -> T:
        """Run a read."""
        return self._run(act)

    def write(self, act: Callable[[Connection], T]) -> T:
        """Run a transaction; it is repeated if another sync writes the same member meanwhile."""
        for _ in range(_TRIES - 1):
            try:
                return self._run(act, repeat=True)
            except _ConflictError:
                time.sleep(random.uniform(*_PAUSE))
        return self._run(act)

    def count(self) -> int:
        """Return how many members there are."""
        return int(
            self.read(lambda c: c.execute(select(func.count()).select_from(MEMBER)).scalar()) or 0
        )

    def codes_of(self, sync_id: int) -> Iterator[Sequence[Any]]:
        """Yield pages of rows of the members of a sync: the columns OF_SYNC."""
        return self.pages(*(MEMBER.c[name] for name in OF_SYNC), where=is_of(sync_id))

    def certain_codes(self) -> Iterator[Sequence[Any]]:
        """Yield pages of rows (code,) of the members that no request has in doubt."""
        member = MEMBER.c
        return self.pages(
            member.code, where=member.proof.is_not(None) & member.in_doubt_by.is_(None)
        )

    def pages(self, code: Any, *columns: Any, where: Any = None) -> Iterator[Sequence[Any]]:
        """Yield pages of rows in the order of their codes, which keeps no transaction open."""
        statement = select(code, *columns).order_by(code).limit(_PAGE)
        if where is not None:
            statement = statement.where(where)
        after = statement.where(code > bindparam("after"))
        page = self.read(partial(_all, statement, {}))
        while page:
            yield page
            last = {"after": page[-1][0]}
            page = self.read(partial(_all, after, last))

    def _run(self, act: Callable[[Connection], T], *, repeat: bool = False) -> T:
        return self._bounded(lambda: self._transact(act, repeat=repeat))

    def _bounded(self, act: Callable[[], T]) -> T:
        if not self._is_silent:
            try:
                return bounded.call(act, "mediquo-state", self._allowed)
            except bounded.NoAnswerError:
                self._is_silent = True
            except BaseException as error:
                if not isinstance(error, Exception):  # a time limit, wherever it strikes
                    self.abort()
                raise
        raise StateError(
            "The state's database did not answer before the task had to end.\nSafe to run again."
        )

    def _allowed(self) -> float:
        if self._killed.is_set():
            return _KILL_GRACE
        return _ABORT_GRACE if self._is_aborted else math.inf

    def _transact(self, act: Callable[[Connection], T], *, repeat: bool) -> T:
        is_connected = False
        try:
            with self._write_lock, self._engine.begin() as connection:
                is_connected = True
                return act(connection)
        except Exception as error:
            if is_connected and not isinstance(error, self._errors):
                raise
            if repeat and (
                isinstance(error, IntegrityError) or _CONFLICTS.intersection(_codes(error))
            ):
                raise _ConflictError from None
            problem = describe(error)
            advice = _advice(error)
            origin = _origin(error)
            # MySQL's drivers: a number, which `problem` has, and a text.
            text = next((each for each in origin.args if isinstance(each, str)), str(origin))
            message = next(iter(text.splitlines()), "").rstrip(".")
        # Out here, because the error holds the statement's parameters.
        if not is_connected:  # so there are none
            raise StateError(
                f"Cannot connect to the state's database: {problem}:\n{message}.\nCheck that it "
                "runs, and the connection's host, login, and database."
            )
        raise StateError(f"The state's database failed: {problem}.\n{advice}")


def describe(error: Exception) -> str:
    """Return the class and the code of a database's error, without its message."""
    codes = _codes(error)
    return type(_origin(error)).__name__ + (f" {codes[0]}" if codes else "")


def _advice(error: Exception) -> str:
    if isinstance(_origin(error), UnicodeError):
        return _USE_UTF8
    # The low byte says that another connection has the file.
    is_locked = getattr(_origin(error), "sqlite_errorcode", 0) & 0xFF in _LOCKED
    return _UNLOCK if is_locked else _CHECK


def _origin(error: Exception) -> BaseException:
    return getattr(error, "orig", None) or error


def _codes(error: Exception) -> list[str | int]:
    """Return the codes that the driver gives: SQLSTATE, the number of MySQL."""
    origin = _origin(error)
    codes = [getattr(origin, name, None) for name in ("sqlstate", "pgcode", "errno")]
    codes += [each for each in origin.args[:1] if isinstance(each, int)]
    return [code for code in codes if code and code != -1]


def _all(statement: Any, parameters: Mapping[str, Any], connection: Connection) -> Sequence[Any]:
    # Without an object of SQLAlchemy's own for each row: reading 2 million takes 0.4 of the CPU.
    with closing(connection.execute(statement, parameters)) as result:
        return result.cursor.fetchall()


def _insert_version(connection: Connection) -> None:
    if not connection.execute(select(STATE.c.version)).first():
        connection.execute(insert(STATE), [{"version": VERSION}])
