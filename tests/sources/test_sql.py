"""How many rows of a database are in memory at a time."""

import signal
import sqlite3
import sys
import threading
import traceback
from contextlib import suppress

import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.sources import sql as rows_module
from airflow_provider_mediquo.sources.sql import Rows
from tests.support.carried import locals_of, texts_of


class Connection(sqlite3.Connection):
    """Notes how many rows it is asked for each time."""

    def cursor(self):
        return super().cursor(Cursor)


class Cursor(sqlite3.Cursor):
    def fetchmany(self, count):
        asked.append(count)
        return super().fetchmany(count)


Connection.__module__ = "sqlite3"  # by which the driver is known
asked = []


@pytest.fixture
def read(tmp_path):
    """Read rows whose scans have these lengths, and return how many were asked for each time."""

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


def test_few_are_asked_for_before_it_is_known_how_long_they_are(read):
    assert read(*[10] * 3500)[:5] == [10, 100, 1000, 1000, 1000]


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_of_long_rows_fewer_are_asked_for(read, monkeypatch, kind):
    """psycopg2 has bytes as the latter."""
    monkeypatch.setattr(rows_module, "MAX_BATCH_BYTES", 1 << 20)
    assert {*read(*[100_000] * 40, kind=kind)[1:]} == {10}


@pytest.mark.parametrize(
    "kind", [bytearray, lambda x: {"card": "x" * len(x)}, lambda x: ["x" * len(x)]]
)
def test_of_rows_with_long_json_too(read, monkeypatch, kind):
    monkeypatch.setattr(rows_module, "MAX_BATCH_BYTES", 1 << 20)
    assert {*read(*[100_000] * 40, kind=kind)[1:]} == {10}


def test_of_rows_of_which_only_the_first_is_short_too(read, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_BATCH_BYTES", 1 << 20)
    assert {*read(10, *[100_000] * 39)[1:]} == {10}


def test_of_rows_that_are_longer_than_all_that_is_one(read, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_BATCH_BYTES", 1 << 20)
    assert {*read(*[2_000_000] * 15)[1:]} == {1}


def test_once_they_are_short_again_so_are_many(read, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_BATCH_BYTES", 1 << 20)
    assert read(*[2_000_000] * 12, *[10] * 2500)[-2:] == [1000, 1000]


def test_what_is_wrong_with_the_columns_carries_no_row(tmp_path):
    """Tools that report errors send the variables of the functions that they came through."""
    with sqlite3.connect(tmp_path / "db") as connection:
        connection.execute("CREATE TABLE members AS SELECT char(99, 97, 110, 97, 114, 121) AS a")
    connection.close()

    class Hook:
        def get_conn(self):
            return sqlite3.connect(tmp_path / "db", check_same_thread=False)

    def refuse(names):
        raise InvalidPatientsError("These are no patients.")

    with pytest.raises(InvalidPatientsError) as caught:
        [*Rows(Hook(), "SELECT * FROM members", None, refuse)]
    assert [told for told in texts_of(caught.value) if "canary" in told] == []
    assert [told for told in locals_of(caught.value) if "canary" in told[1]] == []


def test_a_number_that_may_be_a_value_is_no_code_of_a_drivers_error():
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

    with pytest.raises(SourceError, match=r"builtins\.RuntimeError\. Its own words") as caught:
        [*Rows(Hook(), "SELECT 1", None, lambda names: None)]
    assert "34600123456" not in str(caught.value)


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
