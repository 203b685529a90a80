import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.api.sync import store as store_module
from airflow_provider_mediquo.api.sync.statements import (
    Doubt,
    Sent,
    acknowledge,
    doubt,
    doubt_again,
    doubt_own,
    doubt_run,
    forget,
    refresh,
    restore,
)
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import MEMBER
from tests.support.states import every_database, every_server
from tests.support.threads import join, launch


def created(state):
    store = state.store()
    store.create()
    return store


def sent(*codes, has_plan=True, fingerprint=2**63 - 1):
    return [Sent(code, fingerprint, -(2**63), "proof", has_plan, 1_800_000_000) for code in codes]


def send(store, *codes, sync_id=1, run=1, **options):
    members = sent(*codes, **options)
    store.write(lambda connection: acknowledge(connection, sync_id, run, members))


def test_the_threads_of_a_run_take_turns(tmp_path):
    """SQLite has one writer at a time, and here nobody waits for it."""
    path, at_once = tmp_path / "state.db", {"timeout": 0}
    store = Store(create_engine(f"sqlite:///{path}", connect_args=at_once))
    store.create()
    with closing(store), ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: send(store, f"m-{number}"), range(100)))
        assert store.count() == 100


def test_an_error_while_rows_are_fetched_is_one_of_the_state(tmp_path):
    path = tmp_path / "state.db"
    store = Store(create_engine(f"sqlite:///{path}"))
    store.create()
    send(store, *(f"m-{number:04}" for number in range(5000)))
    store.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path.write_bytes(data)
    with pytest.raises(StateError, match=r"failed: DatabaseError.\nCheck that it runs"):
        list(store.pages(MEMBER.c.code, MEMBER.c.proof))


@pytest.mark.no_cover
@every_database
def test_what_was_acknowledged_is_read_again(every_state):
    store = created(every_state)
    codes = [f"m-{number:04}" for number in range(1200)]
    send(store, *codes)
    assert store.count() == 1200
    member = MEMBER.c
    columns = member.fingerprint, member.source, member.sent_at, member.has_plan, member.sync_id
    (page,) = store.pages(member.code, *columns)
    known = 2**63 - 1, -(2**63), 1_800_000_000, 1, 1
    assert [tuple(row) for row in page] == [(code, *known) for code in codes]
    store.write(lambda connection: doubt(connection, 2, [Doubt("m-0000", True, True)]))
    send(store, "m-0000", sync_id=2, run=7, has_plan=False, fingerprint=5)
    row = every_state.members()["m-0000"]
    assert (row["sync_id"], row["run"], row["has_plan"], row["fingerprint"]) == (2, 7, 0, 5)


@every_database
def test_members_in_doubt_keep_what_was_known(every_state):
    store = created(every_state)
    send(store, "a", "b", "c", has_plan=False)
    before = every_state.members()
    doubts = [Doubt("a", True, True), Doubt("b", True, False), Doubt("n", False, True)]
    store.write(lambda connection: doubt(connection, 2, doubts))
    after = every_state.members()
    since = after["a"]["in_doubt_since"]
    assert abs(time.time() - since) < 60
    in_doubt = {"in_doubt_by": 2, "in_doubt_since": since}
    assert after["a"] == before["a"] | in_doubt | {"has_plan": 1}
    assert after["b"] == before["b"] | in_doubt
    assert after["c"] == before["c"]
    assert (after["n"]["in_doubt_by"], after["n"]["fingerprint"]) == (2, None)
    store.write(lambda connection: restore(connection, 2, "a", has_plan=False))
    # Sync 1 may have given it a plan meanwhile.
    assert every_state.members()["a"] == before["a"] | {"has_plan": 1}
    send(store, "b", "n", sync_id=2)
    assert every_state.in_doubt() == set()


@every_database
def test_a_member_that_two_syncs_have_sent_at_the_same_time_stays_in_doubt(every_state):
    store = created(every_state)
    for sync_id in (1, 2):
        store.write(lambda connection, by=sync_id: doubt(connection, by, [Doubt("a", True, True)]))
    store.write(lambda connection: doubt(connection, 1, [Doubt("b", False, True)]))
    send(store, "a", "b", sync_id=2, has_plan=False)
    send(store, "a", "b", sync_id=1, has_plan=False)
    rows = every_state.members()
    assert {code: (row["in_doubt_by"], row["has_plan"]) for code, row in rows.items()} == {
        "a": (1, 1),
        "b": (1, 1),
    }


@every_database
def test_a_refusal_changes_nothing_of_what_another_sync_has_sent_meanwhile(every_state):
    store = created(every_state)
    send(store, "a")
    for sync_id in (1, 2):
        store.write(lambda connection, by=sync_id: doubt(connection, by, [Doubt("a", True, True)]))
    before = every_state.members()
    store.write(lambda connection: restore(connection, 1, "a", has_plan=True))
    assert every_state.members() == before


@every_database
def test_a_new_member_that_another_sync_has_sent_meanwhile_is_put_in_doubt(every_state):
    store = created(every_state)
    send(store, "n")
    store.write(lambda connection: doubt(connection, 2, [Doubt("n", False, True)]))
    row = every_state.members()["n"]
    assert (row["in_doubt_by"], row["sync_id"]) == (2, 1)
    store.write(lambda connection: restore(connection, 2, "n", has_plan=False))
    assert every_state.members()["n"]["in_doubt_by"] is None, "it is still that of the other"


def shared(state):
    """Return a store with members of two syncs, and of each in each state of doubt."""
    store = created(state)
    send(store, "mine", "mine-asked", "mine-asked-by-2")
    send(store, "theirs", "theirs-asked-by-1", sync_id=2)
    mine = [Doubt("mine-asked", True, True), Doubt("theirs-asked-by-1", True, True)]
    store.write(lambda connection: doubt(connection, 1, [*mine, Doubt("new-1", False, True)]))
    theirs = [Doubt("mine-asked-by-2", True, True), Doubt("new-2", False, True)]
    store.write(lambda connection: doubt(connection, 2, theirs))
    return store


SHARED = ["mine", "mine-asked", "mine-asked-by-2", "theirs", "theirs-asked-by-1", "new-1", "new-2"]
OWN = {"mine", "mine-asked", "theirs-asked-by-1", "new-1"}


@every_database
def test_a_doubt_says_which_members_another_sync_is_sending(every_state):
    """So that they stay in doubt when they are acknowledged: mediQuo may have either."""
    store = shared(every_state)
    doubts = [Doubt(code, True, False) for code in SHARED] + [Doubt("unknown", False, False)]
    contested = store.write(lambda connection: doubt(connection, 1, doubts))
    assert contested == {"mine-asked-by-2", "new-2"}
    members = sent(*SHARED)
    store.write(lambda connection: acknowledge(connection, 1, 1, members, contested))
    rows = every_state.members()
    assert {code for code, row in rows.items() if row["sync_id"] == 1} == {*SHARED}
    assert every_state.in_doubt() == contested | {"unknown"}


@every_database
def test_missing_members_are_put_in_doubt_only_if_they_are_still_ones_own(every_state):
    store = shared(every_state)
    before = every_state.members()
    own = store.write(lambda connection: doubt_own(connection, 1, [*SHARED, "unknown"]))
    assert own == OWN
    after = every_state.members()
    since = after["mine"].pop("in_doubt_since")
    assert abs(time.time() - since) < 60
    assert after["mine"] | {"in_doubt_since": None} == before["mine"] | {"in_doubt_by": 1}
    assert {
        code: row["in_doubt_by"] for code, row in after.items() if code in OWN
    } == dict.fromkeys(OWN, 1)
    others = {*SHARED} - OWN
    assert {code: after[code] for code in others} == {code: before[code] for code in others}


@every_database
def test_only_ones_own_members_are_forgotten(every_state):
    """One's own: also those that another sync sent before this one put them in doubt."""
    store = shared(every_state)
    before = every_state.members()
    store.write(lambda connection: forget(connection, 1, SHARED))
    assert every_state.members() == {code: before[code] for code in SHARED if code not in OWN}


@every_database
def test_a_refusal_restores_only_ones_own_doubts(every_state):
    store = shared(every_state)
    before = every_state.members()
    for code in SHARED:
        store.write(lambda connection, code=code: restore(connection, 1, code, has_plan=False))
    certain = {"in_doubt_by": None, "in_doubt_since": None}
    assert before.pop("new-1")["in_doubt_by"] == 1, "mediQuo never had it"
    before["mine-asked"] |= certain | {"has_plan": 0}
    before["theirs-asked-by-1"] |= certain  # whose plan sync 2 knows
    assert every_state.members() == before


@every_database
def test_what_is_found_wrong_while_it_is_being_sent_stays_with_who_sends_it(every_state):
    """The doubt of a running run is not handed to the sync that had sent the member before."""
    store = shared(every_state)
    every_state.run(
        "INSERT INTO mediquo_sync (id, name, run, heartbeats) VALUES (1, 'members', 1, 0)"
    )
    before = every_state.members()
    store.write(lambda connection: doubt_again(connection, SHARED))
    again = before | {
        "mine": before["mine"] | {"in_doubt_by": 1},
        "theirs": before["theirs"] | {"in_doubt_by": 2},
    }
    assert every_state.members() == again
    every_state.run("UPDATE mediquo_member SET in_doubt_by = NULL WHERE code = 'mine'")
    assert store.write(lambda connection: doubt_run(connection, "members", 1)) == 1
    assert every_state.members() == again


@every_database
def test_members_are_forgotten_in_any_number(every_state):
    store = created(every_state)
    codes = [f"m-{number}" for number in range(1201)]
    send(store, *codes)
    store.write(lambda connection: forget(connection, 1, codes[:-1]))
    assert set(every_state.members()) == {codes[-1]}
    store.write(lambda connection: forget(connection, 1, []))
    store.write(lambda connection: forget(connection, 2, codes))  # they belong to another
    assert set(every_state.members()) == {codes[-1]}


@every_database
def test_another_look_in_the_source_changes_that_alone(every_state):
    store = created(every_state)
    send(store, "a", "b", fingerprint=3)
    before = every_state.members()
    looks = [("a", 3, 5), ("b", 4, 6), ("unknown", 3, 7)]  # of `b` something else was sent
    store.write(lambda connection: refresh(connection, looks))
    assert every_state.members() == before | {"a": before["a"] | {"source": 5}}


@every_database
def test_what_was_found_wrong_is_in_doubt_by_its_owner(every_state):
    store = created(every_state)
    every_state.run(
        "INSERT INTO mediquo_sync (id, name, run, heartbeats) VALUES (1, 'members', 2, 0)"
    )
    send(store, "a", "b", run=1)
    send(store, "c", "d", run=2)
    send(store, "e", sync_id=2, run=2)
    store.write(lambda connection: doubt(connection, 2, [Doubt("n", False, True)]))
    store.write(lambda connection: doubt_again(connection, ["a", "n"]))
    assert store.write(lambda connection: doubt_run(connection, "members", 2)) == 2
    owners = {code: row["in_doubt_by"] for code, row in every_state.members().items()}
    assert owners == {"a": 1, "b": None, "c": 1, "d": 1, "e": None, "n": 2}
    assert store.write(lambda connection: doubt_run(connection, "unknown", 2)) == 0


# --- pages ----------------------------------------------------------------------------------------

CODES = ["B", "a", "A", "b", "a-", "a_", "a.", "\xe9", "e", "E", "\xe9a", "e\u0301", "\u00df", "ss"]
CODES += [
    "10",
    "9",
    "09",
    "\U0001f600",
    "\ufffd",
    "z",
    "\u0142",
    "\u4e2d",
    "a b",
    "ab",
    "a-b",
    "%",
    "'",
]


@every_database
def test_pages_hold_each_code_once_whatever_the_order_of_the_database(every_state, monkeypatch):
    monkeypatch.setattr(store_module, "_PAGE", 3)
    store = created(every_state)
    send(store, *CODES)
    pages = [*store.pages(MEMBER.c.code)]
    assert sorted(row[0] for page in pages for row in page) == sorted(CODES)
    assert [len(page) for page in pages] == [3] * (len(CODES) // 3)
    own = [row[0] for page in store.codes_of(1) for row in page]
    assert sorted(own) == sorted(CODES)
    assert not [*store.codes_of(2)]


@every_database
def test_members_of_a_sync_are_those_it_put_in_doubt_or_sent_last(every_state):
    store = created(every_state)
    send(store, "a", "b", sync_id=1)
    send(store, "c", sync_id=2)
    doubts = [Doubt("b", True, True), Doubt("n", False, True)]
    store.write(lambda connection: doubt(connection, 2, doubts))
    assert [row[0] for page in store.codes_of(1) for row in page] == ["a"]
    assert sorted(row[0] for page in store.codes_of(2) for row in page) == ["b", "c", "n"]


@every_database
def test_others_may_write_between_two_pages(every_state, monkeypatch):
    """No transaction stays open while a source is read."""
    monkeypatch.setattr(store_module, "_PAGE", 2)
    store, other = created(every_state), every_state.store()
    send(store, "a", "b", "c", "d")
    pages = store.pages(MEMBER.c.code)
    next(pages)
    other.write(lambda connection: forget(connection, 1, ["a", "c"]))
    assert [row[0] for row in next(pages)] == ["d"]


# --- transactions ---------------------------------------------------------------------------------


@every_database
def test_a_write_that_fails_leaves_nothing(every_state):
    store = created(every_state)

    def act(connection):
        acknowledge(connection, 1, 1, sent("a"))
        connection.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(StateError):
        store.write(act)
    assert every_state.members() == {}


@every_database
def test_a_write_that_meets_another_is_repeated(every_state):
    store, tries = created(every_state), []

    def act(connection):
        tries.append(1)
        acknowledge(connection, 1, 1, sent("a"))
        if len(tries) < 3:
            connection.execute(text("INSERT INTO mediquo_member (code, has_plan) VALUES ('a', 1)"))

    store.write(act)
    assert len(tries) == 3
    assert every_state.members()["a"]["run"] == 1
    with pytest.raises(StateError, match="Its message is hidden"):
        store.write(
            lambda c: [c.execute(text("INSERT INTO mediquo_state VALUES (1)")) for _ in "aa"]
        )


@every_server
def test_two_writes_that_wait_for_each_other_are_both_made(every_state):
    """A deadlock: the database ends one of them, which is repeated."""
    created(every_state)
    stores = every_state.store(), every_state.store()
    send(stores[0], "a", "b")
    both, tries, problems = threading.Barrier(2, timeout=30), [], []

    def run(store, codes):
        def act(connection):
            tries.append(1)
            acknowledge(connection, 1, 1, sent(codes[0]))
            if len(tries) <= 2:
                both.wait()
            acknowledge(connection, 1, 1, sent(codes[1]))

        try:
            store.write(act)
        except BaseException as error:
            problems.append(error)
            raise

    threads = [
        threading.Thread(target=run, args=[stores[0], "ab"]),
        threading.Thread(target=run, args=[stores[1], "ba"]),
    ]
    launch(*threads)
    join(*threads)
    assert problems == []
    assert len(tries) > 2, "there was no deadlock"


@every_server
def test_new_members_of_two_syncs_between_each_other_are_both_written(every_state):
    """MySQL locks the gap in which a deleted row is looked for."""
    created(every_state)
    stores = every_state.store(), every_state.store()
    both, tries, problems = threading.Barrier(2, timeout=30), [], []

    def run(store, number):
        def act(connection):
            codes = [f"m-{2 * n + number}" for n in range(50)]
            forget(connection, number, codes)
            tries.append(1)
            if len(tries) <= 2:
                both.wait()
            doubt(connection, number, [Doubt(code, False, True) for code in codes])

        try:
            store.write(act)
        except BaseException as error:
            problems.append(error)
            raise

    threads = [threading.Thread(target=run, args=[stores[n], n]) for n in (0, 1)]
    launch(*threads)
    join(*threads)
    assert problems == []
    assert len(tries) == 2, "none had to wait for the other"
    assert len(every_state.members()) == 100


@every_server
def test_transactions_see_what_others_have_committed(every_state):
    """READ COMMITTED, the usual level of PostgreSQL; MySQL's own locks what is between the rows."""
    send(created(every_state), "a")
    one, other = every_state.engine(), every_state.store()
    query = text("SELECT count(*) FROM mediquo_member")
    with one.connect() as connection:
        assert connection.execute(query).scalar() == 1
        send(other, "b")
        assert connection.execute(query).scalar() == 2


# --- errors ---------------------------------------------------------------------------------------


@every_database
def test_an_error_has_a_class_and_a_code_and_no_parameter(every_state):
    store = created(every_state)
    send(store, "a")
    statement = text("INSERT INTO mediquo_member (code, has_plan, proof) VALUES (:c, 1, :p)")
    parameters = {"c": "a", "p": "canaryinamine"}
    with pytest.raises(StateError) as failure:
        store.write(lambda connection: connection.execute(statement, parameters))
    expected = {
        "sqlite": "IntegrityError",
        "psycopg": "UniqueViolation 23505",
        "psycopg2": "UniqueViolation 23505",
        "mysqlclient": "IntegrityError 1062",
        "mysql-connector-python": "IntegrityError 23000",
    }[every_state.driver]
    assert str(failure.value) == (
        f"The state's database failed: {expected}.\nCheck that it runs, and that its user may read and "
        "write the tables mediquo_*. Its message is hidden, because it may contain codes."
    )
    assert failure.value.__context__ is None
    assert failure.value.__cause__ is None


def test_a_database_that_cannot_be_reached_is_not_one_without_rights(tmp_path):
    store = Store(create_engine(f"sqlite:///{tmp_path}/nowhere/state.db"))
    for act in (store.create, store.check_version, store.count):
        with pytest.raises(StateError) as failure:
            act()
        assert str(failure.value) == (
            "Cannot connect to the state's database: OperationalError:\nunable to open database file.\n"
            "Check that it runs, and the connection's host, login, and database."
        )


def test_the_number_that_mysqls_drivers_give_is_there_once():
    def connect():
        raise OperationalError("", {}, sqlite3.OperationalError(2002, "Can't connect to server"))

    with pytest.raises(StateError) as failure:
        Store(create_engine("sqlite://", creator=connect)).create()
    assert str(failure.value).startswith(
        "Cannot connect to the state's database: OperationalError 2002:\nCan't connect to server.\n"
    )


def test_a_database_of_another_kind_cannot_be_reached(tmp_path):
    """The hook's cursors may give rows as dictionaries, where SQLAlchemy asks for the version."""

    def connect():
        raise KeyError("version")

    with pytest.raises(StateError, match=r"^Cannot connect to the state's database: KeyError:\n"):
        Store(create_engine("sqlite://", creator=connect)).create()


def test_a_database_that_cannot_store_a_code_says_so(postgres_database):
    owner, name = postgres_database, f"{postgres_database.dbname}_latin1"
    owner.run(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    engine = create_engine(
        f"postgresql+psycopg2://{quote(owner.user)}:{quote(owner.password, safe='')}"
        f"@{owner.host}:{owner.port}/{name}"
    )
    try:
        store = Store(engine)
        store.create()
        send(store, "Ñ-1")
        with pytest.raises(StateError) as failure:
            send(store, "東-1")
        assert str(failure.value).endswith(
            "It cannot store the characters of a code. Use a database whose encoding is UTF-8 (utf8mb4 "
            "in MySQL)."
        )
        assert "東" not in repr(failure.value)
    finally:
        engine.dispose()
        owner.drop(name)


@pytest.mark.parametrize("reader", ["BEGIN; SELECT * FROM mediquo_state", "BEGIN EXCLUSIVE"])
def test_a_locked_file_says_what_to_do(state, reader):
    created(state)
    url = state.own.url
    state.make_engine = lambda: create_engine(url, connect_args={"timeout": 0})
    store = state.store()
    with closing(state.engine().raw_connection()) as other:
        other.driver_connection.isolation_level = None
        for statement in reader.split("; "):
            other.driver_connection.execute(statement).fetchall()
        with pytest.raises(StateError) as failure:
            send(store, "a")
    assert str(failure.value) == (
        "The state's database failed: OperationalError.\nThe SQLite file is locked: another connection "
        "uses it. If the source is in the same file, give the state a file of its own, or use "
        "PostgreSQL, MySQL or MariaDB."
    )
    assert failure.value.__context__ is None


def test_once_the_task_is_being_killed_a_silent_database_is_waited_for_once(state):
    """Each wait takes a second, and Airflow kills a task 5 seconds after it has asked it to end."""
    created(state)
    killed = StopFlag()
    store = Store(state.engine(), killed)
    killed.set()
    before = {*threading.enumerate()}
    with closing(state.engine().raw_connection()) as other:
        other.driver_connection.isolation_level = None
        other.driver_connection.execute("BEGIN EXCLUSIVE")
        for act in (store.count, store.check_version, lambda: send(store, "a")):
            with pytest.raises(StateError, match="did not answer before the task had to end"):
                act()
        waiting = {*threading.enumerate()} - before
        other.driver_connection.execute("ROLLBACK")
    join(*waiting)
    assert [thread.name for thread in waiting] == ["mediquo-state"]
    assert state.members() == {}


def test_a_kill_ends_the_wait_for_tables_to_be_created(state, monkeypatch):
    killed, is_over = StopFlag(), threading.Event()
    store = Store(state.engine(), killed)
    killed.set()
    monkeypatch.setattr(store_module.metadata, "create_all", lambda engine: is_over.wait(60))
    with pytest.raises(StateError, match="did not answer before the task had to end"):
        store.create()
    is_over.set()


def test_what_is_no_error_of_the_database_is_raised_as_it_is(state):
    store = created(state)
    for error in (KeyError("a"), StateError("a"), ValueError("a"), TimeoutError("a")):

        def act(connection, error=error):
            connection.execute(text("DELETE FROM mediquo_state"))
            raise error

        with pytest.raises(type(error)):
            store.write(act)
    assert state.run("SELECT * FROM mediquo_state") == [{"version": 1}]
