"""Databases through the hooks of Airflow: the engine of the state."""

import pytest
from sqlalchemy import text

from airflow_provider_mediquo.api.sync.statements import Doubt, doubt
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.hooks.database import engine_of


@pytest.fixture
def state(postgres_database, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_STATE", postgres_database.json())
    store = Store(engine_of("state"))
    store.create()
    yield store
    store.close()


def test_no_plan_of_an_empty_table_is_kept(state):
    """PostgreSQL would keep the plan of a prepared DELETE: to read the whole table, each time."""
    for run in range(20):
        members = [Doubt(f"m-{run}-{number}", False, True) for number in range(3)]
        state.write(lambda connection, members=members: doubt(connection, 1, members))
    prepared = "SELECT statement FROM pg_prepared_statements"
    statements = state.read(lambda c: c.execute(text(prepared)).scalars().all())
    assert [each for each in statements if "mediquo_member" in each and "INSERT" not in each] == []
