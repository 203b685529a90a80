"""A record that mediQuo cannot process does not keep the others of its request from being sent."""

import pytest

from airflow_provider_mediquo.api.client.retry import RetryPolicy
from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    ServerError,
    TooManyRejectsError,
)
from tests.support.judging_server import SUCCESS, JudgingServer

PAGE = b"<html>blocked</html>"
ERROR = b'{"message": "Server Error"}'
MANY = 120
"""Requests that one poison record among 300 may cost."""


@pytest.fixture
def judged(connect, upload, people):
    """Upload people to a server that answers so wherever a poison code is in the request."""

    def run(verdict, poison, count=300, **options):
        with JudgingServer(lambda codes: verdict if {*codes} & poison else SUCCESS) as server:
            return server, upload(connect(server), people(count), **options)

    return run


@pytest.mark.no_cover
@pytest.mark.parametrize("in_flight", [1, 10])
@pytest.mark.parametrize("poison", [{"m-1"}, {"m-150"}, {"m-300"}, {"m-2", "m-99", "m-201"}])
def test_a_record_that_is_answered_500_is_unsettled_alone(judged, poison, in_flight):
    server, run = judged((500, ERROR), poison, max_in_flight=in_flight)
    assert isinstance(run.error, ServerError)
    assert run.codes("unsettled") == poison
    assert len(server.accepted) == run.report.upserted == 300 - len(poison)
    assert run.report.stopped_because is None
    assert len(server.requests) < MANY * len(poison)


@pytest.mark.parametrize("verdict", [(409, ERROR), (403, PAGE)], ids=["409", "a firewall's 403"])
@pytest.mark.parametrize("poison", [{"m-150"}, {"m-300"}])
def test_a_record_that_is_answered_409_or_a_403_page_is_refused_alone(judged, verdict, poison):
    server, run = judged(verdict, poison, max_in_flight=1)
    assert isinstance(run.error, TooManyRejectsError)
    assert run.codes("mediquo") == poison
    assert {line["status"] for line in run.lines} == {verdict[0]}
    assert len(server.accepted) == run.report.upserted == 299
    assert len(server.requests) < MANY


def test_a_record_that_is_answered_408_in_the_search_for_another_is_unsettled(
    box, client, upload, people
):
    """mediQuo did not wait for its request to end: that says nothing about the record."""
    box.script("upsert", "422", "ok", *["408"] * RetryPolicy().attempts)
    run = upload(client, people(2), max_rejects=2)
    assert isinstance(run.error, ServerError)
    assert (run.codes("unsettled"), run.codes("mediquo")) == ({"m-2"}, set())


def test_a_record_alone_is_sent_as_often_as_any_request(judged):
    """Others in its search are sent twice, because they are sent again in smaller groups."""
    server, _ = judged((500, ERROR), {"m-150"}, max_in_flight=1)
    assert server.requests.count(["m-150"]) == RetryPolicy().attempts
    assert len(server.requests) < MANY


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_a_source_of_a_single_request_is_searched_too(judged, count):
    server, run = judged((500, ERROR), {"m-1"}, count=count)
    assert run.codes("unsettled") == {"m-1"}
    assert len(server.accepted) == count - 1


def test_three_poison_records_in_the_first_requests_are_no_outage(judged):
    poison = {"m-1", "m-101", "m-201"}
    server, run = judged((500, ERROR), poison, count=1000, max_in_flight=3)
    assert run.report.stopped_because is None
    assert len(server.accepted) == 997


def test_a_403_that_is_json_is_about_the_keys(judged):
    server, run = judged((403, b'{"message": "Forbidden"}'), {"m-150"}, max_in_flight=1)
    assert isinstance(run.error, AuthenticationError)
    assert len(server.requests) == 2


def test_a_403_page_before_any_success_is_about_the_keys(judged):
    server, run = judged((403, PAGE), {"m-1"}, max_in_flight=1)
    assert isinstance(run.error, AuthenticationError)
    assert len(server.requests) == 1


def test_an_outage_in_the_middle_of_a_search_ends_it_soon(connect, upload, people):
    """Ten groups without any answer are enough, whatever is left to search."""
    answered = []

    def judge(codes):
        answered.append(codes)
        return SUCCESS if len(answered) in (1, 7) else (500, ERROR)

    with JudgingServer(judge) as server:
        run = upload(connect(server), people(2000), max_in_flight=1)
    assert isinstance(run.error, ServerError)
    assert "3 consecutive chunks" in run.report.stopped_because
    assert len(server.requests) < 120
    assert run.report.unsettled == run.report.read - run.report.upserted


def test_all_of_a_small_request_that_a_firewall_blocks_are_refused(judged):
    """Each alone, also where one follows the other without an answer in between."""
    server, run = judged((403, PAGE), {"m-5", "m-7"}, count=8, chunk_size=4, max_in_flight=1)
    assert run.codes("mediquo") == {"m-5", "m-7"}
    assert run.codes("unsettled") == set()
    assert len(server.accepted) == 6
