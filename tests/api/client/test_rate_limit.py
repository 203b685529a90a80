import sys
from collections.abc import Iterator
from itertools import count
from threading import Thread
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mediquo.api.client.rate_limit import WINDOW, RateLimiter, RateLimiters


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(clock=clock.monotonic)


def take_all(limiter: RateLimiter, limit: int) -> int:
    """Take and answer until there is nothing to take; return how many there were."""
    for taken in range(10 * limit):
        if limiter.try_acquire(limit):
            return taken
        limiter.release()
    raise AssertionError("The limiter has no limit.")


def test_a_run_shorter_than_the_limit_is_not_slowed_down(limiter, clock):
    assert [limiter.try_acquire(600) for _ in range(600)] == [0.0] * 600


def test_slots_in_flight_count(limiter, clock):
    assert [limiter.try_acquire(3) for _ in range(3)] == [0.0] * 3
    assert 0 < limiter.try_acquire(3) < 1, "one may come free any moment"
    limiter.release()
    assert limiter.try_acquire(3) == WINDOW


def test_a_slot_comes_free_60_seconds_after_its_answer_not_after_its_request(limiter, clock):
    assert limiter.try_acquire(1) == 0.0
    clock.now += 50
    limiter.release()
    clock.now += 59
    assert limiter.try_acquire(1) == 1.0
    clock.now += 1
    assert limiter.try_acquire(1) == 0.0


def test_the_log_slides(limiter, clock):
    for _ in range(6):
        assert limiter.try_acquire(6) == 0.0
        limiter.release()
        clock.now += 10
    assert limiter.try_acquire(6) == 0.0, "the first one's minute is over"
    limiter.release()
    assert limiter.try_acquire(6) == 10.0


def test_a_lower_limit_that_mediquo_tells_goes_first(limiter, clock):
    assert limiter.try_acquire(600) == 0.0
    limiter.release(reported_limit=5)
    assert take_all(limiter, 600) == 4
    clock.now += WINDOW
    assert take_all(limiter, 600) == 5, "also when later answers do not tell it"


def test_a_higher_limit_that_mediquo_tells_does_not(limiter, clock):
    assert limiter.try_acquire(5) == 0.0
    limiter.release(reported_limit=600)
    assert take_all(limiter, 5) == 4


def test_a_limit_that_mediquo_raises_again_is_heeded(limiter, clock):
    limiter.try_acquire(600)
    limiter.release(reported_limit=2)
    limiter.try_acquire(600)
    limiter.release(reported_limit=50)
    assert take_all(limiter, 600) == 48


def test_nothing_leaves_while_mediquo_asks_to_wait(limiter, clock):
    limiter.try_acquire(600)
    limiter.release()
    limiter.on_throttled(7.0)
    assert limiter.try_acquire(600) == 7.0
    clock.now += 6
    assert limiter.try_acquire(600) == 1.0
    limiter.on_throttled(0.5)
    assert limiter.try_acquire(600) == 1.0, "a shorter pause does not end a longer one"
    clock.now += 1
    assert limiter.try_acquire(600) == 0.0


def test_it_tells_for_how_long_nothing_but_429_came(limiter, clock):
    assert limiter.on_throttled(60.0) == (0.0, True)
    assert limiter.on_throttled(60.0) == (0.0, False), "the pause has begun already"
    clock.now += 60
    assert limiter.on_throttled(60.0) == (60.0, True)
    clock.now += 60
    limiter.on_success()
    clock.now += 60
    assert limiter.on_throttled(60.0) == (0.0, True)


def test_an_endpoint_of_a_host_has_one_pace_in_a_process():
    limiters = RateLimiters()
    one = limiters.get("https://example.com/v1", "patients")
    assert limiters.get("https://example.com/v1", "patients") is one
    assert limiters.get("https://example.com/v1", "patients/{code}") is not one
    assert limiters.get("https://example.org/v1", "patients") is not one


@pytest.mark.parametrize("line", range(10))
def test_two_threads_never_take_the_same_slot(limiter, line):
    """Another thread asks for the only slot just before this one runs a line of `try_acquire`."""
    results: list[float] = []
    other = Thread(target=lambda: results.append(limiter.try_acquire(1)), daemon=True)
    lines = count()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code is not RateLimiter.try_acquire.__code__:
            return None
        if event == "line" and next(lines) == line:
            other.start()
            other.join(0.5)  # longer, if this thread holds the lock
        return trace

    tracer_of_coverage = sys.gettrace()
    sys.settrace(trace)
    try:
        results.append(limiter.try_acquire(1))
    finally:
        sys.settrace(tracer_of_coverage)
    if other.ident is None:  # `try_acquire` has fewer lines
        other.start()
    other.join(30)
    assert min(results) == 0.0 < max(results)


def most_in_any_window(moments: list[float]) -> int:
    """A strict sliding count: the most in any 60 seconds."""
    return max((sum(m <= n < m + WINDOW for n in moments) for m in moments), default=0)


def most_in_a_minute(moments: list[float]) -> int:
    """A strict fixed count, whose minute begins with the first request after the last one."""
    most = count = 0
    began = -WINDOW
    for moment in sorted(moments):
        if moment >= began + WINDOW:
            began, count = moment, 0
        count += 1
        most = max(most, count)
    return most


STEP = st.one_of(
    st.just("take"),
    st.just("take"),
    st.tuples(st.just("answer"), st.integers(0, 5), st.integers(0, 100)),
    st.tuples(st.just("pass"), st.sampled_from([1, 7, 29, 30, 31, 59, 60, 61])),
    st.just("wait"),
)


@settings(deadline=None, database=None, derandomize=True, max_examples=400)
@given(st.integers(1, 5), st.lists(STEP, min_size=10, max_size=80))
def test_no_server_ever_counts_more_than_the_limit_wherever_it_counts(limit, steps):
    clock = Clock()
    counted = list(play(RateLimiter(clock=clock.monotonic), clock, limit, steps))
    assert most_in_any_window(counted) <= limit
    assert most_in_a_minute(counted) <= limit


def play(limiter: RateLimiter, clock: Clock, limit: int, steps: list) -> Iterator[float]:
    """Run the steps; give the moments at which a server counted the requests."""
    in_flight: list[float] = []
    for step in steps:
        if step == "take":
            if limiter.try_acquire(limit) == 0.0:
                in_flight.append(clock.now)
        elif step == "wait":
            if (seconds := limiter.try_acquire(limit)) == 0.0:
                in_flight.append(clock.now)
            elif not in_flight:
                clock.now += seconds
                assert limiter.try_acquire(limit) == 0.0, "it waited as long as it was told"
                in_flight.append(clock.now)
        elif step[0] == "pass":
            clock.now += step[1]
        elif in_flight:
            left = in_flight.pop(step[1] % len(in_flight))
            yield left + (clock.now - left) * step[2] / 100
            limiter.release()
    yield from in_flight


def test_what_is_in_flight_when_a_process_forks_is_not_in_the_fork(python):
    code = """
import os
from airflow_provider_mediquo.api.client.rate_limit import SHARED_LIMITERS
assert SHARED_LIMITERS.get("x", "y").try_acquire(1) == 0
assert SHARED_LIMITERS.get("x", "y").try_acquire(1) > 0
if not (child := os.fork()):
    os._exit(bool(SHARED_LIMITERS.get("x", "y").try_acquire(1)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert python(code) == "0\n"
