import threading
from types import SimpleNamespace

import pytest

from airflow_provider_mediquo.api.errors import MediquoError, ServerError, StoppedError
from airflow_provider_mediquo.api.upload import pool as pool_module
from airflow_provider_mediquo.api.upload.pool import SendingPool
from tests.support.time_limits import TimeLimit

PATIENCE = 30


@pytest.fixture
def halted():
    return []


@pytest.fixture
def pool(halted):
    pool = SendingPool(3, halted.append)
    yield pool
    pool.close(nothing)


def nothing():
    pass


def test_all_jobs_are_done_when_it_has_waited(pool, halted):
    done = []
    for number in range(50):
        assert pool.submit(nothing, lambda number, chunk: done.append((number, chunk)), number, "c")
    pool.wait()
    assert sorted(done) == [(number, "c") for number in range(50)]
    assert not halted
    pool.wait()


def test_there_is_never_more_work_than_threads(pool):
    running, most, lock = [], [], threading.Lock()
    all_there = threading.Barrier(3, timeout=PATIENCE)

    def job(number, chunk):
        with lock:
            running.append(number)
            most.append(len(running))
        if number < 3:
            all_there.wait()  # three at once
        with lock:
            running.remove(number)

    for number in range(12):
        pool.submit(nothing, job, number, None)
    pool.wait()
    assert max(most) == 3


def test_a_check_that_raises_gives_its_thread_back(pool):
    class Halted(BaseException):
        pass

    def check():
        raise Halted

    for number in range(10):
        with pytest.raises(Halted):
            pool.submit(check, lambda *_: pytest.fail("submitted"), number, None)
    pool.wait()


@pytest.mark.parametrize("error", [ServerError("down"), MediquoError("else")])
def test_an_error_of_a_job_halts(pool, halted, error):
    def job(number, chunk):
        raise error

    pool.submit(nothing, job, 1, None)
    pool.wait()
    assert halted == [error]
    assert pool.failure is None


def test_a_job_that_was_stopped_says_nothing(pool, halted):
    def job(number, chunk):
        raise StoppedError("killed")

    pool.submit(nothing, job, 1, None)
    pool.wait()
    assert not halted


def test_what_is_no_error_of_ours_is_kept_for_the_reader(pool, halted):
    full = OSError(28, "secret")

    def job(number, chunk):
        raise full

    pool.submit(nothing, job, 1, None)
    pool.wait()
    assert pool.failure is full
    assert [str(error) for error in halted] == ["OSError."]


def test_a_worker_that_allows_no_thread_halts(pool, halted, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool._threads, "submit", refuse)
    assert not pool.submit(nothing, lambda *_: None, 1, None)
    assert "cannot start a thread to send with: can't start new thread" in str(halted[0])
    pool.wait()


def test_a_job_whose_thread_was_started_when_a_signal_came_is_waited_for(pool, monkeypatch):
    """The executor does not know that thread."""

    class Cut(BaseException):
        pass

    start, begun, go_on, done = threading.Thread.start, threading.Event(), threading.Event(), []

    def start_and_cut(thread):
        start(thread)
        assert begun.wait(PATIENCE)
        raise Cut

    def job(number, chunk):
        begun.set()
        assert go_on.wait(PATIENCE)
        done.append(threading.current_thread())

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_and_cut)
        with pytest.raises(Cut):
            pool.submit(nothing, job, 0, None)
    threading.Timer(0.2, go_on.set).start()
    pool.close(nothing)
    assert done
    assert not done[0].is_alive()


def test_a_time_limit_while_a_job_is_handed_over_strikes_afterwards(pool, monkeypatch, strike):
    """In the middle, it would leave the executor's own lock held, and nothing would end."""
    submit, done = pool._threads.submit, []

    def interrupted(*given):
        strike()
        return submit(*given)

    with monkeypatch.context() as patched:
        patched.setattr(pool._threads, "submit", interrupted)
        with pytest.raises(TimeLimit):
            pool.submit(nothing, lambda number, chunk: done.append(number), 0, None)
    pool.wait()  # with the thread of that job
    assert done == [0]


def test_a_time_limit_while_it_is_closed_ends_all_requests(monkeypatch, strike):
    pool, done = SendingPool(1, print), []
    begun, go_on = threading.Event(), threading.Event()

    def job(number, chunk):
        begun.set()
        assert go_on.wait(PATIENCE)
        done.append(number)

    def sleep(seconds):
        if not go_on.is_set():
            strike()

    pool.submit(nothing, job, 0, None)
    assert begun.wait(PATIENCE)
    monkeypatch.setattr(pool_module, "time", SimpleNamespace(sleep=sleep))
    with pytest.raises(TimeLimit):
        pool.close(go_on.set)
    assert done == [0]
