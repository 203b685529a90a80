"""What the page on the sync says can be done, done as it stands there."""

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from airflow.sdk import DAG

from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator

pytestmark = [
    # Airflow's own, inside `dag.test()`.
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'HTTP_422_UNPROCESSABLE_ENTITY':DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "sync.md").read_text(encoding="utf-8")
USER = "airflow_state"
STATE = {"state_conn_id": "state", "sync_name": "members"}


def statements(start):
    """The statements of the first block of SQL behind a text."""
    block = re.search(r"```sql\n(.*?)```", PAGE[PAGE.index(start) :], re.DOTALL)
    return [text.strip() for text in block[1].split(";") if text.strip()]


@pytest.fixture
def sqlite_state(tmp_path, monkeypatch):
    """A state in a file; run a statement on it."""
    file = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(file)}))

    def run(statement):
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            return database.execute(statement).fetchall()

    return run


def upsert_twice(people):
    """Run a sync that sends, unsubscribes and withholds."""
    hook = MediquoHook()
    first = hook.upsert_patients(people(3), **STATE)
    second = hook.upsert_patients(people(2), **STATE, on_missing="unsubscribe")
    assert (first.new, second.unchanged, second.missing_unsubscribed) == (3, 2, 1)


def account(tmp_path):
    """Export what is known of two runs, and forget somebody."""
    hook = MediquoHook()
    assert hook.export_receipts(tmp_path / "receipts.csv", state_conn_id="state") == 2
    assert hook.forget_patient("m-1", state_conn_id="state").syncs == ("members",)


def allow(database, create, grants):
    """Create the tables as the docs show, and a user with the rights of the docs alone."""
    for statement in create:
        database.run(statement)
    for statement in grants:
        database.run(statement)
    return replace(database, user=USER)


def test_these_rights_are_enough_on_postgresql(
    box, people, postgres_database, monkeypatch, tmp_path
):
    database = postgres_database
    database.run(f"CREATE USER {USER} PASSWORD '{database.password.replace('%', '%%')}'", ())
    try:
        grants = statements("Then allow the user")
        user = allow(database, statements("\nPostgreSQL:\n\n```sql\nCREATE"), grants)
        monkeypatch.setenv("AIRFLOW_CONN_STATE", user.json())
        upsert_twice(people)
        account(tmp_path)
        for grant in grants:
            database.run(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
        with pytest.raises(StateError):
            MediquoHook().upsert_patients(people(1), **STATE)
    finally:
        database.run(f"DROP OWNED BY {USER}")
        database.run(f"DROP USER {USER}")


def test_these_rights_are_enough_on_mariadb(box, people, mariadb_database, monkeypatch, tmp_path):
    database = mariadb_database
    database.run(f"CREATE USER {USER} IDENTIFIED BY '{database.password}'")
    try:
        grants = statements("in a database named `mediquo`:")
        grants = [text.replace(" mediquo.", f" {database.dbname}.") for text in grants]
        user = allow(database, statements("\nMySQL and MariaDB:\n\n```sql\nCREATE"), grants)
        monkeypatch.setenv("AIRFLOW_CONN_STATE", user.json())
        upsert_twice(people)
        account(tmp_path)
    finally:
        database.run(f"DROP USER {USER}")


def test_a_sqlite_file_is_created_as_the_docs_show(box, people, sqlite_state):
    for statement in statements("\nSQLite:\n\n```sql\nCREATE"):
        sqlite_state(statement)
    upsert_twice(people)


def test_one_statement_shows_what_happened_to_a_member(box, people, sqlite_state):
    MediquoHook().upsert_patients([*people(1), {"code": "m-2", "first_name": "Ada"}], **STATE)
    (shown,) = statements("### What happened to a member")
    (moment,) = re.findall(r"on SQLite, `(.*?)`", PAGE)
    shown = shown.replace("to_timestamp(member.sent_at)", moment)

    def status(code):
        found = sqlite_state(shown.replace("M-000017", code))
        return [row[:4] for row in found]

    assert status("m-1") == [("m-1", "members", 1, "acknowledged with a plan")]
    assert status("m-2") == [("m-2", "members", 1, "acknowledged without a plan")]
    assert status("m-3") == []
    (again,) = statements("### Send everything again")
    sqlite_state(again)
    assert status("m-1") == [("m-1", "members", 1, "in doubt: the next run sends it again")]
    assert MediquoHook().upsert_patients(people(1), **STATE).resent == 1


def test_that_statement_runs_on_postgresql(box, people, postgres_database, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_database.json())
    MediquoHook().upsert_patients(people(1), **STATE)
    (shown,) = statements("### What happened to a member")
    (row,) = postgres_database.run(shown.replace("M-000017", "m-1"))
    assert row[:4] == ("m-1", "members", 1, "acknowledged with a plan")


def test_a_person_is_forgotten(box, people, sqlite_state):
    MediquoHook().upsert_patients(people(2), **STATE)
    (forget,) = statements("### Forget a person")
    sqlite_state(forget.replace("M-000017", "m-2"))
    report = MediquoHook().upsert_patients(people(1), **STATE, on_missing="unsubscribe")
    assert report.missing == 0
    assert MediquoHook().upsert_patients(people(2), **STATE).new == 1


def test_receipts_of_a_sync_that_no_longer_runs_are_deleted(box, people, sqlite_state):
    MediquoHook().upsert_patients(people(1), **STATE)
    MediquoHook().upsert_patients(people(1), **STATE | {"sync_name": "other"})
    (delete,) = statements("- **Receipts are kept for")
    sqlite_state(delete)
    assert len(sqlite_state("SELECT * FROM mediquo_receipt")) == 2
    sqlite_state(delete.replace("2026-01-01", "9999-01-01"))
    assert sqlite_state("SELECT sync FROM mediquo_receipt") == [("other",)]


def test_a_sync_is_renamed_in_the_state(box, people, sqlite_state):
    MediquoHook().upsert_patients(
        people(2), state_conn_id="state", sync_name="mediquo_warehouse.upsert"
    )
    (rename,) = statements("To rename a sync")
    sqlite_state(rename)
    report = MediquoHook().upsert_patients(people(1), **STATE, on_missing="unsubscribe")
    assert (report.sync["run"], report.missing_unsubscribed) == (2, 1)


def test_who_is_missing_is_found_with_one_statement(box, people, sqlite_state):
    MediquoHook().upsert_patients(people(3), **STATE)
    (who,) = statements("### What to do when a run withholds")
    sqlite_state("CREATE TABLE members AS SELECT 'm-1' AS member_id UNION SELECT 'm-3'")
    assert sqlite_state(who) == [("m-2",)]


def test_the_message_of_a_run_that_withholds_is_as_the_docs_show(box, people, sqlite_state):
    MediquoHook().upsert_patients(people(3), **STATE)
    with pytest.raises(Exception, match="would lose their plan") as caught:
        MediquoHook().upsert_patients(people(1), **STATE, on_missing="unsubscribe")
    first, *details = str(caught.value).splitlines()
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)

    def pattern(text):
        return re.sub(r"[0-9][0-9,.]*(?<!\.)", "N", " ".join(text.split()))

    assert pattern("\n".join(details[:3])) == pattern(shown)
    (quoted,) = re.findall(r"``(Withheld: .*?)``", PAGE)
    assert pattern(first) == pattern(quoted)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("logical_date", "told"), [(None, "null"), (datetime(2026, 1, 2, tzinfo=UTC), "a time")]
)
def test_a_run_without_a_logical_date_may_have_an_as_of(
    box, run_dag, sqlite_state, people, monkeypatch, logical_date, told
):
    (as_of,) = re.findall(r'`as_of="(\{\{ data_interval_end \| .*?)"`', PAGE)
    with DAG(f"by_day_{told[:1]}", schedule=None) as dag:
        MediquoUpsertPatientsOperator(task_id="upsert", patients=people(1), as_of=as_of, **STATE)
    monkeypatch.setattr(dag, "test", partial(dag.test, logical_date=logical_date))
    done = run_dag(dag)
    assert done["upsert"][0] == "success"
    ((kept,),) = sqlite_state("SELECT as_of FROM mediquo_sync")
    assert (kept is None) == (told == "null")


def test_what_undoes_a_wrong_as_of(box, state, sync, people):
    (statement,) = re.findall(r"^ *(UPDATE mediquo_sync SET as_of = NULL .*)$", PAGE, re.MULTILINE)
    sync(box, state, people(1), as_of="2026-01-03").ok()
    late = sync(box, state, people(1), as_of="2026-01-02")
    assert "set `as_of` of this sync to NULL in the table mediquo_sync" in str(late.error)
    assert state.run(statement.rstrip(";")) == 1
    sync(box, state, people(1), as_of="2026-01-02").ok()


@pytest.mark.no_cover
def test_mapped_tasks_are_syncs_of_their_own(box, run_dag, sqlite_state, people):
    (name,) = re.findall(r'sync_name="(members-\{\{ .*?)"', PAGE)
    with DAG("shards", schedule=None) as dag:
        MediquoUpsertPatientsOperator.partial(
            task_id="upsert", state_conn_id="state", sync_name=name
        ).expand(patients=[people(2), people(1, start=3)])
    done = run_dag(dag)
    names = [done[f"upsert-{index}"][1]["sync"]["name"] for index in range(2)]
    assert names == ["members-0", "members-1"]
    assert sqlite_state("SELECT name FROM mediquo_sync ORDER BY name") == [
        ("members-0",),
        ("members-1",),
    ]
