"""A restart, through the object or through the control API."""

import time
from http.client import HTTPException

import pytest

from airflow_provider_mediquo.sandbox import Sandbox


@pytest.fixture(params=["object", "control API"])
def restart(request):
    def run(client):
        if request.param == "object":
            client.box.restart()
        else:
            assert client.control("POST", "/sandbox/restart").status_code == 200

    return run


def test_writes_that_are_not_visible_are_lost_but_still_counted(connect, patient, restart):
    client = connect(lag=60)
    client.put(patient)
    restart(client)
    client.box.settings.lag = 0
    client.put({**patient, "code": "m-2"})
    assert {*client.box.patients} == {"m-2"}
    assert client.box.accepted == {"m-1": 1, "m-2": 1}
    assert client.box.counters.accepted == 2
    assert client.control("GET", "/sandbox/stats").json()["pending"] == 0


def test_visible_patients_stay(client, patient, restart):
    client.put(patient)
    before = client.get().json()
    client.box.settings.lag = 60
    client.put({**patient, "first_name": "Grace"})
    restart(client)
    assert client.get().json() == before


def test_a_write_whose_lag_had_passed_is_visible_even_if_it_was_not_read_before(
    connect, patient, restart, eventually
):
    client = connect(lag=0.01)
    client.put(patient)
    due = time.monotonic() + 0.01
    eventually(lambda: time.monotonic() > due)
    restart(client)
    assert client.get().status_code == 200


def test_the_rate_limit_starts_over(connect, restart):
    client = connect(requests_per_minute=1)
    assert [client.get().status_code for _ in range(2)] == [404, 429]
    restart(client)
    assert client.get().status_code == 404


def test_requests_before_the_restart_do_not_count(connect, restart):
    client = connect(requests_per_minute=3)
    before = [client.get().status_code for _ in range(4)]
    restart(client)
    assert [client.get().status_code for _ in range(4)] == before == [404, 404, 404, 429]


def test_settings_scripts_and_journal_stay(client, restart):
    client.box.settings.latency = 0.01
    client.get()
    client.box.script("get", "503")
    restart(client)
    assert client.get().status_code == 503
    assert client.box.settings.latency == 0.01
    assert [entry.status for entry in client.box.journal] == [404, 503]


def test_open_connections_are_cut(client, restart, open_get, eventually):
    client.box.script("get", "hang")
    connection = open_get(client.box)
    eventually(lambda: client.box.counters.in_flight)
    restart(client)
    with pytest.raises((OSError, HTTPException)):
        connection.getresponse()
    eventually(lambda: not client.box.counters.in_flight)


def test_restart_before_the_start_does_nothing():
    Sandbox().restart()
