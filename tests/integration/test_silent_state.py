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

from airflow_provider_mediquo.api.client.stop_flag import StopFlag
from airflow_provider_mediquo.api.errors import StateError, StoppedError
from airflow_provider_mediquo.api.sync import store
from airflow_provider_mediquo.api.sync.lease import Lease
from airflow_provider_mediquo.api.sync.receipts import RunReceipt
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.upload import runner
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.sensors.written import put_in_doubt
from tests.support.states import CONN_ID, every_database, one_of_each
from tests.support.threads import join, launch
from tests.support.time_limits import TimeLimit

LOCKS = {"postgresql": "LOCK TABLE {}", "sqlite": "BEGIN EXCLUSIVE"}
SOON = 20  # seconds, on a busy machine; while the state is silent, the run would not end
A_MOMENT = 0.5  # seconds, in which the run begins to wait for the state


@contextmanager
def silent(state, table="mediquo_sync"):
    """Let every transaction of others wait; not for ever, so that a run that does not end fails."""
    is_silent, is_over = threading.Event(), threading.Event()

    def hold():
        with state.own.connect() as connection:
            lock = LOCKS.get(connection.dialect.name, "LOCK TABLES {} WRITE")
            connection.execute(text(lock.format(table)))
            is_silent.set()
            is_over.wait(2 * SOON)
            connection.execute(text("UNLOCK TABLES" if "TABLES" in lock else "ROLLBACK"))

    thread = threading.Thread(target=hold)
    launch(thread)
    assert is_silent.wait(60)
    try:
        yield
    finally:
        is_over.set()
        join(thread)


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
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # if it has not come yet
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
@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ("it sends", "The state's database did not answer before the task had to end."),
        ("it ends", "TimeLimit"),
        ("its source has failed", "the source failed: LookupError"),
    ],
)
def test_a_time_limit_ends_it_too(
    when, reason, box, every_state, people, eventually, caplog, monkeypatch
):
    caplog.set_level("INFO")
    monkeypatch.setattr(store, "_ABORT_GRACE", 1.0)
    monkeypatch.setattr(runner, "HEARTBEAT_SECONDS", 0.1)  # it waits for the state, too
    is_silent = threading.Event()

    def source():
        yield from people(1100)
        eventually(lambda: len(every_state.members()) == 1100 and not every_state.in_doubt())
        stack.enter_context(silent(every_state))
        is_silent.set()
        if when == "its source has failed":
            raise LookupError
        if when == "it sends":
            yield from people(1300)[1100:]

    options = {"state_conn_id": CONN_ID, "sync_name": "members"}
    limit = pytest.raises(TimeLimit)
    with ExitStack() as stack, signalled(raise_time_limit, is_silent), limit as raised:
        MediquoHook().upsert_patients(source(), **options)
    assert raised.value.report.upserted == 1100
    assert f"stopped_because      {reason}" in caplog.text
    abandoned_threads_end()


@one_of_each
def test_a_time_limit_while_the_receipt_is_opened_closes_it(box, every_state, people, monkeypatch):
    is_open = threading.Event()
    opened = RunReceipt.open

    def open_slowly(self, connection):
        opened(self, connection)
        is_open.set()
        time.sleep(2 * A_MOMENT)

    monkeypatch.setattr(RunReceipt, "open", open_slowly)
    with signalled(raise_time_limit, is_open), pytest.raises(TimeLimit):
        MediquoHook().upsert_patients(people(1), state_conn_id=CONN_ID, sync_name="members")
    assert [row["outcome"] for row in every_state.receipts()] == ["failed"]
    assert every_state.sync()["holder"] is None


@one_of_each
def test_a_time_limit_while_the_receipt_is_closed_is_in_the_receipt(
    box, every_state, people, monkeypatch
):
    is_closing = threading.Event()
    close = RunReceipt.close

    def close_slowly(self, connection, outcome, error):
        close(self, connection, outcome, error)
        if not is_closing.is_set():
            is_closing.set()
            time.sleep(2 * A_MOMENT)

    monkeypatch.setattr(RunReceipt, "close", close_slowly)
    with signalled(raise_time_limit, is_closing), pytest.raises(TimeLimit):
        MediquoHook().upsert_patients(people(1), state_conn_id=CONN_ID, sync_name="members")
    (receipt,) = every_state.receipts()
    assert (receipt["outcome"], receipt["error"]) == ("failed", "TimeLimit")
    assert every_state.sync()["holder"] is None


@one_of_each
def test_a_time_limit_while_a_failed_run_is_closed_is_in_the_receipt(
    box, every_state, people, monkeypatch, strike
):
    write = SyncRun._write_respelled

    def source():
        yield from people(3)
        raise LookupError

    def interrupted(self):
        monkeypatch.setattr(SyncRun, "_write_respelled", write)
        strike()

    monkeypatch.setattr(SyncRun, "_write_respelled", interrupted)
    with pytest.raises(TimeLimit) as raised:
        MediquoHook().upsert_patients(source(), state_conn_id=CONN_ID, sync_name="members")
    assert raised.value.report.unsettled == 3
    (receipt,) = every_state.receipts()
    assert (receipt["outcome"], receipt["error"]) == ("failed", "TimeLimit")
    assert every_state.sync()["holder"] is None


@every_database
def test_a_sensor_does_not_wait_for_it_for_ever(box, every_state, people, caplog, monkeypatch):
    """It puts a run in doubt after its time limit, which does not strike again."""
    monkeypatch.setattr(store, "_ABORT_GRACE", 0.5)
    abort = Store.abort
    report = MediquoHook().upsert_patients(people(1), state_conn_id=CONN_ID, sync_name="members")
    waits: list[None] = []
    monkeypatch.setattr(Store, "abort", lambda store: waits.append(abort(store)))
    begun = time.monotonic()
    with silent(every_state):
        put_in_doubt([report.as_dict()] * 3, StopFlag())
        assert time.monotonic() - begun < SOON
    assert caplog.text.count("could not be put in doubt (StateError)") == 3
    assert len(waits) == 1, "for the same database"
    abandoned_threads_end()


@one_of_each
@pytest.mark.parametrize(
    ("table", "wait"),
    [
        ("mediquo_sync", lambda hook, path: hook.forget_patient("m-1", state_conn_id=CONN_ID)),
        ("mediquo_receipt", lambda hook, path: hook.export_receipts(path, state_conn_id=CONN_ID)),
    ],
    ids=["forget_patient", "export_receipts"],
)
def test_stop_ends_the_hooks_other_waits_for_it(table, wait, box, every_state, people, tmp_path):
    hook, may_stop = MediquoHook(), threading.Event()
    hook.upsert_patients(people(1), state_conn_id=CONN_ID, sync_name="members")
    with silent(every_state, table):
        may_stop.set()
        with signalled(hook.stop, may_stop), pytest.raises(StateError, match="did not answer"):
            wait(hook, tmp_path / "receipts.csv")
    abandoned_threads_end()


@one_of_each
def test_a_time_limit_while_no_lease_can_be_taken_ends_the_wait(every_state, monkeypatch):
    monkeypatch.setattr(store, "_ABORT_GRACE", 1.0)
    state = every_state.store()
    state.create()
    is_silent = threading.Event()

    def acquire(self, *given):
        stack.enter_context(silent(every_state))
        is_silent.set()
        return acquired(self, *given)

    acquired = Lease._acquire
    monkeypatch.setattr(Lease, "_acquire", acquire)
    with ExitStack() as stack, signalled(raise_time_limit, is_silent), pytest.raises(TimeLimit):
        Lease(state, "members")
    state.close()
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
