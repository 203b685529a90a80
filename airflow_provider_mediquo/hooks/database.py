"""SQL databases, through any hook of Airflow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseHook

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from sqlalchemy.engine import URL, Engine

_MYSQL = "mysql", "mariadb"
_SQLITE_TIMEOUT = 30  # seconds that a write waits for that of another process


def database_hook(conn_id: str) -> DbApiHook:
    """Return the hook of an SQL connection; raises AirflowFailException for another connection."""
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    connection: Any = BaseHook.get_connection(conn_id)
    try:
        hook = connection.get_hook()
    except AirflowException as error:  # Unknown hook type "sqlite", for example
        raise AirflowFailException(
            f"Airflow cannot use the connection {conn_id}: {error}.\nInstall the provider of its "
            "database on the workers (for `postgres`: `apache-airflow-providers-postgres`), or correct "
            "its type."
        ) from None
    if isinstance(hook, DbApiHook):
        return hook
    raise AirflowFailException(
        f"The connection {conn_id} is not an SQL database.\nIts hook is {type(hook).__name__}."
    )


def engine_of(conn_id: str) -> Engine:
    """Return an SQLAlchemy engine over the connections that the hook makes, with all its extras."""
    hook = database_hook(conn_id)
    if hook.conn_type == "sqlite":  # the hook's own connections stay in one thread
        arguments = {"connect_args": {"timeout": _SQLITE_TIMEOUT}, "hide_parameters": True}
        return hook.get_sqlalchemy_engine(arguments)

    def connect() -> Any:
        connection = hook.get_conn()
        hook.set_autocommit(connection, False)
        if getattr(connection, "prepare_threshold", None):
            # psycopg 3 would prepare what runs often, and PostgreSQL would keep a plan that it made
            # while the table was small: to read all of it. Inserts are prepared all the same.
            connection.prepare_threshold = sys.maxsize
        return connection

    from sqlalchemy import create_engine

    url = _url_of(hook)
    # MySQL's usual level locks the gaps between rows, which parallel syncs would wait for.
    level = {"isolation_level": "READ COMMITTED"} if url.get_backend_name() in _MYSQL else {}
    return create_engine(url, creator=connect, pool_pre_ping=True, hide_parameters=True, **level)


def _url_of(hook: DbApiHook) -> URL:
    """Return a URL that names the driver of the hook's connections."""
    from sqlalchemy.engine import make_url

    url = make_url(hook.get_uri())
    if url.get_backend_name() != "postgresql":
        return url
    from airflow.providers.postgres.hooks import postgres

    # A URL without a driver means another one in each version of SQLAlchemy.
    driver = "psycopg" if getattr(postgres, "USE_PSYCOPG3", False) else "psycopg2"
    return url.set(drivername=f"postgresql+{driver}")
