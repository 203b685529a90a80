import asyncio
import gc
import http.client
import socket
import threading
import time
import warnings
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_mediquo.sandbox import Sandbox
from airflow_provider_mediquo.sandbox.web.server import Server

SOON = 20  # seconds, on a busy machine; without the cut it would take 60 or more


def test_it_stops_immediately_with_an_idle_connection(open_get):
    with Sandbox(latency=0) as box:
        connection = open_get(box)
        connection.getresponse().read()
        start = time.monotonic()
    assert time.monotonic() - start < SOON
    connection.close()


@pytest.mark.parametrize("outcome", ["ok", "hang", "slow_body", "huge"])
def test_it_stops_immediately_with_a_response_pending(outcome, open_get, eventually, capfd):
    latency = 60 if outcome == "ok" else 0
    with Sandbox(latency=latency, drip=60) as box:
        box.script("get", outcome)
        connection = open_get(box)
        eventually(lambda: box.counters.in_flight)
        start = time.monotonic()
    assert time.monotonic() - start < SOON
    assert not [thread for thread in threading.enumerate() if "sandbox" in thread.name]
    connection.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.no_cover
def test_it_closes_a_connection_that_is_accepted_while_it_stops():
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(None, listener)
    with socket.socket() as late, warnings.catch_warnings(record=True, action="always") as unclosed:

        async def connect_and_stop():
            late.connect(listener.getsockname())
            await asyncio.sleep(0)
            server._stopping.set()  # in the round of the loop that accepts the connection

        server.start()
        asyncio.run_coroutine_threadsafe(connect_and_stop(), server._loop).result(SOON)
        server._thread.join(SOON)
        gc.collect()
    assert not server._thread.is_alive()
    assert not unclosed


def test_patients_and_counters_can_be_read_after_the_stop(patient):
    with Sandbox(lag=0, latency=0) as box:
        requests.put(
            f"{box.url}/patients", json={"patients": [patient]}, headers=box.headers, timeout=10
        )
    assert box.patients["m-1"]["first_name"] == "Ada"
    assert box.counters.total == 1
    with pytest.raises(requests.ConnectionError):
        requests.get(box.url, timeout=10)


def test_a_connection_is_reused(client):
    where = urlsplit(client.box.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    for _ in range(5):
        connection.request("GET", "/v1/patients/m-1", headers=client.box.headers)
        connection.getresponse().read()
        local = connection.sock.getsockname()
    assert connection.sock.getsockname() == local
    connection.close()


def test_neither_path_nor_body_is_logged(client, patient, caplog, capfd):
    caplog.set_level(0)
    client.put({**patient, "code": "secret-code", "email": "secret-mail"})
    client.get("secret-code")
    messages = [r.getMessage() for r in caplog.records if not r.name.startswith("urllib3")]
    assert "secret" not in "".join(messages)
    assert capfd.readouterr() == ("", "")


def test_two_sandboxes_are_independent(connect, patient):
    one, other = connect(), connect()
    one.put(patient)
    assert one.box.url != other.box.url
    assert other.get().status_code == 404


def test_other_protocols_do_no_harm(client):
    where = urlsplit(client.box.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        assert b"400" in connection.recv(100)
    assert client.get().status_code == 404


def test_a_response_does_not_wait_for_the_clients_delayed_acknowledgement(client):
    client.get()
    (connection,) = client.box._server.server_state.connections
    socket_of_it = connection.transport.get_extra_info("socket")
    assert socket_of_it.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
