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
