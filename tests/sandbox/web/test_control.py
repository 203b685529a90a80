import pytest

from airflow_provider_mediquo.sandbox import Settings


def test_settings_are_shown(client):
    shown = client.control("GET", "/sandbox/settings").json()
    assert shown == {**Settings().model_dump(), "lag": 0, "latency": 0}


def test_settings_are_changed_while_it_runs_and_the_rest_stays(client, patient):
    before = client.control("GET", "/sandbox/settings").json()
    after = client.control("PATCH", "/sandbox/settings", json={"success_body": "earlier"}).json()
    assert after == {**before, "success_body": "earlier"}
    assert client.box.settings.success_body == "earlier"
    assert "data" in client.put(patient).json()


@pytest.mark.parametrize(
    "changes",
    [{"lag": -1}, {"lag": 0.5, "latency": "long"}, {"unheard_of": 1}, {"error_rate": 1.5}, []],
)
def test_a_change_that_means_nothing_changes_nothing(client, changes):
    before = client.control("GET", "/sandbox/settings").json()
    assert client.control("PATCH", "/sandbox/settings", json=changes).status_code == 422
    assert client.control("GET", "/sandbox/settings").json() == before


def test_stats_are_the_counters(client, patient):
    client.put(patient)
    client.get("other")
    assert client.control("GET", "/sandbox/stats").json() == {
        "total": 2,
        "in_flight": 0,
        "max_in_flight": 1,
        "accepted": 1,
        "requests": {"upsert": {"200": 1}, "get": {"404": 1}},
        "faults": {},
        "visible": 1,
        "pending": 0,
    }


def test_a_script_can_be_posted_and_shows_what_is_to_come(client, patient):
    wanted = {"endpoint": "upsert", "outcomes": ["503", "ok"]}
    answer = client.control("POST", "/sandbox/script", json=wanted)
    assert answer.json() == {"upsert": ["503", "ok"], "get": [], "authenticate": []}
    assert [client.put(patient).status_code for _ in range(2)] == [503, 200]


@pytest.mark.parametrize(
    "wanted",
    [{"endpoint": "upsert", "outcomes": ["nonsense"]}, {"endpoint": "x", "outcomes": []}, {}],
)
def test_a_script_that_means_nothing_is_refused_with_a_reason(client, wanted):
    answer = client.control("POST", "/sandbox/script", json=wanted)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_reset_forgets_all_but_the_settings(client, patient):
    client.box.settings.latency = 0.01
    client.put(patient)
    client.box.script("upsert", "503")
    stats = client.control("POST", "/sandbox/reset").json()
    assert (stats["total"], stats["visible"], stats["requests"]) == (0, 0, {})
    assert (client.box.patients, client.box.accepted, client.box.journal) == ({}, {}, [])
    assert client.put(patient).status_code == 200
    assert client.box.settings.latency == 0.01
