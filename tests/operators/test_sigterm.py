"""What a worker does to a task that it kills: a real SIGTERM, through Airflow's own handler."""

import itertools
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from airflow_provider_mediquo.decorators.mediquo_upsert import mediquo_upsert_task
from tests.support.threads import join, launch

pytestmark = pytest.mark.usefixtures("dag")


@contextmanager
def sigterm_when(condition):
    """Send it, again and again as an impatient scheduler would, from when that holds."""
    over = threading.Event()

    def send():
        while not over.wait(0.05):
            if condition():
                os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    # While no task handles it: one that comes too late must not end the tests.
    usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    launch(sender)
    try:
        yield
    finally:
        over.set()
        join(sender)
        signal.signal(signal.SIGTERM, usual)


@pytest.mark.parametrize("fault", ["hang", "429:300"])
def test_it_ends_a_wait_for_mediquo_at_once(box, run_task, people, fault):
    box.script("upsert", fault)
    closed = []

    @mediquo_upsert_task(max_without_plan=None)
    def members():
        try:
            yield from people(3)
        finally:
            closed.append(True)

    started = time.monotonic()
    with sigterm_when(lambda: box.counters.faults[fault] or box.counters.in_flight):
        run = run_task(members().operator)
    assert time.monotonic() - started < 10
    assert run.state == "up_for_retry"
    assert "Stopped: the task was killed. 0 upserted, 3 unsettled, 0 rejected." in str(run.error)
    assert closed == [True]


def test_it_ends_a_wait_of_the_source_too(box, run_task, people):
    waiting = threading.Event()
    closed = []

    @mediquo_upsert_task(max_without_plan=None)
    def members():
        try:
            yield from people(3)
            for _ in itertools.count():
                waiting.set()
                time.sleep(300)
        finally:
            closed.append(True)

    started = time.monotonic()
    with sigterm_when(waiting.is_set):
        run = run_task(members().operator)
    assert time.monotonic() - started < 10
    assert run.state == "up_for_retry"
    assert "3 unsettled" in str(run.error)
    assert closed == [True]
    assert box.counters.total == 0
