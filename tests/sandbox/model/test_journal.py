import time

import pytest

from airflow_provider_mediquo.sandbox.model.journal import MAX_ENTRIES, Entry, Journal


@pytest.fixture
def hanging(open_get):
    """Send requests that get no response."""

    def start(box):
        box.script("get", "hang")
        return open_get(box)

    return start


def test_an_entry_describes_its_request(connect, patient):
    client = connect(latency=0.1)
    client.put(patient, {**patient, "code": "m-2"})
    (entry,) = client.box.journal
    assert (entry.method, entry.path, entry.endpoint) == ("PUT", "/v1/patients", "upsert")
    assert (entry.status, entry.patients, entry.fault) == (200, 2, "")
    assert entry.seconds >= 0.1
    assert abs(time.time() - entry.at) < 5


def test_an_entry_has_no_patient_data(client, patient):
    client.put(patient)
    client.get("secret-code")
    client.get("secret-code/x")
    client.send("GET", "/other/secret-code")
    assert "secret-code" not in repr(client.box.journal)
    assert {entry.path for entry in client.box.journal} == {
        "/v1/patients",
        "/v1/patients/{code}",
        "unknown",
    }


def test_patients_in_a_failed_request_are_counted(client, patient):
    client.box.script("upsert", "503", "not_json")
    client.put(patient)
    client.put(patient)
    assert [entry.patients for entry in client.box.journal] == [1, 1]
    assert client.box.counters.accepted == 0


def test_counters_are_complete_when_the_response_arrives(client, patient):
    for count in range(1, 51):
        client.put(patient)
        assert client.box.counters.requests["upsert"]["200"] == count
        assert client.box.counters.in_flight == 0
    assert client.box.counters.max_in_flight == 1
    assert client.box.counters.total == client.box.counters.accepted == 50


def test_faults_are_counted_by_name(client, patient):
    client.box.script("upsert", "503", "not_json", "503", "ok")
    for _ in range(4):
        client.put(patient)
    assert client.box.counters.faults == {"503": 2, "not_json": 1}


def test_the_maximum_of_requests_in_flight_is_recorded(client, hanging, eventually):
    connections = [hanging(client.box) for _ in range(5)]
    eventually(lambda: client.box.counters.in_flight == 5)
    for connection in connections:
        connection.close()
    eventually(lambda: client.box.counters.in_flight == 0)
    assert client.box.counters.max_in_flight == 5


def test_the_sandboxs_own_pages_are_not_counted(client):
    for path in ("/", "/docs", "/openapi.json", "/sandbox/stats"):
        assert client.control("GET", path).status_code == 200
    assert client.box.counters.total == 0
    assert client.box.journal == []


def test_only_the_latest_entries_are_kept():
    journal = Journal()
    for number in range(MAX_ENTRIES + 5):
        journal.opened()
        journal.closed(Entry(number, "GET", "", "get", 200, 0, 0, ""))
    assert [journal.entries()[0].at, len(journal.entries())] == [5, MAX_ENTRIES]
    assert journal.counters.requests["get"]["200"] == MAX_ENTRIES + 5


def test_a_reset_keeps_requests_in_flight(client, hanging, eventually):
    connection = hanging(client.box)
    eventually(lambda: client.box.counters.in_flight)
    client.box.reset()
    assert (client.box.counters.in_flight, client.box.counters.max_in_flight) == (1, 1)
    connection.close()
    eventually(lambda: client.box.counters.in_flight == 0)
