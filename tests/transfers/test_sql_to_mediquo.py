"""From real databases, through each driver that Airflow's hooks may use."""

import itertools
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.sources.sql import Rows
from airflow_provider_mediquo.transfers.sql_to_mediquo import SqlToMediquoOperator

SOON = 10.0
"""Seconds that "at once" may take on a busy machine; what is waited for would take longer."""

MANY = 200_000
POSTGRES = ["psycopg", "psycopg2"]
MARIADB = ["mysqlclient", "mysql-connector-python"]


@dataclass
class Warehouse:
    """A database that the connection `warehouse` leads to, through one driver.

    :param mark: of a parameter in a statement.
    :param many: a statement that gives MANY rows, of 200 bytes and more.
    :param sleep: a statement that takes a minute.
    """

    run: Callable[[str], Any]
    mark: str
    many: str
    sleep: str


@pytest.fixture
def warehouse(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Generator[Warehouse]:
    driver = request.param
    if driver == "sqlite":
        file = request.getfixturevalue("tmp_path") / "warehouse.db"
        connection = {"conn_type": "sqlite", "host": str(file)}
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
        numbers = f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT {MANY})"
        many = f"{numbers} SELECT n AS code, printf('%0200d', n) AS first_name FROM s"
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            yield Warehouse(database.execute, "?", many, "")
    elif driver in POSTGRES:
        from airflow.providers.postgres.hooks import postgres

        if driver == "psycopg2":  # which older versions of the hook use
            monkeypatch.setattr(postgres, "USE_PSYCOPG3", False)
        database = request.getfixturevalue("postgres_database")
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.json())
        many = f"SELECT n AS code, repeat('x', 200) AS first_name FROM generate_series(1, {MANY}) n"
        yield Warehouse(database.run, "%s", many, "SELECT pg_sleep(60), 1 AS code")
    else:
        database = request.getfixturevalue("mariadb_database")
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.json(extra={"client": driver}))
        many = f"SELECT seq AS code, repeat('x', 200) AS first_name FROM seq_1_to_{MANY}"
        yield Warehouse(database.run, "%s", many, "SELECT sleep(60), 1 AS code")


every_driver = pytest.mark.parametrize("warehouse", ["sqlite", *POSTGRES, *MARIADB], indirect=True)
every_server = pytest.mark.parametrize("warehouse", [*POSTGRES, *MARIADB], indirect=True)


@pytest.fixture
def transfer(dag: Any) -> Callable[..., SqlToMediquoOperator]:
    numbers = itertools.count()

    def make(sql: str, **options: Any) -> SqlToMediquoOperator:
        return SqlToMediquoOperator(
            task_id=f"members_{next(numbers)}",
            sql_conn_id="warehouse",
            sql=sql,
            retries=1,
            **options,
        )

    return make


def read(operator: SqlToMediquoOperator) -> Generator[Any]:
    return iter(operator.read_patients({}))


def fill(warehouse: Warehouse) -> None:
    warehouse.run(
        "CREATE TABLE members (member_id INT, name VARCHAR(40), born DATE, seen TIMESTAMP NULL, "
        "card DECIMAL(20, 0), product VARCHAR(20), mail VARCHAR(90), note TEXT)"
    )
    warehouse.run(
        "INSERT INTO members VALUES "
        "(1, ' Canaryinamine Ada Lovelace ', '1980-12-10', '1980-12-10 10:00:00', 123456789012345678, 'premium', "
        "'ada@example.com', '{\"card_id\": \"1\"}'), "
        "(2, 'Jos\u00e9 \u0141', NULL, NULL, 2, 'basic', '', NULL), "
        "(3, 'Bo', '2999-01-01', NULL, 3, 'basic', 'bo', NULL)"
    )


COLUMNS = {
    "member_id": None,
    "card": "code",
    "name": "first_name",
    "born": "birth_date",
    "product": "plan",
    "mail": "email",
    "note": "meta",
    "seen": None,
}


@pytest.mark.no_cover
@every_driver
def test_rows_arrive_as_patients(warehouse, box, transfer, run_task):
    fill(warehouse)
    run = run_task(transfer("SELECT * FROM members", columns=COLUMNS, max_rejects=1))
    assert run.state == "success", run.error
    assert (run.result["read"], run.result["upserted"], run.result["invalid"]) == (3, 2, 1)
    ada, jose = box.patients["123456789012345678"], box.patients["2"]
    assert ada["first_name"] == "Canaryinamine Ada Lovelace"
    assert ada["birth_date"] == "1980-12-10"
    assert ada["meta"] == {"card_id": "1"}
    assert (jose["first_name"], jose["birth_date"], jose["email"]) == (
        "Jos\u00e9 \u0141",
        None,
        None,
    )
    assert '"row": 3, "code": "3", "refused_by": "schema"' in run.log.replace('\\"', '"')
    # Shorter text may occur by chance in the proofs, which look random.
    for value in ("Canaryinamine Ada Lovelace", "1980-12-10", "ada@example.com"):
        assert value not in run.everything


@pytest.mark.no_cover
@every_driver
def test_parameters_are_the_drivers_own(warehouse, box, transfer, run_task):
    fill(warehouse)
    sql = f"SELECT card AS code, name AS first_name FROM members WHERE member_id < {warehouse.mark}"
    run = run_task(transfer(sql, parameters=[3]))
    assert run.result["upserted"] == 2
    percent = "SELECT card AS code, name AS first_name FROM members WHERE name LIKE '%d%'"
    nothing: tuple[Any, ...] = (None, [], {})
    for none in nothing:  # then a `%` is a `%`
        assert run_task(transfer(percent, parameters=none)).result["upserted"] == 1


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_the_statement_and_its_parameters_are_templates(warehouse, box, transfer, run_task):
    sql = "SELECT 'm-{{ ds }}' AS code, ? AS first_name, 'basic' AS plan"
    run = run_task(transfer(sql, parameters=["{{ run_id }}"]))
    assert run.state == "success", run.error
    assert box.patients["m-2026-01-02"]["first_name"] == "manual__2026-01-02"


@pytest.mark.parametrize("warehouse", ["psycopg"], indirect=True)
def test_a_connection_that_commits_by_itself_is_read_as_a_stream_too(
    warehouse, box, transfer, run_task, monkeypatch
):
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE"])
    connection["extra"] = {"autocommit": True}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    fill(warehouse)
    run = run_task(transfer("SELECT * FROM members", columns=COLUMNS, max_rejects=1))
    assert run.state == "success", run.error
    assert run.result["upserted"] == 2


@pytest.mark.parametrize("warehouse", POSTGRES, indirect=True)
def test_values_of_postgres(warehouse, transfer):
    sql = (
        "SELECT '00000000-0000-0000-0000-000000000007'::uuid AS code, 'Ada' AS first_name, "
        "'NaN'::numeric AS last_name, 'NaN'::float AS plan, '{\"a\": 1}'::jsonb AS meta, "
        "'1980-12-10'::timestamp AS birth_date"
    )
    from airflow_provider_mediquo.api.patients.schema import check_patient

    (row,) = read(transfer(sql))
    assert check_patient(row) == (
        {
            "code": "00000000-0000-0000-0000-000000000007",
            "first_name": "Ada",
            "last_name": None,
            "birth_date": "1980-12-10",
            "meta": {"a": 1},
        },
        {},
    )


@pytest.mark.parametrize("warehouse", POSTGRES, indirect=True)
def test_a_key_twice_in_json_of_postgres_is_seen(warehouse, transfer):
    from airflow_provider_mediquo.api.patients.schema import check_patient

    meta = ['{"a": {"b": 1, "b": 2}}', '{"a": [1, "x"]}']
    sql = " UNION ALL ".join(
        f"SELECT {number} AS code, 'Ada' AS first_name, '{text}'::json AS meta"
        for number, text in enumerate(meta)
    )
    twice, once = read(transfer(sql))
    assert check_patient(twice)[1] == {"meta": "object"}
    assert once["meta"] == {"a": [1, "x"]}


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_key_twice_in_json_as_text_is_seen(warehouse, box, transfer, run_task):
    sql = """SELECT 1 AS code, 'Ada' AS first_name, '{"a": 1, "a": 2}' AS meta"""
    run = run_task(transfer(sql, max_rejects=1))
    assert (run.state, run.result["invalid"]) == ("success", 1)
    assert "meta must be a JSON object" in run.log


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_empty_rows_do_not_end_a_run(warehouse, box, transfer, run_task):
    numbers = "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT 1000)"
    some = "CASE WHEN n % 500 = 0 THEN {} END"
    name = some.format("'Ada'")
    sql = f"{numbers} SELECT {some.format('n')} AS code, {name} AS first_name FROM s"
    run = run_task(transfer(sql))
    assert run.state == "success", run.error
    assert (run.result["read"], run.result["upserted"]) == (2, 2)
    assert {*box.patients} == {"500", "1000"}


# --- as a stream ----------------------------------------------------------------------------------


@pytest.mark.parametrize("warehouse", POSTGRES, indirect=True)
def test_postgres_keeps_the_result(warehouse, transfer, eventually):
    # It may still be at the rows that are read ahead.
    waiting = (
        "SELECT query FROM pg_stat_activity WHERE state = 'idle in transaction' "
        "AND datname = current_database()"
    )
    with closing(read(transfer(warehouse.many))) as rows:
        assert next(rows)["code"] == 1
        ((query,),) = eventually(lambda: warehouse.run(waiting))
    assert re.fullmatch(r'FETCH FORWARD \d+ FROM "?mediquo"?', query), query


@pytest.mark.parametrize("warehouse", MARIADB, indirect=True)
def test_mariadb_goes_on_sending_while_rows_are_read(warehouse, transfer):
    sending = (
        "SELECT count(*) FROM information_schema.processlist "
        "WHERE db = database() AND info LIKE '%repeat%' AND id <> connection_id()"
    )
    with closing(read(transfer(warehouse.many))) as rows:
        assert next(rows)["code"] == 1
        assert warehouse.run(sending) == [(1,)]


@every_server
def test_a_source_that_is_left_lets_go_of_its_connection(warehouse, transfer, eventually):
    connections = {
        "%s": "SELECT count(*) FROM information_schema.processlist WHERE db = database()",
    }[warehouse.mark]
    if "generate_series" in warehouse.many:
        connections = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend'"
        )
    rows = read(transfer(warehouse.many))
    next(rows)
    assert warehouse.run(connections) == [(2,)]
    started = time.monotonic()
    rows.close()
    assert eventually(lambda: warehouse.run(connections) == [(1,)])
    assert time.monotonic() - started < SOON


@pytest.mark.no_cover
@pytest.mark.parametrize("warehouse", POSTGRES, indirect=True)
def test_a_pause_does_not_end_postgres_patience(warehouse, transfer):
    ((name,),) = warehouse.run("SELECT current_database()")
    warehouse.run(f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = 100")
    rows = read(transfer(warehouse.many))
    next(rows)
    time.sleep(1)  # ten times as long as the server waits
    assert sum(1 for _ in rows) == MANY - 1


@pytest.mark.no_cover
@pytest.mark.parametrize("warehouse", MARIADB, indirect=True)
def test_a_pause_does_not_end_mariadbs_patience(warehouse, transfer):
    ((usual,),) = warehouse.run("SELECT @@global.net_write_timeout")
    warehouse.run("SET GLOBAL net_write_timeout = 1")
    try:
        rows = read(transfer(warehouse.many))
        next(rows)
        time.sleep(3)  # three times as long as the server waits
        assert sum(1 for _ in rows) == MANY - 1
    finally:
        warehouse.run(f"SET GLOBAL net_write_timeout = {usual}")


class Strange(sqlite3.Connection):
    """A connection of a driver that nobody has heard of."""


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_driver_that_may_not_stream_is_warned_of_once(
    warehouse, box, transfer, run_task, monkeypatch
):
    from airflow.providers.sqlite.hooks.sqlite import SqliteHook

    monkeypatch.setattr(
        SqliteHook, "get_conn", lambda hook: sqlite3.connect(":memory:", factory=Strange)
    )
    run = run_task(transfer("SELECT 1 AS code, 'Ada' AS first_name"))
    assert run.state == "success", run.error
    assert run.log.count("may load the whole result into memory") == 1


# --- columns --------------------------------------------------------------------------------------


@pytest.mark.no_cover
@pytest.mark.parametrize("warehouse", ["sqlite", "psycopg", "mysqlclient"], indirect=True)
@pytest.mark.parametrize(
    ("sql", "columns", "says"),
    [
        (
            "SELECT 1 AS code, 'canaryinamine' AS first_name, 2 AS shoe_size, 3 AS club",
            None,
            "unknown columns:\nshoe_size, club",
        ),
        ("SELECT 1 AS code, 'canaryinamine' AS first_name", {"id": "code"}, "has no column id"),
        ("SELECT 1 AS code, 'canaryinamine' AS firstname", None, "no column named first_name"),
        (
            "SELECT 1 AS code, 'canaryinamine' AS first_name, 2 AS code",
            None,
            "more than one column for code",
        ),
        (
            "SELECT 1 AS code, 'canaryinamine' AS first_name, '1980-01-01' AS birthdate, 2 AS birth_date",
            None,
            "more than one column for birth_date",
        ),
    ],
)
def test_columns_that_cannot_be_patients(warehouse, box, transfer, run_task, sql, columns, says):
    run = run_task(transfer(sql, columns=columns))
    assert run.state == "failed", "no retry heals it"
    assert says in str(run.error)
    words = "Stopped: invalid source. 0 upserted, 0 unsettled, 0 rejected. Fix the source."
    assert str(run.error).splitlines()[0] == words
    assert "canaryinamine" not in str(run.error)
    assert box.counters.total == 0


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_columns_of_something_else_are_not_shown(warehouse, transfer):
    with pytest.raises(InvalidPatientsError) as caught:
        next(read(transfer("SELECT 1 AS canaryinamine, 2 AS first_name")))
    assert "canaryinamine" not in str(caught.value)
    assert "no column named code among its 2 columns" in str(caught.value)


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_an_unknown_column_may_be_dropped(warehouse, box, transfer, run_task):
    sql = "SELECT 1 AS code, 'Ada' AS first_name, 2 AS shoe_size"
    assert run_task(transfer(sql, columns={"shoe_size": None})).result["upserted"] == 1


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_transform_makes_patients_of_rows_with_any_columns(warehouse, box, transfer, run_task):
    def patient(row: Any) -> dict[str, Any]:
        return {"code": row["number"], "first_name": row["called"]}

    run = run_task(transfer("SELECT 7 AS number, 'Ada' AS called", transform=patient))
    assert run.state == "success", run.error
    assert box.patients["7"]["first_name"] == "Ada"


# --- what goes wrong ------------------------------------------------------------------------------


@every_driver
def test_a_statement_that_cannot_run_says_why(warehouse, box, transfer, run_task):
    run = run_task(transfer("SELECT code, first_name FROM no_such_table"))
    assert run.state == "up_for_retry"
    assert "before the first row" in str(run.error)
    assert "no such table" in str(run.error)
    assert box.counters.total == 0


@pytest.mark.parametrize("warehouse", POSTGRES, indirect=True)
def test_what_the_database_says_of_a_row_is_not_repeated(warehouse, box, transfer, run_task):
    warehouse.run("CREATE TABLE members AS SELECT 1 AS code, 'canaryinamine' AS first_name")
    sql = "SELECT code, first_name, first_name::date AS birth_date FROM members"
    run = run_task(transfer(sql))
    assert run.state == "up_for_retry"
    assert "22007" in str(run.error), "the database's code for an invalid date"
    assert "canaryinamine" not in run.everything
    assert run.error.__cause__ is run.error.__context__ is None


@pytest.mark.parametrize("warehouse", POSTGRES, indirect=True)
def test_a_source_that_breaks_off_is_no_end(warehouse, box, transfer, run_task):
    # Division by zero in row 5,000: what came before is sent.
    sql = "SELECT n AS code, 'Ada' AS first_name, (1/(5000-n))::text AS plan FROM generate_series(1, 9000) n"
    run = run_task(transfer(sql))
    assert run.state == "up_for_retry"
    assert "Reading failed after row " in str(run.error)
    assert "22012" in str(run.error)
    assert 3000 <= len(box.patients) <= 4999
    assert f"{len(box.patients):,} upserted" in str(run.error)


def reading(threads):
    """Those that read a source."""
    return [thread for thread in threads if thread.name == "mediquo-source"]


@every_server
def test_a_kill_ends_a_long_statement(warehouse, box, transfer, run_task, kill, eventually):
    sleeping = (
        "SELECT count(*) FROM information_schema.processlist "
        "WHERE info LIKE '%sleep(60)%' AND id <> connection_id()"
    )
    if "pg_sleep" in warehouse.sleep:
        sleeping = (
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
            "AND pid <> pg_backend_pid() AND query LIKE ANY ('{%pg_sleep(60)%,FETCH%}')"
        )
    started, others = time.monotonic(), {*threading.enumerate()}
    kill(when=lambda: warehouse.run(sleeping) == [(1,)])
    run = run_task(transfer(warehouse.sleep))
    assert time.monotonic() - started < SOON
    assert "the task was killed" in str(run.error)
    assert eventually(lambda: warehouse.run(sleeping) == [(0,)])
    assert eventually(lambda: not reading({*threading.enumerate()} - others))


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_kill_ends_a_long_statement_of_sqlite(
    warehouse, box, transfer, run_task, kill, eventually, monkeypatch
):
    from airflow.providers.sqlite.hooks.sqlite import SqliteHook

    is_running = threading.Event()

    def connect(hook: SqliteHook) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.set_progress_handler(is_running.set, 1000)
        return connection

    monkeypatch.setattr(SqliteHook, "get_conn", connect)
    others = {*threading.enumerate()}
    kill(when=is_running.is_set)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
    started = time.monotonic()
    run = run_task(transfer(f"{endless} SELECT max(x) AS code, 'Ada' AS first_name FROM n"))
    assert time.monotonic() - started < SOON
    assert "the task was killed" in str(run.error)
    assert eventually(lambda: not reading({*threading.enumerate()} - others))


@pytest.mark.parametrize("warehouse", MARIADB, indirect=True)
def test_two_statements_are_not_taken_for_one(warehouse, box, transfer, run_task):
    sql = "SELECT 1 AS code, 'Ada' AS first_name; SELECT 2 AS code, 'Bo' AS first_name"
    run = run_task(transfer(sql))
    assert run.state in ("failed", "up_for_retry")


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_list_of_statements_fails_for_good(warehouse, box, transfer, run_task):
    run = run_task(transfer(["SELECT 1 AS code, 'Ada' AS first_name"]))
    assert run.state == "failed"
    assert "`sql` must be one SELECT statement, as text." in str(run.error)


SAYING = {
    "sqlite": [
        "SELECT 1 AS code, CAST(x'63616e617279696e616d696e65ff' AS TEXT) AS first_name",
        "SELECT 1 AS code, json_extract('{}', 'canaryinamine') AS first_name",
    ],
    "psycopg": ["SELECT 1 AS code, 'canaryinamine'::regclass::text AS first_name FROM pg_class"],
    "psycopg2": [
        "SELECT 1 AS code, to_tsquery(relname || 'canaryinamine &&&')::text AS first_name FROM pg_class"
    ],
    "mysql-connector-python": [
        "SELECT 1 AS code, get_lock(repeat('canaryinamine', 50), 1) AS first_name"
    ],
}


@pytest.mark.parametrize(
    ("warehouse", "sql"),
    [(driver, sql) for driver, statements in SAYING.items() for sql in statements],
    indirect=["warehouse"],
)
def test_no_words_of_a_database_are_repeated(warehouse, box, transfer, run_task, sql):
    run = run_task(transfer(sql))
    assert run.state == "up_for_retry"
    assert "canaryinamine" not in str(run.error)
    assert "Its message is hidden, because it may contain personal data." in str(run.error)


@every_server
def test_a_database_that_cannot_be_reached_says_so(warehouse, monkeypatch, box, transfer, run_task):
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE"])
    wrong = json.dumps(connection | {"password": "canaryinamine"})
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", wrong)
    run = run_task(transfer("SELECT 1 AS code, 'Ada' AS first_name"))
    assert run.state == "up_for_retry"
    assert "tester" in str(run.error), "the user that the database does not let in"
    assert "canaryinamine" not in run.everything


@pytest.mark.parametrize(
    "connection", [{"conn_type": "http", "host": "example.com"}, {"conn_type": "mediquo"}]
)
def test_a_connection_to_no_database(monkeypatch, box, transfer, run_task, connection):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    run = run_task(transfer("SELECT 1"))
    assert run.state == "failed"
    assert "The connection warehouse is not an SQL database.\nIts hook is " in str(run.error)
    assert box.counters.total == 0


def test_a_statement_in_a_file_is_a_template(dag):
    assert ".sql" in SqlToMediquoOperator.template_ext
    assert {"sql", "parameters", "rejects_path", "mediquo_conn_id"} <= {
        *SqlToMediquoOperator.template_fields
    }


def test_an_error_of_a_driver_is_not_chained():
    class Connection:
        def cursor(self) -> Any:
            raise RuntimeError("canaryinamine")

    class Hook:
        def get_conn(self) -> Any:
            return Connection()

    with pytest.raises(SourceError) as caught:
        next(iter(Rows(Hook(), "SELECT 1", None, lambda names: None)))
    assert caught.value.__context__ is None
    assert "canaryinamine" not in str(caught.value)
    assert "RuntimeError" in str(caught.value)


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)
def test_a_state_in_the_file_of_the_source_says_that_it_needs_its_own(
    warehouse, box, transfer, run_task, monkeypatch
):
    monkeypatch.setattr("airflow_provider_mediquo.hooks.database._SQLITE_TIMEOUT", 0.1)
    monkeypatch.setenv("AIRFLOW_CONN_STATE", os.environ["AIRFLOW_CONN_WAREHOUSE"])
    warehouse.run(f"CREATE TABLE members AS {warehouse.many}")
    sql = "SELECT *, 'p' AS plan FROM members"
    run = run_task(transfer(sql, state_conn_id="state", sync_name="members"))
    assert run.state == "up_for_retry"
    assert "If the source is in the same file, give the state a file of its own" in str(run.error)


# --- lineage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("warehouse", ["psycopg", "mysqlclient"], indirect=True)
def test_openlineage_gets_tables_and_mediquo(warehouse, box, transfer):
    fill(warehouse)
    sql = (
        "SELECT m.card AS code, m.name AS first_name FROM members m WHERE m.name = 'canaryinamine'"
    )
    lineage = transfer(sql).get_openlineage_facets_on_start()
    (table,) = lineage.inputs
    assert table.name.endswith("members")
    assert table.namespace.startswith(("postgres://127.0.0.1:", "mysql://127.0.0.1:"))
    (mediquo,) = lineage.outputs
    assert f"{mediquo.namespace}{mediquo.name}" == f"{box.url}/patients"
    assert "canaryinamine" not in str(lineage)
