"""Checking whether patients are visible."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest

from airflow_provider_mediquo.api.errors import AuthenticationError
from airflow_provider_mediquo.api.patients.endpoints import encode_patient, get, upsert
from airflow_provider_mediquo.api.visibility import poller
from airflow_provider_mediquo.api.visibility.fingerprint import make_proof
from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller
from tests.support.threads import join, launch

ADA = {"code": "m-1", "first_name": "Ada"}


def test_a_pause_ends_a_check_without_an_error(box, client):
    box.script("get", "429:700")
    watch = VisibilityPoller(client, {"m-1": None})
    assert not watch.look()
    assert "429" in str(watch)
    assert not watch.look()
    assert "rate limit" in str(watch)
    assert box.counters.total == 1


def look_async(watch: VisibilityPoller) -> bool:
    return asyncio.run(watch.look_async())


BOTH_WAYS = pytest.mark.parametrize("look", [VisibilityPoller.look, look_async])


@BOTH_WAYS
def test_an_answer_with_another_patient_does_not_affect_the_others(
    serve, answer, connect, monkeypatch, look
):
    """As from a database that treats both codes as one: this patient may never be visible."""
    monkeypatch.setattr(poller, "_MAX_IN_FLIGHT", 1)  # so that the last request is the one

    def answer_another(server, connection):
        code = unquote(server.requests[-1].line.split()[1].rpartition("/")[2])
        shown = {"code": code.replace("\u00c9", "E"), "first_name": "Ada"}
        server.send(connection, answer(body=shown, Connection="close"))

    watch = VisibilityPoller(
        connect(serve(answer_another).url), dict.fromkeys(["\u00c9-1", "m-2", "m-3"])
    )
    assert not look(watch)
    assert [*watch.pending] == ["\u00c9-1"]
    assert str(watch) == (
        "Not visible yet: 1 patient; the answer is another patient or cannot be read: \u00c9-1"
    )


def test_a_patient_is_reported_by_the_latest_answer(serve, answer, connect):
    wire = serve(answer(404, {}), answer(200, {"code": "m-2", "first_name": "Ada"}))
    watch = VisibilityPoller(connect(wire), {"m-1": None})
    assert not watch.look()
    assert not watch.look()
    assert str(watch) == (
        "Not visible yet: 1 patient; the answer is another patient or cannot be read: m-1"
    )


@BOTH_WAYS
def test_a_check_ends_at_the_first_error_of_a_mediquo_that_is_down(box, client, monkeypatch, look):
    """Otherwise each patient would take a whole timeout."""
    monkeypatch.setattr(poller, "_MAX_IN_FLIGHT", 1)
    box.script("get", *["503"] * 3)
    watch = VisibilityPoller(client, dict.fromkeys(["m-1", "m-2", "m-3"]))
    assert not look(watch)
    assert "503" in str(watch)
    assert box.counters.total == 1


@BOTH_WAYS
def test_in_the_triggerer_at_most_four_more_requests_follow_an_error(box, client, look):
    box.settings.error_rate = 1
    watch = VisibilityPoller(client, dict.fromkeys(map(str, range(40))))
    assert not look(watch)
    assert box.counters.total <= 4


def test_a_check_that_is_interrupted_releases_what_it_took_of_the_rate_limit(box, client):
    """All sensors in a triggerer share the rate limiter, for as long as it runs."""
    limiter, limit = client.limiter(get("m-1")), 3
    busy = threading.Event()

    async def interrupted() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as threads:
            loop.set_default_executor(threads)
            threads.submit(busy.wait)
            try:
                async with asyncio.timeout(0.1):
                    await VisibilityPoller(client, {f"m-{n}": None for n in range(9)}).look_async()
            finally:
                busy.set()

    with pytest.raises(TimeoutError):
        asyncio.run(interrupted())
    assert [limiter.try_acquire(limit) for _ in range(limit)] == [0.0] * limit


def test_a_check_that_is_interrupted_reports_the_trouble_of_the_one_before(box, client):
    watch = VisibilityPoller(client, {"m-1": None})
    box.script("get", "503", "hang")

    async def look_twice():
        assert not await watch.look_async()
        try:
            async with asyncio.timeout(0.3):
                await watch.look_async()
        finally:
            watch.close()

    with pytest.raises(TimeoutError):
        asyncio.run(look_twice())
    assert "503" in str(watch)


def test_a_problem_is_no_longer_reported_once_the_patient_is_visible(box, client):
    proof = make_proof(ADA, client.settings.secret_key, None)
    watch = VisibilityPoller(client, {"m-1": proof, "m-2": None})
    assert not watch.look()
    assert "not found: m-1, m-2" in str(watch)
    client.send(upsert([encode_patient(ADA | {"first_name": "Grace"})]))
    assert not watch.look()
    assert "not found: m-2; differ from what was written: m-1 (first_name)" in str(watch)
    box.script("get", "not_json")
    assert not watch.look()
    assert "cannot be read: m-1" in str(watch)
    client.send(upsert([encode_patient(ADA)]))
    assert not watch.look()
    assert str(watch) == "Not visible yet: 1 patient; not found: m-2"


@BOTH_WAYS
def test_the_message_explains_why_a_code_with_a_slash_may_not_be_found(client, look):
    reason = "a code with `/` may never be found"
    watch = VisibilityPoller(client, dict.fromkeys(["m/1", "m-2"]))
    assert not look(watch)
    assert reason in str(watch)
    client.send(upsert([encode_patient(ADA | {"code": "m/1"})]))
    assert not look(watch)
    assert reason not in str(watch)


@BOTH_WAYS
def test_an_error_that_needs_a_fix_is_raised(box, client, look):
    box.script("get", "401")
    with pytest.raises(AuthenticationError):
        look(VisibilityPoller(client, {"m-1": None}))


def test_no_request_starts_after_the_end_of_the_time(box, client):
    watch = VisibilityPoller(client, dict.fromkeys(["m-1", "m-2"]))
    assert not watch.look(until=time.monotonic() - 1)
    assert box.counters.total == 0
    assert "there was no time to check the other codes" in str(watch)


@pytest.mark.no_cover
def test_its_text_can_be_read_while_requests_are_answered(client):
    """As at a timeout in the triggerer: requests in progress go on in their threads."""
    codes = [f"m-{number}" for number in range(1000)]
    watch = VisibilityPoller(client, dict.fromkeys(codes))
    is_over = threading.Event()

    def answer():
        while not is_over.is_set():
            for code in codes:
                watch._note(code, None)

    answering = threading.Thread(target=answer)
    launch(answering)
    try:
        for _ in range(300):
            assert "Not visible yet: 1,000" in str(watch)
    finally:
        is_over.set()
        join(answering)
