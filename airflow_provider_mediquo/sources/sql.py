"""Rows of a database as a stream, through the driver that its hook uses."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError, MediquoError, SourceError
from airflow_provider_mediquo.sources.prefetch import Prefetch
from airflow_provider_mediquo.sources.sql_drivers import closing_quietly, driver_of

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

Row = Mapping[str, Any]

_FIRST, _AT_ONCE = 10, 1000  # rows
MAX_BATCH_BYTES = 64 << 20  # of rows at once, by the longest of some before: scans of 5 MB, say
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
MAX_ERROR_CODE = 1 << 16  # of an error; what is more may be a value


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
        return iter(Prefetch(self._batches, self._hang_up))

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
        driver = driver_of(connection)
        self._cancel = driver.cancel
        with closing_quietly(connection, driver.close), driver.cursor() as cursor:
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
                    10 * count,
                    _AT_ONCE,
                    max(MAX_BATCH_BYTES // _longest(rows[:: count // 10 or 1]), 1),
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
        code = code or next(
            (n for n in error.args if isinstance(n, int) and n < MAX_ERROR_CODE), ""
        )
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
