"""Reads one batch ahead in a thread: most database drivers ignore signals while they wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.5
_SHUTDOWN_GRACE = 5.0  # seconds for the thread to end


class Prefetch(Generic[T]):
    """Iterates over the items of batches, and reads one batch ahead.

    :param batches: called in the thread; its errors are raised in the thread that iterates.
    :param interrupt: ends a wait of the thread.
    """

    def __init__(self, batches: Callable[[], Generator[list[T]]], interrupt: Callable[[], None]):
        self._batches = batches
        self._interrupt = interrupt
        self._is_over = threading.Event()
        self._ready: queue.Queue[list[T] | BaseException | None] = queue.Queue(maxsize=1)

    def __iter__(self) -> Iterator[T]:
        thread = threading.Thread(target=self._read, name="mediquo-source", daemon=True)
        thread.start()
        try:
            while (batch := self._take()) is not None:
                if isinstance(batch, BaseException):
                    raise batch
                yield from batch
        finally:
            self._is_over.set()
            thread.join(2 * _POLL_SECONDS)
            if thread.is_alive():
                self._interrupt()
                thread.join(_SHUTDOWN_GRACE)

    def _read(self) -> None:
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
