"""Read in a thread of its own: most database drivers hear no signal while they wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.5  # seconds
_SHUTDOWN_GRACE = 5.0  # seconds that the thread has to end, once it was told


class Prefetch(Generic[T]):
    """Items out of batches, of which one is read ahead.

    :param batches: called and read in the thread; what it raises is raised in the reader's.
    :param hang_up: ends a wait of the thread.
    """

    def __init__(self, batches: Callable[[], Generator[list[T]]], hang_up: Callable[[], None]):
        self._batches = batches
        self._hang_up = hang_up
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
                self._hang_up()
                thread.join(_SHUTDOWN_GRACE)

    def _read(self) -> None:
        end = None
        try:
            with closing(self._batches()) as batches:
                for batch in batches:
                    self._put(batch)
                    if self._is_over.is_set():
                        return
        except BaseException as error:  # noqa: BLE001  # raised in the other thread
            error.__traceback__ = None  # its frames hold rows
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
                # With an end, for a signal that comes just before a wait does not end it.
                return self._ready.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                pass
