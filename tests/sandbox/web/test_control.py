import pytest

from airflow_provider_mediquo.sandbox import Settings


def test_settings_are_shown(client):
    shown = client.control("GET", "/sandbox/settings").json()
    assert shown == {**Settings().model_dump(), "lag": 0, "latency": 0}


def test_given_settings_are_changed_and_the_others_stay(client, patient):
    before = client.control("GET", "/sandbox/settings").json()
    after = client.control("PATCH", "/sandbox/settings", json={"success_body": "earlier"}).json()
    assert after == {**before, "success_body": "earlier"}
    assert client.box.settings.success_body == "earlier"
    assert "data" in client.put(patient).json()


@pytest.mark.parametrize(
    "changes",
    [{"lag": -1}, {"lag": 0.5, "latency": "long"}, {"unheard_of": 1}, {"error_rate": 1.5}, []],
)
def test_an_invalid_change_changes_nothing(client, changes):
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


def test_a_posted_script_returns_the_outcomes_to_come(client, patient):
    script = {"endpoint": "upsert", "outcomes": ["503", "ok"]}
    answer = client.control("POST", "/sandbox/script", json=script)
    assert answer.json() == {"upsert": ["503", "ok"], "get": [], "authenticate": []}
    assert [client.put(patient).status_code for _ in range(2)] == [503, 200]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"endpoint": "upsert", "outcomes": ["nonsense"]}, "Unknown outcome 'nonsense'"),
        ({"endpoint": "x", "outcomes": []}, "Unknown endpoint 'x'"),
        ({}, "Field required"),
    ],
)
def test_an_invalid_script_is_refused_with_a_reason(client, script, reason):
    answer = client.control("POST", "/sandbox/script", json=script)
    assert answer.status_code == 422
    assert reason in str(answer.json()["detail"])


def test_a_reset_clears_all_except_the_settings(client, patient):
    client.box.settings.latency = 0.01
    client.put(patient)
    client.box.script("upsert", "503")
    stats = client.control("POST", "/sandbox/reset").json()
    assert (stats["total"], stats["visible"], stats["requests"]) == (0, 0, {})
    assert (client.box.patients, client.box.accepted, client.box.journal) == ({}, {}, [])
    assert client.put(patient).status_code == 200
    assert client.box.settings.latency == 0.01
