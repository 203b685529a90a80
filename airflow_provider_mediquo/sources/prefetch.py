"""Reads one batch ahead in a thread: most database drivers ignore signals while they wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Generic, TypeVar

from airflow_provider_mediquo.api import bounded

T = TypeVar("T")

_POLL_SECONDS = 0.5
# Seconds for each step of the end. Airflow kills a task 5 seconds after it has asked it to end.
_GRACE = 1.0


class Prefetch(Generic[T]):
    """Iterates over the items of batches, and reads one batch ahead.

    :param batches: called in the thread; its errors are raised in the thread that iterates.
    :param interrupt: ends a wait of the thread; called in a third one.
    """

    def __init__(self, batches: Callable[[], Generator[list[T]]], interrupt: Callable[[], None]):
        self._batches = batches
        self._interrupt = interrupt
        self._is_over = threading.Event()
        self._ready: queue.Queue[list[T] | BaseException | None] = queue.Queue(maxsize=1)

    def __iter__(self) -> Iterator[T]:
        thread = threading.Thread(target=self._read, name="mediquo-source", daemon=True)
        try:
            bounded.start(thread)  # in here, because a kill may come before it returns
            while (batch := self._take()) is not None:
                if isinstance(batch, BaseException):
                    raise batch
                yield from batch
        finally:
            self._is_over.set()
            if thread.is_alive():
                thread.join(_GRACE)
            if thread.is_alive():
                self._end_wait(thread)

    def _end_wait(self, thread: threading.Thread) -> None:
        """Interrupt the thread; from another one, because some drivers connect again for that."""
        name = f"{thread.name}-interrupt"
        interrupting = threading.Thread(target=self._interrupt, name=name, daemon=True)
        interrupting.start()
        interrupting.join(_GRACE)
        thread.join(_GRACE)

    def _read(self) -> None:
        if self._is_over.is_set():
            return
        end = None
        try:
            with closing(self._batches()) as batches:
                for batch in batches:
                    self._put(batch)
                    if self._is_over.is_set():
                        return
        except BaseException as error:  # noqa: BLE001  # raised again in the other thread
            error.__traceback__ = None  # its frames contain rows
            end = error
        self._put(end)

    def _put(self, batch: list[T] | BaseException | None) -> None:
        while not self._is_over.is_set():
            try:
                return self._ready.put(batch, timeout=_POLL_SECONDS)
            except queue.Full:
                pass

    def _take(self) -> list[T] | BaseException | None:
        while True:
            try:
                # With a timeout, because a signal just before the wait does not interrupt it.
                return self._ready.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                pass
