"""Reads and writes the state: each write is one transaction, and only for who holds the lease."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import bindparam, delete, func, insert, inspect, select, update
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from airflow_provider_mediquo.api.errors import StateError, StateMismatchError
from airflow_provider_mediquo.api.sync.inserts import insert_members
from airflow_provider_mediquo.api.sync.tables import MEMBER, STATE, SYNC, VERSION, metadata

T = TypeVar("T")

_PAGE = 10_000  # rows that one SELECT reads
_LIST = 500  # codes in one statement
_TRIES = 3  # of a write that meets the write of another sync


class Sent(NamedTuple):
    """A member that mediQuo accepted, as the state keeps it."""

    code: str
    fingerprint: int
    source: int | None
    proof: str
    has_plan: bool
    sent_at: int


class Doubt(NamedTuple):
    """A member that is about to be sent.

    :param may_have_plan: whether it has a plan before or after.
    """

    code: str
    is_known: bool
    may_have_plan: bool


class Store:
    """The tables of one database.

    :param engine: an SQLAlchemy engine whose connections do not commit by themselves.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._write_lock = threading.Lock()  # SQLite has one writer at a time

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def create(self) -> None:
        """Create the tables that are missing."""
        for attempt in reversed(range(_TRIES)):
            try:
                metadata.create_all(self._engine)
                break
            except SQLAlchemyError as error:  # somebody else may be creating them too
                problem = describe(error)
            if not attempt:
                raise StateError(
                    f"Cannot create the state's tables: {problem}. Allow the user to create tables, "
                    "or create them as the docs show."
                )
        self.check_version()

    def check_version(self) -> bool:
        """Return whether there are tables; raises StateError for those of another package."""
        if not self._run(lambda connection: inspect(connection).has_table(MEMBER.name)):
            return False
        versions = self.read(lambda c: list(c.execute(select(STATE.c.version)).scalars()))
        if not versions:
            self.write(_insert_version)
        elif versions != [VERSION]:
            raise StateMismatchError(
                f"The state has version {versions[-1]}, and this package knows version {VERSION}. "
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
            except IntegrityError:
                pass
        return self._run(act)

    def count(self) -> int:
        """Return how many members there are."""
        return int(
            self.read(lambda c: c.execute(select(func.count()).select_from(MEMBER)).scalar()) or 0
        )

    def members(self) -> Iterator[Sequence[Any]]:
        """Yield pages of rows: code, fingerprint, source, has_plan, sent_at, sync_id, in_doubt_by."""
        member = MEMBER.c
        columns = (
            member.code,
            member.fingerprint,
            member.source,
            member.has_plan,
            member.sent_at,
            member.sync_id,
            member.in_doubt_by,
        )
        return self.pages(*columns)

    def codes_of(self, sync_id: int) -> Iterator[Sequence[Any]]:
        """Yield pages of rows (code, has_plan, in_doubt_by, sent_at) of the members of a sync."""
        member = MEMBER.c
        is_own = func.coalesce(member.in_doubt_by, member.sync_id) == sync_id
        return self.pages(
            member.code, member.has_plan, member.in_doubt_by, member.sent_at, where=is_own
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
        problem = None
        try:
            with self._write_lock, self._engine.begin() as connection:
                return act(connection)
        except SQLAlchemyError as error:
            if repeat and isinstance(error, IntegrityError):
                raise
            problem = describe(error)
        # Out here, because the error holds the statement's parameters.
        raise StateError(f"The database of the state failed: {problem}. Its message is hidden.")


def doubt(connection: Connection, sync_id: int, members: Iterable[Doubt]) -> None:
    """Note that members are about to be sent: until there is an answer, nothing is known of them."""
    members = list(members)
    known = [member for member in members if member.is_known]
    with_plan = [member.code for member in known if member.may_have_plan]
    without = [member.code for member in known if not member.may_have_plan]
    _update(connection, with_plan, in_doubt_by=sync_id, has_plan=1)
    _update(connection, without, in_doubt_by=sync_id)
    if new := [member for member in members if not member.is_known]:
        _delete(
            connection, [member.code for member in new]
        )  # another sync may have sent it just now
        rows = [
            {"code": code, "has_plan": int(plan), "in_doubt_by": sync_id} for code, _, plan in new
        ]
        insert_members(connection, rows)


def acknowledge(connection: Connection, sync_id: int, run: int, members: Iterable[Sent]) -> None:
    """Note that mediQuo has these members."""
    members = list(members)
    _delete(connection, [member.code for member in members])
    own = {"sync_id": sync_id, "run": run, "in_doubt_by": None}
    rows = [own | member._asdict() | {"has_plan": int(member.has_plan)} for member in members]
    insert_members(connection, rows)


def restore(connection: Connection, code: str, *, has_plan: bool) -> None:
    """Note that mediQuo refused a member, so it has what it had before."""
    _update(connection, [code], in_doubt_by=None, has_plan=int(has_plan))


def forget(connection: Connection, codes: Sequence[str]) -> None:
    """Delete members."""
    _delete(connection, codes)


def refresh(connection: Connection, sources: Sequence[tuple[str, int]]) -> None:
    """Note how unchanged members look in the source now."""
    statement = (
        update(MEMBER)
        .where(MEMBER.c.code == bindparam("of_code"))
        .values(source=bindparam("new_source"))
    )
    connection.execute(
        statement, [{"of_code": code, "new_source": source} for code, source in sources]
    )


def doubt_again(connection: Connection, codes: Sequence[str]) -> None:
    """Note that members are not in mediQuo as they were sent: the next run sends them again."""
    for part in _parts(codes):
        statement = update(MEMBER).where(MEMBER.c.code.in_(part), MEMBER.c.sync_id.is_not(None))
        connection.execute(statement.values(in_doubt_by=MEMBER.c.sync_id))


def doubt_run(connection: Connection, name: str, run: int) -> int:
    """Note that the members of a run are not visible; return how many there are."""
    sync_id = connection.execute(select(SYNC.c.id).where(SYNC.c.name == name)).scalar()
    statement = update(MEMBER).where(MEMBER.c.sync_id == sync_id, MEMBER.c.run == run)
    return int(connection.execute(statement.values(in_doubt_by=sync_id)).rowcount)


def describe(error: SQLAlchemyError) -> str:
    """Return the class and the code of a database's error, without its message."""
    origin = getattr(error, "orig", None) or error
    code = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    if not code and origin.args and isinstance(origin.args[0], int):
        code = origin.args[0]
    return type(origin).__name__ + (f" {code}" if code else "")


def _all(statement: Any, parameters: Mapping[str, Any], connection: Connection) -> Sequence[Any]:
    return connection.execute(statement, parameters).all()


def _insert_version(connection: Connection) -> None:
    if not connection.execute(select(STATE.c.version)).first():
        connection.execute(insert(STATE), [{"version": VERSION}])


def _update(connection: Connection, codes: Sequence[str], **values: Any) -> None:
    for part in _parts(codes):
        connection.execute(update(MEMBER).where(MEMBER.c.code.in_(part)).values(**values))


def _delete(connection: Connection, codes: Sequence[str]) -> None:
    for part in _parts(codes):
        connection.execute(delete(MEMBER).where(MEMBER.c.code.in_(part)))


def _parts(codes: Sequence[str]) -> Iterator[Sequence[str]]:
    return (codes[at : at + _LIST] for at in range(0, len(codes), _LIST))
