import threading
from dataclasses import replace

import pytest
from sqlalchemy import create_engine

from airflow_provider_mediquo.api.errors import StateError, StateMismatchError
from airflow_provider_mediquo.api.sync.lease import Lease
from airflow_provider_mediquo.api.sync.statements import Doubt, Sent, acknowledge, doubt
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import MEMBER, VERSION
from tests.support.states import TABLES, every_database
from tests.support.threads import join, launch

# Pairs that a database may take for one: case, accents, Unicode forms, width, what is ignored.
ALIKE = [
    "a1",
    "A1",
    "\xe1",
    "a",
    "\xe9",
    "e\u0301",
    "\u00df",
    "ss",
    "i",
    "\u0131",
    "I",
    "\u0130",
    "\uff21",
    "A",
    "a\u200b",
    "a\u00ad",
    "a\u200d",
    "\u03c3",
    "\u03c2",
    "01",
    "1",
    "1.0",
    "\U0001f600",
    "\U0001f601",
    "x" * 255,
    "x" * 254,
    "\u00e9" * 255,
    "\U0001f600" * 255,
    "\U0001f600" * 254 + "\U0001f601",
    "a'b",
    'a"b',
    "a\\b",
    "a%b",
    "a_b",
]


@every_database
def test_codes_are_compared_exactly_and_fit(every_state):
    store = every_state.store()
    store.create()
    doubts = [Doubt(code, False, True) for code in ALIKE]
    store.write(lambda connection: doubt(connection, 1, doubts))
    assert set(every_state.members()) == set(ALIKE)
    members = [Sent(code, n, n, "proof", True, 1) for n, code in enumerate(ALIKE)]
    store.write(lambda connection: acknowledge(connection, 1, 1, members))
    pages = store.pages(MEMBER.c.code, MEMBER.c.fingerprint)
    read = {code: fingerprint for page in pages for code, fingerprint in page}
    assert read == {code: n for n, code in enumerate(ALIKE)}


@pytest.mark.no_cover
@every_database
def test_such_members_are_members_of_their_own(box, every_state, sync):
    """mediQuo's stand-in compares exactly, too."""
    records = [{"code": code, "first_name": "Ada", "plan": "p"} for code in ALIKE]
    assert sync(box, every_state, records).ok().new == len(ALIKE)
    assert sync(box, every_state, records).ok().unchanged == len(ALIKE)
    for record in records[1::2]:
        del record["plan"]
    options = {"on_missing": "unsubscribe", "max_unsubscribed": None}
    run = sync(box, every_state, records, **options).ok()
    assert (run.changed, run.unsubscribed, run.missing) == (len(ALIKE) // 2, len(ALIKE) // 2, 0)
    assert {code for code, shown in box.patients.items() if shown["plan"]} == set(ALIKE[::2])


@every_database
def test_tables_are_created_once(every_state):
    store = every_state.store()
    assert store.check_version() is False
    store.create()
    assert every_state.tables() == set(TABLES)
    assert every_state.run("SELECT version FROM mediquo_state") == [{"version": VERSION}]
    store.create()
    assert store.check_version() is True
    assert every_state.run("SELECT version FROM mediquo_state") == [{"version": VERSION}]


@pytest.mark.no_cover
@every_database
def test_many_may_create_them_at_once(every_state):
    start, problems = threading.Barrier(5, timeout=30), []

    def run(store):
        start.wait()
        try:
            store.create()
            Lease(store, threading.current_thread().name)
        except BaseException as error:
            problems.append(error)
            raise

    threads = [threading.Thread(target=run, args=[every_state.store()]) for _ in range(5)]
    launch(*threads)
    join(*threads)
    assert problems == []
    assert every_state.run("SELECT version FROM mediquo_state") == [{"version": VERSION}]
    assert len(every_state.run("SELECT id FROM mediquo_sync")) == 5


@every_database
def test_another_version_is_left_alone(every_state):
    store = every_state.store()
    store.create()
    every_state.run("UPDATE mediquo_state SET version = 3")
    for act in (store.create, store.check_version):
        with pytest.raises(
            StateMismatchError, match="has version 3, and this package knows version 1"
        ):
            act()


def test_without_the_right_to_create_tables_it_says_what_to_do(postgres_database):
    owner = postgres_database
    role = f"clerk_{owner.dbname}"
    owner.run(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    clerk = replace(owner, user=role, password="secret")
    engine = create_engine(_url(clerk))
    try:
        with pytest.raises(StateError) as failure:
            Store(engine).create()
        assert str(failure.value) == (
            "Cannot create the state's tables: InsufficientPrivilege 42501.\nAllow the user to create "
            "tables, or create them as the docs show."
        )
        _create_as(owner)
        for table in TABLES:
            owner.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
        owner.run(f"GRANT USAGE ON SEQUENCE mediquo_sync_id_seq TO {role}")
        store = Store(engine)
        store.create()
        Lease(store, "members").heartbeat()
        store.write(lambda connection: doubt(connection, 1, [Doubt("a", False, True)]))
    finally:
        engine.dispose()
        owner.run(f"DROP OWNED BY {role}")
        owner.run(f"DROP ROLE {role}")


def _create_as(database):
    engine = create_engine(_url(database))
    try:
        Store(engine).create()
    finally:
        engine.dispose()


def _url(database):
    from sqlalchemy.engine import URL

    return URL.create(
        "postgresql+psycopg2",
        database.user,
        database.password,
        database.host,
        database.port,
        database.dbname,
    )


def test_a_table_that_is_another_programs_is_an_error(box, state, sync, people):
    state.run("CREATE TABLE mediquo_member (id INTEGER)")
    run = sync(box, state, people(1))
    assert isinstance(run.error, StateError)
    assert box.counters.total == 0
