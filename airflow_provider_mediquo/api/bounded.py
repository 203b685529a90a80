"""Threads, time limits, and calls that may hang: a database's or a file system's, which ignore signals while they wait."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow_provider_mediquo.api.errors import MediquoError

T = TypeVar("T")

_POLL_SECONDS = 0.1


class NoAnswerError(TimeoutError):
    """A call took too long."""


def call(act: Callable[[], T], name: str, allowed: Callable[[], float]) -> T:
    """Call a function in a thread, which is abandoned if it takes too long.

    Raises what the function raises, or NoAnswerError.

    :param name: of the thread.
    :param allowed: returns how many seconds more it may take; asked ten times a second.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def call_it() -> None:
        try:
            results.append(act())
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=call_it, name=name, daemon=True)
    start(thread)
    left = math.inf
    while thread.is_alive() and (left := min(left, allowed())) > 0:
        thread.join(_POLL_SECONDS)
        left -= _POLL_SECONDS
    if failures:
        raise failures.pop()  # out of the list, because the error's frames hold the list
    if not results:
        raise NoAnswerError("no answer")
    return results.pop()


def start(thread: threading.Thread) -> None:
    """Start a thread, or raise a MediquoError that says what to do."""
    try:
        with deferring_time_limit():
            thread.start()
    except RuntimeError as error:
        raise MediquoError(
            f"This worker cannot start a thread: {error}.\nAllow the worker more threads."
        ) from None


@contextmanager
def deferring_time_limit() -> Iterator[None]:
    """Let a time limit strike at the end, instead of in the middle of what must not be left half done.

    Airflow's `execution_timeout` raises its error in a signal handler: between any two steps of Python, such
    as those that take and release the lock of a semaphore. Not for anything that may wait.
    """
    is_main = threading.current_thread() is threading.main_thread()
    handler: Any = signal.getsignal(signal.SIGALRM) if is_main else None
    if not callable(handler):
        yield
        return
    struck: list[tuple[Any, ...]] = []
    try:
        signal.signal(signal.SIGALRM, lambda *given: struck.append(given))
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        if struck:
            handler(*struck[0])
