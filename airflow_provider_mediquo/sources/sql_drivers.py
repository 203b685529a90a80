"""How each database driver streams a result, and how to interrupt it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_mediquo.sources.json_objects import read_json

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

log = logging.getLogger(__name__)

_NET_WRITE_TIMEOUT = 3600  # seconds that MariaDB waits for us; a pause after a 429 takes minutes


class Driver:
    """An unknown driver."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> AbstractContextManager[Any]:
        """Return a cursor that streams its result, if the driver can."""
        log.warning(
            "The driver %s may load the whole result into memory: streaming with it is not supported.",
            type(self._connection).__module__,
        )
        return closing(self._connection.cursor())

    def cancel(self, hook: DbApiHook) -> None:
        """Cancel the running statement, from another thread."""

    def has_more(self, cursor: Any) -> bool:
        """Return whether another result follows."""
        return False

    def close(self) -> None:
        """Close the connection, even if there are unread rows."""
        self._connection.close()


class _Sqlite(Driver):
    def cursor(self) -> AbstractContextManager[Any]:
        return closing(self._connection.cursor())

    def cancel(self, hook: DbApiHook) -> None:
        self._connection.interrupt()


class _Postgres(Driver):
    """psycopg 2 and 3."""

    def cursor(self) -> AbstractContextManager[Any]:
        """Keep the result on the server, and switch off the timeouts that would end a pause of ours."""
        # A named cursor needs a transaction, whatever the connection's extra says.
        self._connection.autocommit = False
        self._read_json_strictly()
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config(name, '0', true) FROM pg_settings "
                "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
            )
        named = self._connection.cursor("mediquo")
        return closing_quietly(named, named.close)

    def cancel(self, hook: DbApiHook) -> None:
        self._connection.cancel()

    def _read_json_strictly(self) -> None:
        """Find a key that is given twice, which the type `json` keeps, as in files."""
        if type(self._connection).__module__.startswith("psycopg2"):
            import_module("psycopg2.extras").register_default_json(
                self._connection, loads=read_json
            )
        else:
            import_module("psycopg.types.json").set_json_loads(read_json, self._connection)


class _MySQL(Driver):
    """MySQL Connector."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._number = self._number_of(connection)

    def cursor(self) -> AbstractContextManager[Any]:
        """Let the server wait long for us."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(f"SET SESSION net_write_timeout = {_NET_WRITE_TIMEOUT}")
        return nullcontext(self._streaming())  # closing it would read all remaining rows

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
        from MySQLdb.cursors import SSCursor  # type: ignore[import-untyped]  # untyped

        return self._connection.cursor(SSCursor)


_DRIVERS: Mapping[str, type[Driver]] = {
    "psycopg": _Postgres,
    "psycopg2": _Postgres,
    "MySQLdb": _MySQLClient,
    "mysql": _MySQL,
    "sqlite3": _Sqlite,
}
"""Package of the driver -> how to use it."""


def driver_of(connection: Any) -> Driver:
    """Return the driver of a connection."""
    return _DRIVERS.get(type(connection).__module__.split(".")[0], Driver)(connection)


@contextmanager
def closing_quietly(thing: Any, close: Callable[[], None]) -> Iterator[Any]:
    """Close something at the end, and ignore errors: the server may be gone."""
    try:
        yield thing
    finally:
        with suppress(Exception):
            close()
