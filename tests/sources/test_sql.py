"""How many rows are in memory at a time, and what an error of the database says."""

import json
import signal
import sqlite3
import sys
import threading
import traceback
from contextlib import suppress

import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.sources import sql
from airflow_provider_mediquo.sources.sql import Rows
from tests.support.carried import locals_of, texts_of


class Connection(sqlite3.Connection):
    """Records how many rows each fetch asks for."""

    def cursor(self):  # type: ignore[override]
        return super().cursor(Cursor)


class Cursor(sqlite3.Cursor):
    def fetchmany(self, count):  # type: ignore[override]
        asked.append(count)
        return super().fetchmany(count)


Connection.__module__ = "sqlite3"  # which tells the driver
asked: list[int] = []


@pytest.fixture
def read(tmp_path):
    """Read rows with scans of these lengths, and return how many rows each fetch asked for."""

    class Hook:
        def get_conn(self):
            path = tmp_path / "db"
            connection = sqlite3.connect(path, check_same_thread=False, factory=Connection)
            connection.row_factory = lambda _, row: (*row[:2], self.kind(row[2]))
            return connection

    def read(*lengths, kind=bytes):
        asked.clear()
        Hook.kind = staticmethod(kind)
        with sqlite3.connect(tmp_path / "db") as connection:
            connection.execute("CREATE TABLE members (code, first_name, scan)")
            values = [(number, "Ada", bytes(length)) for number, length in enumerate(lengths)]
            connection.executemany("INSERT INTO members VALUES (?, ?, ?)", values)
        connection.close()
        rows = Rows(Hook(), "SELECT * FROM members ORDER BY code", None, lambda names: None)
        assert [row["code"] for row in rows] == [*range(len(lengths))]
        return asked

    return read


def test_the_first_fetches_are_small_because_the_length_of_rows_is_unknown(read):
    assert read(*[10] * 3500)[:5] == [10, 100, 1000, 1000, 1000]


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_fewer_long_rows_are_fetched_at_a_time(read, monkeypatch, kind):
    """psycopg2 returns bytes as memoryview."""
    monkeypatch.setattr(sql, "MAX_BATCH_BYTES", 1 << 20)
    assert {*read(*[100_000] * 40, kind=kind)[1:]} == {10}


@pytest.mark.parametrize(
    "kind", [bytearray, lambda x: {"card": "x" * len(x)}, lambda x: ["x" * len(x)]]
)
def test_fewer_rows_with_long_json_are_fetched_at_a_time(read, monkeypatch, kind):
    monkeypatch.setattr(sql, "MAX_BATCH_BYTES", 1 << 20)
    assert {*read(*[100_000] * 40, kind=kind)[1:]} == {10}


def test_the_longest_row_counts_and_not_the_first(read, monkeypatch):
    monkeypatch.setattr(sql, "MAX_BATCH_BYTES", 1 << 20)
    assert {*read(10, *[100_000] * 39)[1:]} == {10}


def test_rows_above_the_limit_are_fetched_one_by_one(read, monkeypatch):
    monkeypatch.setattr(sql, "MAX_BATCH_BYTES", 1 << 20)
    assert {*read(*[2_000_000] * 15)[1:]} == {1}


def test_many_rows_are_fetched_again_once_they_are_short(read, monkeypatch):
    monkeypatch.setattr(sql, "MAX_BATCH_BYTES", 1 << 20)
    assert read(*[2_000_000] * 12, *[10] * 2500)[-2:] == [1000, 1000]


def test_an_error_about_the_columns_carries_no_row(tmp_path):
    """Error trackers send the local variables of each function in the traceback."""
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute("CREATE TABLE members AS SELECT char(99, 97, 110, 97, 114, 121) AS a")
    connection.close()

    class Hook:
        def get_conn(self):
            return sqlite3.connect(tmp_path / "db", check_same_thread=False)

    def refuse(names):
        raise InvalidPatientsError("These are not patients.")

    with pytest.raises(InvalidPatientsError) as caught:
        [*Rows(Hook(), "SELECT * FROM members", None, refuse)]
    assert [text for text in texts_of(caught.value) if "canaryinamine" in text] == []
    assert [found for found in locals_of(caught.value) if "canaryinamine" in found[1]] == []


def test_a_number_that_may_be_a_value_is_not_shown_as_an_error_code():
    class Breaking:
        def execute(self, sql):
            raise RuntimeError(34_600_123_456)

        def close(self):
            pass

    class Hook:
        def get_conn(self):
            return self

        cursor = Breaking
        close = Breaking.close

    with pytest.raises(
        SourceError, match=r"builtins\.RuntimeError\.\nIts message is hidden"
    ) as caught:
        [*Rows(Hook(), "SELECT 1", None, lambda names: None)]
    assert "34600123456" not in str(caught.value)


# --- a renamed column -----------------------------------------------------------------------------


SERVERS = ["psycopg", "psycopg2", "MySQLdb", "mysql.connector"]


@pytest.fixture(params=["sqlite", *SERVERS])
def members(request, tmp_path):
    """Read a table `members` with a column `code` through one driver: `members(sql)`."""
    driver = request.param
    create = "CREATE TABLE members (code VARCHAR(20), seen INT)"
    if driver == "sqlite":
        with sqlite3.connect(tmp_path / "db") as connection:
            connection.execute(create)
        connection.close()

        def connect():
            return sqlite3.connect(tmp_path / "db", check_same_thread=False)
    else:
        is_postgres = driver.startswith("psycopg")
        database = request.getfixturevalue(f"{'postgres' if is_postgres else 'mariadb'}_database")
        database.run(create)
        module = pytest.importorskip(driver)

        def connect():
            options = {"host": database.host, "port": database.port, "user": database.user}
            options["password"] = database.password
            options["dbname" if is_postgres else "database"] = database.dbname
            return module.connect(**options)

    class Hook:
        get_conn = staticmethod(connect)

    return lambda sql, parameters=None: [*Rows(Hook(), sql, parameters, lambda names: None)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT code, product FROM members",
        "SELECT m.product FROM members m WHERE m.code = 'product'",
        "SELECT code FROM members WHERE product IS NULL",
    ],
)
def test_a_column_that_does_not_exist_is_named_and_not_retried(members, sql):
    with pytest.raises(
        InvalidPatientsError, match=r"uses the column (m\.)?product, which the"
    ) as caught:
        members(sql)
    assert not caught.value.can_retry


def test_a_text_in_double_quotes_that_is_taken_for_a_column_is_not_shown(members, request):
    """As MySQL writes text; to PostgreSQL it is a column."""
    if "psycopg" not in request.node.name:
        pytest.skip("it takes the text for a text")
    with pytest.raises(InvalidPatientsError, match="uses a column, which") as caught:
        members('SELECT code FROM members WHERE code = "Sekret"')
    assert "Sekret" not in str(caught.value)


def test_a_syntax_error_is_not_retried(members):
    with pytest.raises(InvalidPatientsError, match="`sql` is not valid SQL") as caught:
        members("SELECT code, FROM members")
    assert not caught.value.can_retry


def test_a_second_statement_is_not_retried_either(members, request):
    if "sqlite" not in request.node.name:
        pytest.skip("the others have a test of their own")
    with pytest.raises(InvalidPatientsError, match="`sql` is not valid SQL"):
        members("SELECT code FROM members; SELECT code FROM members")


@pytest.mark.parametrize("members", SERVERS, indirect=True)
@pytest.mark.parametrize(
    ("condition", "parameters"),
    [
        ("code = %s AND seen = %s", ["Sekret"]),
        ("code = %s", ["Sekret", "Sekret"]),
        ("code = %(code)s", {"kode": "Sekret"}),
        ("code = %(code)s", ["Sekret"]),
        ("code = %(code)s", "Sekret"),
        ("code = %s", ["Sekret\ud800"]),
    ],
)
def test_parameters_that_do_not_fit_are_not_retried(members, condition, parameters):
    with pytest.raises(InvalidPatientsError, match="`parameters` do not fit `sql`") as caught:
        members(f"SELECT code FROM members WHERE {condition}", parameters)
    assert not caught.value.can_retry
    assert "Sekret" not in str(caught.value)


def test_an_answer_that_a_driver_cannot_read_is_retried_also_with_parameters():
    class Hook:
        def get_conn(self):
            return self

        def cursor(self):
            return self

        def execute(self, *given):
            json.loads("<html>")

        def close(self):
            pass

    with pytest.raises(SourceError) as caught:
        [*Rows(Hook(), "SELECT 1", [1], lambda names: None)]
    assert caught.value.can_retry


@pytest.mark.parametrize("members", ["psycopg", "psycopg2", "MySQLdb"], indirect=True)
def test_nor_is_a_percent_sign_that_is_not_doubled(members):
    with pytest.raises(InvalidPatientsError, match="need %% for a %"):
        members("SELECT code FROM members WHERE code LIKE 'A%' AND seen = %s", [1])
    assert members("SELECT code FROM members WHERE code LIKE 'A%%' AND seen = %s", [1]) == []


@pytest.mark.parametrize("members", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "sql",
    ["selec code", "SELECT code FROM members WHERE", "SELECT 'code", "SELECT code frm members"],
)
def test_no_syntax_error_of_sqlite_is_retried(members, sql):
    with pytest.raises(
        InvalidPatientsError, match=r"not valid SQL for this database: .*, a syntax error"
    ):
        members(sql)


@pytest.mark.parametrize("members", ["sqlite"], indirect=True)
@pytest.mark.parametrize("sql", ["SELECT abs(-9223372036854775807 - 1)", "SELECT unknown(1)"])
def test_what_may_be_of_a_value_is_not_explained(members, sql):
    with pytest.raises(SourceError, match=r"SQLITE_ERROR\.\nIts message is hidden"):
        members(sql)


@pytest.mark.parametrize("members", ["sqlite"], indirect=True)
@pytest.mark.parametrize("parameters", [None, ["Sekret"], {"kode": "Sekret"}, [object(), 1]])
def test_nor_are_they_in_sqlite(members, parameters):
    with pytest.raises(InvalidPatientsError, match="`parameters` do not fit `sql`") as caught:
        members("SELECT code FROM members WHERE code = ? AND seen = ?", parameters)
    assert "Sekret" not in str(caught.value)


def test_a_table_that_does_not_exist_is_retried(members):
    """It may be replaced each night."""
    for parameters in (None, {"code": 1}):
        with pytest.raises(SourceError, match="no such table") as caught:
            members("SELECT code FROM patients", parameters)
        assert caught.value.can_retry


def test_a_connection_that_commits_each_statement_is_read_as_a_stream(postgres_database):
    """As with `autocommit` in the connection's extra: a named cursor needs a transaction."""
    psycopg = pytest.importorskip("psycopg")

    class Hook:
        def get_conn(self):
            options = {"host": postgres_database.host, "port": postgres_database.port}
            options |= {"user": postgres_database.user, "password": postgres_database.password}
            return psycopg.connect(dbname=postgres_database.dbname, autocommit=True, **options)

    rows = Rows(Hook(), "SELECT n AS code FROM generate_series(1, 50) n", None, lambda names: None)
    assert [row["code"] for row in rows] == [*range(1, 51)]


def test_a_reader_that_stops_ends_a_statement_that_has_no_row_yet():
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n WHERE x > 1"
    )
    reader = threading.main_thread().ident
    connection = sqlite3.connect(":memory:", check_same_thread=False)

    class Killed(Exception):
        pass

    def kill(*_):
        raise Killed

    def kill_a_reader_that_waits():
        stack = traceback.extract_stack(sys._current_frames()[reader])
        if any(frame.name == "_take" for frame in stack):
            connection.set_progress_handler(None, 0)
            signal.pthread_kill(reader, signal.SIGUSR1)

    class Hook:
        def get_conn(self):
            return connection

    connection.set_progress_handler(kill_a_reader_that_waits, 10_000)
    before = signal.signal(signal.SIGUSR1, kill)
    try:
        with pytest.raises(Killed):
            [*Rows(Hook(), endless, None, lambda names: None)]
        assert "mediquo-source" not in [thread.name for thread in threading.enumerate()]
    finally:
        signal.signal(signal.SIGUSR1, before)
        with suppress(sqlite3.ProgrammingError):  # it is closed, as it should be
            connection.interrupt()


def test_rows_without_values_are_skipped(tmp_path):
    class Hook:
        def get_conn(self):
            return sqlite3.connect(tmp_path / "db", check_same_thread=False)

    empty = "SELECT NULL AS code, ' ' AS first_name, NULL AS plan FROM numbers"
    sql = (
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 3000) "
        f"{empty} UNION ALL SELECT 1, 'Ada', NULL UNION ALL {empty} UNION ALL SELECT NULL, NULL, 0"
    )
    rows = [*Rows(Hook(), sql, None, lambda names: None)]
    assert [[*row.values()] for row in rows] == [[1, "Ada", None], [None, None, 0]]
