import http.client
import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_mediquo.sandbox.model.faults import OUTCOMES, SERVER_ERRORS


def raw(box, request):
    """Send bytes and return everything until the server closes the connection."""
    where = urlsplit(box.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(4096):
            received += part
    return received


def test_a_script_runs_in_order_and_for_its_endpoint_only(client, patient):
    client.box.script("upsert", "503", "ok")
    client.box.script("upsert", "429")
    assert client.get().status_code == 404
    assert [client.put(patient).status_code for _ in range(4)] == [503, 200, 429, 200]


def test_a_script_comes_before_random_faults(connect, patient):
    client = connect(error_rate=1)
    client.box.script("upsert", "ok")
    assert client.put(patient).status_code == 200
    assert client.put(patient).status_code >= 500


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 503, 599])
def test_a_scripted_status_is_json_and_nothing_is_written(client, patient, status):
    client.box.script("upsert", str(status))
    answer = client.put(patient)
    assert (answer.status_code, list(answer.json())) == (status, ["message"])
    assert not client.box.accepted


@pytest.mark.parametrize("status", [502, 504])
def test_an_error_of_a_gateway_is_a_web_page(client, patient, status):
    client.box.script("upsert", str(status))
    answer = client.put(patient)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("outcome", "expected"), [("429", "60"), ("429:7", "7"), ("503:3600", "3600"), ("503", None)]
)
def test_a_scripted_status_may_have_a_retry_after(client, patient, outcome, expected):
    client.box.script("upsert", outcome)
    headers = client.put(patient).headers
    assert headers.get("retry-after") == expected


def test_a_scripted_429_says_that_nothing_remains(client, patient):
    client.box.script("upsert", "429")
    assert client.put(patient).headers["x-ratelimit-remaining"] == "0"
    assert client.put(patient).status_code == 200


@pytest.mark.parametrize("outcome", ["", "nonsense", "200", "302", "600", "429:", "429:x", "-1"])
def test_an_unknown_outcome_is_an_error(client, outcome):
    with pytest.raises(ValueError, match="Unknown outcome"):
        client.box.script("upsert", "ok", outcome)


def test_an_unknown_endpoint_is_an_error(client):
    with pytest.raises(ValueError, match="Unknown endpoint"):
        client.box.script("patients", "ok")


@pytest.mark.parametrize(("outcome", "writes"), [("lost_before", 0), ("lost_after", 1)])
def test_a_lost_response_is_a_closed_connection(client, patient, outcome, writes, capfd):
    client.box.script("upsert", outcome)
    with pytest.raises(requests.ConnectionError):
        client.put(patient)
    assert client.box.accepted["m-1"] == len(client.box.patients) == writes
    assert client.box.counters.requests["upsert"] == {"none": 1}
    assert client.put(patient).status_code == 200
    assert capfd.readouterr() == ("", "")


def test_a_lost_response_has_no_bytes(client):
    client.box.script("get", "lost_before")
    assert raw(client.box, b"GET /v1/patients/m-1 HTTP/1.1\r\nHost: sandbox\r\n\r\n") == b""


def test_a_refused_write_whose_response_is_lost_is_not_accepted(client):
    client.box.script("upsert", "lost_after")
    with pytest.raises(requests.ConnectionError):
        client.put({"code": "m-1"})
    assert not client.box.accepted


def test_a_hanging_request_gets_no_response_and_nothing_is_written(client, patient, eventually):
    client.box.script("upsert", "hang")
    with pytest.raises(requests.ReadTimeout):
        client.put(patient, timeout=0.3)
    entry = eventually(lambda: client.box.journal)[0]
    assert (entry.status, entry.fault) == (None, "hang")
    assert not client.box.accepted


def test_a_response_can_be_a_web_page_instead_of_json(client, patient):
    client.box.script("upsert", "not_json")
    answer = client.put(patient)
    assert (answer.status_code, answer.text[:15]) == (200, "<!DOCTYPE html>")
    assert not client.box.accepted


def test_a_response_can_be_empty(client, patient):
    client.box.script("upsert", "empty")
    answer = client.put(patient)
    assert (answer.status_code, answer.content) == (200, b"")
    assert not client.box.accepted


def test_a_client_that_follows_a_redirect_gets_a_404(client, patient):
    client.box.script("upsert", "redirect")
    answer = client.put(patient)
    assert (answer.status_code, answer.is_redirect) == (302, True)
    client.box.script("upsert", "redirect")
    assert client.put(patient, allow_redirects=True).status_code == 404
    assert client.box.counters.requests["unknown"] == {"404": 1}
    assert not client.box.accepted


def test_a_slow_body_is_the_usual_response_byte_by_byte(connect, patient):
    client = connect(drip=0.02)
    client.box.script("upsert", "slow_body")
    start = time.monotonic()
    answer = client.put(patient)
    assert answer.json() == {"message": "Success"}
    assert time.monotonic() - start >= 0.02 * len(answer.content)
    assert client.box.accepted == {"m-1": 1}


def test_a_huge_body_goes_on_until_the_client_disconnects(client, patient, eventually):
    client.box.script("upsert", "huge")
    with client.put(patient, stream=True) as answer:
        parts = answer.iter_content(1 << 16)
        assert sum(len(next(parts)) for _ in range(200)) > 1 << 22
    assert eventually(lambda: client.box.journal)[0].fault == "huge"
    assert not client.box.accepted
    assert client.put(patient).status_code == 200


def test_an_error_rate_of_one_gives_only_server_errors_and_writes_nothing(connect, patient):
    client = connect(error_rate=1, seed=1)
    statuses = {client.put(patient).status_code for _ in range(40)}
    assert statuses == {500, 502, 503, 504}
    assert not client.box.accepted


@pytest.mark.parametrize(("rate", "writes"), [("lost_before_rate", 0), ("lost_after_rate", 5)])
def test_a_rate_of_one_loses_every_response(connect, patient, rate, writes):
    client = connect(**{rate: 1})
    for _ in range(5):
        with pytest.raises(requests.ConnectionError):
            client.put(patient)
    assert client.box.accepted["m-1"] == writes


@pytest.mark.no_cover
def test_rates_are_fractions_and_a_seed_repeats_the_faults(connect):
    def statuses():
        client = connect(error_rate=0.3, seed=7)
        return [client.get().status_code for _ in range(80)]

    first = statuses()
    assert statuses() == first
    assert 12 <= sum(status >= 500 for status in first) <= 36


def test_the_rates_of_different_faults_add_up(connect):
    client = connect(error_rate=0.5, lost_after_rate=0.5, seed=1)
    for _ in range(30):
        with suppress(requests.ConnectionError):
            client.get()
    counted = client.box.counters.requests["get"]
    assert counted["none"] > 0
    assert counted["none"] + sum(counted[status] for status in SERVER_ERRORS) == 30


def test_a_new_seed_is_used_immediately_and_a_reset_restarts_it(connect):
    client = connect(error_rate=0.5, seed=1)

    def statuses():
        return [client.get().status_code for _ in range(20)]

    first = statuses()
    client.box.settings.seed = 2
    second = statuses()
    client.box.settings.seed = 1
    assert statuses() == first != second
    client.box.reset()
    assert statuses() == first


def test_latency_passes_before_a_response(connect, patient):
    client = connect(latency=0.3)
    start = time.monotonic()
    client.put(patient)
    assert time.monotonic() - start >= 0.3


def test_jitter_differs_between_requests(connect):
    client = connect(jitter=0.2, seed=1)
    for _ in range(5):
        client.get()
    seconds = [entry.seconds for entry in client.box.journal]
    assert max(seconds) - min(seconds) > 0.03


def test_a_write_is_accepted_before_the_latency_has_passed(connect, patient, eventually):
    client = connect(latency=30)
    with pytest.raises(requests.ReadTimeout):
        client.put(patient, timeout=0.3)
    assert eventually(lambda: client.box.accepted) == {"m-1": 1}
    assert eventually(lambda: client.box.journal)[0].fault == "client_left"


def test_a_client_that_disconnects_within_its_body_causes_no_error(client, eventually, capfd):
    where = urlsplit(client.box.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    connection.putrequest("PUT", "/v1/patients")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    eventually(lambda: client.box.counters.in_flight)
    connection.close()
    assert eventually(lambda: client.box.journal)[0].fault == "client_left"
    assert capfd.readouterr() == ("", "")


def test_every_outcome_can_be_scripted(client):
    client.box.script("upsert", *OUTCOMES)
    script = client.control("POST", "/sandbox/script", json={"endpoint": "get", "outcomes": []})
    assert script.json()["upsert"] == [*OUTCOMES]
    client.control("POST", "/sandbox/reset")
    script = client.control("POST", "/sandbox/script", json={"endpoint": "get", "outcomes": []})
    assert script.json()["upsert"] == []
