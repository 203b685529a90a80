"""Which records of a refused chunk are invalid: first without any server, then in an upload."""

import random
import re
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Collection
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mediquo.api.client.retry import RetryPolicy
from airflow_provider_mediquo.api.errors import (
    RejectedRequestError,
    TooManyRejectsError,
    UnreachableError,
)
from airflow_provider_mediquo.api.patients.rules import RULES
from airflow_provider_mediquo.api.upload.circuit_breaker import RefusedChunks
from airflow_provider_mediquo.api.upload.isolation import isolate
from airflow_provider_mediquo.sandbox import Sandbox
from tests.support.judging_server import SUCCESS, JudgingServer

Names = Callable[[list[int]], Collection[int]]
"""The places in a request of its invalid records -> those that the answer names."""

ALL: Names = set
FIRST: Names = lambda places: set(places[:1])  # noqa: E731  # one line says it
NONE: Names = lambda places: ()  # noqa: E731  # one line says it


def search(records: list[int], bad: set[int], names: Names) -> tuple[list[int], list[int], int]:
    """Return who was accepted, who was refused alone, and the requests it took."""

    def answer(group: list[int]) -> Collection[int] | None:
        places = [place for place, record in enumerate(group) if record in bad]
        return names(places) if places else None

    accepted: list[int] = []
    alone: list[int] = []
    requests = 1
    steps = isolate(records, answer(records) or ())
    try:
        group = next(steps)
        while True:
            requests += 1
            if (refusal := answer(group)) is None:
                accepted += group
            elif len(group) == 1:
                alone += group
            group = steps.send(refusal)
    except StopIteration:
        return accepted, alone, requests


def requests_of(bad: int, names: Names, *, searches: int) -> list[int]:
    """How many requests it takes to find so many, wherever they are."""
    chunk, chosen = list(range(100)), random.Random(bad)
    return [search(chunk, set(chosen.sample(chunk, bad)), names)[2] for _ in range(searches)]


@given(
    st.integers(2, 100).flatmap(
        lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), min_size=1))
    ),
    st.data(),
)
def test_each_record_is_accepted_once_or_refused_alone_whatever_the_answers_name(chunk, data):
    size, bad = chunk

    def anything(places: list[int]) -> Collection[int]:
        return data.draw(st.sets(st.integers(0, 120), max_size=5))

    accepted, alone, requests = search(list(range(size)), bad, anything)
    assert sorted(accepted) == sorted({*range(size)} - bad)
    assert Counter(alone) == Counter(bad)
    assert requests <= 3 * size


@pytest.mark.parametrize("bad", [1, 2, 3, 5, 10, 50, 99, 100])
def test_where_all_are_named_it_takes_two_requests_and_one_for_each_of_them(bad):
    rest = bad < 100
    assert {*requests_of(bad, ALL, searches=50)} == {bad + 1 + rest}


@pytest.mark.parametrize("bad", [1, 2, 3, 5, 10])
def test_where_one_is_named_at_a_time_each_costs_two(bad):
    assert {*requests_of(bad, FIRST, searches=50)} == {2 * bad + 1}


def test_one_bad_record_among_those_named_is_reason_to_go_by_names():
    steps = isolate([*range(10)], {0, 1})
    assert next(steps) == [*range(2, 10)]
    assert steps.send({0}) == [0], "of the rest, the 2 is named"
    assert steps.send({0}) == [1]
    assert steps.send(None) == [*range(3, 10)]


@pytest.mark.parametrize(("bad", "most"), [(1, 11), (2, 18), (3, 25), (5, 36), (10, 59)])
def test_halving_takes_so_many_on_average(bad, most):
    assert statistics.mean(requests_of(bad, NONE, searches=300)) < most


@pytest.mark.parametrize(
    "names",
    [
        lambda places: {(places[0] + 1) % 100},
        lambda places: {0},
        lambda places: {500},
        lambda places: {*range(100)} - {*places},
    ],
    ids=["the next one", "always the first", "nobody", "all the valid ones"],
)
def test_names_that_lie_cost_requests(names):
    assert statistics.mean(requests_of(3, names, searches=100)) < 25 + 100


# --- in an upload ---------------------------------------------------------------------------------

RULE = "refused by a rule that no client knows"


@pytest.fixture(params=["errors", "message", "none"])
def strict_box(request: pytest.FixtureRequest, box: Sandbox) -> Sandbox:
    box.settings.refuse_tax_id = RULE
    box.settings.validation_detail = request.param
    return box


@pytest.mark.no_cover
def test_the_bad_ones_are_found_and_the_good_ones_written_once(strict_box, client, upload, people):
    records = people(1000)
    bad = sorted(random.Random(1).sample(range(1000), 13))
    for at in bad:
        records[at]["tax_id"] = RULE
    run = upload(client, records, max_rejects=13)
    assert run.error is None
    assert run.rows("mediquo") == [at + 1 for at in bad]
    assert strict_box.accepted == {f"m-{at + 1}": 1 for at in range(1000) if at not in bad}
    assert run.report.refused == 13
    assert run.report.requests == strict_box.counters.total
    if strict_box.settings.validation_detail == "errors":
        chunks = len({at // 100 for at in bad})
        assert run.report.requests == 10 + chunks + len(bad)
    named = {"tax_id": "refused"} if strict_box.settings.validation_detail != "none" else {}
    assert {str(line["problems"]) for line in run.lines} == {str(named)}
    assert {line["status"] for line in run.lines} == {422}


@pytest.mark.no_cover
@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_small_chunks_too(strict_box, client, upload, people, chunk_size):
    records = people(9)
    for at in (0, 3, 4, 8):
        records[at]["tax_id"] = RULE
    run = upload(client, records, chunk_size=chunk_size)
    assert isinstance(run.error, TooManyRejectsError)
    assert run.rows("mediquo") == [1, 4, 5, 9]
    assert len(strict_box.patients) == 5
    refusals = [entry for entry in strict_box.journal if entry.status == 422]
    assert sum(entry.patients == 1 for entry in refusals) == 4, "none is asked twice alone"


def test_a_request_that_is_too_large_is_halved(box, client, upload, people, caplog):
    caplog.set_level("INFO")
    box.script("upsert", "413", "413")
    run = upload(client, people(100))
    assert run.error is None
    assert [entry.patients for entry in box.journal] == [100, 50, 25, 25, 50]
    assert box.accepted == dict.fromkeys(box.patients, 1)
    lines = [line for line in caplog.messages if line.startswith("A request of ")]
    assert lines == ["A request of 100 records is too large (413): sending halves."]


def test_the_search_in_all_parts_of_a_chunk_without_an_answer_is_one_line(
    box, client, upload, people, caplog
):
    caplog.set_level("INFO")
    # Its five attempts, then three of its quarters: the fourth is accepted, so mediQuo is up.
    box.script("upsert", *["503"] * 8, "ok")
    run = upload(client, people(100), max_in_flight=1)
    assert run.error is None
    assert box.counters.requests["upsert"].total() >= 12, "each of the three quarters is searched"
    lines = [line for line in caplog.messages if line.startswith("A request of ")]
    assert lines == ["A request of 100 records failed: looking for the cause."]


def test_the_fields_that_a_refusal_names_are_in_order(serve, answer, connect, upload, people):
    named = ["tax_id", "email", "gender", "phone", "plan", "address", "meta", "last_name"]
    errors = {f"patients.0.{name}": ["The field is not acceptable."] for name in named}
    wire = serve(answer(422, {"message": "Invalid", "errors": errors}))
    run = upload(connect(wire.url), people(1))
    (line,) = run.lines
    assert [*line["problems"]] == sorted(line["problems"])
    assert len(line["problems"]) > 5


@pytest.mark.parametrize("status", ["401", "403"])
def test_what_is_no_fault_of_the_data_is_not_searched(box, client, upload, people, status):
    box.script("upsert", *[status] * 5)
    run = upload(client, people(10), max_in_flight=1)
    assert run.error is not None
    assert {entry.patients for entry in box.journal} == {10}


def test_a_group_without_an_answer_is_unsettled_and_the_search_goes_on(box, client, upload, people):
    box.settings.refuse_tax_id = RULE
    box.settings.validation_detail = "none"
    records = people(8)
    records[6]["tax_id"] = RULE
    box.script("upsert", "ok", *["503"] * 9)  # the second chunk, and its quarters
    run = upload(client, people(8, start=100) + records, chunk_size=8, max_in_flight=1)
    assert run.report.refused + run.report.unsettled + run.report.upserted == 16
    assert run.codes("unsettled") == {f"m-{number}" for number in range(1, 9)}
    box.script("upsert", "422", *["503"] * 5)
    run = upload(client, records, chunk_size=8, max_in_flight=1)
    assert run.codes("unsettled") == set(), "the first half is searched, and all are accepted"
    assert run.codes("mediquo") == {"m-7"}


def test_the_end_comes_in_the_middle_of_a_search(box, client, upload, people):
    box.settings.refuse_tax_id = RULE
    records = people(30, tax_id=RULE)
    box.script("upsert", "422", "422", "401")
    run = upload(client, records, max_in_flight=1)
    assert run.error.status == 401
    assert run.report.unsettled == 30


def test_a_search_for_which_nobody_is_listening_any_more_ends_after_three_groups(
    box, client, upload, people
):
    box.script("upsert", "422", *["lost_before"] * 100)
    run = upload(client, people(100))
    assert isinstance(run.error, UnreachableError)
    assert run.report.unsettled == 100
    assert box.counters.total == 1 + 3 * RetryPolicy().attempts


# --- broken throughout ----------------------------------------------------------------------------


SMALL = 20
"""A chunk of which three prove as much as of the usual size."""


@pytest.mark.no_cover
def test_three_chunks_that_are_bad_throughout_stop_it(strict_box, client, upload, people):
    records = people(400) + people(10_000, start=5000, tax_id=RULE)
    run = upload(client, records, chunk_size=SMALL)
    assert isinstance(run.error, RejectedRequestError)
    assert not run.error.can_retry
    said = r"refused (\d+) consecutive records, each of them also when sent alone"
    count = int(re.search(said, str(run.error))[1])
    assert (count >= 3 * SMALL, count % SMALL) == (True, 0)
    assert "quota" in str(run.error)
    assert len(strict_box.patients) == 400
    # Ten chunks are in flight: which three are searched first, is not always three in a row.
    assert 3 * SMALL <= run.report.refused < 10 * SMALL
    assert strict_box.counters.total < 20 * SMALL


def test_of_those_that_are_refused_at_once_three_are_searched_at_a_time(connect, upload, people):
    """Otherwise all that are in flight would be sent record by record, to prove the same."""
    size, chunks = 20, 6
    all_are_sent, lock = threading.Barrier(chunks, timeout=30), threading.Lock()
    three_are_searched = threading.Barrier(3, timeout=30)
    left: dict[int, set[str]] = {}  # of each search that has begun: who was not sent alone yet
    at_once = []

    def judge(codes: list[str]) -> tuple[int, bytes]:
        if len(codes) == size:
            all_are_sent.wait()
            return 422, b"{}"
        first = (int(codes[0].removeprefix("m-")) - 1) // size * size
        with lock:
            searched = left.setdefault(first, {f"m-{first + n}" for n in range(1, size + 1)})
            if len(codes) == 1:
                searched.discard(codes[0])
            at_once.append(sum(map(bool, left.values())))
            is_first = len(codes) > 1 and len(at_once) <= 3
        if is_first:
            three_are_searched.wait()
        return 422, b"{}"

    with JudgingServer(judge) as server:
        run = upload(connect(server), people(chunks * size), chunk_size=size, max_in_flight=chunks)
    assert isinstance(run.error, RejectedRequestError)
    assert max(at_once) == 3


def test_a_search_in_which_a_group_was_accepted_does_not_keep_another_from_beginning(
    connect, upload, people
):
    """It proves that not all records are refused."""
    chunks, begun, all_have_begun = 4, set[int](), threading.Event()
    in_time: list[bool] = []

    def judge(codes: list[str]) -> tuple[int, bytes]:
        first = int(codes[0].removeprefix("m-"))
        if len(codes) == 2:
            begun.add((first - 1) // 4)
            if len(begun) == chunks:
                all_have_begun.set()
        elif len(codes) == 1:
            in_time.append(all_have_begun.wait(20))
        return (422, b"{}") if len(codes) == 4 or first % 4 == 0 else SUCCESS

    with JudgingServer(judge) as server:
        run = upload(
            connect(server),
            people(4 * chunks),
            chunk_size=4,
            max_in_flight=chunks,
            max_rejects=chunks,
        )
    assert all(in_time)
    assert run.error is None
    assert (run.report.upserted, run.report.refused) == (3 * chunks, chunks)


@pytest.mark.no_cover
def test_two_chunks_that_are_bad_throughout_do_not(strict_box, client, upload, people):
    bad, good = people(4 * SMALL, tax_id=RULE), people(2 * SMALL, start=500)
    records = [*bad[: 2 * SMALL], *good[:SMALL], *bad[2 * SMALL :], *good[SMALL:]]
    run = upload(client, records, chunk_size=SMALL, max_rejects=4 * SMALL, max_in_flight=1)
    assert run.error is None
    assert len(strict_box.patients) == 2 * SMALL


@pytest.mark.no_cover
def test_in_a_row_is_what_is_so_in_the_source(strict_box, client, upload, people):
    good, bad = people(5 * SMALL), people(5 * SMALL, start=5000, tax_id=RULE)
    records = [
        each
        for at in range(0, 5 * SMALL, SMALL)
        for each in (*good[at : at + SMALL], *bad[at : at + SMALL])
    ]
    run = upload(client, records, chunk_size=SMALL, max_rejects=5 * SMALL)
    assert run.error is None
    assert len(strict_box.patients) == 5 * SMALL


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_whichever_of_those_in_a_row_becomes_known_last_is_one_too_many(order):
    refused = RefusedChunks(100)
    assert [refused.add(number, 100) for number in order] == [0, 0, 300]


def test_small_chunks_prove_little(box, client, upload, people):
    box.settings.refuse_tax_id = RULE
    records = people(29, tax_id=RULE) + people(3, start=100)
    assert upload(client, records, chunk_size=1, max_rejects=29, max_in_flight=1).error is None
    records = people(30, tax_id=RULE) + people(100, start=100)
    run = upload(client, records, chunk_size=1, max_rejects=29, max_in_flight=1)
    assert isinstance(run.error, RejectedRequestError)
    assert run.report.refused == 30


BROKEN = [{"code": 1, "name": "canaryinamine"}]
"""A record that breaks a rule of a field that is required."""


@pytest.mark.parametrize("chunk_size", [1, 100])
def test_what_the_schema_refuses_has_no_chunks(box, client, upload, people, chunk_size):
    records = BROKEN * 299 + people(1)
    assert upload(client, records, chunk_size=chunk_size, max_rejects=0.999).error is None


def test_nor_do_three_hundred_that_are_wrong_in_an_optional_field(box, client, upload, people):
    """Dates that a database sorts first, such as 0001-01-01."""
    records = people(310, start=5000, birth_date="0001-01-01") + people(10)
    run = upload(client, records, max_rejects=0.99)  # a number would be allowed in a row, too
    assert run.error is None
    assert (run.report.upserted, run.report.invalid) == (10, 310)


def test_as_many_in_a_row_as_max_rejects_allows_do_not_stop_it(box, client, upload, people):
    records = BROKEN * 310 + people(1)
    assert upload(client, records, max_rejects=310).error is None
    run = upload(client, records, max_rejects=309)
    assert "310 consecutive records are invalid" in str(run.error)


@pytest.mark.no_cover
def test_three_hundred_records_in_a_row_that_break_a_rule_stop_it(box, client, upload, people):
    records = people(1500) + BROKEN * 100_000
    run = upload(client, records)
    assert "300 consecutive records are invalid" in str(run.error)
    assert "renamed" in str(run.error)
    assert not run.error.can_retry
    assert f"first_name {RULES['required']} (300)" in str(run.error)
    assert run.source.pulled == 1800
    assert len(box.patients) == run.report.upserted == 1500


def test_one_good_record_in_between_is_enough_to_go_on(box, client, upload, people):
    bad = BROKEN * 299
    run = upload(client, bad + people(1) + bad + people(1, start=2), max_rejects=0.999)
    assert run.error is None
    assert len(box.patients) == 2


def test_an_unchanged_record_in_between_is_enough_to_go_on(box, state, sync, people):
    sync(box, state, people(1)).ok()
    invalid = [{"code": f"x-{number}"} for number in range(299)]
    records = [*invalid, *people(1), {"code": "y"}, *people(1, start=2)]
    run = sync(box, state, records, max_rejects=0.999).ok()
    assert (run.read, run.unchanged, run.new) == (302, 1, 1)


def test_three_hundred_duplicates_in_a_row_are_no_broken_source(box, client, upload, people):
    run = upload(client, people(310) + people(310), max_rejects=0.5)
    assert run.error is None
    assert run.report.duplicate == 310
