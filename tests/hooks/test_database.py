"""Databases through the hooks of Airflow: the engine of the state."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.api.sync import statements
from airflow_provider_mediquo.api.sync.statements import Doubt, Sent, acknowledge, doubt
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import MEMBER
from airflow_provider_mediquo.hooks.database import engine_of
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.sensors.written import put_in_doubt

RUN = {"state_conn_id": "state", "name": "members", "run": 1}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The SQLite file that the connection `state` leads to."""
    file = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    return file


@pytest.mark.parametrize(
    "call",
    [
        lambda file: MediquoHook().export_receipts(file.with_suffix(".csv"), state_conn_id="state"),
        lambda file: MediquoHook().forget_patient("m-1", state_conn_id="state"),
        lambda file: MediquoHook().audit_patients(state_conn_id="state"),
        lambda file: put_in_doubt([{"sync": RUN}], StopFlag()),
    ],
    ids=["export", "forget", "audit", "doubt"],
)
@pytest.mark.usefixtures("box")
def test_a_call_leaves_no_connection_to_the_state_open(file, call):
    call(file)
    assert file.exists()
    assert str(file) not in [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]


@pytest.mark.usefixtures("box", "file")
def test_a_run_is_put_in_doubt_also_if_another_one_cannot_be(people, monkeypatch, caplog):
    caplog.set_level("INFO")
    doubt, errors = statements.doubt_run, iter([OperationalError("", None, OSError())])

    def fail_once(*given):
        for error in errors:
            raise error
        return doubt(*given)

    monkeypatch.setattr(statements, "doubt_run", fail_once)
    reports = [
        MediquoHook().upsert_patients(people(1), state_conn_id="state", sync_name=name)
        for name in ("spain", "france")
    ]
    put_in_doubt([report.as_dict() for report in reports], StopFlag())
    assert (
        "The records of run 1 of spain could not be put in doubt (StateError)." in caplog.messages
    )
    assert "The next run sends 1 record again." in caplog.messages


@pytest.mark.usefixtures("box", "file")
def test_through_the_hook_a_sync_is_called_after_the_connection(people):
    report = MediquoHook().upsert_patients(people(1), state_conn_id="state")
    assert report.sync == {"state_conn_id": "state", "name": "mediquo_default", "run": 1}


@pytest.mark.usefixtures("file")
def test_no_value_is_in_an_error_of_sqlite():
    engine = engine_of("state")
    with engine.connect() as opened, pytest.raises(OperationalError) as raised:
        opened.execute(text("SELECT :code FROM nowhere"), {"code": "canaryinamine"})
    assert "canaryinamine" not in str(raised.value)
    engine.dispose()


def test_a_type_without_a_provider_says_what_to_install(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "nowhere", "host": "db"}))
    with pytest.raises(
        AirflowFailException, match="Install the provider of its database"
    ) as raised:
        engine_of("state")
    assert 'Unknown hook type "nowhere"' in str(raised.value)


def test_a_connection_that_does_not_exist_is_airflows_own_error(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_STATE", raising=False)
    with pytest.raises(AirflowNotFoundException):
        engine_of("state")


@pytest.fixture
def state(postgres_database, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_database.json())
    store = Store(engine_of("state"))
    store.create()
    yield store
    store.close()


def test_a_write_that_fails_leaves_nothing_where_the_connection_commits_by_itself(
    postgres_database, monkeypatch
):
    """As with `autocommit` in its extra: each write of the state is one transaction."""
    from airflow.providers.postgres.hooks import postgres

    if not getattr(postgres, "USE_PSYCOPG3", False):
        pytest.skip("psycopg 2 takes no such extra")
    connection = postgres_database.json(extra={"autocommit": True})
    monkeypatch.setenv("AIRFLOW_CONN_STATE", connection)

    def break_off(connection):
        doubt(connection, 1, [Doubt("m-1", False, True)])
        raise LookupError

    with closing(Store(engine_of("state"))) as store:
        store.create()
        with pytest.raises(LookupError):
            store.write(break_off)
        assert store.count() == 0


def test_no_plan_of_an_empty_table_is_kept(state):
    """PostgreSQL would keep the plan of a prepared DELETE: to read the whole table, each time."""
    for run in range(20):
        members = [Doubt(f"m-{run}-{number}", False, True) for number in range(3)]
        state.write(lambda connection, members=members: doubt(connection, 1, members))
    prepared = "SELECT statement FROM pg_prepared_statements"
    statements = state.read(lambda c: c.execute(text(prepared)).scalars().all())
    assert [each for each in statements if "mediquo_member" in each and "INSERT" not in each] == []


def test_any_code_is_kept_as_it_is(state):
    codes = [
        "a",
        "A",
        "\u00e9",
        "e\u0301",
        "\U0001f600",
        "'",
        '"',
        "\\",
        "\\u0041",
        "%s",
        ":x",
        "{",
        " a",
        "\n",
    ]
    state.write(lambda c: doubt(c, 1, [Doubt(code, False, True) for code in codes]))
    sent = [Sent(code, -(2**63), 2**63 - 1, "proof", True, 1_800_000_000) for code in codes[:2]]
    state.write(lambda c: acknowledge(c, 1, 7, sent))
    names = "fingerprint", "source", "sent_at", "has_plan", "sync_id", "in_doubt_by"
    pages = state.pages(MEMBER.c.code, *(MEMBER.c[name] for name in names))
    rows = {row[0]: row[1:] for page in pages for row in page}
    assert rows.keys() == {*codes}
    assert rows["A"] == (-(2**63), 2**63 - 1, 1_800_000_000, 1, 1, None)
    assert rows["%s"] == (None, None, None, 1, None, 1)
