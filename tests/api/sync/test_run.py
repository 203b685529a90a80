import logging
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.api.patients.endpoints import encode_patient
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.sync import run as run_module
from airflow_provider_mediquo.api.sync import statements
from airflow_provider_mediquo.api.sync.lease import Lease
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.sync.settings import SyncSettings
from airflow_provider_mediquo.api.visibility.fingerprint import differences
from tests.support.states import one_of_each

KEY = "sandbox-secret-key"


@pytest.fixture
def start(request):
    """Start a run of a sync: `start(state, dry_run=True)`."""
    runs = []

    def start(state, name="members", **options):
        runs.append(SyncRun(state.store(), SyncSettings(name, KEY, **options)))
        runs[-1].start(lambda: None, UploadReport())
        return runs[-1]

    yield start
    for run in runs:
        with suppress(StateError):
            run.close()


def record(run, code, row=1, **fields):
    patient = {"code": code, "first_name": "Ada", "plan": "p"} | fields
    patient = {name: value for name, value in patient.items() if value is not None}
    encoded = encode_patient(patient)
    change = run.comparison.compare(dict(patient), patient, encoded)
    return ValidRecord(row, code, "plan" in patient, encoded, change=change)


def write(run, *records):
    run.begin(records)
    run.acknowledge(records, None)


@one_of_each
def test_a_record_is_in_doubt_then_certain(every_state, start):
    run = start(every_state)
    ada = record(run, "a")
    run.begin([ada])
    assert every_state.in_doubt() == {"a"}
    run.acknowledge([ada], 1_800_000_000)
    row = every_state.members()["a"]
    assert (row["in_doubt_by"], row["sync_id"], row["run"], row["has_plan"]) == (None, 1, 1, 1)
    assert row["fingerprint"] == ada.change.fingerprint
    assert row["source"] == ada.change.source
    assert abs(row["sent_at"] - 1_790_000_000) < 10**9


def test_the_proof_is_that_of_a_sample(state, start, people):
    """Audits compare it with what mediQuo shows, field by field."""
    run = start(state)
    write(run, record(run, "a", last_name="Lovelace"))
    proof = state.members()["a"]["proof"]
    shown = {"code": "a", "first_name": "Ada", "last_name": "Lovelace", "plan": "p"}
    assert not differences(proof, shown, KEY)
    assert differences(proof, shown | {"last_name": "Other"}, KEY)


def test_a_second_run_knows_what_the_first_one_sent(state, start):
    first = start(state)
    write(first, record(first, "a"), record(first, "b", plan=None))
    first.close()
    second = start(state)
    assert second.description == {"state_conn_id": None, "name": "members", "run": 2}
    assert second.run == 2
    assert record(second, "a").change.kind == "unchanged"
    assert record(second, "b", plan=None).change.kind == "unchanged"
    assert record(second, "b").change.kind == "changed"
    assert record(second, "c").change.kind == "new"
    assert second.subscribers() == 1


def test_subscribers_are_those_of_this_sync(state, start):
    first = start(state)
    write(first, *(record(first, code) for code in "abc"))
    other = start(state, name="other")
    assert other.subscribers() == 0
    write(other, record(other, "a", first_name="Eva"))
    other.close()
    first.close()
    assert start(state).subscribers() == 2


def test_who_is_in_doubt_counts_as_a_subscriber(state, start):
    """It may have a plan: nobody is taken for less than they have."""
    first = start(state)
    write(first, record(first, "a", plan=None))
    first.close()
    second = start(state)
    second.begin([record(second, "a"), record(second, "b")])
    second.close()
    assert start(state).subscribers() == 2


def test_a_plan_that_may_have_been_lost_is_still_guarded(state, start):
    first = start(state)
    write(first, record(first, "a"))
    first.close()
    second = start(state)
    second.begin([record(second, "a", plan=None)])
    second.close()
    third = start(state)
    assert third.subscribers() == 1
    assert record(third, "a", plan=None).loses_plan


def test_a_refused_record_is_as_before_or_gone(state, start):
    first = start(state)
    write(first, record(first, "a", plan=None))
    first.close()
    before, run = state.members(), start(state)
    changed, new = record(run, "a"), record(run, "n")
    run.begin([changed, new])
    run.refuse(changed)
    run.refuse(new)
    assert state.members() == before


def test_a_refusal_keeps_an_earlier_doubt(state, start):
    first = start(state)
    first.begin([record(first, "a")])
    first.close()
    second = start(state)
    again = record(second, "a")
    second.begin([again])
    second.refuse(again)
    assert state.in_doubt() == {"a"}


@one_of_each
def test_missing_members_come_in_pages_and_say_what_is_recent(every_state, start, monkeypatch):
    from airflow_provider_mediquo.api.sync import store as store_module

    monkeypatch.setattr(store_module, "_PAGE", 2)
    first = start(every_state)
    write(first, *(record(first, code) for code in "abcde"), record(first, "f", plan=None))
    first.close()
    every_state.pretend_old(1)
    second = start(every_state)
    second.begin([record(second, "b", first_name="Eva")])
    second.close()
    every_state.run(
        "UPDATE mediquo_member SET sent_at = sent_at + :s WHERE code = 'c'", s=86_400 - 60
    )
    third = start(every_state)
    third.comparison.see("a", has_plan=True)
    third.comparison.see_rejected("d")
    assert third.count_missing() == (4, 3)
    members = [*third.missing()]
    assert [tuple(member)[:-1] for member in members] == [
        ("b", True, True),  # in doubt
        ("c", True, True),  # a minute ago
        ("e", True, False),
        ("f", False, False),
    ]
    assert [member.code for member in members if not member.proof] == ["b"]


def test_what_looks_otherwise_is_written_at_the_end_or_when_there_are_many(
    state, sync, box, people, monkeypatch
):
    monkeypatch.setattr(run_module, "_MAX_RESPELLED", 20)
    sync(box, state, people(50)).ok()
    before = state.members()
    seen = []

    def source():
        for number, one in enumerate(people(50)):
            if number == 45:
                seen.append(changed_since(state, before))
            yield dict(reversed(one.items()))

    run = sync(box, state, source()).ok()
    assert seen == [40]
    assert changed_since(state, before) == 50
    assert run.counts == {"read": 50, "unchanged": 50}
    assert box.counters.accepted == 50


def test_a_state_that_cannot_take_how_records_look_ends_the_run_and_rejects_none(
    state, sync, box, people, monkeypatch
):
    monkeypatch.setattr(run_module, "_MAX_RESPELLED", 20)
    sync(box, state, people(50)).ok()
    refresh, failures = statements.refresh, [OperationalError("UPDATE", {}, Exception())]

    def fail_once(*args):
        if failures:
            raise failures.pop()
        refresh(*args)

    monkeypatch.setattr(statements, "refresh", fail_once)
    run = sync(box, state, [dict(reversed(one.items())) for one in people(50)])
    assert isinstance(run.error, StateError)
    assert not failures
    assert run.counts == {"read": 20, "unchanged": 20}


def changed_since(state, before):
    after = state.members()
    return sum(after[code]["source"] != row["source"] for code, row in before.items())


def test_a_lost_lease_shows_at_the_end(state, start, caplog):
    run = start(state)
    state.run("UPDATE mediquo_sync SET holder = 'another'")
    run.heartbeat()
    assert "Another run of the sync 'members' has taken over" in caplog.text
    for act in (lambda: run.begin([record(run, "a")]), lambda: run.forget(["a"])):
        with pytest.raises(StateError):
            act()
    assert state.members() == {}
    run.close()
    assert state.sync()["holder"] == "another"


def test_after_its_end_it_is_no_longer_kept(state, start, caplog):
    """The thread of the heartbeats ends a little later."""
    run = start(state)
    run.close()
    run.heartbeat()
    run.check()
    assert not [entry for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_a_heartbeat_that_the_end_overtakes_is_not_told(state, start, caplog, monkeypatch):
    run, heartbeat = start(state), Lease.heartbeat

    def overtaken(lease):
        run.close()
        heartbeat(lease)

    monkeypatch.setattr(Lease, "heartbeat", overtaken)
    run.heartbeat()
    assert state.sync()["holder"] is None
    assert not [entry for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_a_database_that_is_gone_at_the_end_is_told(state, start):
    run = start(state)
    state.run("DROP TABLE mediquo_sync")
    with pytest.raises(StateError, match="Cannot write the receipt of this run:\nThe state's data"):
        run.close()


def test_a_kill_ends_the_reading_of_the_state(state, start, people, sync, box):
    sync(box, state, people(5)).ok()

    class Killed(Exception):
        pass

    def check():
        raise Killed

    run = SyncRun(state.store(), SyncSettings("members", KEY))
    with pytest.raises(Killed):
        run.start(check, UploadReport())
    run.close()
    assert state.sync()["holder"] is None


def test_a_dry_run_has_no_lease_and_no_number(state, start):
    assert start(state, dry_run=True).run is None
    assert state.tables() == set()
    first = start(state)
    write(first, record(first, "a"))
    dry = start(state, dry_run=True)
    assert dry.run is None
    assert record(dry, "a").change.kind == "unchanged"
    dry.comparison.see("a", has_plan=True)
    assert dry.count_missing() == (0, 0)
    before = state.dump()
    dry.begin([record(dry, "b")])
    dry.acknowledge([record(dry, "b")], None)
    dry.forget(["a"])
    dry.refuse(record(dry, "b"))
    dry.heartbeat()
    dry.check()
    assert state.dump() == before
    assert [*start(state, name="unknown", dry_run=True).missing()] == []


def test_the_settings_hide_the_key():
    assert KEY not in repr(SyncSettings("members", KEY, resend_after=timedelta(1)))
