"""Streams the rows of a statement, through the driver of its Airflow hook."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError, MediquoError, SourceError
from airflow_provider_mediquo.sources.empty_rows import is_empty
from airflow_provider_mediquo.sources.prefetch import Prefetch
from airflow_provider_mediquo.sources.sql_drivers import closing_quietly, driver_of
from airflow_provider_mediquo.sources.sql_errors import (
    describe,
    is_of_parameters,
    is_syntax_error,
    missing_column,
)

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

Row = Mapping[str, Any]

_FIRST_BATCH, _MAX_BATCH = 10, 1000  # rows
MAX_BATCH_BYTES = 64 << 20  # estimated from earlier rows; a scan may have 5 MB


class Rows:
    """The rows of a statement.

    :param check_columns: gets the names of the columns; raises an error if they are wrong.
    """

    def __init__(
        self,
        hook: DbApiHook,
        sql: str,
        parameters: Any,
        check_columns: Callable[[Sequence[str]], None],
    ) -> None:
        self._hook = hook
        self._sql = sql
        self._parameters = parameters
        self._check_columns = check_columns
        self._is_connected = self._is_accepted = False
        self._read = 0
        self._cancel: Callable[[DbApiHook], None] = lambda hook: None

    def __iter__(self) -> Iterator[Row]:
        """Yield each row as column -> value; raises SourceError if reading fails."""
        return iter(Prefetch(self._batches, self._interrupt))

    def _batches(self) -> Generator[list[Row]]:
        problem = None
        try:
            yield from self._fetched()
        except MediquoError:
            raise
        except Exception as error:  # noqa: BLE001  # each driver has its own classes of errors
            problem = self._problem(error)
        if problem:  # outside the `except`, because a driver's error may quote a row
            raise problem

    def _fetched(self) -> Generator[list[Row]]:
        connection = self._hook.get_conn()
        self._is_connected = True
        driver = driver_of(connection)
        self._cancel = driver.cancel
        with closing_quietly(connection, driver.close), driver.cursor() as cursor:
            cursor.execute(*([self._sql, self._parameters] if self._parameters else [self._sql]))
            self._is_accepted = True
            yield from self._batches_of(cursor)
            if driver.has_more(cursor):
                raise InvalidPatientsError(
                    "`sql` returns more than one result, and only the first was read. Make it a "
                    "single SELECT."
                )

    def _batches_of(self, cursor: Any) -> Generator[list[Row]]:
        count = _FIRST_BATCH
        rows = cursor.fetchmany(count)
        # psycopg2's named cursors know their columns only after the first fetch.
        names = [column[0] for column in cursor.description or ()]
        self._check_columns(names)
        while rows:
            self._read += len(rows)
            if not isinstance(rows[0], Mapping):  # nor are the others then
                records: Iterable[Row] = [dict(zip(names, row, strict=True)) for row in rows]
            else:
                records = rows
            yield [record for record in records if not is_empty(record)]
            fitting = MAX_BATCH_BYTES // _longest(rows[:: count // 10 or 1])
            count = min(10 * count, _MAX_BATCH, max(fitting, 1))
            rows = cursor.fetchmany(count)

    def _problem(self, error: Exception) -> MediquoError:
        """Describe an error without the database's message, which may quote a row."""
        text = describe(error)
        if not self._is_connected:  # so there is no row that the message could quote
            message = next(iter(str(error).splitlines()), "").rstrip(".")
            return SourceError(f"Cannot connect to the database: {text}:\n{message}.")
        if (column := missing_column(error, self._sql)) is not None:
            which = f"the column {column}" if column else "a column"
            return InvalidPatientsError(
                f"`sql` uses {which}, which the database does not have:\n{text}. Correct its name."
            )
        if not self._is_accepted and is_syntax_error(error):  # later, it is one of a value
            return InvalidPatientsError(
                f"`sql` is not valid SQL for this database: {text}.\nRun it by hand to see "
                "what is wrong."
            )
        if not self._is_accepted and is_of_parameters(error, are_given=bool(self._parameters)):
            return InvalidPatientsError(
                f"`parameters` do not fit `sql`: {text}.\nCompare them with its placeholders, which are "
                "the driver's own. With parameters, psycopg and mysqlclient need %% for a %."
            )
        where = f"after row {self._read:,}" if self._read else "before the first row"
        return SourceError(
            f"Reading failed {where}: {text}.\nIts message is hidden, because it may contain personal "
            "data. Run the statement by hand to see it."
        )

    def _interrupt(self) -> None:
        """Interrupt a wait for the database, from another thread."""
        with suppress(Exception):  # the connection may be closed already
            self._cancel(self._hook)


def _longest(rows: Sequence[Any]) -> int:
    """Return the approximate size of the longest row in bytes or characters, at least 1."""
    values = (row.values() if isinstance(row, Mapping) else row for row in rows)
    return max(1 + sum(map(_length, row)) for row in values)


def _length(value: Any) -> int:
    if isinstance(value, str | bytes | bytearray | memoryview):
        return len(value)
    return len(repr(value)) if isinstance(value, dict | list) else 0  # from JSON columns
