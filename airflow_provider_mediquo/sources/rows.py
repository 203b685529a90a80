"""Rows of a database as a stream, through the driver that its hook uses."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_mediquo.api.errors import MediquoError, SourceError
from airflow_provider_mediquo.sources.ahead import ReadAhead

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

log = logging.getLogger(__name__)

Row = Mapping[str, Any]

_AT_ONCE = 1000  # rows
_PATIENCE = 3600  # seconds that MariaDB waits for its client; a pause for a 429 takes minutes


class Rows:
    """The rows of a statement.

    :param check_header: raises what is wrong with the names of the columns.
    """

    def __init__(
        self,
        hook: DbApiHook,
        sql: str,
        parameters: Any,
        check_header: Callable[[Sequence[str]], None],
    ) -> None:
        self._hook = hook
        self._sql = sql
        self._parameters = parameters
        self._check_header = check_header
        self._connection: Any = None

    def __iter__(self) -> Iterator[Row]:
        """Yield column -> value; raises SourceError for what goes wrong in the database."""
        return iter(ReadAhead(self._batches, self._hang_up))

    def _batches(self) -> Generator[list[Row]]:
        problem = None
        try:
            yield from self._fetched()
        except MediquoError:
            raise
        except Exception as error:  # noqa: BLE001  # each driver has errors of its own
            # Before there is a connection, there is no row that it could quote.
            problem = _describe(error, may_quote=self._connection is not None)
        if problem:  # out here, because a driver's error may quote a row
            raise SourceError(problem)

    def _fetched(self) -> Generator[list[Row]]:
        self._connection = self._hook.get_conn()
        driver = type(self._connection).__module__.split(".")[0]
        with _closing(self._connection), _CURSORS.get(driver, _plain)(self._connection) as cursor:
            cursor.execute(*([self._sql, self._parameters] if self._parameters else [self._sql]))
            rows = cursor.fetchmany(_AT_ONCE)
            # Of psycopg2's named cursors, the columns are known only now.
            names = [column[0] for column in cursor.description or ()]
            self._check_header(names)
            while rows:
                yield [
                    row if isinstance(row, Mapping) else dict(zip(names, row, strict=True))
                    for row in rows
                ]
                rows = cursor.fetchmany(_AT_ONCE)

    def _hang_up(self) -> None:
        """End a wait for the database, from another thread."""
        with suppress(Exception):  # not every driver shows its socket
            if isinstance(self._connection, sqlite3.Connection):
                self._connection.interrupt()
            else:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as its_socket:
                    its_socket.shutdown(socket.SHUT_RDWR)


def _postgres(connection: Any) -> AbstractContextManager[Any]:
    """Let the server keep the result, for as long as it takes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config(name, '0', true) FROM pg_settings "
            "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
        )
    return _closing(connection.cursor("mediquo"))


def _mysqlclient(connection: Any) -> AbstractContextManager[Any]:
    from MySQLdb.cursors import SSCursor  # type: ignore[import-untyped]  # it has no types

    _be_patient(connection)
    return nullcontext(connection.cursor(SSCursor))  # closing it would read all that is left


def _mysql_connector(connection: Any) -> AbstractContextManager[Any]:
    _be_patient(connection)
    return nullcontext(connection.cursor(buffered=False))  # closing it would be an error


def _be_patient(connection: Any) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SET SESSION net_write_timeout = {_PATIENCE}")


def _sqlite(connection: Any) -> AbstractContextManager[Any]:
    return closing(connection.cursor())


def _plain(connection: Any) -> AbstractContextManager[Any]:
    log.warning(
        "%s is not known to read a result as a stream: it may take memory for all of it.",
        type(connection).__module__,
    )
    return closing(connection.cursor())


_CURSORS: Mapping[str, Callable[[Any], AbstractContextManager[Any]]] = {
    "psycopg": _postgres,
    "psycopg2": _postgres,
    "MySQLdb": _mysqlclient,
    "mysql": _mysql_connector,
    "sqlite3": _sqlite,
}
"""Package of a driver -> its cursor that streams."""


@contextmanager
def _closing(thing: Any) -> Iterator[Any]:
    """Close it in the end, which what a server has left may not let one do."""
    try:
        yield thing
    finally:
        with suppress(Exception):
            getattr(thing, "disconnect", thing.close)()  # MySQL Connector's close reads on


def _describe(error: Exception, *, may_quote: bool) -> str:
    """Say what the database said, unless it may quote a row."""
    kind = type(error)
    is_about_the_statement = "ProgrammingError" in {base.__name__ for base in kind.__mro__}
    text = f"The database could not be read: {kind.__module__}.{kind.__qualname__}"
    code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    code = code or next((each for each in error.args if isinstance(each, int)), None)
    if code:
        text += f" {code}"
    if is_about_the_statement or isinstance(error, sqlite3.Error) or not may_quote:
        text += f": {next(iter(str(error).splitlines()), '')}"
    return f"{text}."
