"""The servers are there, and Airflow's own hooks read from them row by row, where they can."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from typing import Any

import pytest
from packaging.version import Version
from sqlalchemy import text

ROWS = 1_000_000
WIDTH = 100


@contextmanager
def stream(engine: Any, query: str) -> Iterator[Any]:
    """A connection and a result of which one row has been read."""
    with engine.connect().execution_options(stream_results=True, max_row_buffer=100) as connection:
        rows = connection.execute(text(query))
        assert rows.fetchone()
        yield rows
        rows.close()
    engine.dispose()


@pytest.mark.parametrize("scheme", ["postgresql+psycopg2", "postgresql+psycopg"])
def test_postgres_streams(scheme, postgres_database, monkeypatch):
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    extra = {"sqlalchemy_scheme": scheme}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", postgres_database.json(extra=extra))
    hook = PostgresHook("clinic")
    assert hook.get_first("SELECT current_database()") == (postgres_database.dbname,)

    engine = hook.get_sqlalchemy_engine()
    if Version(version("apache-airflow-providers-postgres")) >= Version(
        "7"
    ):  # else it is not asked
        assert engine.url.drivername == scheme
    assert engine.dialect.supports_server_side_cursors
    query = f"SELECT n, repeat('x', {WIDTH}) FROM generate_series(1, {ROWS}) n"
    with stream(engine, query) as rows:
        seen = rows.connection.execute(text("SELECT statement FROM pg_cursors")).scalars().all()
        assert any("generate_series" in statement for statement in seen)


def test_a_postgres_database_that_was_used_is_as_a_new_one(postgres):
    with postgres.fresh() as used:
        left_open = used.connect()
        left_open.autocommit = False
        left_open.cursor().execute("CREATE TABLE members (code text)")
        used.run("CREATE TABLE plans (code text)")
    with postgres.fresh() as again:
        assert again.dbname == used.dbname
        assert schemas(again) == schemas(postgres)
        assert again.run("SELECT relname FROM pg_class WHERE relname IN ('members', 'plans')") == []
        with pytest.raises(Exception, match="terminat"):
            left_open.cursor().execute("SELECT 1")
        left_open.close()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'",
        "GRANT CREATE ON DATABASE {name} TO PUBLIC",
        "CREATE SCHEMA clinic",
    ],
)
def test_a_postgres_database_with_something_of_its_own_is_dropped(postgres, change):
    with postgres.fresh() as used:
        used.run(change.format(name=used.dbname))
    assert (used.dbname,) not in postgres.run("SELECT datname FROM pg_database")
    with postgres.fresh() as another:
        assert schemas(another) == schemas(postgres)


def schemas(database):
    """Name -> owner and rights, of those that are no session's own."""
    found = database.run("SELECT nspname, nspowner, nspacl::text FROM pg_namespace")
    return {
        name: rest for name, *rest in found if not name.startswith(("pg_temp", "pg_toast_temp"))
    }


def test_mariadb_streams_with_mysqlclient(mariadb_database, monkeypatch):
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", mariadb_database.json())
    hook = MySqlHook("clinic")
    assert hook.get_first("SELECT database()") == (mariadb_database.dbname,)

    engine = hook.get_sqlalchemy_engine()
    assert engine.dialect.driver == "mysqldb"
    assert engine.dialect.supports_server_side_cursors
    with stream(engine, f"SELECT seq, repeat('x', {WIDTH}) FROM seq_1_to_{ROWS}"):
        assert is_sending(mariadb_database)


def test_mariadb_with_mysql_connector(mariadb_database, monkeypatch):
    """It streams by itself, but SQLAlchemy makes it fetch all rows before the first."""
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    extra = {"client": "mysql-connector-python"}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", mariadb_database.json(extra=extra))
    hook = MySqlHook("clinic")
    assert hook.get_first("SELECT database()") == (mariadb_database.dbname,)

    engine = hook.get_sqlalchemy_engine()
    assert engine.dialect.driver == "mysqlconnector"
    assert not engine.dialect.supports_server_side_cursors
    # Ten megabytes, which no buffer holds, in few rows.
    with stream(engine, f"SELECT seq, repeat('x', {50 * WIDTH}) FROM seq_1_to_2000"):
        assert not is_sending(mariadb_database)

    connection = hook.get_conn()
    cursor = connection.cursor()
    cursor.execute(f"SELECT seq, repeat('x', {WIDTH}) FROM seq_1_to_{ROWS}")
    assert cursor.fetchone()
    assert is_sending(mariadb_database)
    connection.disconnect()  # close() would read the rest


def is_sending(database):
    """Whether the server is still at a query, because the client has not taken all its rows."""
    others = (
        "SELECT count(*) FROM information_schema.processlist "
        "WHERE db = %s AND info LIKE '%%repeat%%' AND id <> connection_id()"
    )
    return database.run(others, [database.dbname]) == [(1,)]


def test_s3_is_an_object_storage(s3_bucket, monkeypatch):
    from airflow.sdk import ObjectStoragePath

    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", s3_bucket.json())
    folder = ObjectStoragePath(f"s3://aws_default@{s3_bucket.bucket}/members")
    path = folder / "a.csv"
    assert not path.exists()
    with path.open("w") as file:
        file.writelines(f"m-{number}\n" for number in range(200_000))
    assert path.exists()
    with path.open("r") as file:
        lines = iter(file)  # what `open` gives is iterable, but no iterator
        assert [next(lines), next(lines)] == ["m-0\n", "m-1\n"]
    assert [found.name for found in folder.glob("*.csv")] == ["a.csv"]
    with closing(s3_bucket.client()) as client:
        size = client.head_object(Bucket=s3_bucket.bucket, Key="members/a.csv")["ContentLength"]
    assert path.stat().st_size == size > 1_000_000
