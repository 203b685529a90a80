"""The trigger, run as the triggerer runs it: on an event loop that it must not hold up."""

import asyncio
import gc
import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout
from airflow.triggers.base import TriggerEvent

from airflow_provider_mediquo.api import visibility
from airflow_provider_mediquo.api.errors import AuthenticationError, MediquoError
from airflow_provider_mediquo.api.visibility import poller
from airflow_provider_mediquo.hooks.mediquo import MediquoHook
from airflow_provider_mediquo.triggers.patients import MediquoPatientTrigger, read_event
from tests.support.processes import running

SOON = 20  # seconds, on a busy machine


def trigger(*codes, seconds=60.0, **options):
    options = {
        "mediquo_conn_id": "mediquo_default",
        "expected": dict.fromkeys(codes),
        "poke_interval": 0.1,
        "deadline": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(),
    } | options
    return MediquoPatientTrigger(**options)


async def events_of(trigger):
    return [event async for event in trigger.run()]


def run(trigger):
    """Run it to its end, and return its one event's payload."""
    (event,) = asyncio.run(events_of(trigger))
    assert isinstance(event, TriggerEvent)
    json.dumps(event.payload)
    return event.payload


async def happens(condition):
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.01)


def write(*codes):
    patients = [{"code": code, "first_name": "Ada", "plan": "premium"} for code in codes]
    return MediquoHook().upsert_patients(patients).sample


# --- what it is made of ---------------------------------------------------------------------------


def test_it_can_be_recreated_from_primitives():
    made = trigger("m-1", "m-2", exponential_backoff=True, max_wait=60.0)
    path, kwargs = made.serialize()
    assert path == "airflow_provider_mediquo.triggers.patients.MediquoPatientTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    again = MediquoPatientTrigger(**kwargs)
    assert again.serialize() == (path, kwargs)
    assert (again.exponential_backoff, again.max_wait) == (True, 60.0)


def test_its_deadline_is_a_moment_which_a_restart_does_not_move():
    moment = "2026-11-21T20:00:00+00:00"
    _, kwargs = trigger("m-1", deadline=moment).serialize()
    assert MediquoPatientTrigger(**kwargs).deadline == moment


def test_it_can_be_made_without_a_connection():
    trigger("m-1", mediquo_conn_id="there_is_none").serialize()


# --- its three events -----------------------------------------------------------------------------


def test_it_ends_when_all_are_visible(box):
    box.settings.lag = 0.4
    expected = write("m-1", "m-2")
    assert run(trigger(expected=expected)) == {"status": "visible"}
    assert set(box.patients) == {"m-1", "m-2"}


@pytest.mark.parametrize("is_on", [True, False])
def test_garbage_collection_stays_as_it_was(box, monkeypatch, is_on):
    during = []
    make = MediquoHook.get_conn
    monkeypatch.setattr(
        MediquoHook, "get_conn", lambda hook: during.append(gc.isenabled()) or make(hook)
    )
    expected = write("m-1")
    (gc.enable if is_on else gc.disable)()
    try:
        run(trigger(expected=expected))
        assert gc.isenabled() is is_on
    finally:
        gc.enable()
    assert during == [is_on], "off only while something is imported"


def test_an_import_starts_no_garbage_collection(box, monkeypatch):
    class Finder:
        """Finds nothing, and notes whether garbage is collected while the poller is imported."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == poller.__name__:
                during.append(gc.isenabled())

    during: list[bool] = []
    expected = write("m-1")
    monkeypatch.setattr(visibility, "poller", poller)  # both come back after the test
    monkeypatch.delitem(sys.modules, poller.__name__)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert run(trigger(expected=expected)) == {"status": "visible"}
    assert during == [False]
    assert gc.isenabled()


def test_those_that_were_seen_are_not_asked_for_again(box):
    write("m-1")
    box.settings.lag = 0.5
    write("m-2")
    assert run(trigger("m-1", "m-2")) == {"status": "visible"}
    found = [entry for entry in box.journal if entry.endpoint == "get" and entry.status == 200]
    assert len(found) == 2


def test_it_gives_up_at_its_deadline_and_says_what_is_missing(box):
    started = time.monotonic()
    event = run(trigger("m-1", seconds=0.5))
    assert time.monotonic() - started < SOON
    assert event["status"] == "timed out"
    assert "not found: m-1" in event["detail"]


def test_it_gives_up_in_the_middle_of_a_request(box):
    box.script("get", "hang")
    started = time.monotonic()
    assert run(trigger("m-1", seconds=0.5))["status"] == "timed out"
    assert time.monotonic() - started < SOON, "the connection's timeout is 30 s"


def test_a_deadline_that_has_passed_ends_it_without_a_request(box):
    event = run(trigger("m-1", seconds=-60))
    assert event["status"] == "timed out"
    assert event["detail"] == "No triggerer checked during the wait."
    assert box.counters.total == 0


def test_wrong_keys_end_it_at_once(box, connect):
    connect(box, password="another-secret-key")
    event = run(trigger("m-1"))
    assert event["status"] == "failed"
    assert event["kind"] == "AuthenticationError"
    assert box.counters.total == 1


def test_settings_that_cannot_work_end_it_at_once(box, connect):
    connect(box, host="http://sdk.mediquo.com/v1")
    assert run(trigger("m-1"))["kind"] == "ConnectionSettingsError"


@pytest.mark.parametrize("error", [TimeoutError("of the supervisor"), KeyError("m-1"), OSError()])
def test_an_error_that_nobody_foresaw_is_a_failure_and_names_its_kind_alone(
    box, monkeypatch, caplog, capsys, error
):
    """Airflow would turn a crash of the trigger into a skip, where a sensor has `soft_fail`."""

    def get_conn(hook):
        raise error

    monkeypatch.setattr(MediquoHook, "get_conn", get_conn)
    event = run(trigger("m-1"))
    detail = f"The trigger failed: {type(error).__name__}. See the triggerer's log."
    assert event == {"status": "failed", "kind": "MediquoError", "detail": detail}
    logged = caplog.text + capsys.readouterr().out  # Airflow 3.1 logs by another way than 3.3
    assert "The trigger failed." in logged
    assert "Traceback" in logged


def test_a_connection_that_the_triggerer_lacks_ends_it_at_once(box):
    event = run(trigger("m-1", mediquo_conn_id="there_is_none"))
    assert (event["status"], event["kind"]) == ("failed", "ConnectionSettingsError")
    first, second = event["detail"].splitlines()
    assert first == "The triggerer cannot find the connection 'there_is_none'."
    assert "not only on the workers" in second


@pytest.mark.parametrize("outcome", ["503", "lost_before", "not_json"])
def test_an_answer_that_fails_for_a_passing_reason_is_waited_out(box, outcome):
    write("m-1")
    box.script("get", outcome)
    assert run(trigger("m-1")) == {"status": "visible"}
    assert box.counters.requests["get"].total() == 2


def test_it_looks_ever_less_often_where_that_is_wanted(box):
    run(trigger("m-1", seconds=1.5, exponential_backoff=True))
    assert box.counters.total <= 4, "at 0, 0.1, 0.3 and 0.7 seconds"


def test_it_looks_at_least_as_often_as_wanted(box):
    async def look_often():
        often = trigger("m-1", exponential_backoff=True, max_wait=0.1)
        looking = asyncio.create_task(events_of(often))
        await happens(lambda: box.counters.total > 12)  # without `max_wait`, 8 in this time
        looking.cancel()

    asyncio.run(look_often())


# --- reading an event -----------------------------------------------------------------------------


def test_visible_is_the_one_success():
    assert read_event({"status": "visible"}) is None


def test_an_event_of_time_running_out_is_airflows_own_timeout():
    with pytest.raises(AirflowSensorTimeout, match="not found: m-1"):
        read_event({"status": "timed out", "detail": "not found: m-1"})


def test_an_event_of_a_failure_becomes_that_error_again():
    event = {"status": "failed", "kind": "AuthenticationError", "detail": "Check the API key."}
    with pytest.raises(AuthenticationError, match=r"Check the API key\."):
        read_event(event)


@pytest.mark.parametrize("event", [None, {}, {"status": None}, {"status": "success"}])
def test_anything_else_is_an_error(event):
    with pytest.raises(MediquoError, match="unknown event"):
        read_event(event)


# --- being a good guest in the triggerer ----------------------------------------------------------


@pytest.fixture
def slow_url():
    """A sandbox that answers in 20 seconds, in a process of its own, which holds up nobody here."""
    command = [sys.executable, "-u", "-m", "airflow_provider_mediquo.sandbox"]
    command += ["--port", "0", "--latency", "20"]
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if found := re.search(r"Base URL\s+(\S+)", line):
                break
        yield found[1]
        process.terminate()
        process.communicate(timeout=SOON)


async def longest_gap(task, seconds):
    """Return the longest time between two beats that should be 10 ms apart."""
    gaps, last = [], time.monotonic()
    until = last + seconds
    while last < until and not task.done():
        await asyncio.sleep(0.01)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()
    return max(gaps)


@pytest.mark.no_cover
def test_slow_answers_do_not_hold_up_the_event_loop(slow_url, box, connect):
    connect(box, host=slow_url)
    codes = [f"m-{number}" for number in range(100)]

    async def measure():
        waiting = asyncio.create_task(events_of(trigger(*codes)))
        longest = await longest_gap(waiting, 3)
        assert not waiting.done()
        waiting.cancel()
        return longest

    assert asyncio.run(measure()) < 10, "an answer takes 20 s"


def test_many_codes_keep_the_pace(box, connect):
    connect(box, extra={"requests_per_minute": 10})

    async def measure():
        waiting = asyncio.create_task(events_of(trigger(*(f"m-{n}" for n in range(30)))))
        await happens(lambda: box.counters.total == 10)
        await asyncio.sleep(1)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(measure())
    assert box.counters.total == 10


def test_many_codes_take_few_threads(box):
    expected = dict.fromkeys(f"m-{number}" for number in range(20))
    MediquoHook().upsert_patients({"code": c, "first_name": "Ada", "plan": "a"} for c in expected)
    box.settings.latency = 0.05
    assert run(trigger(expected=expected)) == {"status": "visible"}
    assert box.counters.max_in_flight <= 4


def test_a_trigger_that_is_cancelled_leaves_no_thread_waiting(box, eventually):
    box.script("get", *["hang"] * 10)

    async def cancel():
        waiting = asyncio.create_task(events_of(trigger(*"abcdef")))
        await happens(lambda: box.counters.in_flight)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    started = time.monotonic()
    asyncio.run(cancel())  # which waits for its threads
    assert time.monotonic() - started < SOON, "the connection's timeout is 30 s"
    eventually(lambda: not box.counters.in_flight)


def test_a_trigger_that_is_cancelled_while_it_waits_for_the_pace_ends_at_once(box, connect):
    connect(box, extra={"requests_per_minute": 1})

    async def cancel():
        waiting = asyncio.create_task(events_of(trigger("m-1", "m-2")))
        await happens(lambda: box.counters.total)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    started = time.monotonic()
    asyncio.run(cancel())
    assert time.monotonic() - started < SOON
