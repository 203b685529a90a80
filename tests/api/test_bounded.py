import signal
import threading
import time

import pytest

from airflow_provider_mediquo.api import bounded
from airflow_provider_mediquo.api.errors import MediquoError
from tests.support.threads import join, launch
from tests.support.time_limits import TimeLimit

SOON = 20  # seconds, on a busy machine


def call(act, allowed=lambda: SOON):
    return bounded.call(act, "a-name", allowed)


@pytest.fixture
def hangs():
    is_over = threading.Event()
    yield lambda: is_over.wait(3 * SOON)
    is_over.set()


def test_the_result_is_returned_even_if_it_is_none():
    assert call(lambda: 7) == 7
    assert call(lambda: None) is None


def test_an_error_is_raised_here():
    def fail():
        raise LookupError(threading.current_thread().name)

    with pytest.raises(LookupError, match="a-name"):
        call(fail)


def test_what_takes_too_long_is_abandoned(hangs):
    with pytest.raises(bounded.NoAnswerError, match="no answer"):
        call(hangs, lambda: 0.2)


def test_less_may_be_allowed_meanwhile(hangs):
    start = time.monotonic()
    with pytest.raises(bounded.NoAnswerError):
        call(hangs, lambda: 0.2 if time.monotonic() > start + 0.3 else 3 * SOON)
    assert 0.3 < time.monotonic() - start < SOON


def test_what_is_done_in_time_counts():
    assert call(lambda: time.sleep(0.3) or 7) == 7


@pytest.mark.parametrize("kind", [TimeoutError, KeyboardInterrupt])
def test_an_error_of_the_function_is_its_own(kind):
    def fail():
        raise kind("its own")

    with pytest.raises(kind, match="its own") as raised:
        call(fail)
    assert type(raised.value) is kind


def test_a_worker_without_threads_says_so(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(MediquoError, match="Allow the worker more threads"):
        call(lambda: 7)


def test_a_time_limit_strikes_after_what_must_not_be_left_half_done(strike):
    done = []
    with pytest.raises(TimeLimit), bounded.deferring_time_limit():
        strike()
        done.append("the rest")
    assert done
    with pytest.raises(TimeLimit):
        strike()


def test_it_strikes_also_if_that_fails(strike):
    with pytest.raises(TimeLimit) as raised, bounded.deferring_time_limit():
        strike()
        raise LookupError
    assert isinstance(raised.value.__context__, LookupError)


def test_without_a_time_limit_nothing_changes(strike):
    limit = signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with bounded.deferring_time_limit():
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    signal.signal(signal.SIGALRM, limit)
    seen = []

    def look():
        with bounded.deferring_time_limit():
            seen.append(signal.getsignal(signal.SIGALRM))

    thread = threading.Thread(target=look)  # which cannot change a handler
    launch(thread)
    join(thread)
    assert seen == [limit]


def test_a_thread_whose_start_a_time_limit_interrupts_runs(strike, monkeypatch):
    start, has_run = threading.Thread.start, threading.Event()

    def interrupted(thread):
        strike()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(TimeLimit):
        bounded.start(threading.Thread(target=has_run.set))
    assert has_run.wait(SOON)
