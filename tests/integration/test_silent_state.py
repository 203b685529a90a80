"""A state that does not answer: a kill ends the run all the same, with its ledger."""

import gc
import os
import signal
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import text

from airflow_provider_mediquo.api.errors import StoppedError
from airflow_provider_mediquo.api.sync import store
from airflow_provider_mediquo.api.sync.lease import Lease
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from tests.support.states import CONN_ID, every_database, one_of_each
from tests.support.threads import join, launch

LOCKS = {"postgresql": "LOCK TABLE mediquo_sync", "sqlite": "BEGIN EXCLUSIVE"}
SOON = 20  # seconds, on a busy machine; while the state is silent, the run would not end
A_MOMENT = 0.5  # seconds, in which the run begins to wait for the state


@contextmanager
def silent(state):
    """Let every transaction of others wait."""
    with state.own.connect() as connection:
        lock = LOCKS.get(connection.dialect.name, "LOCK TABLES mediquo_sync WRITE")
        connection.execute(text(lock))
        try:
            yield
        finally:
            connection.execute(text("UNLOCK TABLES" if "TABLES" in lock else "ROLLBACK"))


class TimeLimit(BaseException):
    """As Airflow's for `execution_timeout`."""


def raise_time_limit():
    raise TimeLimit


@contextmanager
def signalled(act, is_waiting):
    """Let a signal handler call a function a moment after something has happened."""
    before = signal.signal(signal.SIGUSR1, lambda *_: act())
    times = []

    def send():
        is_waiting.wait(60)
        time.sleep(A_MOMENT)
        times.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=send)
    launch(thread)
    try:
        yield
        assert time.monotonic() - times[0] < SOON
    finally:
        is_waiting.set()
        join(thread)
        signal.signal(signal.SIGUSR1, before)


def abandoned_threads_end():
    """Their connections come back to a pool that is closed."""
    join(*(each for each in threading.enumerate() if each.name == "mediquo-state"))
    with warnings.catch_warnings(action="ignore"):
        gc.collect()


@every_database
@pytest.mark.parametrize("before", ["the first request", "the last request"])
def test_a_kill_ends_a_run_whose_state_does_not_answer(
    before, box, every_state, people, eventually, caplog
):
    caplog.set_level("INFO")
    options = {"state_conn_id": CONN_ID, "sync_name": "members"}
    MediquoHook().upsert_patients(people(1), **options)
    hook, is_silent = MediquoHook(), threading.Event()

    def falls_silent():
        stack.enter_context(silent(every_state))
        is_silent.set()

    def source():
        yield from people(1100, first_name="Eva")
        eventually(lambda: len(every_state.members()) == 1100 and not every_state.in_doubt())
        falls_silent()
        yield from people(1300)[1100:]

    def killed(patients):
        with signalled(hook.stop, is_silent), pytest.raises(StoppedError) as raised:
            hook.upsert_patients(patients, **options)
        return raised.value.report

    with ExitStack() as stack:
        if before == "the last request":
            assert killed(source()).upserted == 1100
        else:
            falls_silent()
            assert killed(people(200)).read == 0
    assert "stopped_because      the task was killed." in caplog.text
    abandoned_threads_end()
    if every_state.sync()["holder"]:
        every_state.pretend_dead()
    report = MediquoHook().upsert_patients(people(1300), **options)
    assert (report.read, report.unsettled) == (1300, 0)
    assert len(every_state.members()) == 1300
    assert every_state.in_doubt() == set()


@one_of_each
def test_a_time_limit_ends_it_too(box, every_state, people, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(store, "_ABORT_GRACE", 1.0)
    is_silent = threading.Event()

    def source():
        yield from people(1001)
        stack.enter_context(silent(every_state))
        is_silent.set()
        yield from people(1300)[1001:]

    with ExitStack() as stack, signalled(raise_time_limit, is_silent), pytest.raises(TimeLimit):
        MediquoHook().upsert_patients(source(), state_conn_id=CONN_ID)
    assert "did not answer before the task had to end" in caplog.text
    abandoned_threads_end()


@every_database
def test_a_time_limit_while_the_lease_is_taken_frees_it(every_state, monkeypatch):
    state = every_state.store()
    state.create()
    acquire, is_taken, may_go_on = Lease._acquire, threading.Event(), threading.Event()

    def take(self, *given):
        row = acquire(self, *given)
        is_taken.set()
        may_go_on.wait(60)
        return row

    def time_is_over():
        may_go_on.set()
        raise TimeLimit

    monkeypatch.setattr(Lease, "_acquire", take)
    with signalled(time_is_over, is_taken), pytest.raises(TimeLimit):
        Lease(state, "members")
    assert every_state.sync()["run"] == 1, "the transaction went on"
    assert every_state.sync()["holder"] is None
    state.close()
