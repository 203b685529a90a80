"""Looking whether patients are visible."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest

from airflow_provider_mediquo.api.patients.endpoints import encode_patient, get, upsert
from airflow_provider_mediquo.api.visibility import poller as watch_module
from airflow_provider_mediquo.api.visibility.fingerprint import make_proof
from airflow_provider_mediquo.api.visibility.poller import VisibilityPoller

ADA = {"code": "m-1", "first_name": "Ada"}


def test_a_pause_ends_a_look_and_is_no_error(box, client):
    box.script("get", "429:700")
    watch = VisibilityPoller(client, {"m-1": None})
    assert not watch.look()
    assert "429" in str(watch)
    assert not watch.look()
    assert "rate limit" in str(watch)
    assert box.counters.total == 1


@pytest.mark.parametrize(
    "look", [VisibilityPoller.look, lambda watch: asyncio.run(watch.look_async())]
)
def test_a_patient_of_another_code_keeps_no_other_from_being_seen(
    serve, answer, connect, monkeypatch, look
):
    """As of a database to which both are one code: their own may never be seen."""
    monkeypatch.setattr(watch_module, "_AT_ONCE", 1)  # so that the last request is the one

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
        "Not visible yet: 1; the answer is another patient, or cannot be read: \u00c9-1"
    )


def test_a_patient_that_was_not_found_and_is_another_is_told_as_another(serve, answer, connect):
    wire = serve(answer(404, {}), answer(200, {"code": "m-2", "first_name": "Ada"}))
    watch = VisibilityPoller(connect(wire), {"m-1": None})
    assert not watch.look()
    assert not watch.look()
    assert str(watch) == (
        "Not visible yet: 1; the answer is another patient, or cannot be read: m-1"
    )


def test_a_look_at_a_mediquo_that_is_down_asks_once(box, client):
    """Each answer that does not come takes as long as one may."""
    box.script("get", "503")
    watch = VisibilityPoller(client, dict.fromkeys(["m-1", "m-2", "m-3"]))
    assert not watch.look()
    assert "503" in str(watch)
    assert box.counters.total == 1


def test_a_look_that_is_cut_short_gives_back_what_it_took_of_the_pace(box, client):
    """The pace is shared by all that wait in a triggerer, for as long as it lives."""
    limiter, limit = client.limiter(get("m-1")), 3
    busy = threading.Event()

    async def cut_short() -> None:
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
        asyncio.run(cut_short())
    assert [limiter.try_acquire(limit) for _ in range(limit)] == [0.0] * limit


def test_a_look_that_is_broken_off_tells_of_the_trouble_before_it(box, client):
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


def test_what_was_amiss_with_a_patient_is_not_told_once_it_is_visible(box, client):
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
    assert str(watch) == "Not visible yet: 1; not found: m-2"
