"""Reading one batch ahead, in a thread."""

import threading
import time

import pytest

from airflow_provider_mediquo.sources.prefetch import Prefetch


def nothing():
    """Interrupt nothing."""


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "mediquo-source"]


def test_items_come_in_order():
    assert [*Prefetch(lambda: ([n, -n] for n in range(100)), nothing)] == [
        item for n in range(100) for item in (n, -n)
    ]


def test_no_more_than_three_batches_are_in_memory():
    """One in use, one ahead, and one that waits for its place."""
    read, one_more = [], threading.Event()

    def batches():
        for number in range(1000):
            read.append(number)
            if len(read) > 3:
                one_more.set()
            yield [number]

    items = iter(Prefetch(batches, nothing))
    assert next(items) == 0
    assert not one_more.wait(1)
    assert next(items) == 1
    assert one_more.wait(30)
    items.close()
    assert not threads()


def test_an_error_is_raised_after_the_items_before_it_and_carries_no_row():
    def batches():
        row = "canaryinamine"
        yield [row]
        raise LookupError

    items = iter(Prefetch(batches, nothing))
    assert next(items) == "canaryinamine"
    with pytest.raises(LookupError) as caught:
        next(items)
    names = {frame.name for frame in caught.traceback}
    assert "batches" not in names
    assert not threads()


def test_a_wait_is_interrupted_at_the_end():
    waits, interrupted = threading.Event(), threading.Event()

    def batches():
        yield [1]
        waits.set()
        interrupted.wait(60)
        yield [2]

    items = iter(Prefetch(batches, interrupted.set))
    assert next(items) == 1
    assert waits.wait(30)
    started = time.monotonic()
    items.close()
    assert interrupted.is_set()
    assert time.monotonic() - started < 30
    assert not threads()


def test_a_kill_before_the_thread_has_started_interrupts_it_too(monkeypatch):
    """What a signal handler raises comes out of `Thread.start`, which waits until the thread runs."""

    class Killed(BaseException):
        pass

    waits, interrupted, start = threading.Event(), threading.Event(), threading.Thread.start

    def batches():
        waits.set()
        interrupted.wait(60)
        yield [1]

    def start_and_be_killed(thread):
        start(thread)
        if thread.name == "mediquo-source":
            waits.wait(30)
            raise Killed

    monkeypatch.setattr(threading.Thread, "start", start_and_be_killed)
    with pytest.raises(Killed):
        next(iter(Prefetch(batches, interrupted.set)))
    assert interrupted.is_set()
    assert not threads()


def test_a_thread_that_starts_after_the_end_reads_nothing(monkeypatch):
    class Killed(BaseException):
        pass

    begun, late = [], []

    def batches():
        begun.append(1)
        yield [1]

    def be_killed(thread):
        late.append(thread)
        raise Killed

    monkeypatch.setattr(threading.Thread, "start", be_killed)
    with pytest.raises(Killed):
        next(iter(Prefetch(batches, nothing)))
    monkeypatch.undo()
    late[0].start()
    late[0].join(30)
    assert begun == []


def test_the_end_does_not_wait_for_a_database_that_does_not_answer():
    """Airflow kills a task 5 seconds after it has asked it to end."""
    silence, waits = threading.Event(), threading.Event()

    def batches():
        yield [1]
        waits.set()
        silence.wait(60)

    items = iter(Prefetch(batches, lambda: silence.wait(60)))
    assert next(items) == 1
    assert waits.wait(30)
    started = time.monotonic()
    items.close()
    assert time.monotonic() - started < 30
    (reader,) = threads()
    silence.set()
    reader.join(30)
    assert not threads()


def test_the_batches_are_closed_if_the_reader_stops_early():
    closed = threading.Event()

    def batches():
        try:
            while True:
                yield [1]
        finally:
            closed.set()

    items = iter(Prefetch(batches, nothing))
    next(items)
    items.close()
    assert closed.is_set()
