import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_mediquo.api.errors import StateError, StateMismatchError
from airflow_provider_mediquo.api.sync import lease as lease_module
from airflow_provider_mediquo.api.sync.lease import LIFETIME, Lease, wait_for_late_requests
from tests.support.states import POSTGRES, every_database, every_server, one_of_each
from tests.support.threads import join, launch


def release(store, lease, *, was_cut=False):
    store.write(lambda connection: lease.free(connection, was_cut=was_cut))


def created(state):
    store = state.store()
    store.create()
    return store


@every_database
def test_runs_are_numbered_one_after_the_other(every_state):
    store = created(every_state)
    for number in (1, 2, 3):
        lease = Lease(store, "members")
        assert lease.run == number
        release(store, lease)
    other = Lease(store, "other")
    assert other.run == 1
    assert other.sync_id != lease.sync_id


@every_database
def test_it_is_held_by_one(every_state):
    store = created(every_state)
    lease = Lease(store, "members")
    with pytest.raises(StateError, match=r"has been running since 20..-..-.. ..:..:.. UTC"):
        Lease(every_state.store(), "members")
    lease.heartbeat()
    release(store, lease)
    second = Lease(store, "members")
    release(store, lease)  # late, and of no effect
    with pytest.raises(StateError, match="has been running since"):
        Lease(store, "members")
    second.heartbeat()


@every_database
def test_it_can_be_taken_from_a_run_without_a_heartbeat(every_state):
    store = created(every_state)
    lease = Lease(store, "members")
    every_state.pretend_dead(int(LIFETIME.total_seconds()) - 5)
    with pytest.raises(StateError):
        Lease(store, "members")
    lease.heartbeat()
    every_state.pretend_dead(int(LIFETIME.total_seconds()) - 5)
    with pytest.raises(StateError):
        Lease(store, "members")
    every_state.pretend_dead(5)
    second = Lease(store, "members")
    with pytest.raises(StateError, match="Another run of the sync 'members' has taken over"):
        lease.heartbeat()
    second.heartbeat()


@every_database
def test_of_many_that_begin_at_once_one_gets_it(every_state):
    created(every_state)
    got, refused, start = [], [], threading.Barrier(6)

    def run(store):
        start.wait(30)
        try:
            got.append(Lease(store, "members"))
        except StateError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run, args=[every_state.store()]) for _ in range(6)]
    launch(*threads)
    join(*threads)
    assert len(got) == 1, refused
    assert len(refused) == 5
    for problem in refused:
        assert "has been running since" in problem or "has just been started" in problem, problem
    got[0].heartbeat()
    assert got[0].run == every_state.sync()["run"] == 1


@every_database
def test_a_write_of_who_lost_it_changes_nothing(every_state):
    store = created(every_state)
    lease = Lease(store, "members")
    every_state.run("UPDATE mediquo_sync SET holder = 'another'")
    written = []

    def act(connection):
        lease.fence(connection)
        written.append(1)

    with pytest.raises(StateError):
        store.write(act)
    assert not written


def test_it_is_asked_for_again_once_it_may_have_been_lost(state):
    lease = Lease(created(state), "members")
    before = state.sync()["heartbeats"]
    lease.check()
    assert state.sync()["heartbeats"] == before, "a check of a fresh one asks nobody"
    lease._confirmed -= lease_module._FRESH + 1
    lease.check()
    assert state.sync()["heartbeats"] == before + 1
    lease.check()
    assert state.sync()["heartbeats"] == before + 1
    assert timedelta(seconds=lease_module._FRESH) < LIFETIME < timedelta(minutes=1)


def test_a_write_confirms_it_for_when_it_began(state):
    """While a slow one waits, time goes by for those who may take over."""
    lease = Lease(created(state), "members")
    moments = []
    lease.write(lambda connection: moments.append(time.monotonic()))
    assert lease._confirmed <= moments[0]


@every_server
def test_the_clock_is_the_databases_in_utc(every_state):
    """Whatever time zone a session has: two workers may have two."""
    name = every_state.server.dbname
    if every_state.driver in POSTGRES:
        every_state.server.run(f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'")
    else:
        every_state.server.run("SET GLOBAL time_zone = '+09:00'")
    try:
        store = created(every_state)
        Lease(store, "members")
        found = every_state.sync()["heartbeat"]
    finally:
        if every_state.driver not in POSTGRES:
            every_state.server.run("SET GLOBAL time_zone = 'SYSTEM'")
    assert abs(found.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=5)


@every_database
def test_older_data_is_refused(every_state):
    store = created(every_state)
    at = 1_767_312_000_000_000
    release(store, Lease(store, "members", at))
    release(store, Lease(store, "members", at))
    release(store, Lease(store, "members", at + 1))
    with pytest.raises(StateMismatchError, match=r"2026-01-02T00:00:00\.000001\+00:00"):
        Lease(store, "members", at)
    release(store, Lease(store, "members"))
    assert every_state.sync()["as_of"] == at + 1
    assert every_state.sync()["holder"] is None
    release(store, Lease(store, "other", at - 1))


@every_database
def test_names_are_compared_exactly(every_state):
    store = created(every_state)
    names = ["members", "Members", "m\xe9mbers", "\U0001f600", "x" * 250]
    ids = {Lease(store, name).sync_id for name in names}
    assert len(ids) == len(names)


# --- requests that may arrive late ----------------------------------------------------------------


class _Begun(Exception):
    pass


def has_to_wait(state):
    """Return whether a run that begins now waits; its check ends that."""

    def check():
        raise _Begun

    try:
        wait_for_late_requests(state.store(), "members", check)
    except _Begun:
        return True
    return False


@every_database
def test_after_a_run_whose_requests_were_cut_off_the_next_one_waits(every_state):
    store = created(every_state)
    assert not has_to_wait(every_state), "there was none"
    lease = Lease(store, "members")
    assert not has_to_wait(every_state), "it is refused instead"
    release(store, lease, was_cut=True)
    assert has_to_wait(every_state)
    every_state.pretend_dead(int(LIFETIME.total_seconds()) - 5)
    assert has_to_wait(every_state)
    every_state.pretend_dead(6)
    assert not has_to_wait(every_state)
    release(store, Lease(store, "members"))
    assert not has_to_wait(every_state)
    assert every_state.sync()["heartbeat"] is None


@every_database
def test_nor_does_it_begin_if_that_run_is_killed_after_it_has_looked(every_state):
    store = created(every_state)
    release(store, Lease(store, "members"), was_cut=True)
    with pytest.raises(StateError, match="has just been killed"):
        Lease(store, "members")


def test_whatever_the_clock_says_it_waits_for_one_lease_at_most(state, monkeypatch):
    monkeypatch.setattr(lease_module, "LIFETIME", timedelta(seconds=1))
    store = created(state)
    release(store, Lease(store, "members"), was_cut=True)
    state.run("UPDATE mediquo_sync SET heartbeat = '2999-01-01 00:00:00.000000'")
    checks = []

    def check():
        checks.append(1)
        assert len(checks) < 20

    wait_for_late_requests(store, "members", check)
    assert checks
    assert Lease(store, "members").run == 2


@every_database
def test_a_database_whose_clock_was_set_back_blocks_no_run(every_state):
    """The dead run's heartbeat is of tomorrow; that of one that lives is soon of today."""
    store = created(every_state)
    first = Lease(store, "members")
    every_state.pretend_dead(-86_400)
    second = Lease(store, "members")
    every_state.pretend_dead(-86_400)
    second.heartbeat()
    with pytest.raises(StateError, match="has been running since"):
        Lease(store, "members")
    with pytest.raises(StateError, match="has taken over"):
        first.heartbeat()


@every_database
def test_a_heartbeat_that_is_taken_back_is_none(every_state, monkeypatch):
    store = created(every_state)
    lease = Lease(store, "members")
    monkeypatch.setattr(lease_module, "_FRESH", 0.0)  # ask each time

    def fail(connection):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lease.write(fail)
    assert every_state.sync()["heartbeats"] == 0
    lease.check()
    assert every_state.sync()["heartbeats"] == 1


@every_database
def test_who_was_taken_over_is_told_at_each_check(every_state):
    store = created(every_state)
    lease = Lease(store, "members")
    every_state.pretend_dead()
    Lease(every_state.store(), "members")
    for _ in range(2):
        with pytest.raises(StateError, match="taken over"):
            lease.heartbeat()
    with pytest.raises(StateError, match="taken over"):
        lease.check()


@one_of_each
def test_it_waits_until_the_lease_would_have_ended(every_state, monkeypatch):
    monkeypatch.setattr(lease_module, "LIFETIME", timedelta(seconds=5))
    store = created(every_state)
    release(store, Lease(store, "members"), was_cut=True)
    checks = []
    wait_for_late_requests(every_state.store(), "members", lambda: checks.append(1))
    assert checks
    assert not has_to_wait(every_state)
