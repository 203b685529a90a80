import gc
import logging
import pickle
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mediquo.api import errors
from airflow_provider_mediquo.api.client.rate_limit import RateLimiters
from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ConnectionSettingsError,
    InvalidPatientsError,
    MediquoError,
    RateLimitedError,
    ServerError,
    StoppedError,
    TooManyRejectsError,
    UnreachableError,
    UnsubscribeLimitError,
)
from airflow_provider_mediquo.api.patients.endpoints import get
from airflow_provider_mediquo.api.patients.rules import RULES
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload import plan_guard as plans_module
from airflow_provider_mediquo.api.upload import runner as upload_module
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.outcome import RunOutcome
from airflow_provider_mediquo.api.upload.pool import SendingPool
from airflow_provider_mediquo.api.upload.reject_files import LocalFile
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.runner import Upload
from airflow_provider_mediquo.api.visibility import sample as sample_module
from airflow_provider_mediquo.api.visibility.fingerprint import differences
from tests.api.conftest import BriefLimiter
from tests.support.threads import join, launch

SOON = 10.0
"""Seconds that "at once" may take on a busy machine; what is waited for would take longer."""


# --- 1: every good record is served ---------------------------------------------------------------


def test_an_upload_in_which_all_goes_well(box, client, upload, people):
    run = upload(client, people(250))
    assert run.error is None
    assert len(box.patients) == run.report.upserted == 250
    assert [entry.patients for entry in box.journal].count(100) == 2
    assert run.report.requests == 3
    assert (run.report.retries, run.report.unsettled, run.report.rejected) == (0, 0, 0)
    assert run.report.rejects_path is None


def test_an_upload_of_nothing_sends_nothing(box, client, upload):
    assert upload(client, []).error is None
    assert box.counters.total == 0


def test_bad_records_are_written_down_and_the_good_ones_go(box, client, upload, people):
    records = people(300)
    for row in (3, 150, 151, 299):
        records[row - 1] = records[row - 1] | {"birth_date": "1980-02-30"}
    records[9] = "not a record"
    run = upload(client, records)
    assert isinstance(run.error, TooManyRejectsError)
    assert len(box.patients) == run.report.upserted == 295
    assert run.rows("schema") == [3, 10, 150, 151, 299]
    assert {
        "row": 3,
        "code": "m-3",
        "refused_by": "schema",
        "problems": {"birth_date": "date"},
    } in (run.lines)
    assert run.report.rejects_path == str(run.path)


@pytest.mark.parametrize(
    ("max_rejects", "is_green"), [(0, False), (4, False), (5, True), (0.04, False), (0.05, True)]
)
def test_max_rejects_decides_how_it_ends_not_who_is_sent(
    box, client, upload, people, max_rejects, is_green
):
    records = people(100)
    for row in range(0, 100, 20):
        records[row] = records[row] | {"gender": "x"}
    run = upload(client, records, max_rejects=max_rejects)
    assert (run.error is None) is is_green
    assert len(box.patients) == 95


def test_what_mediquo_refuses_counts_as_rejected_and_the_others_go(box, client, upload, people):
    box.settings.refuse_tax_id = "bad"
    records = people(30)
    records[14]["tax_id"] = "bad"
    run = upload(client, records, chunk_size=10, max_rejects=0)
    assert isinstance(run.error, TooManyRejectsError)
    assert run.report.upserted == len(box.patients)
    assert 15 in run.rows("mediquo")
    assert not set(run.rows("mediquo")) & {*range(1, 11), *range(21, 31)}
    assert {line["status"] for line in run.lines} == {422}
    assert upload(client, records, chunk_size=10, max_rejects=10).error is None


def test_too_many_rejects_carry_the_status_that_mediquo_refused_them_with(
    box, client, upload, people
):
    box.settings.refuse_tax_id = "bad"
    run = upload(client, [*people(2), *people(1, start=3, tax_id="bad")])
    assert isinstance(run.error, TooManyRejectsError)
    assert run.error.status == 422


def test_wrong_keys_stop_it(box, connect, upload, people):
    run = upload(connect(box, secret_key="wrong"), people(2000), max_in_flight=2, chunk_size=10)
    assert isinstance(run.error, AuthenticationError)
    assert run.error.status == 401
    assert run.report.upserted == 0
    assert box.counters.total <= 4
    assert run.source.pulled < 2000


def test_a_wrong_base_url_stops_it(box, connect, upload, people):
    run = upload(connect(box.home + "/v2"), people(10))
    assert isinstance(run.error, ConnectionSettingsError)
    assert run.codes("unsettled") == {f"m-{number}" for number in range(1, 11)}


# --- 2: blank -------------------------------------------------------------------------------------


def test_a_blank_clears_an_absent_field_stays_and_a_blank_plan_unsubscribes(
    box, client, upload, people
):
    full = {"last_name": "Lovelace", "email": "ada@example.com", "meta": {"a": 1}}
    upload(client, people(2, **full))
    run = upload(client, people(1, email=" ", last_name=None, plan=" "))
    assert run.error is None
    assert box.patients["m-1"].items() >= {"email": None, "last_name": None, "plan": None}.items()
    assert box.patients["m-1"]["meta"] == {"a": 1}
    assert run.report.without_plan == 1
    assert box.patients["m-2"]["plan"] == "premium"


# --- 3: nobody is unsubscribed by accident --------------------------------------------------------


def test_a_source_without_any_plan_is_not_sent(box, client, upload, people):
    run = upload(client, people(1500, plan=None))
    assert isinstance(run.error, UnsubscribeLimitError)
    assert box.counters.total == 0
    assert run.source.pulled == 1000
    assert len(run.codes("unsettled")) == 1000
    assert "No plan in 1,000 of the first 1,000 records" in str(run.error)


@pytest.mark.parametrize(("count", "is_sent"), [(99, True), (100, False)])
def test_fewer_than_100_may_all_be_without_a_plan(box, client, upload, people, count, is_sent):
    run = upload(client, people(count, plan=None))
    assert (run.error is None) is is_sent
    assert len(box.patients) == run.report.without_plan == (count if is_sent else 0)


def test_half_of_the_first_thousand_may_be_without_a_plan_where_no_limit_is_given(
    client, upload, people
):
    with_plan = people(500, start=5000)
    assert upload(client, people(500, plan=None) + with_plan).report.without_plan == 500
    run = upload(client, people(501, plan=None) + with_plan[:499])
    assert isinstance(run.error, UnsubscribeLimitError)
    assert run.report.upserted == 0
    assert "501 of the first 1,000 records" in str(run.error)


def test_the_first_thousand_are_those_that_are_read_and_not_only_the_valid(
    box, client, upload, people
):
    pairs = zip(people(500, plan=None), people(500, start=5000, gender="x"), strict=True)
    records = [record for pair in pairs for record in pair]
    run = upload(client, records + people(500, start=9000), max_rejects=500)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert box.counters.total == 0


def test_later_the_chunk_that_would_pass_half_of_all_is_not_sent(client, upload, people):
    records = people(1000) + people(3000, start=5000, plan="")
    run = upload(client, records, max_in_flight=1)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert (run.report.upserted, run.report.without_plan) == (2000, 1000)


def test_a_plan_after_the_first_thousand_comes_too_late(box, client, upload, people):
    run = upload(client, people(1000, plan=None) + people(1, start=5000))
    assert isinstance(run.error, UnsubscribeLimitError)
    assert box.counters.total == 0


@pytest.mark.parametrize(
    ("limit", "is_sent"),
    [(None, True), (0, False), (59, False), (60, True), (0.29, False), (0.3, True)],
)
def test_a_limit_is_judged_before_the_first_request(box, client, upload, people, limit, is_sent):
    records = people(140) + people(60, start=500, plan=None)
    run = upload(client, records, max_without_plan=limit, chunk_size=10)
    assert (run.error is None) is is_sent
    assert len(box.patients) == (200 if is_sent else 0)
    if not is_sent:
        assert isinstance(run.error, UnsubscribeLimitError)
        assert box.counters.total == 0


def test_none_as_limit_sends_a_source_without_any_plan(box, client, upload, people):
    assert upload(client, people(300, plan=None), max_without_plan=None).error is None
    assert len(box.patients) == 300


@pytest.mark.no_cover
def test_after_the_first_thousand_each_chunk_is_judged_before_it_is_sent(
    box, client, upload, people
):
    records = people(1200) + people(300, start=5000, plan=None)
    run = upload(client, records, max_without_plan=120, chunk_size=50, max_in_flight=1)
    assert isinstance(run.error, UnsubscribeLimitError)
    # Two chunks keep to the limit; the second may not have left yet when the third stopped it all.
    assert run.report.without_plan == sum(p["plan"] is None for p in box.patients.values())
    assert run.report.without_plan in (50, 100)
    assert run.source.pulled == 1350


@pytest.mark.no_cover
def test_a_share_is_of_the_first_thousand_and_then_of_what_is_sent(box, client, upload, people):
    # 90 of the first 100 have none, but only 90 of the first 1,000.
    records = people(90, plan=None) + people(1410, start=1000)
    assert upload(client, records, max_without_plan=0.09).error is None
    late = people(1500) + people(500, start=5000, plan=None)
    run = upload(client, late, max_without_plan=0.1, chunk_size=20, max_in_flight=2)
    assert isinstance(run.error, UnsubscribeLimitError)
    # 166 of 1,666 are a tenth; two chunks may not have left yet when the next one stopped it all.
    assert 120 <= run.report.without_plan <= 160
    assert run.source.pulled == 1680


def test_a_share_is_also_of_those_that_mediquo_has_already(box, state, sync, people):
    """With a state most are not sent again, and those who are new may well be without a plan."""
    members = people(200)
    sync(box, state, members).ok()
    run = sync(box, state, members + people(60, start=5000, plan=None)).ok()
    assert (run.unchanged, run.new, run.without_plan) == (200, 60, 60)
    few = people(1000, start=9000, plan=None)
    assert isinstance(sync(box, state, members + few).error, UnsubscribeLimitError)


@pytest.mark.no_cover
def test_nor_is_a_share_one_of_those_that_are_rejected(box, client, upload, people):
    bad, good = people(200, start=5000, gender="x"), people(200, start=9000, plan=None)
    late = [each for two in zip(bad, good, strict=True) for each in two]
    options = {"max_without_plan": 0.1, "chunk_size": 20, "max_in_flight": 1}
    run = upload(client, [*people(1000), *late], **options)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert run.report.without_plan <= 111, "a tenth of those that were sent"
    assert run.source.pulled == 1000 + 2 * 120, "the sixth chunk of them is too much"


def test_records_that_are_rejected_do_not_hide_that_there_are_no_plans(box, client, upload, people):
    bad = people(500, start=5000, gender="x")
    records = [each for two in zip(people(500, plan=None), bad, strict=True) for each in two]
    assert isinstance(upload(client, records).error, UnsubscribeLimitError)
    assert box.counters.total == 0


def test_a_share_is_one_of_those_that_would_be_sent(box, client, upload, people):
    bad = people(500, start=5000, gender="x")
    good = [*people(420), *people(80, start=1000, plan=None)]
    records = [each for two in zip(good, bad, strict=True) for each in two]
    run = upload(client, records, max_without_plan=0.1)
    assert isinstance(run.error, UnsubscribeLimitError)
    assert box.counters.total == 0


def test_nor_that_none_has_one_before_the_first_thousand_end(box, client, upload, people):
    bad = people(500, start=5000, gender="x")
    records = [each for two in zip(bad, people(500, plan=None), strict=True) for each in two]
    run = upload(client, [*records, *people(100, start=9000)])
    assert isinstance(run.error, UnsubscribeLimitError)
    assert box.counters.total == 0


def test_few_good_records_among_many_bad_ones_are_no_short_source(box, client, upload, people):
    records = [*people(50, plan=None), *people(250, start=5000, gender="x")]
    assert isinstance(upload(client, records).error, UnsubscribeLimitError)
    assert box.counters.total == 0


# --- 4: duplicates --------------------------------------------------------------------------------


def test_a_code_belongs_to_the_first_record_that_passes_the_schema(box, client, upload, people):
    records = [
        *people(1, first_name="wrong", gender="x"),
        *people(1, first_name="first"),
        *people(1, first_name="second"),
        *people(1, start=2),
        {"code": " m-1 ", "first_name": "trimmed", "plan": "premium"},
    ]
    run = upload(client, records, max_rejects=3)
    assert run.error is None
    assert box.patients["m-1"]["first_name"] == "first"
    assert run.rows("duplicate") == [3, 5]
    assert run.report.duplicate == 2
    assert box.accepted == {"m-1": 1, "m-2": 1}


def test_a_number_and_its_text_are_the_same_code(box, client, upload):
    run = upload(client, [{"code": code, "first_name": "Ada"} for code in (7, "7")])
    assert run.report.duplicate == 1


def test_duplicates_of_different_chunks_are_found(box, client, upload, people):
    run = upload(client, people(100) + people(100), chunk_size=7)
    assert run.report.duplicate == run.report.upserted == 100


def test_a_plan_that_was_lost_to_a_duplicate_fails_whatever_max_rejects_says(
    box, client, upload, people
):
    records = people(30, plan=None) + people(5) + people(100, start=1000)
    run = upload(client, records, max_rejects=0.9)
    assert isinstance(run.error, InvalidPatientsError)
    assert len(box.patients) == 130
    assert [(r.row, r.code) for r in run.error.rejections] == [
        (31 + at, f"m-{1 + at}") for at in range(5)
    ]
    assert run.first_line == (
        "5 plans lost to another record of the same code. 130 upserted, 0 unsettled, 5 rejected."
    )
    assert run.lines[0]["problems"] == {"code": "duplicate", "plan": "lost"}


@pytest.mark.parametrize("broken", [{"phone": "x"}, {"shoe_size": 38}, {"first_name": None}])
@pytest.mark.parametrize("is_first", [True, False])
def test_so_does_the_plan_of_a_record_that_breaks_a_rule(
    box, client, upload, people, is_first, broken
):
    good, bad = people(1, plan=None), [person | broken for person in people(1)]
    run = upload(client, bad + good if is_first else good + bad, max_rejects=9)
    assert isinstance(run.error, InvalidPatientsError)
    assert run.first_line == (
        "1 plan lost to another record of the same code. 1 upserted, 0 unsettled, 1 rejected."
    )
    (told,) = run.error.rejections
    assert (told.row, told.code) == (2, "m-1")
    assert told.problems["plan"] == "lost"
    assert run.report.invalid == len(run.lines) == 1


@pytest.mark.parametrize("broken", [{"code": None}, {"plan": 7}, {"plan": " ", "phone": "x"}])
def test_a_record_that_breaks_a_rule_and_has_no_plan_loses_none(
    box, client, upload, people, broken
):
    run = upload(client, [people(1)[0] | broken, *people(1, plan=None)], max_rejects=9)
    assert run.error is None


@pytest.mark.parametrize(("first", "later"), [("a", None), ("a", "b"), (None, None), (None, " ")])
def test_a_duplicate_that_loses_no_plan_is_only_a_reject(box, client, upload, people, first, later):
    records = people(1, plan=first) + people(1, plan=later)
    assert upload(client, records, max_rejects=1).error is None


def test_what_a_retry_may_heal_is_told_before_a_plan_that_was_lost(box, client, upload, people):
    box.script("upsert", "ok", *["503"] * 5)
    records = [*people(1, plan=None), *people(1), *people(1, start=2)]
    run = upload(client, records, chunk_size=1, max_in_flight=1)
    assert isinstance(run.error, ServerError), "else nobody would send the third again"
    assert run.codes("unsettled") == {"m-2"}


# --- 5: codes -------------------------------------------------------------------------------------


def test_codes_that_a_path_cannot_carry_are_rejected_and_all_others_can_be_read(
    box, client, upload
):
    good = ["a/b", "a%2Fb", "a?b", "a b", "%2e%2e", "...", "\u00e9\u6771", "a#b", "x" * 255]
    bad = [".", "..", "a\tb", "a\x01", "x" * 256]
    records = [{"code": c, "first_name": "Ada", "plan": "x"} for c in (*good, *bad)]
    run = upload(client, records, max_rejects=5)
    assert run.error is None
    assert [line["problems"] for line in run.lines] == [{"code": "code"}] * 5
    assert [line["code"] for line in run.lines] == [None] * 5
    for code in good:
        assert client.send(get(code)).value["code"] == code


# --- 6: a lost answer is not a verdict ------------------------------------------------------------


def test_a_chunk_without_an_answer_is_written_down_and_the_run_goes_on(box, client, upload, people):
    box.script("upsert", *["503"] * 9)  # five attempts, then a quarter at a time
    run = upload(client, people(50), chunk_size=10, max_in_flight=1)
    assert isinstance(run.error, ServerError)
    assert run.error.status == 503
    assert run.codes("unsettled") == {f"m-{number}" for number in range(1, 11)}
    assert len(box.patients) == run.report.upserted == 40
    assert run.report.stopped_because is None, "every record was tried"
    assert (run.report.requests, run.report.retries) == (13, 4)
    assert {line["status"] for line in run.lines} == {503}


def test_a_lost_answer_is_asked_for_again_and_nothing_is_counted_twice(box, client, upload, people):
    box.script("upsert", "lost_after", "not_json", "empty", "503", "ok", "lost_before")
    run = upload(client, people(30), chunk_size=10, max_in_flight=1)
    assert run.error is None
    assert run.report.upserted == len(box.patients) == 30
    assert run.report.retries == 5


def test_two_chunks_in_a_row_do_not_stop_it(box, client, upload, people):
    box.script("upsert", *["lost_before"] * 10, "ok", *["lost_before"] * 10)
    run = upload(client, people(100), chunk_size=10, max_in_flight=1)
    assert isinstance(run.error, UnreachableError)
    assert run.report.unsettled == 40
    assert len(box.patients) == 60
    assert "4 requests" in run.first_line


def test_a_record_that_is_refused_in_between_proves_that_mediquo_is_up(box, client, upload, people):
    box.script("upsert", *["503"] * 10, "422", *["503"] * 5)
    run = upload(client, people(5), chunk_size=1, max_in_flight=1, max_rejects=1)
    assert run.report.stopped_because is None
    assert (run.report.unsettled, run.report.refused, run.report.upserted) == (3, 1, 1)


def test_three_chunks_in_a_row_stop_it(box, client, upload, people):
    box.script("upsert", "ok", *["503"] * 27)
    run = upload(client, people(1000), chunk_size=10, max_in_flight=1)
    assert isinstance(run.error, ServerError)
    assert "3 consecutive chunks" in str(run.report.stopped_because)
    assert "\n" not in str(run.report.stopped_because), "the ledger is a line for each count"
    assert run.report.upserted == len(box.patients) == 10
    assert box.counters.total == 28
    assert run.codes("unsettled") == {f"m-{n}" for n in range(11, run.source.pulled + 1)}


def test_chunks_that_fail_while_others_are_accepted_stop_nothing(
    serve, answer, connect, prepare, people, eventually
):
    """Their attempts take ten seconds: when they are used up, nothing may have come after them."""
    tries: Counter[bytes] = Counter()
    mine, accepted = threading.local(), threading.Event()

    def judge(wire, connection):
        (code,) = re.findall(rb'"code":"(.*?)"', mine.seen.body)
        tries[code] += 1
        if code in (b"m-1", b"m-2", b"m-3"):
            assert accepted.wait(SOON)
            wire.send(connection, answer(503, Connection="close"))
        else:
            if accepted.is_set():
                eventually(lambda: run.upload._sender.unanswered.count == 3)
            wire.send(connection, answer(Connection="close"))
            accepted.set()

    wire = serve(judge)
    read = wire._read
    wire._read = lambda connection: setattr(mine, "seen", read(connection)) or mine.seen
    run = prepare(connect(wire), people(20), chunk_size=1, max_in_flight=4)
    run.go()
    assert run.report.stopped_because is None
    assert (run.report.upserted, run.report.unsettled) == (17, 3)
    assert isinstance(run.error, ServerError)
    assert tries[b"m-1"] == tries[b"m-2"] == tries[b"m-3"] == 5


def test_nobody_listening_stops_it_too(connect, upload, people):
    run = upload(connect("http://127.0.0.1:9/v1"), people(500), chunk_size=10)
    assert isinstance(run.error, UnreachableError)
    assert run.report.upserted == 0
    assert run.report.unsettled == run.source.pulled


@pytest.mark.no_cover
def test_under_every_kind_of_fault_the_ledger_is_right(box, connect, upload, people):
    box.settings.lost_before_rate = box.settings.lost_after_rate = box.settings.error_rate = 0.2
    box.settings.seed = 7
    box.settings.jitter = 0.01
    records = people(750)
    for row in range(0, 750, 25):
        records[row] = records[row] | {"email": "x"}
    client = connect(box, retry={"attempts": 3})
    run = upload(client, records + people(20, start=2), chunk_size=5, max_rejects=1000)
    unsettled = run.codes("unsettled")
    assert unsettled, "a ninth of the chunks: there are none once in 80 million runs"
    # All 750, but where three chunks in a row happen to get no answer.
    read = {f"m-{n}" for n in range(1, min(run.report.read, 750) + 1)}
    accepted = read - unsettled - run.codes("schema")
    assert run.report.upserted == len(accepted)
    assert accepted <= box.patients.keys()
    assert box.patients.keys() <= accepted | unsettled


# --- 7: 429 ---------------------------------------------------------------------------------------


def test_a_429_is_no_attempt_of_a_chunk(box, connect, upload, people):
    client = connect(box, limiters=RateLimiters(BriefLimiter))
    box.script("upsert", *["429:1"] * 20)
    run = upload(client, people(20), chunk_size=10, max_in_flight=1)
    assert run.error is None
    assert run.report.requests == 22
    assert run.report.retries == 0
    assert run.report.throttled_seconds > 0


def test_a_429_that_asks_for_longer_than_ten_minutes_stops_it_at_once(box, client, upload, people):
    box.script("upsert", "ok", "429:601")
    started = time.monotonic()
    run = upload(client, people(2000), chunk_size=10, max_in_flight=4)
    assert time.monotonic() - started < SOON
    assert isinstance(run.error, RateLimitedError)
    assert 590 < run.error.retry_after <= 601  # of the answer, or what is left of its pause
    assert run.report.unsettled > 0
    assert "429" in run.first_line


def test_ten_minutes_of_429_stop_it(box, connect, upload, people):
    retry, limiters = {"max_throttled_seconds": 1.1}, RateLimiters(BriefLimiter)
    client = connect(box, retry=retry, limiters=limiters)
    box.script("upsert", *["429:1"] * 2000)
    run = upload(client, people(100), chunk_size=10, max_in_flight=2)
    assert isinstance(run.error, RateLimitedError)
    assert run.report.unsettled == run.source.pulled == 100


# --- 8: nothing hangs -----------------------------------------------------------------------------


class Cut(BaseException):
    """What a time limit raises out of a signal handler, wherever the main thread is."""


@pytest.fixture
def on_signal() -> Iterator[Any]:
    """Call a function in the main thread, by a signal, as soon as something is true."""
    threads = []
    before = signal.getsignal(signal.SIGUSR1)
    given_up = threading.Event()

    def arrange(call: Any, happened: Any) -> None:
        handled: list[bool] = []

        def handler(*_: Any) -> None:
            if not handled:
                handled.append(True)
                call()

        def watch() -> None:
            while not happened():
                if given_up.wait(0.005):
                    return
            # Again and again: one that arrives right before a lock is waited for interrupts nothing.
            while not handled and not given_up.is_set():
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
                given_up.wait(0.05)

        signal.signal(signal.SIGUSR1, handler)
        threads.append(threading.Thread(target=watch, name="watch"))
        launch(threads[-1])

    yield arrange
    given_up.set()
    join(*threads)
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def when(on_signal) -> Iterator[Any]:
    """Call a function in another thread as soon as something is true."""
    threads = []
    given_up = threading.Event()

    def arrange(call: Any, happened: Any) -> None:
        def watch() -> None:
            while not happened():
                if given_up.wait(0.005):
                    return
            call()

        threads.append(threading.Thread(target=watch, name="watch"))
        launch(threads[-1])

    yield arrange
    given_up.set()
    join(*threads)


@pytest.fixture(params=["signal", "thread"])
def kill(request, on_signal, when) -> Any:
    """Stop an upload from a signal handler, or from another thread."""
    arrange = on_signal if request.param == "signal" else when
    return lambda run, happened: arrange(run.upload.stop, happened)


def is_killed_soon(run: Any) -> None:
    started = time.monotonic()
    run.go()
    assert time.monotonic() - started < SOON
    assert isinstance(run.error, StoppedError)
    assert "killed" in str(run.report.stopped_because)
    assert "Safe to run again" in run.first_line


def test_killed_while_answers_hang(box, connect, prepare, people, kill):
    box.script("upsert", "ok", *["hang"] * 100)
    run = prepare(connect(box, timeout=300), people(2000), chunk_size=10, max_in_flight=4)
    kill(run, lambda: box.counters.in_flight == 4 and box.counters.requests["upsert"]["200"])
    is_killed_soon(run)
    assert run.report.upserted == 10
    sent = {f"m-{n}" for n in range(1, run.source.pulled + 1)}
    assert run.codes("unsettled") == sent - box.accepted.keys()


def test_killed_while_the_last_answers_hang(box, connect, prepare, people, kill):
    box.script("upsert", *["hang"] * 100)
    run = prepare(connect(box, timeout=300), people(30), chunk_size=10)
    kill(run, lambda: box.counters.in_flight == 3)
    is_killed_soon(run)
    assert len(run.codes("unsettled")) == 30


def test_killed_while_a_429_pauses_it(box, client, prepare, people, kill):
    box.script("upsert", "429:300")
    run = prepare(client, people(2000), chunk_size=10, max_in_flight=1)
    kill(run, lambda: box.counters.requests["upsert"]["429"])
    is_killed_soon(run)
    assert box.counters.total == 1


def test_killed_while_it_backs_off(box, connect, prepare, people, kill):
    client = connect(box, retry={"backoff": lambda state: 300.0})
    box.script("upsert", *["503"] * 10)
    run = prepare(client, people(2000), chunk_size=10, max_in_flight=3)
    kill(run, lambda: box.counters.requests["upsert"]["503"] == 3)
    is_killed_soon(run)


def test_killed_while_it_waits_for_the_pace(box, connect, prepare, people, kill):
    run = prepare(connect(box, requests_per_minute=2), people(2000), chunk_size=10)
    kill(run, lambda: run.report.upserted == 20)
    is_killed_soon(run)
    assert box.counters.total == 2


def test_killed_by_a_signal_while_the_source_waits(box, client, prepare, people, on_signal):
    waiting, cleaned = threading.Event(), threading.Event()

    def source() -> Iterator[Any]:
        try:
            yield from people(1500)
            waiting.set()
            threading.Event().wait(300)
        finally:
            cleaned.set()

    run = prepare(client, source())
    on_signal(run.upload.stop, waiting.is_set)
    is_killed_soon(run)
    assert cleaned.is_set()
    assert run.source.pulled == 1500


def test_killed_by_a_signal_within_a_source_that_catches_errors(client, prepare, people, on_signal):
    waiting = threading.Event()

    def source() -> Iterator[Any]:
        yield from people(1500)
        try:
            waiting.set()
            threading.Event().wait(300)
        except Exception:  # noqa: BLE001  # as broad as a careless source's
            yield from people(1500, start=5000)

    run = prepare(client, source())
    on_signal(run.upload.stop, waiting.is_set)
    is_killed_soon(run)
    assert run.source.pulled == 1500


def test_killed_by_another_thread_it_ends_with_the_sources_next_record(
    box, client, prepare, people
):
    run = prepare(client, ())

    def source() -> Iterator[Any]:
        yield from people(1500)
        killer = threading.Thread(target=run.upload.stop)
        launch(killer)
        join(killer)
        yield from people(1500, start=5000)

    run.source.generator = run.source._give(source())
    is_killed_soon(run)
    assert run.source.pulled <= 1501


def test_killed_before_it_began(box, client, prepare, people):
    run = prepare(client, people(10))
    run.upload.stop()
    is_killed_soon(run)
    assert box.counters.total == 0


def test_a_client_that_somebody_else_stops_is_no_success(client, upload, people):
    """Nobody has told the upload why."""
    client.stop()
    run = upload(client, people(10), max_rejects=10)
    assert type(run.error) is MediquoError
    assert run.first_line.startswith("10 records not sent, or without a final answer. ")
    assert (run.report.upserted, run.report.unsettled) == (0, 10)


def test_killed_while_a_store_is_slow_to_take_rejects(client, tmp_path):
    file = LocalFile(tmp_path / "rejects.jsonl")
    Upload(client, UploadOptions(), RejectLog(file)).stop()
    assert file.is_hurried, "it takes little time from now on"


def test_killed_when_wrong_keys_have_ended_it_they_are_the_reason(
    serve, answer, connect, prepare, people, on_signal
):
    """A retry heals a kill, and never the keys."""

    client = connect(serve(answer(401, {}), lambda wire, connection: wire.stopped.wait()))
    run = prepare(client, people(200))
    on_signal(run.upload.stop, lambda: run.upload._reasons)
    assert isinstance(run.go().error, AuthenticationError)


def test_a_run_that_ends_itself_cuts_nothing_off(box, state, sync, people):
    """One request waits for its next attempt when another finds that the keys are refused."""
    box.script("upsert", "503:30", "401")
    run = sync(box, state, people(10), chunk_size=5, max_in_flight=2)
    assert isinstance(run.error, AuthenticationError)
    assert run.unsettled == 10
    assert state.sync()["heartbeat"] is None, "the next run does not wait"


def test_killed_twice(box, connect, prepare, people, on_signal):
    box.script("upsert", *["hang"] * 100)
    run = prepare(connect(box, timeout=300), people(2000), chunk_size=10, max_in_flight=2)
    on_signal(lambda: (run.upload.stop(), run.upload.stop()), lambda: box.counters.in_flight == 2)
    is_killed_soon(run)


def test_killed_again_while_the_source_closes_it_closes_to_its_end(client, prepare):
    cleaned = []
    run = prepare(client, ())

    def source() -> Iterator[Any]:
        try:
            run.upload.stop()
            yield
        finally:
            run.upload.stop()
            cleaned.append(True)

    run.source.generator = run.source._give(source())
    is_killed_soon(run)
    assert cleaned == [True]


@pytest.mark.parametrize("records", [20, 2000], ids=["waiting for answers", "waiting for a slot"])
def test_what_a_signal_handler_raises_ends_it_like_a_kill(
    box, connect, prepare, people, on_signal, records
):
    """A time limit of the scheduler, say, or Ctrl-C."""
    box.script("upsert", *["hang"] * 300)
    client = connect(box, timeout=300)
    run = prepare(client, people(records), chunk_size=10, max_in_flight=2)

    def cut() -> None:
        raise Cut

    on_signal(cut, lambda: box.counters.in_flight == 2)
    # Whatever happens, this test must not leave threads that hang for minutes.
    helper = threading.Timer(SOON, client.stop, kwargs={"abort": True})
    launch(helper)
    try:
        started = time.monotonic()
        run.go()
        assert time.monotonic() - started < SOON
    finally:
        helper.cancel()
        client.stop(abort=True)
    assert isinstance(run.error, Cut)
    assert run.report.stopped_because == "Cut"
    assert run.report.unsettled == run.source.pulled


def test_a_source_that_fails_while_it_is_closed_leaves_no_threads(
    box, connect, prepare, people, eventually
):
    def source() -> Iterator[Any]:
        try:
            yield from people(2000)
        finally:
            raise RuntimeError("the cursor is gone")

    box.script("upsert", "401", *["slow_body"] * 5)
    box.settings.drip = 0.02
    run = prepare(connect(box), source(), chunk_size=10, max_in_flight=3)
    try:
        run.go()
        assert isinstance(run.error, RuntimeError | AuthenticationError)
    finally:  # or they would be found by the next test
        run.error = None
        gc.collect()
        eventually(lambda: not any(t.name.startswith("mediquo_") for t in threading.enumerate()))


# --- a source that fails --------------------------------------------------------------------------


class SourceError(Exception):
    """What a database raises."""


def failing(records: list[Any]) -> Iterator[Any]:
    yield from records
    raise SourceError("the database went away")


class SlowToClose:
    """A source that fails, and then waits until it is closed, as a driver may for its database."""

    def __init__(self, records: list[Any]) -> None:
        self._records = failing(records)
        self.is_closing = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._records)

    def close(self) -> None:
        self.is_closing = True
        time.sleep(SOON)


def test_a_time_limit_while_the_source_is_closed_ends_the_requests_too(
    box, connect, prepare, people, on_signal
):
    box.script("upsert", *["hang"] * 300)
    client = connect(box, timeout=300)
    run, source = prepare(client, ()), SlowToClose(people(1000))

    def cut() -> None:
        raise Cut

    on_signal(cut, lambda: box.counters.in_flight == 10 and source.is_closing)
    # Whatever happens, this test must not leave threads that hang for minutes.
    helper = threading.Timer(2 * SOON, client.stop, kwargs={"abort": True})
    launch(helper)
    try:
        started = time.monotonic()
        with pytest.raises(Cut):
            run.upload.run(source)
        assert time.monotonic() - started < SOON
    finally:
        helper.cancel()
        client.stop(abort=True)
    assert run.report.stopped_because == "Cut"
    assert run.report.unsettled == run.report.read == 1000


def test_a_time_limit_before_the_pool_is_closed_closes_it(client, prepare, people, monkeypatch):
    """No request may outlive the lease."""
    close, calls = SendingPool.close, []

    def interrupted(pool: SendingPool, abort: Any) -> None:
        calls.append(pool)
        if len(calls) == 1:
            raise Cut
        close(pool, abort)

    monkeypatch.setattr(SendingPool, "close", interrupted)
    with pytest.raises(Cut):
        prepare(client, people(3)).upload.run(people(3))
    assert len(calls) == 2


def test_a_time_limit_at_the_very_end_has_the_ledger(client, prepare, people, caplog, monkeypatch):
    caplog.set_level("INFO")
    run, strikes = prepare(client, people(3)), iter([Cut])

    def flush(rejects: RejectLog) -> None:
        for strike in strikes:
            raise strike

    monkeypatch.setattr(RejectLog, "flush", flush)
    with pytest.raises(Cut) as raised:
        run.upload.run(people(3))
    assert raised.value.report.upserted == 3
    assert "stopped_because      Cut" in caplog.text


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("ending", [None, LookupError])
def test_so_has_one_while_the_ledger_is_closed(
    ending, when, client, prepare, people, caplog, monkeypatch
):
    caplog.set_level("INFO")
    close, strikes = upload_module.close_ledger, iter([Cut])

    def source() -> Iterator[Any]:
        yield from people(3)
        if ending:
            raise ending

    def interrupted(*given: Any) -> None:
        if when == "after":
            close(*given)
        for strike in strikes:
            raise strike
        close(*given)

    monkeypatch.setattr(upload_module, "close_ledger", interrupted)
    with pytest.raises(Cut) as raised:
        prepare(client, source()).upload.run(source())
    assert raised.value.report.read == 3
    (*_, ledger) = [line for line in caplog.messages if line.startswith("Ledger\n")]
    reason = f"the source failed: {ending.__name__}" if ending else "Cut"
    assert f"stopped_because      {reason}" in ledger


def test_so_has_one_while_it_is_decided_how_the_run_ended(client, people, monkeypatch):
    def interrupted(outcome: RunOutcome) -> None:
        raise Cut

    monkeypatch.setattr(RunOutcome, "error", interrupted)
    run = upload_module.Upload(client, UploadOptions(), RejectLog())
    with pytest.raises(Cut) as raised:
        run.run(people(3))
    assert raised.value.report is run.report


@pytest.mark.parametrize("where", ["source", "reject report"])
def test_so_has_any_error_before_the_first_record(where, client, people, monkeypatch):
    class Closed:
        def __iter__(self) -> Iterator[Any]:
            raise LookupError

    def check(file: LocalFile) -> None:
        raise LookupError

    monkeypatch.setattr(LocalFile, "check", check)
    rejects = RejectLog(LocalFile(Path("rejects.jsonl"))) if where != "source" else RejectLog()
    run = upload_module.Upload(client, UploadOptions(), rejects)
    with pytest.raises(LookupError) as raised:
        run.run(Closed() if where == "source" else people(3))
    assert raised.value.report is run.report


@pytest.mark.parametrize("wrong", ["m-1", {"code": "m-1"}, 7], ids=lambda w: type(w).__name__)
def test_an_error_for_what_is_no_list_of_patients_has_the_ledger(client, wrong):
    run = upload_module.Upload(client, UploadOptions(), RejectLog())
    with pytest.raises(InvalidPatientsError, match="must be a list") as raised:
        run.run(wrong)
    assert raised.value.report is run.report


@pytest.mark.parametrize(("count", "sent"), [(0, 0), (50, 0), (999, 0), (1000, 1000), (1550, 1550)])
def test_what_the_source_raises_comes_through_after_the_ledger(
    box, client, upload, people, count, sent
):
    run = upload(client, failing(people(count)))
    assert type(run.error) is SourceError
    assert run.report.stopped_because == "the source failed: SourceError"
    assert run.report.read == count
    # Fewer are no reason to believe that nobody is unsubscribed by accident.
    assert len(box.patients) == run.report.upserted == sent


def test_a_source_of_ours_that_fails_is_told_in_the_ledgers_own_words(box, client, upload, people):
    def source() -> Iterator[Any]:
        yield from people(1550)
        raise errors.SourceError("The database could not be read: OperationalError.")

    run = upload(client, source())
    assert type(run.error) is errors.SourceError
    assert str(run.error).splitlines()[:2] == [
        "Stopped: source missing or incomplete. 1,550 upserted, 0 unsettled, 0 rejected. Safe to run again.",
        "The database could not be read: OperationalError.",
    ]
    assert len(box.patients) == 1550


def test_a_source_that_fails_while_others_are_sent_is_still_the_reason(
    box, connect, upload, people, eventually
):
    client = connect(box, retry={"backoff": lambda state: 0.3})
    box.script("upsert", "503")

    def source() -> Iterator[Any]:
        yield from people(1100)
        eventually(lambda: box.counters.requests["upsert"]["503"])
        raise SourceError

    run = upload(client, source(), chunk_size=100, max_in_flight=3)
    assert type(run.error) is SourceError
    assert run.report.stopped_because == "the source failed: SourceError"
    assert len(box.patients) == run.report.upserted


def test_a_source_that_is_no_generator_needs_no_closing(box, client, people):
    report = upload_module.Upload(client, UploadOptions(), RejectLog()).run(people(3))
    assert report.upserted == len(box.patients) == 3


def test_rejects_that_cannot_be_written_down_end_it(box, client, prepare, people, monkeypatch):
    """A full disk: what can no longer be told must not be lost silently."""
    box.settings.refuse_tax_id = "bad"
    run = prepare(client, people(2000, tax_id="bad"), chunk_size=10)

    def full(self: Any, *rejections: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("airflow_provider_mediquo.api.upload.reject_log.RejectLog.keep", full)
    with pytest.raises(OSError, match="No space left"):
        run.upload.run(run.source.generator)
    assert run.source.closed


# --- the sample and its proofs --------------------------------------------------------------------


def test_the_sample_proves_what_was_written(box, client, upload, people):
    run = upload(client, people(500, phone="+1 202-555-0123", email="ADA@example.com"))
    assert len(run.report.sample) == 20
    for code, proof in run.report.sample.items():
        patient = client.send(get(code)).value
        assert differences(proof, patient, box.secret_key) == []
        changed = patient | {"phone": "+1 202-555-0199", "updated_at": None}
        assert differences(proof, changed, box.secret_key) == ["phone"]


def test_the_sample_knows_when_it_was_written(client, upload, people):
    """By which a value that mediQuo has rewritten is known to be newer, and not still to come."""
    run = upload(client, people(1))
    rewritten = client.send(get("m-1")).value | {"first_name": "Grace"}
    assert differences(run.report.sample["m-1"], rewritten, client.settings.secret_key) == []


def test_the_sample_is_of_all_records_and_of_the_accepted_alone(
    box, client, upload, people, monkeypatch
):
    monkeypatch.setattr(sample_module, "random", random.Random(7))
    box.script("upsert", *["503"] * 9)
    run = upload(client, people(2000), max_in_flight=1)
    rows = sorted(int(code.removeprefix("m-")) for code in run.report.sample)
    assert rows[0] > 100, "the first chunk was not accepted"
    assert rows[0] < 700
    assert rows[-1] > 1400
    assert len(upload(client, people(7)).report.sample) == 7


def test_a_write_that_changes_nothing_is_visible(box, client, upload, people):
    upload(client, people(5))
    before = {code: box.patients[code]["updated_at"] for code in box.patients}
    run = upload(client, people(5))
    assert {code: box.patients[code]["updated_at"] for code in box.patients} == before
    for code, proof in run.report.sample.items():
        assert differences(proof, client.send(get(code)).value, box.secret_key) == []


# --- 12 and 13: what a failure says, and what it never says ---------------------------------------


def test_the_first_line_says_what_happened_what_is_there_and_what_to_do(
    box, client, upload, people
):
    box.script("upsert", "ok", *["503"] * 27)
    run = upload(client, [*people(1), *people(1999)], chunk_size=10, max_in_flight=1)
    report = run.report
    counts = (
        f"{report.upserted:,} upserted, {report.unsettled:,} unsettled, "
        f"{report.rejected:,} rejected."
    )
    assert run.first_line == f"Stopped: mediQuo is failing (503). {counts} Safe to run again."
    assert len(run.first_line) < 120
    rest = str(run.error).splitlines()[1:]
    assert "3 consecutive chunks had no final answer from 127.0.0.1" in rest[0]
    assert any(RULES["duplicate"] in line for line in rest)
    assert any(str(run.path) in line for line in rest)
    assert any("503" in line for line in rest)


def test_the_most_frequent_problems_come_first(client, upload, people):
    records = people(30, email="x") + people(20, start=100, gender="x")
    run = upload(client, records + people(5, start=200))
    assert run.first_line == (
        "More rejects than `max_rejects` (0). 5 upserted, 0 unsettled, 50 rejected."
    )
    common = str(run.error).splitlines()[2]
    assert f"email {RULES['email']} (30); gender must be male or female (20)" in common


ENDINGS = [
    pytest.param(["503"] * 9, {}, ServerError, id="unsettled"),
    pytest.param(["503"] * 27, {}, ServerError, id="down"),
    pytest.param(["401"], {}, AuthenticationError, id="keys"),
    pytest.param(["404"], {}, ConnectionSettingsError, id="url"),
    pytest.param(["429:900"], {}, RateLimitedError, id="limit"),
    pytest.param(["422"] * 4, {}, TooManyRejectsError, id="refused"),
    pytest.param([], {"max_without_plan": 0}, UnsubscribeLimitError, id="plans"),
]


@pytest.mark.parametrize(("script", "options", "kind"), ENDINGS)
def test_every_failure_tells_the_ledger_and_what_to_do(
    box, client, upload, people, script, options, kind
):
    box.script("upsert", *script)
    records = people(40) + people(1, start=500, plan=None)
    run = upload(client, records, chunk_size=10, max_in_flight=1, **options)
    assert type(run.error) is kind
    assert f"{run.report}." in run.first_line
    assert ("Safe to run again." in str(run.error)) is run.error.can_retry
    assert len(run.first_line) < 120
    again = pickle.loads(pickle.dumps(run.error))
    assert str(again) == str(run.error)
    assert again.report == run.report
    assert again.status == run.error.status


CANARY = "canaryinamine"


def everything_in(value: Any, seen: set[int]) -> Iterator[str]:
    """All text that can be reached from an error."""
    if id(value) in seen or len(seen) > 100_000:
        return
    seen.add(id(value))
    yield repr(value)
    yield str(value)
    reached: list[Any] = []
    if isinstance(value, BaseException):
        reached += [value.__cause__, value.__context__, *value.args]
        reached += [getattr(value, name, None) for name in ("request", "response", "doc", "data")]
    if isinstance(value, dict):
        reached += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set):
        reached += value
    reached.append(getattr(value, "__dict__", None))
    for one in reached:
        if one is not None:
            yield from everything_in(one, seen)


def with_canaries(code: str, **fields: Any) -> dict[str, Any]:
    full = {
        "code": code,
        "first_name": f"{CANARY} first",
        "last_name": f"{CANARY} last",
        "tax_id": f"{CANARY}-tax",
        "email": f"{CANARY}@example.com",
        "plan": f"{CANARY} plan",
        "meta": {f"{CANARY}_key": f"{CANARY} meta"},
    }
    return full | fields


BROKEN = [
    with_canaries(f"{CANARY}\x00code"),
    with_canaries("b-1", gender=f"{CANARY}"),
    with_canaries("b-2", birth_date=f"{CANARY}"),
    with_canaries("b-3", email=f"{CANARY} at example.com"),
    with_canaries("b-4", phone=f"{CANARY}"),
    with_canaries("b-5", locale=f"{CANARY}"),
    with_canaries("b-6", meta=f"{CANARY}"),
    with_canaries("b-7", last_name=[CANARY]),
    with_canaries("b-8", **{f"{CANARY} Smith": 1}),
    {f"{CANARY}": f"{CANARY}", "canaryinamine@example.com": CANARY},
    CANARY,
    [CANARY],
]


@pytest.mark.parametrize(
    "script",
    [
        [],
        ["400"],
        ["401"],
        ["404"],
        ["429:900"],
        ["503"] * 15,
        ["not_json"] * 15,
        ["lost_before"] * 15,
        ["lost_after"] * 5,
        ["redirect"],
        ["hang"] * 5,
        ["huge"] * 5,
    ],
    ids=lambda script: f"{len(script)} {script[0]}" if script else "refused",
)
def test_no_value_and_no_key_is_in_an_error_a_log_or_a_rejects_file(
    box, connect, upload, caplog, script
):
    caplog.set_level(logging.DEBUG)
    box.settings.refuse_tax_id = f"{CANARY}-tax"
    box.script("upsert", *script)
    client = connect(box, api_key=f"{CANARY}-api", secret_key=f"{CANARY}-secret", timeout=0.3)
    if not script:
        client = connect(box)
    records = [*BROKEN, *(with_canaries(f"m-{number}") for number in range(30))]
    run = upload(client, records, chunk_size=10, max_in_flight=2)
    assert isinstance(run.error, MediquoError)
    told = [*everything_in(run.error, set()), pickle.dumps(run.error).decode("latin-1")]
    told += [run.path.read_text(), repr(run.report), repr(run.report.as_dict())]
    assert len(told) > 8
    assert not [text for text in told if CANARY in text]
    assert caplog.records
    assert CANARY not in caplog.text
    assert not [r for r in caplog.records if CANARY in f"{r.args!r}{r.exc_info!r}"]


def test_without_a_file_no_value_is_logged_either(box, connect, caplog):
    caplog.set_level(logging.DEBUG)
    upload = upload_module.Upload(connect(box), UploadOptions(), RejectLog())
    with pytest.raises(TooManyRejectsError):
        upload.run(BROKEN)
    assert "b-1" in caplog.text
    assert CANARY not in caplog.text


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.no_cover
@pytest.mark.parametrize("refused", ["nobody", "bad"])
def test_memory_does_not_grow_with_the_source(box, client, upload, monkeypatch, refused):
    box.settings.refuse_tax_id = refused
    monkeypatch.setattr(plans_module, "FIRST_LOOK", 300)

    def items_alive() -> int:
        return sum(type(thing) is ValidRecord for thing in gc.get_objects())

    gc.collect()
    gc.freeze()  # what was there before is not looked at, which takes long
    before, most = items_alive(), 0

    def source() -> Iterator[Any]:
        nonlocal most
        for number in range(3_500):
            if number % 250 == 249:
                most = max(most, items_alive() - before)
            tax_id = "good" if number % 100 else "bad"
            yield {"code": number, "first_name": "Ada", "plan": "x", "tax_id": tax_id}

    run = upload(client, source(), max_in_flight=4, max_rejects=35)
    assert run.error is None
    assert run.report.read == 3_500
    # The first look, a chunk in each thread, the one that waits for a thread, and the one being
    # read.
    assert most <= plans_module.FIRST_LOOK + (4 + 2) * 100
    assert most > 200, "they were counted"


def test_a_source_may_use_its_objects_again(box, client, upload):
    box.settings.lag = 0
    meta: dict[str, int] = {}

    def source() -> Iterator[Any]:
        for number in range(40):
            meta["card"] = number
            yield {"code": str(number), "first_name": "Ada", "plan": "x", "meta": meta}

    sample = upload(client, source()).report.sample
    assert len(sample) == 20
    for code, proof in sample.items():
        shown = dict(box.patients[code]) | {"updated_at": None}
        assert shown["meta"] == {"card": int(code)}
        assert differences(proof, shown, box.secret_key) == []


def test_a_stop_between_taking_a_slot_and_using_it_ends_the_run(client, people, monkeypatch):
    upload = upload_module.Upload(client, UploadOptions(max_without_plan=None), RejectLog())
    pool = upload._pool
    take = pool._take_slot

    def take_and_stop() -> None:
        take()
        upload._halt(StoppedError("now"))

    monkeypatch.setattr(pool, "_take_slot", take_and_stop)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            upload.run(people(3))
        except StoppedError as error:
            errors.append(error)

    ended = threading.Thread(target=run)
    launch(ended)
    join(ended)
    assert len(errors) == 1


def test_a_thread_that_cannot_start_ends_the_run(client, people, monkeypatch):
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    upload = upload_module.Upload(client, UploadOptions(max_without_plan=None), RejectLog())
    with pytest.raises(MediquoError, match="cannot start a thread") as caught:
        upload.run(people(3))
    assert "0 upserted, 3 unsettled" in str(caught.value)


def test_at_most_so_many_requests_are_in_flight(box, client, upload, people):
    box.settings.latency = 0.02
    assert upload(client, people(300), chunk_size=10, max_in_flight=3).error is None
    assert box.counters.max_in_flight == 3


def test_no_request_carries_more_than_chunk_size(box, client, upload, people):
    assert upload(client, people(95), chunk_size=30).error is None
    assert sorted(entry.patients for entry in box.journal) == [5, 30, 30, 30]


def test_the_report_adds_up_whatever_it_holds():
    report = UploadReport(read=10, upserted=4, invalid=1, duplicate=2, refused=1)
    assert (report.rejected, report.unsettled) == (4, 2)
    assert str(report) == "4 upserted, 2 unsettled, 4 rejected"
