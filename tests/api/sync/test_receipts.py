"""A receipt of every run: what was sent, in counts and names."""

import csv
import json
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

import airflow_provider_mediquo
from airflow_provider_mediquo.api.errors import (
    InvalidPatientsError,
    StateError,
    StoppedError,
    TooManyRejectsError,
    UnsubscribeLimitError,
)
from airflow_provider_mediquo.api.report import OUTCOMES, UploadReport
from airflow_provider_mediquo.api.sync import receipts as receipts_module
from airflow_provider_mediquo.api.sync.lease import Lease
from airflow_provider_mediquo.api.sync.receipts import COLUMNS, RunReceipt, read_receipts
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.sync.settings import Holder, SyncSettings
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.visibility.fingerprint import key_id
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.sandbox import Sandbox
from tests.support.states import every_database, heal, one_of_each

KEY = "sandbox-secret-key"


def test_the_fields_of_a_ledger_are_those_that_were_sent(box, state, sync, people):
    records = [
        *people(150),
        {"code": "n", "first_name": "Ada", "birthdate": "1980-02-03", "meta": {"team": 1}},
        {"code": "invalid", "first_name": "Ada", "email": "not an address"},
    ]
    run = sync(box, state, records, max_rejects=1).ok()
    assert run.report.as_dict()["receipt"] == {
        "fields": sorted({*people(1)[0], "birth_date", "meta"}),
        "recipient": box.url,
        "version": airflow_provider_mediquo.__version__,
        "key": key_id(KEY),
    }
    # Nothing was sent: nothing but the last record is new, and it may not be sent.
    assert sync(box, state, records, max_rejects=1).ok().report.as_dict()["receipt"]["fields"] == []


def test_what_is_written_back_of_who_left_was_sent_too(box, state, sync, people):
    records = [*people(1), {"code": "m-2", "first_name": "Bo", "locale": "es", "plan": "p"}]
    sync(box, state, records).ok()
    options = {"on_missing": "unsubscribe", "max_unsubscribed": 1}
    run = sync(box, state, people(1), **options).ok()
    assert run.missing_unsubscribed == 1
    assert run.report.as_dict()["receipt"]["fields"] == ["code", "first_name", "locale"]


def test_the_id_of_a_key_changes_with_the_key():
    assert key_id("a") == key_id("a") != key_id("b")
    assert len(key_id("a")) == 8


@pytest.mark.no_cover
@every_database
def test_a_run_has_a_receipt(box, every_state, sync, people):
    records = [*people(3), {"code": "bad", "first_name": ""}]
    run = sync(box, every_state, records, max_rejects=1).ok()
    (receipt,) = every_state.receipts()
    assert {name: receipt[name] for name in OUTCOMES} == {n: getattr(run, n) for n in OUTCOMES}
    assert (receipt["read"], receipt["new"], receipt["rejected"]) == (4, 3, 1)
    assert (receipt["sync"], receipt["sync_id"], receipt["run"]) == ("members", 1, 1)
    assert (receipt["outcome"], receipt["error"]) == ("succeeded", None)
    assert receipt["fields"] == ", ".join(run.report.as_dict()["receipt"]["fields"])
    assert receipt["recipient"] == box.url
    assert receipt["version"] == airflow_provider_mediquo.__version__
    assert receipt["key_id"] == key_id(KEY)
    assert (receipt["held_by"], receipt["dag_id"]) == ("an unknown process", None)
    started, ended = (_moment(receipt[name]) for name in ("started_at", "ended_at"))
    assert timedelta(0) <= ended - started < timedelta(minutes=2)


def _moment(value):
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def test_a_run_that_fails_has_one(box, state, sync, people):
    failed = sync(box, state, [*people(2), {"code": "bad"}])
    assert isinstance(failed.error, TooManyRejectsError)
    box.script("upsert", *["401"] * 9)
    sync(box, state, people(4))
    heal(box)

    def broken():
        yield from people(3)
        raise LookupError("the cursor is closed")

    sync(box, state, broken())
    told = [(each["outcome"], each["error"], each["read"]) for each in state.receipts()]
    assert told[0] == ("failed", "TooManyRejectsError", 3)
    assert told[1][:2] == ("failed", "AuthenticationError")
    assert told[2] == ("failed", "LookupError", 3)


@pytest.mark.parametrize("error", [StoppedError, LookupError])
def test_a_run_whose_task_is_killed_has_one(box, state, prepare_sync, people, error):
    """Also if its source cannot be left without an error."""

    def records():
        try:
            yield from people(2)
            run.upload.stop()
            yield from people(2)
        finally:
            if error is LookupError:
                raise error

    run = prepare_sync(box, state, records())
    run.go()
    (receipt,) = state.receipts()
    assert (receipt["outcome"], receipt["error"]) == ("stopped", error.__name__)
    assert receipt["unsettled"] == receipt["read"] == run.read == 2


def test_another_mediquo_than_that_of_the_last_run_is_logged(box, state, sync, people, caplog):
    for _ in range(2):
        sync(box, state, people(1)).ok()
    sync(box, state, people(1), name="family").ok()
    assert "this one sends to" not in caplog.text
    with Sandbox() as other:
        sync(other, state, people(1)).ok()
        sync(other, state, people(1)).ok()
    (told,) = [record for record in caplog.records if "this one sends to" in record.message]
    assert told.levelname == "WARNING"
    assert told.message == (
        f"The last run of this sync sent to {box.url}, and this one sends to {other.url}. A state belongs "
        "to one mediQuo account: if this is another account, use another state."
    )


def test_a_run_that_could_not_begin_has_none(box, state, sync, people):
    sync(box, state, people(1), as_of="2026-01-02").ok()
    sync(box, state, people(1), as_of="2026-01-01")
    assert len(state.receipts()) == 1


def test_a_dry_run_sends_nothing_so_it_has_none(box, state, sync, people):
    dry = sync(box, state, people(1), dry_run=True).ok()
    assert dry.report.as_dict()["receipt"]["fields"] == sorted(people(1)[0])
    assert state.tables() == set()
    sync(box, state, people(1)).ok()
    sync(box, state, people(1), dry_run=True).ok()
    assert len(state.receipts()) == 1


@one_of_each
def test_one_that_dies_has_the_counts_of_its_last_heartbeat(box, every_state, sync, people):
    dead = SyncRun(every_state.store(), SyncSettings("members", KEY))
    report = UploadReport()
    dead.start(lambda: None, report)
    report.read, report.upserted = 500, 400
    dead.heartbeat()
    report.upserted = 499  # nobody hears of this one
    (receipt,) = every_state.receipts()
    assert (receipt["outcome"], receipt["ended_at"]) == ("running", None)
    every_state.pretend_dead()
    other = Lease(every_state.store(), "other")  # a run of another sync
    mine = SyncSettings("other", KEY)
    every_state.store().write(RunReceipt(mine, other, report).open)
    sync(box, every_state, people(1)).ok()
    lost, last, of_another = every_state.receipts()
    assert (lost["outcome"], lost["read"], lost["upserted"]) == ("lost", 500, 400)
    assert (last["outcome"], of_another["outcome"]) == ("succeeded", "running")
    dead.close("failed", "StateError")  # it was only silent for a while
    assert every_state.receipts()[0]["outcome"] == "failed"
    assert every_state.receipts()[0]["upserted"] == 499


def test_a_heartbeat_that_comes_too_late_changes_nothing(state):
    run = SyncRun(state.store(), SyncSettings("members", KEY))
    report = UploadReport()
    run.start(lambda: None, report)
    receipt = run._receipt
    run.close()
    report.read = 7
    state.store().write(receipt.note)
    assert state.receipts()[0]["read"] == 0


def test_old_ones_of_the_same_sync_are_deleted(box, state, sync, people):
    def runs():
        return [(each["sync"], each["run"]) for each in state.receipts()]

    sync(box, state, people(1)).ok()
    sync(box, state, people(1), name="other").ok()
    state.run("UPDATE mediquo_receipt SET started_at = datetime(started_at, '-401 days')")
    sync(box, state, people(1), receipts_for=timedelta(days=402)).ok()
    assert runs() == [("members", 1), ("members", 2), ("other", 1)]
    sync(box, state, people(1), receipts_for=timedelta.max).ok()
    sync(box, state, people(1)).ok()
    assert runs() == [("members", 2), ("members", 3), ("members", 4), ("other", 1)]
    sync(box, state, people(1), receipts_for=timedelta(0)).ok()
    assert runs() == [("members", 5), ("other", 1)]


def test_one_that_cannot_be_written_fails_a_run_that_was_fine(box, state, sync, people, caplog):
    def records():
        yield from people(2)
        state.run("CREATE TRIGGER full BEFORE UPDATE OF outcome ON mediquo_receipt "
                  "BEGIN SELECT RAISE(ABORT, 'disk full'); END")  # fmt: skip

    run = sync(box, state, records())
    assert isinstance(run.error, StateError)
    assert str(run.error).startswith(
        "Stopped: state not usable. 2 upserted, 0 unsettled, 0 rejected. Safe to run again.\n"
        "Cannot write the receipt of this run:\nThe state's database failed: IntegrityError."
    )
    assert run.error.can_retry
    assert run.error.report is run.report
    assert len(box.patients) == len(state.members()) == 2  # and nothing of it is lost
    assert state.in_doubt() == set()
    state.run("DROP TRIGGER full")
    state.pretend_dead()
    assert sync(box, state, people(2)).ok().unchanged == 2
    assert [each["outcome"] for each in state.receipts()] == ["lost", "succeeded"]


def test_a_run_that_fails_anyway_keeps_its_error(box, state, sync, people, caplog):
    def records():
        yield from people(2)
        state.run("DROP TABLE mediquo_receipt")
        raise LookupError("the cursor is closed")

    run = sync(box, state, records())
    assert isinstance(run.error, LookupError)
    assert run.error.report.read == 2
    assert "Cannot write the receipt of this run" in caplog.text


@pytest.fixture
def broken_close(monkeypatch):
    """Let the receipt's end fail with an error, such as one of a driver."""

    def set_error(error):
        def close(self, connection, *ended):
            raise error

        monkeypatch.setattr(RunReceipt, "close", close)

    return set_error


@pytest.mark.parametrize(
    ("records", "options", "expected"),
    [
        ([{"code": "bad"}], {}, TooManyRejectsError),
        (
            [{"code": "q", "first_name": "Ada"}, {"code": "q", "first_name": "Ada", "plan": "p"}],
            {"max_rejects": 5},
            InvalidPatientsError,
        ),
        ([{"code": "m-1", "first_name": "Ada"}], {"max_unsubscribed": 0}, UnsubscribeLimitError),
    ],
)
def test_a_receipt_that_fails_is_not_why_a_run_has_failed(
    box, state, sync, people, broken_close, records, options, expected
):
    sync(box, state, people(3)).ok()
    broken_close(StateError("gone"))
    run = sync(box, state, records, **options)
    assert type(run.error) is expected
    assert run.report.stopped_because is None


def test_a_state_is_closed_whatever_its_last_writes_raise(box, state, sync, people, monkeypatch):
    closed = []

    def fail(self):
        raise RuntimeError

    monkeypatch.setattr(SyncRun, "_write_respelled", fail)
    monkeypatch.setattr(Store, "close", lambda self: closed.append(self))
    assert isinstance(sync(box, state, people(1)).error, StateError)
    assert len(closed) == 1


def test_no_other_error_of_a_state_takes_the_ledger_away(
    box, state, sync, people, broken_close, caplog
):
    broken_close(RuntimeError("a token of Adelheidvonbyron has expired"))

    def records():
        yield from people(2)
        raise LookupError("the cursor is closed")

    run = sync(box, state, records())
    assert isinstance(run.error, LookupError)
    assert run.error.report.read == 2
    assert "Cannot write the receipt of this run: RuntimeError." in caplog.text
    assert "Adelheidvonbyron" not in caplog.text
    state.pretend_dead()
    assert isinstance(sync(box, state, people(2)).error, StateError), "else it would end green"


def test_a_run_that_was_taken_over_begins_no_receipt(state):
    store = state.store()
    store.create()
    lease = Lease(store, "members")
    old = RunReceipt(SyncSettings("members", "k"), lease, UploadReport())
    state.pretend_dead()
    new = SyncRun(state.store(), SyncSettings("members", "k"))
    new.start(lambda: None, UploadReport())
    with pytest.raises(StateError, match="taken over"):
        lease.write(old.open)
    assert [each["outcome"] for each in state.receipts()] == ["running"]
    new.close()


def test_a_receipt_that_cannot_be_updated_does_not_cost_the_lease(state, caplog):
    run = SyncRun(state.store(), SyncSettings("members", "k"))
    run.start(lambda: None, UploadReport())
    state.run("CREATE TRIGGER full BEFORE UPDATE ON mediquo_receipt "
              "BEGIN SELECT RAISE(ABORT, 'disk full'); END")  # fmt: skip
    before = state.sync()["heartbeats"]
    run.heartbeat()
    assert state.sync()["heartbeats"] == before + 1
    (line,) = [line for line in caplog.messages if line.startswith("Heartbeat:")]
    assert "\n" not in line


def test_a_run_whose_receipt_cannot_be_begun_sends_nothing(box, state, sync, people):
    sync(box, state, people(1)).ok()
    state.run("CREATE TRIGGER full BEFORE INSERT ON mediquo_receipt "
              "BEGIN SELECT RAISE(ABORT, 'disk full'); END")  # fmt: skip
    run = sync(box, state, people(2))
    assert isinstance(run.error, StateError)
    assert len(box.patients) == 1
    assert state.sync()["holder"] is None


@pytest.mark.no_cover
@every_database
def test_a_state_of_before_the_receipts_gets_their_table(box, every_state, sync, people):
    sync(box, every_state, people(2)).ok()
    every_state.run("DROP TABLE mediquo_receipt")
    assert [*read_receipts(every_state.store())] == []
    assert sync(box, every_state, people(2)).ok().unchanged == 2
    (receipt,) = every_state.receipts()
    assert (receipt["run"], receipt["unchanged"]) == (2, 2)


# --- the export -----------------------------------------------------------------------------------


@pytest.fixture
def hook(state, monkeypatch):
    """A hook whose connection `state` leads to the state."""
    file = state.own.url.database
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": file}))
    return MediquoHook("there_is_none")


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def test_they_are_exported_the_oldest_first(box, state, sync, people, hook, tmp_path, monkeypatch):
    monkeypatch.setattr(receipts_module, "_PAGE", 2)
    for count in range(1, 4):
        sync(box, state, people(count)).ok()
        sync(box, state, people(count), name="other, \"quoted\"").ok()  # fmt: skip
    state.run("UPDATE mediquo_receipt SET started_at = datetime('2026-01-01', run || ' hours')")
    path = tmp_path / "new folder" / "receipts.csv"
    assert hook.export_receipts(path, state_conn_id="state") == 6
    rows = rows_of(path)
    assert [(row["sync"], row["run"]) for row in rows] == [
        (name, str(run)) for run in (1, 2, 3) for name in ("members", 'other, "quoted"')
    ]
    assert list(rows[0]) == list(COLUMNS)
    assert "id" not in rows[0]
    assert rows[0]["dag_id"] == rows[0]["error"] == ""
    assert rows[0]["read"] == "1"
    started = datetime.fromisoformat(rows[0]["started_at"])
    assert started.utcoffset() == timedelta(0)
    assert rows[0]["ended_at"].endswith("Z")
    assert hook.export_receipts(f"file://{path}", state_conn_id="state") == 6
    assert len(rows_of(path)) == 6  # it is replaced


@every_database
def test_many_at_the_same_second_are_exported_once_each(every_state, hook, tmp_path, monkeypatch):
    monkeypatch.setattr(receipts_module, "_PAGE", 3)
    store = every_state.store()
    store.create()
    lease = SimpleNamespace(sync_id=1, run=1)
    report = UploadReport()

    def write(connection):
        for number in range(10):
            holder = Holder(f"number {number}")
            RunReceipt(SyncSettings("members", KEY, held_by=holder), lease, report).open(connection)

    store.write(write)
    every_state.run("UPDATE mediquo_receipt SET started_at = (SELECT started_at FROM "
                    "(SELECT MIN(started_at) AS started_at FROM mediquo_receipt) AS first)")  # fmt: skip
    held_by = [row[COLUMNS.index("held_by")] for row in read_receipts(store)]
    assert sorted(held_by) == [f"number {number}" for number in range(10)]


def test_a_state_without_a_table_has_none(hook, tmp_path):
    assert hook.export_receipts(tmp_path / "receipts.csv", state_conn_id="state") == 0
    assert rows_of(tmp_path / "receipts.csv") == []


def test_an_export_may_go_to_any_storage(box, state, sync, people, hook):
    sync(box, state, people(1)).ok()
    attach("memory", fs=MemoryFileSystem())
    url = "memory://receipts/all.csv"
    for path in (url, ObjectStoragePath(url)):
        assert hook.export_receipts(path, state_conn_id="state") == 1
        assert ObjectStoragePath(url).read_text().count("\n") == 2
        ObjectStoragePath(url).unlink()


def test_an_export_that_breaks_off_leaves_the_last_one(
    box, state, sync, people, hook, tmp_path, monkeypatch
):
    sync(box, state, people(1)).ok()
    path = tmp_path / "receipts.csv"
    path.write_text("that of last year")  # not what a new export would write as far as it came

    def fail(store):
        yield from [*read_receipts(store)]
        raise StateError("gone")

    monkeypatch.setattr("airflow_provider_mediquo.hooks.receipts.read_receipts", fail)
    with pytest.raises(StateError, match="gone"):
        hook.export_receipts(path, state_conn_id="state")
    assert path.read_text() == "that of last year"


def test_a_file_is_left_alone_if_the_state_cannot_be_read(box, state, sync, people, hook, tmp_path):
    sync(box, state, people(1)).ok()
    state.run("UPDATE mediquo_state SET version = 99")
    (tmp_path / "receipts.csv").write_text("that of last year")
    with pytest.raises(StateError, match="version 99"):
        hook.export_receipts(tmp_path / "receipts.csv", state_conn_id="state")
    assert (tmp_path / "receipts.csv").read_text() == "that of last year"
