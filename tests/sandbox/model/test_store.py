import re
import time
from datetime import UTC, datetime

import pytest


def test_an_accepted_write_is_not_visible_immediately(connect, patient):
    client = connect(lag=60)
    client.put(patient)
    assert client.get().status_code == 404
    assert client.authenticate().status_code == 404
    assert (client.box.accepted["m-1"], len(client.box.patients)) == (1, 0)


def test_a_write_is_visible_after_the_lag(connect, patient, eventually):
    client = connect(lag=0.3)
    before = time.monotonic()
    client.put(patient)
    eventually(lambda: client.get().status_code == 200)
    assert time.monotonic() - before >= 0.3


def test_a_write_does_not_overtake_an_earlier_one_when_the_lag_is_lowered(connect, patient):
    client = connect(lag=60)
    client.put(patient)
    client.box.settings.lag = 0
    client.put({**patient, "code": "m-2"})
    assert not client.box.patients


def test_writes_are_applied_in_the_order_of_acceptance(connect, patient, eventually):
    client = connect(lag=0.2)
    for name in ("first", "second", "third"):
        client.put({**patient, "first_name": name})
    eventually(lambda: not pending(client))
    assert client.get().json()["first_name"] == "third"


def pending(client):
    return client.control("GET", "/sandbox/stats").json()["pending"]


def test_a_missing_field_stays_and_a_null_clears_it(client, patient):
    client.put({**patient, "last_name": "Byron", "tax_id": "1", "meta": {"a": 1}, "locale": "en"})
    client.put({**patient, "tax_id": None})
    shown = client.get().json()
    assert (shown["last_name"], shown["tax_id"]) == ("Byron", None)
    assert (shown["meta"], shown["locale"]) == ({"a": 1}, "en")


def test_a_cleared_locale_becomes_the_default(client, patient):
    client.put({**patient, "locale": "en"})
    client.put({**patient, "locale": None})
    assert client.get().json()["locale"] == "es"


@pytest.mark.parametrize("absent", [{}, {"plan": None}, {"plan": " "}])
def test_a_write_without_a_plan_unsubscribes(client, patient, absent):
    client.put(patient)
    assert client.get().json()["unsubscribed_at"] is None
    del patient["plan"]
    client.put({**patient, **absent})
    shown = client.get().json()
    assert (shown["plan"], shown["unsubscribed_at"]) == (None, shown["updated_at"])


def test_a_patient_without_a_plan_starts_unsubscribed_and_a_plan_subscribes(client, patient):
    client.put({"code": "m-1", "first_name": "Ada"})
    assert client.get().json()["unsubscribed_at"]
    client.put(patient)
    assert client.get().json()["unsubscribed_at"] is None


def test_the_same_data_again_changes_nothing(client, patient):
    client.put({**patient, "email": "ada@example.com"})
    before = client.get().json()
    client.box.settings.clock_skew = 3600
    client.put({**patient, "email": " ADA@example.com"})
    assert client.get().json() == before
    assert client.box.accepted == {"m-1": 2}


def test_an_unsubscribed_patient_sent_again_stays_as_it_was(client):
    client.put({"code": "m-1", "first_name": "Ada"})
    before = client.get().json()
    client.box.settings.clock_skew = 3600
    client.put({"code": "m-1", "first_name": "Ada"})
    assert client.get().json() == before


def test_the_same_data_again_can_update_updated_at(connect, patient):
    client = connect(touch_unchanged=True)
    client.put(patient)
    before = client.get().json()
    client.box.settings.clock_skew = 3600
    client.put(patient)
    after = client.get().json()
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] > before["updated_at"]


def test_a_change_updates_updated_at_but_not_created_at(client, patient):
    client.put(patient)
    before = client.get().json()
    client.box.settings.clock_skew = 3600
    client.put({**patient, "first_name": "Grace"})
    after = client.get().json()
    assert after["created_at"] == before["created_at"]
    assert after["updated_at"] > before["updated_at"]


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("space", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+0000"),
        ("iso", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
    ],
)
def test_times_have_the_configured_format(connect, form, pattern):
    client = connect(timestamp_format=form)
    client.put({"code": "m-1", "first_name": "Ada"})
    shown = client.get().json()
    for name in ("created_at", "updated_at", "unsubscribed_at"):
        assert re.fullmatch(pattern, shown[name])


def test_the_time_of_a_write_is_when_it_is_applied(connect, patient, eventually):
    client = connect(lag=1.1)
    accepted = int(time.time())
    client.put(patient)
    eventually(lambda: "m-1" in client.box.patients)
    written = datetime.fromisoformat(client.get().json()["updated_at"]).timestamp()
    assert accepted + 1 <= written <= time.time()


def test_the_clock_can_be_ahead(connect, patient):
    client = connect(clock_skew=86400)
    client.put(patient)
    written = datetime.fromisoformat(client.get().json()["updated_at"])
    assert (written - datetime.now(UTC)).total_seconds() > 86000


def test_writes_that_are_not_visible_yet_are_counted_as_pending(connect, patient):
    client = connect(lag=60)
    client.put(patient, {**patient, "code": "m-2"})
    stats = client.control("GET", "/sandbox/stats").json()
    assert (stats["visible"], stats["pending"]) == (0, 2)


def test_visible_writes_are_not_pending(client, patient):
    client.put(patient, {**patient, "code": "m-2"})
    stats = client.control("GET", "/sandbox/stats").json()
    assert (stats["visible"], stats["pending"]) == (2, 0)
