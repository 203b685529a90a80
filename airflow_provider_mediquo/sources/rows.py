"""Rows of a database as a stream, through the driver that its hook uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError, MediquoError, SourceError
from airflow_provider_mediquo.sources.ahead import ReadAhead

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

log = logging.getLogger(__name__)

Row = Mapping[str, Any]

_FIRST, _AT_ONCE = 10, 1000  # rows
_MOST_BYTES = 64 << 20  # of rows at once, by the longest of some before: scans of 5 MB, say
_MEANINGS: Mapping[Any, str] = {
    "42601": "a syntax error",
    "42703": "a column is not there",
    "42P01": "a table is not there",
    "42501": "this user may not read that",
    "42000": "a syntax error, or this user may not read that",
    "42S02": "a table is not there",
    "42S22": "a column is not there",
    "SQLITE_ERROR": "a syntax error, or a table or column is not there",
    1054: "a column is not there",
    1064: "a syntax error",
    1142: "this user may not read that",
    1146: "a table is not there",
}
_MOST_CODE = 1 << 16  # of an error; what is more may be a value
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
        self._is_connected = False
        self._read = 0
        self._cancel: Callable[[DbApiHook], None] = lambda hook: None

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
            problem = self._describe(error)
        if problem:  # out here, because a driver's error may quote a row
            raise SourceError(problem)

    def _fetched(self) -> Generator[list[Row]]:
        connection = self._hook.get_conn()
        self._is_connected = True
        driver = _DRIVERS.get(type(connection).__module__.split(".")[0], _Driver)(connection)
        self._cancel = driver.cancel
        with _closing(connection, driver.close), driver.cursor() as cursor:
            cursor.execute(*([self._sql, self._parameters] if self._parameters else [self._sql]))
            count = _FIRST
            rows = cursor.fetchmany(count)
            # Of psycopg2's named cursors, the columns are known only now.
            names = [column[0] for column in cursor.description or ()]
            self._check_header(names)
            while rows:
                self._read += len(rows)
                yield [
                    row if isinstance(row, Mapping) else dict(zip(names, row, strict=True))
                    for row in rows
                ]
                count = min(
                    10 * count, _AT_ONCE, max(_MOST_BYTES // _longest(rows[:: count // 10 or 1]), 1)
                )
                rows = cursor.fetchmany(count)
            if driver.has_more(cursor):
                raise InvalidPatientsError(
                    "`sql` gives more than one result, of which only the first was read: it must "
                    "be one SELECT."
                )

    def _describe(self, error: Exception) -> str:
        """Say what went wrong, without the database's own words: they may quote a row."""
        kind = type(error)
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        code = code or getattr(error, "sqlite_errorname", None)
        code = code or next((n for n in error.args if isinstance(n, int) and n < _MOST_CODE), "")
        text = f"{kind.__module__}.{kind.__qualname__} {code}".strip()
        if not self._is_connected:  # and there is no row yet
            words = next(iter(str(error).splitlines()), "").rstrip(".")
            return f"There is no connection to the database: {text}: {words}."
        if meaning := _MEANINGS.get(code):
            text += f", {meaning}"
        where = f"after row {self._read:,}" if self._read else "from its first rows on"
        return f"The database could not be read {where}: {text}. Its own words may quote a patient."

    def _hang_up(self) -> None:
        """End a wait for the database, from another thread."""
        with suppress(Exception):  # it may be gone already
            self._cancel(self._hook)


def _longest(rows: Sequence[Any]) -> int:
    """Return the bytes or characters of the longest row, about; never 0."""
    values = (row.values() if isinstance(row, Mapping) else row for row in rows)
    return max(1 + sum(map(_length, row)) for row in values)


def _length(value: Any) -> int:
    if isinstance(value, str | bytes | bytearray | memoryview):
        return len(value)
    return len(repr(value)) if isinstance(value, dict | list) else 0  # of JSON columns


class _Driver:
    """One that nothing is known of."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> AbstractContextManager[Any]:
        """Return the cursor that reads as a stream."""
        log.warning(
            "%s is not known to read a result as a stream: it may take memory for all of it.",
            type(self._connection).__module__,
        )
        return closing(self._connection.cursor())

    def cancel(self, hook: DbApiHook) -> None:
        """End a statement, from another thread."""

    def has_more(self, cursor: Any) -> bool:
        """Return whether there is another result after this one."""
        return False

    def close(self) -> None:
        """Close the connection, whatever is left to read."""
        self._connection.close()


class _Sqlite(_Driver):
    def cursor(self) -> AbstractContextManager[Any]:
        return closing(self._connection.cursor())

    def cancel(self, hook: DbApiHook) -> None:
        self._connection.interrupt()


class _Postgres(_Driver):
    """psycopg 2 and 3."""

    def cursor(self) -> AbstractContextManager[Any]:
        """Let the server keep the result, for as long as it takes."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config(name, '0', true) FROM pg_settings "
                "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
            )
        named = self._connection.cursor("mediquo")
        return _closing(named, named.close)

    def cancel(self, hook: DbApiHook) -> None:
        self._connection.cancel()


class _MySQL(_Driver):
    """MySQL Connector."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._number = self._number_of(connection)

    def cursor(self) -> AbstractContextManager[Any]:
        """Let the server wait, for as long as it takes."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(f"SET SESSION net_write_timeout = {_PATIENCE}")
        return nullcontext(self._streaming())  # closing it would read all that is left

    def cancel(self, hook: DbApiHook) -> None:
        with closing(hook.get_conn()) as another, closing(another.cursor()) as cursor:
            cursor.execute(f"KILL {self._number}")

    def has_more(self, cursor: Any) -> bool:
        return bool(cursor.nextset())

    def close(self) -> None:
        self._connection.disconnect()

    def _number_of(self, connection: Any) -> int:
        return int(connection.connection_id)

    def _streaming(self) -> Any:
        return self._connection.cursor(buffered=False)


class _MySQLClient(_MySQL):
    """mysqlclient."""

    def close(self) -> None:
        self._connection.close()

    def _number_of(self, connection: Any) -> int:
        return int(connection.thread_id())

    def _streaming(self) -> Any:
        from MySQLdb.cursors import SSCursor  # type: ignore[import-untyped]  # it has no types

        return self._connection.cursor(SSCursor)


_DRIVERS: Mapping[str, type[_Driver]] = {
    "psycopg": _Postgres,
    "psycopg2": _Postgres,
    "MySQLdb": _MySQLClient,
    "mysql": _MySQL,
    "sqlite3": _Sqlite,
}
"""By the package that they are in."""


@contextmanager
def _closing(thing: Any, close: Callable[[], None]) -> Iterator[Any]:
    """Close it in the end, which what a server has left may not let one do."""
    try:
        yield thing
    finally:
        with suppress(Exception):
            close()
