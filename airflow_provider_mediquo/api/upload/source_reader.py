"""Reads a source, and can be interrupted while it waits for one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any


class Halted(BaseException):
    """Ends the reading loop; a BaseException, so that no source catches it by accident."""


class Reading:
    """The reading of one source.

    :param check: raises Halted if the run has ended; called before each record.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._reader: int | None = None  # the thread that is inside the source right now

    def records(self, source: Iterator[Any]) -> Iterator[Any]:
        """Yield the records of a source."""
        thread = threading.get_ident()
        while True:
            self._reader = thread
            try:
                self._check()  # inside `try`, so that no kill is missed
                record = next(source)
            except StopIteration:
                return
            finally:
                self._reader = None
            yield record

    def interrupt(self) -> None:
        """Raise Halted if this thread is inside the source, which could wait for long.

        A signal handler calls it, so it takes no lock.
        """
        if self._reader == threading.get_ident():
            self._reader = None  # once: closing the source must not be interrupted
            raise Halted
