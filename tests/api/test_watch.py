"""Looking whether patients are visible."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_mediquo.api.patients import get
from airflow_provider_mediquo.api.watch import Watch


def test_a_pause_ends_a_look_and_is_no_error(box, client):
    box.script("get", "429:700")
    watch = Watch(client, {"m-1": None})
    assert not watch.look()
    assert "429" in str(watch)
    assert not watch.look()
    assert "rate limit" in str(watch)
    assert box.counters.total == 1


def test_a_look_that_is_cut_short_gives_back_what_it_took_of_the_pace(box, client):
    """The pace is shared by all that wait in a triggerer, for as long as it lives."""
    pace, limit = client.pace(get("m-1")), 3
    busy = threading.Event()

    async def cut_short() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as threads:
            loop.set_default_executor(threads)
            threads.submit(busy.wait)
            try:
                async with asyncio.timeout(0.1):
                    await Watch(client, {f"m-{n}": None for n in range(9)}).look_async()
            finally:
                busy.set()

    with pytest.raises(TimeoutError):
        asyncio.run(cut_short())
    assert [pace.take(limit) for _ in range(limit)] == [0.0] * limit
