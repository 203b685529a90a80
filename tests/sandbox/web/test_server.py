import http.client
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_mediquo.sandbox import Sandbox


def test_it_stops_at_once_with_an_idle_connection_open(open_get):
    with Sandbox(latency=0) as box:
        connection = open_get(box)
        connection.getresponse().read()
        start = time.monotonic()
    assert time.monotonic() - start < 2
    connection.close()


@pytest.mark.parametrize("outcome", ["ok", "hang", "slow_body", "huge"])
def test_it_stops_at_once_with_an_answer_pending(outcome, open_get, eventually, capfd):
    latency = 30 if outcome == "ok" else 0
    with Sandbox(latency=latency, drip=30) as box:
        box.script("get", outcome)
        connection = open_get(box)
        eventually(lambda: box.counters.in_flight)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    assert not [thread for thread in threading.enumerate() if "sandbox" in thread.name]
    connection.close()
    assert capfd.readouterr() == ("", "")


def test_what_was_recorded_can_be_read_after_the_stop(patient):
    with Sandbox(lag=0, latency=0) as box:
        requests.put(
            f"{box.url}/patients", json={"patients": [patient]}, headers=box.headers, timeout=10
        )
    assert box.patients["m-1"]["first_name"] == "Ada"
    assert box.counters.total == 1
    with pytest.raises(requests.ConnectionError):
        requests.get(box.url, timeout=10)


def test_a_connection_serves_many_requests(client):
    where = urlsplit(client.box.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    for _ in range(5):
        connection.request("GET", "/v1/patients/m-1", headers=client.box.headers)
        connection.getresponse().read()
        local = connection.sock.getsockname()
    assert connection.sock.getsockname() == local
    connection.close()


def test_no_path_and_no_body_is_logged(client, patient, caplog, capfd):
    caplog.set_level(0)
    client.put({**patient, "code": "secret-code", "email": "secret-mail"})
    client.get("secret-code")
    messages = [r.getMessage() for r in caplog.records if not r.name.startswith("urllib3")]
    assert "secret" not in "".join(messages)
    assert capfd.readouterr() == ("", "")


def test_two_run_side_by_side(connect, patient):
    one, other = connect(), connect()
    one.put(patient)
    assert one.box.url != other.box.url
    assert other.get().status_code == 404


def test_what_is_not_http_harms_nobody(client):
    where = urlsplit(client.box.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        assert b"400" in connection.recv(100)
    assert client.get().status_code == 404


def test_an_answer_does_not_wait_for_the_clients_delayed_acknowledgement(client):
    seconds = []
    for _ in range(31):
        start = time.monotonic()
        client.get()
        seconds.append(time.monotonic() - start)
    # It takes 40 ms, and the first of a connection go without: how fast the best of the others is
    # tells, whatever else the machine does.
    assert min(seconds[16:]) < 0.03
