import threading
import time

import pytest

from airflow_provider_mediquo.api import bounded

SOON = 20  # seconds, on a busy machine


def call(act, **options):
    defaults = {"seconds": SOON, "is_killed": lambda: False, "grace": SOON}
    return bounded.call(act, "a-name", **defaults | options)


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
    with pytest.raises(TimeoutError, match="no answer"):
        call(hangs, seconds=0.2)


def test_a_kill_leaves_only_the_grace(hangs):
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        call(hangs, seconds=3 * SOON, grace=0.2, is_killed=lambda: time.monotonic() > start + 0.3)
    assert 0.3 < time.monotonic() - start < SOON


def test_what_is_done_within_the_grace_counts():
    assert call(lambda: time.sleep(0.3) or 7, is_killed=lambda: True) == 7
