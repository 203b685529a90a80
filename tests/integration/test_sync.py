"""The twelve rules of a sync, each as whole uploads against a mediQuo over a socket.

What is about the state is tried with each database that may keep it; all else with a file.
"""

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import unicodedata
from contextlib import closing, suppress
from datetime import date, timedelta
from typing import Any

import pytest
from airflow.sdk import TaskGroup, task, task_group
from airflow.sdk.definitions._internal.contextmanager import DagContext
from sqlalchemy import create_engine

from airflow_provider_mediquo.api.errors import (
    InvalidPatientsError,
    MediquoError,
    SourceError,
    StateError,
    StateMismatchError,
    StoppedError,
    TooManyRejectsError,
    UnsubscribeLimitError,
)
from airflow_provider_mediquo.api.records import Unreadable
from airflow_provider_mediquo.api.sync import lease as lease_module
from airflow_provider_mediquo.api.upload import missing as missing_module
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.operators.patients import MediquoUpsertPatientsOperator
from airflow_provider_mediquo.sandbox.model.store import Store
from tests.support.states import (
    CONN_ID,
    MARIADB,
    every_database,
    every_server,
    heal,
    one_of_each,
)
from tests.support.threads import join, launch

ADA: dict[str, Any] = {
    "code": "7",
    "first_name": "Ada",
    "birth_date": "1980-02-03",
    "phone": "+44 7700 900123",
    "plan": "premium",
    "meta": {"team": "north", "level": {"b": 2, "a": 1}},
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Do not wait for what mediQuo does not show yet."""
    monkeypatch.setattr(missing_module, "_WAITS", (0.01, 0.01))


def without(records, *fields):
    return [{k: v for k, v in record.items() if k not in fields} for record in records]


def writes(box):
    return [entry.patients for entry in box.journal if entry.endpoint == "upsert"]


# --- 1: a record is left out only if mediQuo is known to have it ----------------------------------

SPELLINGS: dict[str, Any] = {
    "as it was": ADA,
    "a date instead of text": {**ADA, "birth_date": date(1980, 2, 3)},
    "another order of the fields": dict(reversed(ADA.items())),
    "another order in meta": {**ADA, "meta": {"level": {"a": 1, "b": 2}, "team": "north"}},
    "meta as text": {**ADA, "meta": json.dumps(ADA["meta"])},
    "the alias": {**{k: v for k, v in ADA.items() if k != "birth_date"}, "birthdate": "1980-02-03"},
    "white space": {**ADA, "first_name": " Ada\t", "code": " 7 ", "plan": "premium "},
    "a number as code": {**ADA, "code": 7},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_1_another_spelling_is_no_change(box, state, sync, spelling):
    sync(box, state, [ADA]).ok()
    for _ in range(2):  # the second time without a check, as it looks the same
        assert sync(box, state, [SPELLINGS[spelling]]).ok().counts == {"read": 1, "unchanged": 1}
    assert writes(box) == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"first_name": "Eva"},
        {"first_name": "ada"},
        {"birth_date": "1980-02-04"},
        {"phone": "+44 7700 900124"},
        {"phone": None},
        {"last_name": ""},  # sent as null: an absent field is left alone
        {"plan": "basic"},
        {"meta": {**ADA["meta"], "team": "south"}},
        {"meta": {"team": "north", "level": {"b": 2, "a": True}}},
        {"meta": {"team": "north", "level": {"b": 2, "a": 1.0}}},
        {"meta": {"team": "north", "level": {"b": 2, "a": "1"}}},
    ],
)
def test_1_a_change_is_sent_once(box, state, sync, change):
    sync(box, state, [ADA]).ok()
    assert sync(box, state, [ADA | change]).ok().counts == {"read": 1, "changed": 1}
    assert sync(box, state, [ADA | change]).ok().counts == {"read": 1, "unchanged": 1}
    assert writes(box) == [1, 1]


def test_1_a_change_in_a_dropped_column_costs_nothing(box, state, sync):
    options = {"columns": {"note": None, "member": "code"}}
    records = [{"member": f"m-{n}", "first_name": "Ada", "plan": "p", "note": 1} for n in range(50)]
    sync(box, state, records, **options).ok()
    sync(box, state, records, **options).ok()
    before = state.members()
    again = sync(box, state, [r | {"note": "another"} for r in records], **options).ok()
    assert again.counts == {"read": 50, "unchanged": 50}
    assert not again.sync.comparison.respelled
    assert state.members() == before


def test_1_a_new_secret_key_sends_everything_once(box, start_box, state, sync, people):
    sync(box, state, people(250)).ok()
    other = start_box(secret_key="another")
    first = sync(other, state, people(250), secret_key="another").ok()
    assert first.counts == {"read": 250, "changed": 250}
    assert sync(other, state, people(250), secret_key="another").ok().unchanged == 250


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"columns": {"a": "last_name", "b": None}}, {"columns": {"b": "last_name", "a": None}}),
        ({"columns": {"a": "first_name", "b": None}}, {"columns": {"b": "first_name", "a": None}}),
        ({"columns": {"a": None, "b": None}}, {"columns": {"a": "last_name", "b": None}}),
        ({"phone_region": "GB"}, {"phone_region": "ES"}),
        ({}, {"phone_region": "GB"}),
    ],
)
def test_1_an_option_that_changes_how_a_record_is_read_never_skips(box, state, sync, before, after):
    record = {"code": "7", "plan": "p", "phone": "+44 7700 900123"}
    if "columns" in before:
        record |= {"a": "Anna", "b": "Berta"}
    if "first_name" not in before.get("columns", {}).values():
        record["first_name"] = "Ada"
    if before.get("phone_region") or not before:
        pytest.importorskip("phonenumbers")
        record["phone"] = "612 345 678" if before else "+44 (7700) 900123"
    sync(box, state, [record], **before).ok()
    assert sync(box, state, [record], **before).ok().unchanged == 1
    assert sync(box, state, [record], **after).ok().changed == 1


def test_1_what_is_omitted_is_named_in_each_run(box, state, sync, people):
    """An unchanged record without an invalid field is not sent, but its problem is written down."""
    records = people(3, email="nobody")
    for _ in range(2):
        run = sync(box, state, records, omit_invalid=True).ok()
        assert run.codes("omitted") == {"m-1", "m-2", "m-3"}
    assert run.unchanged == 3
    assert isinstance(sync(box, state, records).error, TooManyRejectsError)


def test_1_a_second_record_of_an_unchanged_member_is_a_duplicate(box, state, sync, people):
    sync(box, state, people(3)).ok()
    run = sync(box, state, people(3) + people(1), max_rejects=1).ok()
    assert (run.unchanged, run.duplicate) == (3, 1)


# --- 2: doubt before, certainty after -------------------------------------------------------------


@one_of_each
def test_2_members_are_in_doubt_before_their_request_leaves(box, every_state, sync, people):
    seen, accept = [], box._mediquo.upsert

    def look_and_accept(body):
        seen.append(every_state.in_doubt())
        return accept(body)

    box._mediquo.upsert = look_and_accept
    sync(box, every_state, people(3)).ok()
    assert seen == [{"m-1", "m-2", "m-3"}]
    assert not every_state.in_doubt()


def test_2_the_next_members_are_in_doubt_while_all_allowed_requests_are_in_flight(
    box, state, prepare_sync, people
):
    box.script("upsert", "hang", "hang")
    run = prepare_sync(box, state, people(30), chunk_size=10, max_in_flight=2)
    thread = threading.Thread(target=run.go)
    launch(thread)
    try:
        eventually_slow(lambda: box.counters.in_flight == 2 and len(state.in_doubt()) == 30)
        assert box.counters.max_in_flight == 2
    finally:
        box.restart()  # which cuts both off: they are sent again
        join(thread)
    assert run.ok().new == 30
    assert not state.in_doubt()


@every_database
def test_2_a_b_a_with_the_answer_lost_sends_a_again(box, every_state, sync, people):
    first, second = people(1), people(1, first_name="Eva")
    sync(box, every_state, first).ok()
    box.script("upsert", *["lost_after"] * 50)
    lost = sync(box, every_state, second)
    assert isinstance(lost.error, MediquoError)
    assert lost.counts == {"read": 1, "unsettled": 1}
    assert every_state.in_doubt() == {"m-1"}
    assert box.patients["m-1"]["first_name"] == "Eva"
    heal(box)
    assert sync(box, every_state, first).ok().counts == {"read": 1, "resent": 1}
    assert box.patients["m-1"]["first_name"] == "Ada"
    assert sync(box, every_state, first).ok().counts == {"read": 1, "unchanged": 1}


@one_of_each
@pytest.mark.parametrize("plan", ["premium", None])
def test_2_a_refusal_restores_what_was_there(box, every_state, sync, people, plan):
    box.settings.refuse_tax_id = "bad"
    records = people(3) if plan else without(people(3), "plan")
    sync(box, every_state, records).ok()
    before = every_state.members()
    new = {"code": "n-1", "first_name": "New", "plan": "p", "tax_id": "bad"}
    refused = [records[0] | {"tax_id": "bad", "plan": "other"}, *records[1:], new]
    run = sync(box, every_state, refused, max_rejects=2).ok()
    assert run.counts == {"read": 4, "unchanged": 2, "rejected": 2}
    assert every_state.members() == before, "the row of the new member is gone, too"
    assert [row["has_plan"] for row in before.values()] == [int(plan is not None)] * 3
    assert sync(box, every_state, records).ok().unchanged == 3


@one_of_each
def test_2_a_refusal_does_not_settle_the_doubt_of_an_earlier_run(box, every_state, sync, people):
    sync(box, every_state, people(1)).ok()
    box.script("upsert", *["lost_after"] * 50)
    sync(box, every_state, people(1, first_name="Eva"))
    heal(box)
    box.settings.refuse_tax_id = "bad"
    run = sync(box, every_state, people(1, tax_id="bad"), max_rejects=1).ok()
    assert run.refused == 1
    assert every_state.in_doubt() == {"m-1"}
    assert sync(box, every_state, people(1)).ok().resent == 1
    assert box.patients["m-1"]["first_name"] == "Ada"


@pytest.mark.parametrize("status", ["403", "409"])
def test_2_what_may_come_from_an_intermediary_leaves_the_doubt(box, state, sync, people, status):
    """It may have stored the request before somebody else refused the answer."""
    sync(box, state, people(2)).ok()
    box.script("upsert", *[status] * 20)
    changed = people(2, first_name="Eva")
    assert sync(box, state, changed, chunk_size=1, max_in_flight=1).error
    assert "m-1" in state.in_doubt()
    heal(box)
    assert sync(box, state, people(2)).ok().resent >= 1


def test_2_a_chunk_without_an_answer_is_sent_again_whatever_mediquo_has_of_it(
    box, state, sync, people
):
    box.script("upsert", *["lost_after"] * 3, *["lost_before"] * 3, *["502"] * 30)
    sync(box, state, people(20), chunk_size=10)
    heal(box)
    run = sync(box, state, people(20), chunk_size=10).ok()
    assert run.upserted + run.unchanged == 20
    assert set(box.patients) == {f"m-{n}" for n in range(1, 21)}
    assert sync(box, state, people(20)).ok().unchanged == 20


# --- 3: a run that was killed goes on where it was ------------------------------------------------


@one_of_each
def test_3_a_run_that_was_killed_goes_on_where_it_was(box, every_state, sync, people, eventually):
    box.settings.latency = 0.02
    url = every_state.engine().url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.support.synced_child", url, box.url]
    child = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        eventually_slow(lambda: box.counters.accepted >= 200 or child.poll() is not None)
    finally:
        child.send_signal(signal.SIGKILL)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, errors.decode()
    eventually(lambda: not box.counters.in_flight)
    accepted, known, in_doubt = set(box.accepted), every_state.members(), every_state.in_doubt()
    certain = {*known} - in_doubt
    assert 100 <= len(certain) < 1500
    assert certain <= accepted <= {*known}
    assert len(in_doubt) <= 60, "two requests at once, of 20, and the next one"
    before = box.counters.accepted
    assert isinstance(sync(box, every_state, people(1500)).error, StateError)
    every_state.pretend_dead()
    box.settings.latency = 0
    run = sync(box, every_state, people(1500)).ok()
    assert (run.new, run.resent, run.unchanged) == (1500 - len(known), len(in_doubt), len(certain))
    assert box.counters.accepted == before + 1500 - len(certain)
    assert len(box.patients) == 1500


def eventually_slow(happened):
    """As `eventually`, for an interpreter that starts on a busy machine."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- 4: who is missing ----------------------------------------------------------------------------

MIRROR = {"on_missing": "unsubscribe", "max_unsubscribed": None}


@one_of_each
def test_4_missing_is_who_this_sync_sent_and_the_source_has_not(box, every_state, sync, people):
    sync(box, every_state, people(3), **MIRROR).ok()
    sync(box, every_state, people(2, start=10), name="other", **MIRROR).ok()
    run = sync(box, every_state, people(2), **MIRROR).ok()
    assert run.counts == {
        "read": 2,
        "unchanged": 2,
        "unsubscribed": 1,
        "missing": 1,
        "missing_unsubscribed": 1,
    }
    assert {code for code, shown in box.patients.items() if not shown["plan"]} == {"m-3"}
    assert set(every_state.members()) == {"m-1", "m-2", "m-10", "m-11"}


def test_4_by_default_they_are_kept(box, state, sync, people):
    sync(box, state, people(3)).ok()
    assert sync(box, state, people(2)).ok().counts == {"read": 2, "unchanged": 2}
    assert box.patients["m-3"]["plan"] == "premium"
    assert "m-3" in state.members()


def test_4_a_rejected_record_is_not_missing(box, state, sync, people):
    sync(box, state, people(3)).ok()
    records = people(3)
    records[1]["birth_date"] = "2980-01-01"
    run = sync(box, state, records, max_rejects=1, **MIRROR).ok()
    assert run.counts == {"read": 3, "unchanged": 2, "rejected": 1}
    assert box.patients["m-2"]["plan"] == "premium"


@pytest.mark.parametrize(
    "unreadable",
    [
        Unreadable("cells"),
        "no record",
        {"first_name": "Ada"},
        {"code": ".", "first_name": "Ada"},
        {"code": "m-1", "member": "m-3", "first_name": "Ada", "plan": "p"},  # two codes
    ],
)
def test_4_where_a_code_cannot_be_read_nobody_is_missing(
    box, state, sync, people, unreadable, caplog
):
    columns = {"member": "code"}
    sync(box, state, people(3), columns=columns).ok()
    records = [*people(2), unreadable, unreadable]
    run = sync(box, state, records, max_rejects=9, columns=columns, **MIRROR).ok()
    assert (run.missing, run.missing_withheld, run.unsubscribed) == (1, 1, 0)
    assert box.patients["m-3"]["plan"] == "premium"
    assert (
        "1 member missing from the source. Nobody is unsubscribed for being missing, because of 2 records "
        "without a readable code: each may be one of them."
    ) in caplog.text


class FoldingStore(Store):
    """Compares codes as MySQL does by default, and keeps the first spelling."""

    def __init__(self, settings, *, shows):
        super().__init__(settings)
        self._shows, self._first = shows, {}

    def accept(self, patients):
        for patient in patients:
            key = folded_by_mysql(patient["code"])
            self._first.setdefault(key, patient["code"])
        super().accept([{**each, "code": self._spelled(each["code"])} for each in patients])

    def __getitem__(self, code):
        shown = super().__getitem__(self._spelled(code))
        return {**shown, "code": code} if self._shows == "as asked" else shown

    def _spelled(self, code):
        return self._first.get(folded_by_mysql(code), code)


def folded_by_mysql(code):
    plain = unicodedata.normalize("NFKD", code)
    return "".join(x for x in plain if unicodedata.category(x)[0] not in "MC").casefold()


CODES = [
    ("M-3", "m-3"),
    ("m-3", "M-3"),
    ("M-3", "M-3\u200b"),
    ("JOS\u00c9-3", "JOSE\u0301-3"),
    ("JOS\u00c9-3", "jose-3"),
    ("M-3", "\uff2d-\uff13"),
    ("STRASSE-3", "stra\u00dfe-3"),
    ("000471103", "471103"),
    ("471103", "471103.0"),
]


@pytest.mark.parametrize("shows", ["first spelling", "as asked"])
@pytest.mark.parametrize(("before", "after"), CODES)
def test_4_another_spelling_of_a_code_takes_no_plan(
    box, state, sync, people, caplog, before, after, shows
):
    """mediQuo may take both for the same patient: then this would be that patient's plan."""
    box._mediquo.store = FoldingStore(box.settings, shows=shows)
    others = people(40, start=10)
    sync(box, state, [*others, *people(1, code=before)]).ok()
    for night in ("the first", "each later"):
        state.pretend_old(0.5)
        caplog.clear()
        records = [*others, *people(1, code=after)]
        dry = sync(box, state, records, dry_run=True, on_missing="unsubscribe").ok()
        run = sync(box, state, records, on_missing="unsubscribe").ok()
        assert box.patients[before]["plan"] == "premium", night
        assert (run.missing, run.missing_withheld, run.unsubscribed) == (1, 1, 0)
        assert run.would_unsubscribe == 0
        assert dry.counts == run.counts
        assert {before, after} < set(state.members())
        warnings = [each for each in caplog.records if each.levelname == "WARNING"]
        assert len(warnings) == 2, "one of the dry run"
        assert "1 member missing" in warnings[1].getMessage()
        assert before not in caplog.text


@pytest.mark.parametrize("shows", ["first spelling", "as asked"])
def test_4_a_member_whose_spelling_changes_twice_is_sent_again(box, state, sync, people, shows):
    """If mediQuo takes both for the same patient, it has what was sent under the other spelling."""
    box._mediquo.store = FoldingStore(box.settings, shows=shows)
    others = people(40, start=10)
    before = [*others, *people(1, code="M-3")]
    sync(box, state, before).ok()
    records = [*others, *people(1, code="m-3", first_name="Eva")]
    sync(box, state, records, dry_run=True, on_missing="unsubscribe").ok()
    assert not state.in_doubt()
    sync(box, state, records, on_missing="unsubscribe").ok()
    assert box.patients["M-3"]["first_name"] == "Eva"
    assert state.in_doubt() == {"M-3"}
    run = sync(box, state, before, on_missing="unsubscribe").ok()
    assert run.counts == {
        "read": 41,
        "resent": 1,
        "unchanged": 40,
        "missing": 1,
        "missing_withheld": 1,
    }
    assert box.patients["M-3"]["first_name"] == "Ada"


@one_of_each
def test_4_who_is_spelled_otherwise_and_who_left_are_told_apart(box, every_state, sync, people):
    sync(box, every_state, people(6)).ok()
    every_state.pretend_old(0.5)
    records = [*people(1), *people(1, code="M-2"), *people(1, code="M-3\u200b")]
    run = sync(box, every_state, records, **MIRROR).ok()
    assert run.counts == {
        "read": 3,
        "new": 2,
        "unchanged": 1,
        "unsubscribed": 3,
        "missing": 5,
        "missing_unsubscribed": 3,
        "missing_withheld": 2,
    }
    assert {code for code, shown in box.patients.items() if not shown["plan"]} == {
        "m-4",
        "m-5",
        "m-6",
    }
    for code in ("m-2", "m-3"):
        every_state.run("DELETE FROM mediquo_member WHERE code = :code", code=code)
    assert sync(box, every_state, records, **MIRROR).ok().counts == {"read": 3, "unchanged": 3}


def test_4_a_member_shown_in_another_spelling_has_lost_no_plan(box, state, sync, people):
    """That one belongs to another sync: both are one patient there, who keeps the plan."""
    box._mediquo.store = FoldingStore(box.settings, shows="first spelling")
    sync(box, state, people(1, code="m-3"), name="other").ok()
    sync(box, state, [*people(2), *people(1, code="M-3")]).ok()
    state.pretend_old(0.5)
    run = sync(box, state, people(2), **MIRROR).ok()
    assert (run.missing, run.missing_unsubscribed, run.missing_had_plan) == (1, 1, 0)
    assert run.unsubscribed == 0
    assert run.unsubscribed_lines == []
    assert box.patients["m-3"]["plan"] == "premium"
    assert set(state.members()) == {"m-1", "m-2", "m-3"}


def test_4_another_spelling_that_is_rejected_may_be_the_member(box, state, sync, people):
    sync(box, state, people(3)).ok()
    records = [*people(2), *people(1, code="M-3", birth_date="2980-01-01")]
    run = sync(box, state, records, max_rejects=1, **MIRROR).ok()
    assert (run.missing, run.missing_withheld, run.unsubscribed) == (1, 1, 0)
    assert box.patients["m-3"]["plan"] == "premium"


def test_4_another_spelling_that_comes_from_another_sync_is_in_the_source_too(
    box, state, sync, people
):
    """It is known, but not as one of this sync's, and not sent yet when that is decided."""
    sync(box, state, people(3)).ok()
    sync(box, state, people(1, code="M-3"), name="other").ok()
    run = sync(box, state, [*people(2), *people(1, code="M-3")], **MIRROR).ok()
    assert (run.missing, run.missing_withheld, run.unsubscribed) == (1, 1, 0)


def test_4_another_spelling_does_not_widen_the_limit(box, state, sync, people):
    sync(box, state, people(6)).ok()
    records = [*people(1), *people(1, code="M-2"), *people(1, code="M-3")]
    options = {"on_missing": "unsubscribe", "max_unsubscribed": 4}
    run = sync(box, state, records, **options)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert (run.missing, run.missing_withheld, run.unsubscribed) == (5, 5, 0)


def test_4_another_spelling_of_one_without_a_plan_keeps_nothing(box, state, sync, people):
    sync(box, state, [*people(3), *without(people(1, start=4), "plan")]).ok()
    run = sync(box, state, [*people(2), *people(1, code="M-4")], **MIRROR).ok()
    assert (run.missing, run.missing_unsubscribed, run.missing_withheld) == (2, 2, 0)
    assert set(state.members()) == {"m-1", "m-2", "M-4"}


def test_4_a_transform_that_fails_may_hide_anybody(box, state, sync, people):
    def transform(record):
        return {}["nothing"] if record["code"] == "m-3" else record

    sync(box, state, people(3)).ok()
    run = sync(box, state, people(3), transform=transform, max_rejects=1, **MIRROR).ok()
    assert (run.missing_withheld, run.unsubscribed) == (1, 0)


def test_4_an_empty_source_unsubscribes_nobody(box, state, sync, people):
    sync(box, state, people(3)).ok()
    assert sync(box, state, [], **MIRROR).ok().counts == {}
    assert all(shown["plan"] for shown in box.patients.values())


@one_of_each
def test_4_a_transform_that_leaves_out_all_unsubscribes_nobody(box, every_state, sync, people):
    """A function that forgot to return the record, say."""
    sync(box, every_state, people(3)).ok()
    before = every_state.members()
    run = sync(box, every_state, people(3), transform=lambda record: None, **MIRROR).ok()
    assert run.counts == {"read": 3, "skipped": 3}
    assert all(shown["plan"] for shown in box.patients.values())
    assert every_state.members() == before


def test_4_a_source_that_breaks_off_unsubscribes_nobody(box, state, sync, people):
    def broken():
        yield from people(2)
        raise OSError("gone")

    sync(box, state, people(3)).ok()
    run = sync(box, state, broken(), **MIRROR)
    assert isinstance(run.error, OSError)
    assert (run.missing, run.unsubscribed) == (0, 0)
    assert all(shown["plan"] for shown in box.patients.values())
    assert state.sync()["holder"] is None


def test_4_fewer_than_min_records_unsubscribe_nobody(box, state, sync, people):
    sync(box, state, people(3)).ok()
    run = sync(box, state, people(2), min_records=3, **MIRROR)
    assert isinstance(run.error, SourceError)
    assert (run.missing, run.unsubscribed) == (0, 0)
    assert sync(box, state, people(2), min_records=2, **MIRROR).ok().missing == 1


def test_4_what_was_lost_to_a_broken_source_may_not_lose_its_plan_either(box, state, sync, people):
    """What was held back until the end is not sent when there is no end."""

    def broken():
        yield from without(people(1), "plan")
        yield from people(2, start=2)
        raise OSError("gone")

    sync(box, state, people(3)).ok()
    run = sync(box, state, broken(), max_unsubscribed=1)
    assert run.counts == {"read": 3, "unchanged": 2, "unsettled": 1}
    assert box.patients["m-1"]["plan"] == "premium"
    assert not state.in_doubt()


# --- 5: nobody loses a plan by accident -----------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "of", "allowed"),
    [
        (0, 10, 0),
        (3, 10, 3),
        (0.0, 10, 0),
        (0.01, 10, 1),  # rounded up
        (0.01, 200, 2),
        (0.01, 201, 3),
        (0.07, 100, 7),  # 0.07 * 100 is more than 7 for a computer
        (0.3, 10, 3),
    ],
)
def test_5_the_limit_is_exact(box, state, sync, people, limit, of, allowed):
    """By a record without a plan, or by leaving the source, in any mixture."""
    options = {"on_missing": "unsubscribe", "max_unsubscribed": limit}
    sync(box, state, people(of)).ok()
    records = people(of)
    for position in range((allowed + 2) // 2):
        records[position] = without([records[position]], "plan")[0]
    losing = (allowed + 2) // 2
    too_many = records[: of - (allowed + 1 - losing)]
    run = sync(box, state, too_many, **options)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert (run.withheld, run.missing_withheld) == (losing, allowed + 1 - losing)
    assert (run.would_unsubscribe, run.unsubscribed) == (allowed + 1, 0)
    assert all(shown["plan"] for shown in box.patients.values())
    if not allowed:
        return
    kept = records[: of - (allowed - losing)]
    assert sync(box, state, kept, **options).ok().unsubscribed == allowed
    assert sum(not shown["plan"] for shown in box.patients.values()) == allowed


def test_5_the_default_is_one_in_a_hundred(box, state, sync, people):
    sync(box, state, people(201)).ok()
    records = without(people(4), "plan") + people(197, start=5)
    run = sync(box, state, records)
    assert run.withheld == 4
    assert "0.01 of 201 = 3" in str(run.error)
    assert sync(box, state, records[1:]).ok().unsubscribed == 3


def test_5_beyond_it_all_else_is_sent_and_the_value_it_names_allows_it(box, state, sync, people):
    sync(box, state, people(20)).ok()
    records = without(people(3), "plan") + people(15, start=4, first_name="Eva")
    records += people(2, start=30)  # m-19 and m-20 are missing
    options = {"on_missing": "unsubscribe"}
    run = sync(box, state, records, max_unsubscribed=4, **options)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert run.counts == {
        "read": 20,
        "new": 2,
        "changed": 15,
        "withheld": 3,
        "missing": 2,
        "missing_withheld": 2,
    }
    first, *details = str(run.error).split("\n")
    assert first.startswith("Withheld: too many would lose their plan. 17 upserted")
    assert len(first) < 120
    assert "\n".join(details[:3]) == (
        "5 members would lose their plan: 3 by a record without one, 2 because they left the source.\n"
        "That is more than `max_unsubscribed` (4), so they keep it.\nIf it is intended, run again with "
        "max_unsubscribed=5."
    )
    assert run.codes("withheld") == {"m-1", "m-2", "m-3"}
    assert all(shown["plan"] for shown in box.patients.values())
    again = sync(box, state, records, max_unsubscribed=5, **options).ok()
    assert again.counts == {
        "read": 20,
        "changed": 3,
        "unchanged": 17,
        "unsubscribed": 5,
        "missing": 2,
        "missing_unsubscribed": 2,
    }
    assert sync(box, state, records, max_unsubscribed=0, **options).ok().unchanged == 20


def test_5_a_record_held_back_whose_code_comes_again_with_a_plan_is_not_sent(
    box, state, sync, people
):
    """The source contradicts itself: without a state, the first record would have unsubscribed."""
    sync(box, state, people(10)).ok()
    records = without(people(2), "plan") + people(8, start=3) + people(1)
    run = sync(box, state, records, max_unsubscribed=2, max_rejects=1)
    assert isinstance(run.error, InvalidPatientsError)
    assert (run.withheld, run.changed, run.unsubscribed, run.duplicate) == (1, 1, 1, 1)
    assert box.patients["m-1"]["plan"] == "premium"
    assert box.patients["m-2"]["plan"] is None


def test_5_losing_a_plan_to_an_invalid_record_of_the_same_code_is_told_each_time(
    box, state, sync, people
):
    records = [
        *people(1, birth_date="2980-01-01"),
        *without(people(1), "plan"),
        *people(9, start=2),
    ]
    for _ in range(2):
        run = sync(box, state, records, max_rejects=1)
        assert isinstance(run.error, InvalidPatientsError)
    assert run.unchanged == 10, "and nothing is sent again"


def test_5_an_empty_state_has_no_subscribers(box, state, sync, people):
    """The guard of an upload without a state holds there."""
    records = without(people(150), "plan")
    assert isinstance(sync(box, state, records).error, UnsubscribeLimitError)
    assert not writes(box)
    run = sync(box, state, records, max_without_plan=None).ok()
    assert (run.new, run.unsubscribed) == (150, 0)


def test_5_members_without_a_plan_before_and_after_are_no_matter(box, state, sync, people):
    records = without(people(40), "plan") + people(60, start=41)
    sync(box, state, records).ok()
    changed = [record | {"first_name": "Eva"} for record in records]
    assert sync(box, state, changed, max_unsubscribed=0).ok().changed == 100


# --- 6: a missing member keeps all else -----------------------------------------------------------


@one_of_each
def test_6_a_missing_member_keeps_all_else(box, every_state, sync, people):
    full = {
        "last_name": "Lovelace",
        "gender": "female",
        "birth_date": "1980-02-03",
        "tax_id": "X1",
        "email": "ada@example.com",
        "phone": "+44 7700 900123",
        "locale": "pt",
        "meta": {"team": "north", "empty": None, "deep": {"list": [1, "2", True]}},
    }
    sync(box, every_state, [ADA, *people(1, **full)]).ok()
    shown = box.patients["m-1"]
    run = sync(box, every_state, [ADA], **MIRROR).ok()
    assert run.missing_unsubscribed == run.unsubscribed == 1
    times = {"plan", "updated_at", "unsubscribed_at"}
    after = box.patients["m-1"]
    assert {k: v for k, v in after.items() if k not in times} == {
        k: v for k, v in shown.items() if k not in times
    }
    assert after["plan"] is None
    assert after["unsubscribed_at"]
    assert set(every_state.members()) == {"7"}


def test_6_who_is_not_found_is_fine(box, state, sync, people):
    sync(box, state, people(3)).ok()
    state.pretend_old(0.5)
    box.reset()
    run = sync(box, state, people(2), resend_after=timedelta(days=1), **MIRROR).ok()
    assert (run.missing, run.missing_unsubscribed) == (1, 1)
    assert not writes(box)
    assert "m-3" not in state.members()


def test_6_what_is_not_shown_yet_is_waited_for(box, state, sync, people, monkeypatch):
    box.settings.lag = 1
    monkeypatch.setattr(missing_module, "_WAITS", (0.4,) * 10)
    sync(box, state, people(3)).ok()
    run = sync(box, state, people(2), **MIRROR).ok()
    assert run.missing_unsubscribed == 1
    box.settings.lag = 0
    deadline = time.monotonic() + 10
    while box.patients["m-3"]["plan"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_6_what_is_never_shown_stays_for_the_next_run(box, state, sync, people):
    box.settings.lag = 60
    sync(box, state, people(3)).ok()
    run = sync(box, state, people(2), **MIRROR)
    assert (run.missing, run.missing_unsettled) == (1, 1)
    assert "1 member missing, without a final answer" in str(run.error)
    assert "m-3" in state.members()


def test_6_who_mediquo_refuses_to_unsubscribe_is_unsettled_and_in_doubt(box, state, sync, people):
    records = [*people(2), *people(1, start=3, tax_id="bad")]
    sync(box, state, records).ok()
    box.settings.refuse_tax_id = "bad"
    run = sync(box, state, people(2), **MIRROR)
    assert (run.missing, run.missing_unsettled) == (1, 1)
    assert state.in_doubt() == {"m-3"}
    box.settings.refuse_tax_id = ""
    assert sync(box, state, people(2), **MIRROR).ok().missing_unsubscribed == 1


@pytest.mark.parametrize("outcome", ["lost_after", "lost_before"])
def test_6_a_lost_answer_leaves_them_in_doubt(box, state, sync, people, outcome):
    sync(box, state, people(3)).ok()
    box.script("upsert", *[outcome] * 50)
    run = sync(box, state, people(2), **MIRROR)
    assert (run.missing, run.missing_unsettled) == (1, 1)
    assert state.in_doubt() == {"m-3"}
    heal(box)
    back = sync(box, state, people(3), **MIRROR).ok()  # it returns before it was settled
    assert back.counts == {"read": 3, "resent": 1, "unchanged": 2}
    assert box.patients["m-3"]["plan"] == "premium"


def test_6_who_returns_to_the_source_is_sent_again(box, state, sync, people):
    sync(box, state, people(3)).ok()
    sync(box, state, people(2), **MIRROR).ok()
    assert box.patients["m-3"]["plan"] is None
    assert sync(box, state, people(3), **MIRROR).ok().counts == {
        "read": 3,
        "new": 1,
        "unchanged": 2,
    }
    assert box.patients["m-3"]["plan"] == "premium"


def test_6_who_has_no_plan_is_forgotten_without_a_request(box, state, sync, people):
    sync(box, state, [*people(2), *without(people(1, start=3), "plan")]).ok()
    before = box.counters.total
    options = {"on_missing": "unsubscribe", "max_unsubscribed": 0}
    run = sync(box, state, people(2), **options).ok()
    assert (run.missing, run.missing_unsubscribed, run.unsubscribed) == (1, 1, 0)
    assert box.counters.total == before
    assert "m-3" not in state.members()


# --- 7: one run of a sync at a time ---------------------------------------------------------------


@every_database
def test_7_a_second_run_ends_at_once_and_says_since_when(
    box, every_state, prepare_sync, sync, people
):
    second = []

    def source():
        yield from people(2)
        second.append(sync(box, every_state, people(2)))
        yield from people(2, start=3)

    run = sync(box, every_state, source()).ok()
    assert run.new == 4
    since = f"{every_state.sync()['since']!s:.19}"
    assert isinstance(second[0].error, StateError)
    assert second[0].counts == {}
    assert second[0].error.can_retry
    assert f"has been running since {since} UTC" in str(second[0].error)


@every_database
def test_7_the_lease_of_a_dead_run_is_free_after_its_lifetime(box, every_state, sync, people):
    sync(box, every_state, people(1)).ok()
    every_state.run(
        "UPDATE mediquo_sync SET holder = 'dead', heartbeat = since WHERE name = 'members'"
    )
    assert isinstance(sync(box, every_state, people(1)).error, StateError)
    every_state.pretend_dead(seconds=30)
    assert isinstance(sync(box, every_state, people(1)).error, StateError)
    every_state.pretend_dead(seconds=int(lease_module.LIFETIME.total_seconds()) - 29)
    assert sync(box, every_state, people(1)).ok().unchanged == 1


@every_database
def test_7_who_lost_the_lease_stops_before_its_next_write(
    box, every_state, sync, people, eventually
):
    taken = []

    def source():
        yield from people(1000)
        eventually(lambda: len(every_state.members()) == 1000 and not every_state.in_doubt())
        every_state.pretend_dead()
        taken.append(sync(box, every_state, people(1)))
        taken.append(box.counters.total)
        yield from people(500, start=1001)

    run = sync(box, every_state, source())
    assert taken[0].error is None
    assert isinstance(run.error, StateError)
    assert "Another run of the sync 'members' has taken over" in str(run.error)
    assert box.counters.total == taken[1], "no request after that"
    assert not {code for code in box.accepted if int(code[2:]) > 1000}
    assert every_state.sync()["holder"] is None


def test_7_a_lease_is_asked_for_again_before_a_late_request(
    box, state, prepare_sync, people, monkeypatch
):
    """A worker that slept through its heartbeats sends nothing when it wakes up."""
    run = prepare_sync(box, state, people(1))
    begin = run.sync.begin

    def sleep(records):
        begin(records)
        state.run("UPDATE mediquo_sync SET holder = 'another'")
        run.sync._lease._confirmed -= 31

    monkeypatch.setattr(run.sync, "begin", sleep)
    assert isinstance(run.go().error, StateError)
    assert not writes(box)


def test_7_a_heartbeat_keeps_the_lease(box, state, people, sync, monkeypatch, eventually):
    from airflow_provider_mediquo.api.upload import runner

    monkeypatch.setattr(runner, "HEARTBEAT_SECONDS", 0.02)
    beats = []

    def source():
        beats.append(state.sync()["heartbeats"])
        eventually(lambda: state.sync()["heartbeats"] > beats[0] + 2)
        yield from people(1)

    sync(box, state, source()).ok()


@pytest.mark.parametrize(
    "ending", ["clean", "rejects", "source", "limit", "mediquo", "timeout", "kill"]
)
def test_7_every_ending_frees_the_lease_at_once(box, state, prepare_sync, sync, people, ending):
    class TimeLimit(BaseException):
        """As Airflow's."""

    def source():
        yield from people(5)
        if ending == "source":
            raise OSError
        if ending == "timeout":
            raise TimeLimit
        if ending == "kill":
            run.upload.stop()
        if ending == "rejects":
            yield {"code": "bad"}

    records = source()
    options = {}
    if ending == "mediquo":
        box.script("upsert", *["503"] * 100)
    if ending == "limit":
        sync(box, state, people(5)).ok()
        records, options = without(people(5), "plan"), {"max_unsubscribed": 0}
    run = prepare_sync(box, state, records, **options).go()
    assert (run.error is None) is (ending == "clean")
    assert state.sync()["holder"] is None
    assert state.sync()["heartbeat"] is None, "no request was cut off"


def test_7_a_request_that_was_cut_off_by_a_kill_never_replaces_newer_data(
    box, state, prepare_sync, sync, people, monkeypatch, caplog
):
    """mediQuo has got it, and applies it while the next run waits."""
    caplog.set_level("INFO")
    monkeypatch.setattr(lease_module, "LIFETIME", timedelta(seconds=8))
    sync(box, state, people(1)).ok()
    box.script("upsert", "hang")
    older = people(1, first_name="Eva")
    killed = prepare_sync(box, state, older)
    thread = threading.Thread(target=killed.go)
    launch(thread)
    eventually_slow(lambda: box.counters.in_flight)
    killed.upload.stop()
    join(thread)
    assert isinstance(killed.error, StoppedError)
    assert state.sync()["holder"] is None
    heal(box)

    class Late(logging.Handler):
        def emit(self, record):
            if "its requests may still arrive: waiting" in record.getMessage():
                box._mediquo.store.accept(older)

    late = Late()
    logging.getLogger(lease_module.__name__).addHandler(late)
    try:
        run = sync(box, state, people(1)).ok()
    finally:
        logging.getLogger(lease_module.__name__).removeHandler(late)
    assert run.resent == 1
    assert box.accepted["m-1"] == 3
    assert box.patients["m-1"]["first_name"] == "Ada"
    assert state.sync()["heartbeat"] is None, "the next run does not wait"


class TimeLimit(BaseException):
    """As Airflow's."""


@pytest.mark.parametrize("count", [1, 12])
def test_7_a_time_limit_while_requests_are_in_flight_ends_them(
    box, state, prepare_sync, sync, people, count
):
    """It strikes when the source has failed already, and the run waits for its last requests."""
    sync(box, state, people(1200 - 100 * count)).ok()
    box.script("upsert", *["hang"] * 20)

    def source():
        yield from people(1200)
        eventually_slow(lambda: box.counters.in_flight)
        raise LookupError("the cursor is closed")

    def strike(*_):
        raise TimeLimit

    def strike_when_it_waits(thread):
        eventually_slow(lambda: {"_join", "close"} <= names_of(sys._current_frames()[thread]))
        os.kill(os.getpid(), signal.SIGUSR1)

    def names_of(frame):
        return {each.f_code.co_name for each, _ in traceback.walk_stack(frame)}

    before = signal.signal(signal.SIGUSR1, strike)
    striking = threading.Thread(target=strike_when_it_waits, args=[threading.get_ident()])
    launch(striking)
    try:
        run = prepare_sync(box, state, source(), max_without_plan=None).go()
    finally:
        join(striking)
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(run.error, TimeLimit)
    assert state.sync()["holder"] is None
    assert state.sync()["heartbeat"], "the next run waits for them"


def test_7_a_kill_ends_the_waiting_for_late_requests(box, state, prepare_sync, sync, people):
    sync(box, state, people(1)).ok()
    state.run("UPDATE mediquo_sync SET heartbeat = '2999-01-01 00:00:00.000000'")
    run = prepare_sync(box, state, people(1, first_name="Eva"))
    launch(threading.Timer(0.5, run.upload.stop))
    run.go()
    assert isinstance(run.error, StoppedError)
    assert run.read == 0
    assert state.sync()["run"] == 1, "it never began"


def test_7_who_takes_over_a_dead_run_that_still_reads_writes_alone(box, state, sync, people):
    """Two runs that overlap never leave a member certain that the last writer did not send."""
    taken = []

    def source():
        yield from people(2)
        state.pretend_dead()
        taken.append(sync(box, state, people(2, first_name="Eva")))
        yield from people(1, start=3)

    run = sync(box, state, source())
    assert taken[0].error is None
    assert isinstance(run.error, StateError)
    assert {shown["first_name"] for shown in box.patients.values()} == {"Eva"}
    assert sync(box, state, people(2, first_name="Eva")).ok().unchanged == 2


# --- 8: two syncs, one member ---------------------------------------------------------------------


@one_of_each
def test_8_the_last_sync_that_sent_a_member_owns_it(box, every_state, sync, people, caplog):
    caplog.set_level("INFO")
    sync(box, every_state, people(5), name="a", **MIRROR).ok()
    sync(box, every_state, people(2, first_name="Eva"), name="b", dry_run=True, **MIRROR).ok()
    assert "taken over from other syncs" not in caplog.text
    run = sync(box, every_state, people(2, first_name="Eva"), name="b", **MIRROR).ok()
    assert run.counts == {"read": 2, "changed": 2}
    assert "2 members taken over from other syncs" in caplog.text
    run = sync(box, every_state, people(3, start=3), name="a", **MIRROR).ok()
    assert run.counts == {"read": 3, "unchanged": 3}, "who moved is not missing"
    run = sync(box, every_state, people(1, first_name="Eva"), name="b", **MIRROR).ok()
    assert run.missing_unsubscribed == 1
    assert {code for code, shown in box.patients.items() if not shown["plan"]} == {"m-2"}


@pytest.mark.parametrize("respelled", [{}, {"first_name": " Ada "}])
def test_8_a_member_that_moves_unchanged_is_sent_once_so_that_nobody_takes_its_plan(
    box, state, sync, people, respelled
):
    sync(box, state, people(2), name="a").ok()
    assert sync(box, state, people(1, **respelled), name="b").ok().counts == {
        "read": 1,
        "resent": 1,
    }
    run = sync(box, state, people(1, start=2), name="a", **MIRROR).ok()
    assert run.counts == {"read": 1, "unchanged": 1}
    assert sync(box, state, people(1, **respelled), name="b").ok().counts == {
        "read": 1,
        "unchanged": 1,
    }


@one_of_each
def test_8_a_member_that_two_syncs_have_sent_ends_with_the_last_one(
    box, every_state, sync, people, caplog
):
    """The first one has no answer, so that mediQuo may have either: it is sent a last time."""
    caplog.set_level("INFO")
    box.script("upsert", *["lost_after"] * 50)
    assert sync(box, every_state, people(5), name="a").error
    heal(box)
    theirs = people(2, first_name="Eva")
    run = sync(box, every_state, theirs, name="b", **MIRROR).ok()
    assert run.counts == {"read": 2, "resent": 2}
    assert "2 members taken over from other syncs." in caplog.text
    assert every_state.in_doubt() == {f"m-{number}" for number in range(1, 6)}
    run = sync(box, every_state, people(3, start=3), name="a", **MIRROR).ok()
    assert run.counts == {"read": 3, "resent": 3}, "nobody is missing"
    caplog.clear()
    assert sync(box, every_state, theirs, name="b", **MIRROR).ok().resent == 2
    assert "taken over from other syncs" not in caplog.text
    assert not every_state.in_doubt()
    assert sync(box, every_state, theirs, name="b", **MIRROR).ok().unchanged == 2
    owners = {code: row["sync_id"] for code, row in every_state.members().items()}
    a, b = (every_state.sync(name)["id"] for name in "ab")
    assert owners == {"m-1": b, "m-2": b, "m-3": a, "m-4": a, "m-5": a}
    assert all(shown["plan"] for shown in box.patients.values())


def test_8_a_member_that_another_sync_puts_in_doubt_is_no_longer_ours(box, state, sync, people):
    sync(box, state, people(2), name="a").ok()
    box.script("upsert", *["lost_after"] * 50)
    sync(box, state, people(1, first_name="Eva"), name="b")
    heal(box)
    options = {"on_missing": "unsubscribe", "max_unsubscribed": 0}
    assert sync(box, state, people(1, start=2), name="a", **options).ok().missing == 0


@every_server
def test_8_two_syncs_that_send_the_same_new_members_at_the_same_moment(
    box, every_state, prepare_sync, people
):
    """Neither stops, whatever order their transactions come in."""
    mine, theirs = people(600), list(reversed(people(600)))
    runs = [
        prepare_sync(box, every_state, records, name=name, chunk_size=50, max_in_flight=4)
        for name, records in (("a", mine), ("b", theirs))
    ]
    threads = [threading.Thread(target=_go, args=[run]) for run in runs]
    launch(*threads)
    join(*threads)
    for run in runs:
        assert run.error is None, run.error
        assert run.unsettled == 0
    members = every_state.members()
    assert len(members) == 600
    # What both sent at the same moment may be either's in mediQuo, so it is sent once more; and so
    # is what belongs to the other one.
    own = every_state.sync("a")["id"]
    certain = {code for code, row in members.items() if row["sync_id"] == own}
    certain -= every_state.in_doubt()
    again = prepare_sync(box, every_state, people(600), name="a").go().ok()
    assert (again.resent, again.unchanged) == (600 - len(certain), len(certain))
    # Of what the other one had in doubt a request may still arrive, so it is sent a last time.
    prepare_sync(box, every_state, people(600), name="a").go().ok()
    assert not every_state.in_doubt()


def _go(run):
    try:
        run.upload.run(run.source)
    except BaseException as error:  # noqa: BLE001  # for the test's own thread
        run.error = error


# --- 9: a state that cannot be used ---------------------------------------------------------------


def closed_port(monkeypatch, every_state):
    extra = {"client": every_state.driver} if every_state.driver in MARIADB else {}
    monkeypatch.setenv("AIRFLOW_CONN_STATE", every_state.server.json(port=1, extra=extra))


@every_server
def test_9_a_database_that_is_away_ends_the_run_before_its_first_request(
    box, every_state, sync, people, monkeypatch
):
    closed_port(monkeypatch, every_state)
    run = sync(box, every_state, people(3))
    assert isinstance(run.error, StateError)
    assert str(run.error).startswith("Stopped: state not usable.")
    assert box.counters.total == 0
    assert every_state.server.password not in str(run.error)


@every_server
@pytest.mark.parametrize("moment", ["middle", "end"])
def test_9_a_database_that_goes_away_ends_it_instead_of_the_next_request(
    box, every_state, sync, people, monkeypatch, eventually, moment
):
    def source():
        yield from people(1000)
        if moment == "middle":
            eventually(lambda: len(every_state.members()) == 1000 and not every_state.in_doubt())
            take_away(every_state)
        yield from people(100, start=1001)

    if moment == "end":
        take_away_when(every_state, monkeypatch)
    run = sync(box, every_state, source())
    assert isinstance(run.error, StateError), run.error
    allow_again(every_state)
    sent = set(box.accepted)
    known, in_doubt = set(every_state.members()), every_state.in_doubt()
    assert sent <= known, "nothing left before it was in doubt"
    assert known - in_doubt <= sent
    if moment == "middle":
        assert not {code for code in sent if int(code[2:]) > 1000}
    if every_state.sync()["holder"]:
        every_state.pretend_dead()
    again = sync(box, every_state, people(1100)).ok()
    assert again.unchanged == len(known - in_doubt)
    assert len(box.patients) == 1100


def take_away(state):
    """Cut every connection to a database, and let nobody in."""
    server = state.server
    if server.conn_type == "postgres":
        admin = server.__class__(server.conn_type, server.port, "postgres")
        admin.run(f"ALTER DATABASE {server.dbname} ALLOW_CONNECTIONS false")
        admin.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{server.dbname}'"
        )
    else:
        admin = server.__class__(server.conn_type, server.port, "tests")
        admin.run(f"RENAME TABLE {server.dbname}.mediquo_member TO {server.dbname}.away")


def allow_again(state):
    server = state.server
    if server.conn_type == "postgres":
        admin = server.__class__(server.conn_type, server.port, "postgres")
        admin.run(f"ALTER DATABASE {server.dbname} ALLOW_CONNECTIONS true")
    else:
        with suppress(Exception):
            server.run("RENAME TABLE away TO mediquo_member")


def take_away_when(state, monkeypatch):
    """Take it away once mediQuo has accepted the last record, before that is written."""
    from airflow_provider_mediquo.api.sync import run as run_module

    acknowledge = run_module.statements.acknowledge

    def strike(connection, sync_id, run, members, contested):
        if any(member.code == "m-1100" for member in members):
            monkeypatch.setattr(run_module.statements, "acknowledge", acknowledge)
            connection.rollback()
            take_away(state)
        acknowledge(connection, sync_id, run, members, contested)

    monkeypatch.setattr(run_module.statements, "acknowledge", strike)


@every_server
def test_9_a_connection_that_was_cut_while_idle_is_made_again(box, every_state, sync, people):
    def source():
        yield from people(1000)
        cut(every_state)
        yield from people(100, start=1001)

    box.settings.latency = 0.05
    run = sync(box, every_state, source(), max_in_flight=1)
    if run.error:  # it was in the middle of a transaction: the next run goes on
        assert isinstance(run.error, StateError)
        if every_state.sync()["holder"]:
            every_state.pretend_dead()
    sync(box, every_state, people(1100)).ok()
    assert len(box.patients) == 1100


def cut(state):
    server = state.server
    if server.conn_type == "postgres":
        server.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        return
    for (number,) in server.run(
        "SELECT id FROM information_schema.processlist WHERE db = database() "
        "AND id <> connection_id()"
    ):
        with suppress(Exception):
            server.run(f"KILL {number}")


def test_9_a_full_or_locked_file_ends_it(box, state, sync, people, monkeypatch):
    """SQLite: another program holds the file for longer than a write waits."""
    sync(box, state, people(1)).ok()
    file = state.engine().url.database
    monkeypatch.setattr(state, "make_engine", lambda: _impatient(file))
    with closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        run = sync(box, state, people(2))
        holder.execute("ROLLBACK")
    assert isinstance(run.error, StateError)
    assert writes(box) == [1]


def _impatient(file):
    return create_engine(f"sqlite:///{file}", connect_args={"timeout": 0.1})


@one_of_each
def test_9_a_state_of_another_version_is_left_alone(box, every_state, sync, people):
    sync(box, every_state, people(1)).ok()
    every_state.run("UPDATE mediquo_state SET version = 2")
    before = every_state.dump()
    for options in ({}, {"dry_run": True}):
        run = sync(box, every_state, people(2), **options)
        assert isinstance(run.error, StateMismatchError)
        assert not run.error.can_retry
        assert "The state has version 2, and this package knows version 1." in str(run.error)
    assert every_state.dump() == before
    assert writes(box) == [1]


# --- 10: no value in it ---------------------------------------------------------------------------

CANARY = {
    "code": "m-1",
    "first_name": "Canaryinaminefirst",
    "last_name": "Canaryinaminelast",
    "gender": "female",
    "birth_date": "1961-07-23",
    "tax_id": "CANARYINAMINETAX",
    "email": "canaryinamine@example.com",
    "plan": "canaryinamineplan",
    "phone": "+44 7700 900777",
    "locale": "pt",
    "meta": {"canaryinaminekey": "canaryinaminemeta"},
}
CANARIES = (
    *("canaryinamine", "1961-07-23", "19610723", "7700 900777", "7700900777", "female"),
    *("sandbox-secret-key", "sandbox-api-key"),
)


def found_in(text):
    return [canary for canary in CANARIES if canary in text.lower()]


@one_of_each
@pytest.mark.parametrize("ending", ["accepted", "refused", "lost", "withheld", "missing", "state"])
def test_10_no_value_of_a_patient_is_in_the_state_the_log_or_an_error(
    box, every_state, sync, caplog, ending, monkeypatch
):
    caplog.set_level("DEBUG", "airflow_provider_mediquo")
    others = [CANARY | {"code": f"m-{n}"} for n in range(2, 6)]
    first = sync(box, every_state, [CANARY, *others]).ok()
    changed = CANARY | {"first_name": "Canaryinamineother"}
    if ending == "refused":
        box.settings.refuse_tax_id = "CANARYINAMINETAX"
    if ending == "lost":
        box.script("upsert", *["lost_after"] * 50)
    if ending == "withheld":
        changed = {name: value for name, value in changed.items() if name != "plan"}
    if ending == "missing":
        box.settings.refuse_tax_id = "CANARYINAMINETAX"
        others = others[:-1]
    if ending == "state":
        every_state.run("ALTER TABLE mediquo_member RENAME TO mediquo_gone")
        every_state.run("CREATE TABLE mediquo_member AS SELECT code FROM mediquo_gone")
    run = sync(
        box,
        every_state,
        [changed, *others],
        on_missing="unsubscribe",
        max_unsubscribed=0 if ending == "withheld" else None,
    )
    assert (run.error is None) is (ending == "accepted")
    assert "m-1" in every_state.dump()
    assert found_in(every_state.dump()) == []
    texts = [repr(run.error), str(run.error), str(first.report.as_dict()), str(run.as_dict())]
    texts += [json.dumps(run.lines)]
    error = run.error
    while error is not None:
        texts += [str(error.args), *getattr(error, "__notes__", [])]
        error = error.__context__ or error.__cause__
    assert found_in("\n".join(texts)) == []
    own = [record for record in caplog.records if record.name.startswith("airflow_provider_")]
    assert found_in("\n".join(record.getMessage() for record in own)) == []


def test_10_the_file_itself_holds_none(box, state, sync, tmp_path):
    sync(box, state, [CANARY]).ok()
    sync(box, state, [CANARY | {"first_name": "Canaryinamineother"}]).ok()
    everything = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert b"m-1" in everything
    assert found_in(everything.decode("latin-1")) == []


def test_10_the_tables_have_these_columns_alone(box, state, sync, people):
    sync(box, state, people(1)).ok()
    assert set(state.members()["m-1"]) == {
        "sync_id",
        "run",
        "fingerprint",
        "source",
        "proof",
        "has_plan",
        "sent_at",
        "in_doubt_by",
        "in_doubt_since",
    }


def test_10_fingerprints_of_two_keys_have_nothing_in_common(box, state, sync, people):
    """Who has the table but not the key cannot try values."""
    sync(box, state, people(2)).ok()
    first = state.members()
    box._mediquo.secret_key = "another"
    sync(box, state, people(2), secret_key="another").ok()
    other = state.members()
    for code, row in first.items():
        assert row["fingerprint"] != other[code]["fingerprint"]
        assert row["source"] != other[code]["source"]


@one_of_each
def test_10_a_person_who_is_deleted_is_new(box, every_state, sync, people):
    sync(box, every_state, people(3)).ok()
    every_state.run("DELETE FROM mediquo_member WHERE code = 'm-2'")
    assert sync(box, every_state, people(3)).ok().counts == {"read": 3, "new": 1, "unchanged": 2}


# --- 11: what was found wrong is sent again -------------------------------------------------------


@every_database
def test_11_members_that_are_put_in_doubt_again_are_sent_again(box, every_state, sync, people):
    from airflow_provider_mediquo.api.sync.statements import doubt_again, doubt_run

    sync(box, every_state, people(3)).ok()
    sync(box, every_state, people(5)).ok()
    store = every_state.store()
    store.write(lambda connection: doubt_again(connection, ["m-1", "unknown"]))
    assert every_state.in_doubt() == {"m-1"}
    assert sync(box, every_state, people(5)).ok().counts == {
        "read": 5,
        "resent": 1,
        "unchanged": 4,
    }
    assert store.write(lambda connection: doubt_run(connection, "members", 2)) == 2
    assert every_state.in_doubt() == {"m-4", "m-5"}
    assert sync(box, every_state, people(5)).ok().resent == 2


# --- 12: without a state all is as before ---------------------------------------------------------


def test_12_without_a_state_the_ledger_is_as_before(box, people):
    report = MediquoHook().upsert_patients(people(3))
    assert set(report.as_dict()) == {
        "read",
        "upserted",
        "skipped",
        "rejected",
        "rejects_by_rule",
        "unsettled",
        "invalid",
        "duplicate",
        "refused",
        "without_plan",
        "omitted",
        "unwritten",
        "requests",
        "retries",
        "throttled_seconds",
        "seconds",
        "stopped_because",
        "rejects_path",
        "unsubscribed_path",
        "receipt",
        "sample",
    }
    assert MediquoHook().upsert_patients(people(3)).upserted == 3, "each run sends everything"
    assert MediquoHook().upsert_patients(without(people(3), "plan")).without_plan == 3


# --- through Airflow ------------------------------------------------------------------------------


@one_of_each
def test_the_hook_keeps_a_state(box, every_state, people):
    hook = MediquoHook()
    assert hook.upsert_patients(people(3), state_conn_id=CONN_ID).new == 3
    report = hook.upsert_patients(people(3, first_name="Eva"), state_conn_id=CONN_ID)
    assert (report.changed, report.unchanged) == (3, 0)
    assert report.as_dict()["sync"] == {
        "state_conn_id": "state",
        "name": "mediquo_default",
        "run": 2,
    }
    assert hook.upsert_patients(people(3, first_name="Eva"), state_conn_id=CONN_ID).unchanged == 3


@one_of_each
def test_the_operator_keeps_a_state(box, every_state, people, dag, run_task):
    def upsert(number, patients, **options):
        return run_task(
            MediquoUpsertPatientsOperator(
                task_id=f"upsert_{number}",
                patients=patients,
                state_conn_id="{{ 'state' }}",
                sync_name="{{ dag.dag_id }}.members",
                on_missing="unsubscribe",
                **options,
            )
        )

    first = upsert(1, people(3))
    assert first.state == "success", first.log
    assert first.result["new"] == 3
    withheld = upsert(2, people(1), max_unsubscribed="{{ 0.3 }}")
    assert withheld.state == "failed"
    assert withheld.ledger["missing_withheld"] == 2
    assert "run again with max_unsubscribed=2" in str(withheld.error)
    second = upsert(3, people(1), max_unsubscribed="{{ 2 }}")
    assert second.state == "success", second.log
    assert second.result["missing_unsubscribed"] == 2
    assert second.result["sync"] == {"state_conn_id": "state", "name": "clinic.members", "run": 3}
    assert {row["name"] for row in every_state.run("SELECT name FROM mediquo_sync")} == {
        "clinic.members"
    }


def test_the_operator_is_its_own_sync_unless_it_is_named(
    box, tmp_path, people, dag, run_task, monkeypatch
):
    file = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    run = run_task(
        MediquoUpsertPatientsOperator(task_id="upsert", patients=people(1), state_conn_id="state")
    )
    assert run.result["sync"]["name"] == "clinic.upsert"


def without_a_name(patients):
    return MediquoUpsertPatientsOperator.partial(task_id="upsert", state_conn_id="state").expand(
        patients=patients
    )


def with_one_name_for_all(patients):
    return MediquoUpsertPatientsOperator.partial(
        task_id="upsert", state_conn_id="state", sync_name="members"
    ).expand(patients=patients)


def with_one_name_by_default(patients):
    with TaskGroup("group", default_args={"state_conn_id": "state", "sync_name": "members"}):
        return MediquoUpsertPatientsOperator.partial(task_id="upsert").expand(patients=patients)


def decorated_with_one_name(patients):
    @task.mediquo_upsert(state_conn_id="state", sync_name="members")
    def upsert(part):
        yield from part

    return upsert.expand(part=patients).operator


def in_a_mapped_group(patients):
    @task_group
    def part(path):
        MediquoUpsertPatientsOperator(
            task_id="upsert", patients=patients[0], state_conn_id="state", sync_name="members"
        )

    part.expand(path=["a", "b"])
    return DagContext.get_current().task_dict["part.upsert"]


def with_the_default_written_out(patients):
    return MediquoUpsertPatientsOperator.partial(
        task_id="upsert",
        state_conn_id="state",
        sync_name="{{ dag.dag_id }}.{{ task.task_id }}",
    ).expand(patients=patients)


def each_with_a_name(patients):
    return MediquoUpsertPatientsOperator.partial(task_id="upsert", state_conn_id="state").expand(
        patients=patients, sync_name=["members", "families"]
    )


def each_with_the_index(patients):
    return MediquoUpsertPatientsOperator.partial(
        task_id="upsert", state_conn_id="state", sync_name="members-{{ ti.map_index }}"
    ).expand(patients=patients)


def each_with_arguments(patients):
    return MediquoUpsertPatientsOperator.partial(
        task_id="upsert", state_conn_id="state"
    ).expand_kwargs(
        [{"patients": patients[0], "sync_name": "members"}, {"patients": [], "sync_name": "f"}]
    )


@pytest.mark.parametrize(
    "make",
    [
        *(without_a_name, with_one_name_for_all, with_one_name_by_default),
        *(decorated_with_one_name, in_a_mapped_group, with_the_default_written_out),
    ],
)
def test_a_mapped_task_with_a_state_has_to_name_its_syncs(
    box, tmp_path, people, dag, run_task, monkeypatch, make
):
    """Else all of them would be one sync: each would take the members of the others for missing."""
    file = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    run = run_task(make([people(2), people(1, start=3)]), map_index=0)
    assert run.state == "failed", "not up for a retry"
    assert "A mapped task with a state needs a `sync_name` for each of its tasks" in str(run.error)
    assert not file.exists()
    assert not box.journal


@pytest.mark.parametrize("make", [each_with_a_name, each_with_the_index, each_with_arguments])
def test_a_mapped_task_may_name_them_in_any_way(
    box, tmp_path, people, dag, run_task, monkeypatch, make
):
    file = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    run = run_task(make([people(2), people(1, start=3)]), map_index=0)
    assert run.state == "success", run.error
    assert run.result["sync"]["name"] in ("members", "members-0")


@pytest.mark.parametrize(
    ("as_of", "state"),
    [
        ("{{ '2026-01-02T00:00:00+00:00' }}", "success"),
        ("2026-01-02", "success"),
        ("2026-01-02 01:00:00+01:00", "success"),
        ("2026-01-03", "success"),
        ("2026-01-02 00:59:59+01:00", "failed"),
        ("2026-01-01", "failed"),
    ],
)
def test_older_data_than_that_of_the_last_run_is_refused(
    box, tmp_path, people, dag, run_task, monkeypatch, as_of, state
):
    file = tmp_path / "state.db"
    monkeypatch.setenv("AIRFLOW_CONN_STATE", json.dumps({"conn_type": "sqlite", "host": str(file)}))
    options = {"state_conn_id": "state", "sync_name": "members"}
    MediquoHook().upsert_patients(people(1), as_of="2026-01-02T00:00:00Z", **options)
    before = box.counters.total
    run = run_task(
        MediquoUpsertPatientsOperator(
            task_id="upsert", patients=people(1, first_name="Eva"), as_of=as_of, **options
        )
    )
    assert run.state == state, run.log
    assert (box.counters.total > before) is (state == "success")
    if state == "failed":
        assert "`as_of` is earlier than that of the last run (2026-01-02T00:00:00+00:00)" in run.log
        assert run.ledger["read"] == 0


def test_a_run_without_as_of_is_always_allowed(box, state, sync, people):
    sync(box, state, people(1), as_of="2026-01-02").ok()
    assert sync(box, state, people(1, first_name="Eva")).ok().changed == 1
    assert sync(box, state, people(1), as_of="2026-01-02").ok().changed == 1
    late = sync(box, state, people(1), as_of="2026-01-01T23:59:59.999999Z")
    assert isinstance(late.error, StateMismatchError)
    assert isinstance(
        sync(box, state, people(1), as_of="2026-01-01", dry_run=True).error, StateMismatchError
    )
    assert sync(box, state, people(1), name="other", as_of="2026-01-01").ok()


# --- a dry run ------------------------------------------------------------------------------------

NOT_COMPARED = {
    *("requests", "seconds", "sample", "is_dry_run", "sync", "rejects_path", "unsubscribed_path"),
    "receipt",
}


@one_of_each
def test_a_dry_run_has_the_ledger_of_the_real_run_after_it(box, every_state, sync, people):
    box.settings.refuse_tax_id = ""
    sync(box, every_state, people(100)).ok()
    sync(box, every_state, people(5, start=200), name="other").ok()
    records = [
        *without(people(1), "plan"),
        *people(10, start=2, first_name="Eva"),
        *people(80, start=12),
        *people(5, start=300),
        *people(1, start=5),  # a duplicate
        {"code": "m-95"},
        *people(1, start=200, first_name="Moved"),
    ]
    options = {"on_missing": "unsubscribe", "max_unsubscribed": 20, "max_rejects": 2}
    before, requests = every_state.dump(), box.counters.total
    dry = sync(box, every_state, records, dry_run=True, **options).ok()
    assert every_state.dump() == before
    assert box.counters.total == requests
    real = sync(box, every_state, records, **options).ok()
    mine, theirs = dry.as_dict(), real.as_dict()
    assert mine["is_dry_run"] is True
    assert "is_dry_run" not in theirs
    assert mine["sync"] == theirs["sync"] | {"run": None}
    # What is written back of the missing is known once they are read.
    fields = mine["receipt"].pop("fields"), theirs["receipt"].pop("fields")
    assert fields[1] == sorted([*fields[0], "locale"])
    assert mine["receipt"] == theirs["receipt"]
    assert {k: v for k, v in mine.items() if k not in NOT_COMPARED} == {
        k: v for k, v in theirs.items() if k not in NOT_COMPARED
    }
    assert real.counts == {
        "read": 99,
        "new": 5,
        "changed": 12,
        "unchanged": 80,
        "rejected": 2,
        "unsubscribed": 9,
        "missing": 8,
        "missing_unsubscribed": 8,
    }


def test_a_dry_run_says_what_would_be_withheld(box, state, sync, people):
    sync(box, state, people(10)).ok()
    records = without(people(3), "plan") + people(5, start=4)
    options = {"on_missing": "unsubscribe", "max_unsubscribed": 4}
    dry = sync(box, state, records, dry_run=True, **options).ok()
    real = sync(box, state, records, **options)
    assert isinstance(real.error, UnsubscribeLimitError)
    assert dry.counts == real.counts
    assert (dry.withheld, dry.missing_withheld) == (3, 2)
    assert (dry.would_unsubscribe, real.would_unsubscribe) == (5, 5)
    again = sync(box, state, records, dry_run=True, **options | {"max_unsubscribed": 5}).ok()
    assert (again.would_unsubscribe, again.unsubscribed) == (5, 5)
    again = sync(box, state, records, dry_run=True, **options | {"max_unsubscribed": None}).ok()
    assert (again.would_unsubscribe, again.unsubscribed) == (5, 5)


def test_a_member_who_left_without_a_plan_would_not_lose_it(box, state, sync, people):
    sync(box, state, [*people(8), *without(people(2, start=9), "plan")]).ok()
    dry = sync(box, state, people(5), dry_run=True, on_missing="unsubscribe").ok()
    assert (dry.missing, dry.missing_withheld, dry.would_unsubscribe) == (5, 5, 3)


@one_of_each
def test_a_dry_run_creates_no_tables(box, every_state, sync, people):
    run = sync(box, every_state, people(3), dry_run=True).ok()
    assert run.counts == {"read": 3, "new": 3}
    assert every_state.tables() == set()
    assert box.counters.total == 0


def test_a_dry_run_writes_nothing_into_tables_made_by_hand(box, state, sync, people):
    state.store().create()
    state.run("DELETE FROM mediquo_state")
    sync(box, state, people(3), dry_run=True).ok()
    assert state.run("SELECT * FROM mediquo_state") == []
    assert sync(box, state, people(3)).ok().new == 3
    assert state.run("SELECT * FROM mediquo_state") == [{"version": 1}]


def test_a_dry_run_lets_others_run(box, state, sync, people):
    ran = []

    def source():
        yield from people(2)
        ran.append(sync(box, state, people(3), dry_run=True))

    assert sync(box, state, source()).ok().new == 2
    assert ran[0].error is None


def test_a_dry_run_without_a_state(box, people):
    records = [*people(3), {"code": "bad"}, *people(1)]
    options = {"max_rejects": 2}
    dry = MediquoHook().upsert_patients(records, dry_run=True, **options).as_dict()
    assert box.counters.total == 0
    real = MediquoHook().upsert_patients(records, **options).as_dict()
    assert dry.pop("is_dry_run") is True
    assert {k: v for k, v in dry.items() if k not in NOT_COMPARED} == {
        k: v for k, v in real.items() if k not in NOT_COMPARED
    }
    assert dry["sample"] == {}
    assert dry["requests"] == 0


# --- resend_after ---------------------------------------------------------------------------------


def test_what_is_old_is_sent_again(box, state, sync, people):
    sync(box, state, people(50)).ok()
    assert sync(box, state, people(50)).ok().unchanged == 50
    state.pretend_old(30)
    assert sync(box, state, people(50)).ok().resent == 50
    assert sync(box, state, people(50)).ok().unchanged == 50


def test_resend_after_nothing_sends_everything(box, state, sync, people):
    for kind in ("new", "resent", "resent"):
        run = sync(box, state, people(50), resend_after=timedelta(0)).ok()
        assert run.counts == {"read": 50, kind: 50}
