"""A restart, asked for in either way: of the object, or of the control API."""

import time
from http.client import HTTPException

import pytest

from airflow_provider_mediquo.sandbox import Sandbox


@pytest.fixture(params=["object", "control API"])
def restart(request):
    def ask(client):
        if request.param == "object":
            client.box.restart()
        else:
            assert client.control("POST", "/sandbox/restart").status_code == 200

    return ask


def test_accepted_writes_that_are_not_visible_are_gone_and_stay_counted(connect, patient, restart):
    client = connect(lag=60)
    client.put(patient)
    restart(client)
    client.box.settings.lag = 0
    client.put({**patient, "code": "m-2"})
    assert {*client.box.patients} == {"m-2"}
    assert client.box.accepted == {"m-1": 1, "m-2": 1}
    assert client.box.counters.accepted == 2
    assert client.control("GET", "/sandbox/stats").json()["pending"] == 0


def test_what_is_visible_stays_as_it_was(client, patient, restart):
    client.put(patient)
    before = client.get().json()
    client.box.settings.lag = 60
    client.put({**patient, "first_name": "Grace"})
    restart(client)
    assert client.get().json() == before


def test_what_was_due_before_it_is_visible_though_nobody_had_looked(
    connect, patient, restart, eventually
):
    client = connect(lag=0.01)
    client.put(patient)
    due = time.monotonic() + 0.01
    eventually(lambda: time.monotonic() > due)
    restart(client)
    assert client.get().status_code == 200


def test_the_rate_limit_begins_anew(connect, restart):
    client = connect(requests_per_minute=1)
    assert [client.get().status_code for _ in range(2)] == [404, 429]
    restart(client)
    assert client.get().status_code == 404


def test_nothing_of_the_minute_before_it_counts(connect, restart):
    client = connect(requests_per_minute=3)
    before = [client.get().status_code for _ in range(4)]
    restart(client)
    assert [client.get().status_code for _ in range(4)] == before == [404, 404, 404, 429]


def test_settings_scripts_and_the_journal_stay(client, restart):
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


def test_before_its_start_it_has_nothing_to_forget():
    Sandbox().restart()
