import time
from email.utils import parsedate_to_datetime

import pytest
import requests

from airflow_provider_mediquo.sandbox import Settings
from airflow_provider_mediquo.sandbox.model.rate_limit import RateLimits


def limits(answer):
    return int(answer.headers["x-ratelimit-limit"]), int(answer.headers["x-ratelimit-remaining"])


def test_every_response_has_the_date_and_the_remaining_requests(client, patient):
    answers = [
        client.put(patient),
        client.put({}),
        client.put(patient, headers={}),
    ]
    client.box.script("upsert", "503", "not_json", "empty", "redirect", "404")
    answers += [client.put(patient) for _ in range(5)]
    assert [limits(answer) for answer in answers] == [(600, 599 - n) for n in range(8)]
    for answer in answers:
        age = time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp()
        assert 0 <= age < 60


def test_each_endpoint_has_its_own_count(client, patient):
    assert limits(client.put(patient)) == (600, 599)
    assert limits(client.get()) == (600, 599)
    assert limits(client.authenticate()) == (600, 599)
    assert limits(client.get("other")) == (600, 598)


def test_each_address_has_its_own_count(connect):
    client = connect(host="0.0.0.0", requests_per_minute=1)
    other = client.box.url.replace("127.0.0.1", "127.0.0.2")
    assert client.get().status_code == 404
    assert client.get().status_code == 429
    with requests.Session() as session:
        session.mount("http://", From("127.0.0.3"))
        answer = session.get(f"{other}/patients/m-1", headers=client.box.headers, timeout=10)
    assert answer.status_code == 404


class From(requests.adapters.HTTPAdapter):
    """Connects from another loopback address."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, source_address=(self._address, 0), **kwargs)


def test_one_request_too_many_is_a_429_and_nothing_is_written(connect, patient):
    client = connect(requests_per_minute=2)
    assert [client.put(patient).status_code for _ in range(3)] == [200, 200, 429]
    answer = client.put({**patient, "code": "m-2"})
    assert (answer.json(), limits(answer)) == ({"message": "Too Many Requests"}, (2, 0))
    assert client.box.accepted == {"m-1": 2}


def test_wrong_keys_count_too(connect):
    client = connect(requests_per_minute=1)
    assert [client.get(headers={}).status_code for _ in range(2)] == [401, 429]


def test_retry_after_in_seconds_is_the_rest_of_the_minute_rounded_up(connect):
    """Rounded down, a client would come back too early."""
    client = connect(requests_per_minute=1)
    started = time.monotonic()
    client.get()
    seconds = int(client.get().headers["retry-after"])
    assert 60 - (time.monotonic() - started) <= seconds <= 60


def test_retry_after_can_be_a_date_by_the_servers_clock(connect):
    client = connect(requests_per_minute=1, retry_after="date", clock_skew=7200)
    before = time.time()
    client.get()
    between = time.time()
    retry_at = parsedate_to_datetime(client.get().headers["retry-after"]).timestamp()
    assert before + 7260 <= retry_at <= between + 7261, "60 seconds after the first, rounded up"


def test_retry_after_can_be_missing(connect):
    client = connect(requests_per_minute=1, retry_after="none")
    client.get()
    assert "retry-after" not in client.get().headers


@pytest.mark.parametrize("window", ["fixed", "sliding"])
def test_refused_requests_do_not_extend_the_minute(connect, window):
    client = connect(requests_per_minute=2, window=window)
    seconds = iter([0, 0, 0, 30, 59.9, 60])
    client.box._mediquo.limits._clock = lambda: next(seconds)
    statuses = [client.get().status_code for _ in range(6)]
    assert statuses == [404, 404, 429, 429, 429, 404]


@pytest.mark.parametrize(
    ("window", "remaining", "free_in"),
    [
        # All three expire 60 seconds after the first, and a new minute has started.
        ("fixed", 3, 60),
        # Only the first one expires; the next request is accepted 60 seconds after the second.
        ("sliding", 1, 39),
    ],
)
def test_a_fixed_minute_ends_for_all_and_a_sliding_one_for_each(window, remaining, free_in):
    seconds = iter([0, 40, 50, 61])
    settings = Settings(requests_per_minute=4, window=window)
    limits = RateLimits(settings, clock=lambda: next(seconds))
    hit = [limits.hit("127.0.0.1", "get") for _ in range(4)][-1]
    assert (hit.remaining, hit.free_in) == (remaining, free_in)


@pytest.mark.parametrize("window", ["fixed", "sliding"])
def test_the_limit_can_be_lowered_below_the_accepted_requests(connect, window):
    client = connect(window=window)
    started = time.monotonic()
    for _ in range(5):
        client.get()
    client.box.settings.requests_per_minute = 2
    answer = client.get()
    assert (answer.status_code, limits(answer)) == (429, (2, 0))
    assert 60 - (time.monotonic() - started) <= int(answer.headers["retry-after"]) <= 60


@pytest.mark.parametrize(("window", "free_in"), [("fixed", 5), ("sliding", 45)])
def test_then_a_request_is_free_when_fewer_than_the_limit_are_left(window, free_in):
    seconds = iter([0, 40, 50, 55])
    settings = Settings(requests_per_minute=3, window=window)
    limits = RateLimits(settings, clock=lambda: next(seconds))
    for _ in range(3):
        limits.hit("127.0.0.1", "get")
    settings.requests_per_minute = 2
    hit = limits.hit("127.0.0.1", "get")
    assert (hit.refused, hit.free_in) == (True, free_in)


def test_a_reset_starts_a_new_minute(connect):
    client = connect(requests_per_minute=1)
    client.get()
    client.box.reset()
    assert client.get().status_code == 404
