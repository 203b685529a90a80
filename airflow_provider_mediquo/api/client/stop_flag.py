"""A flag that a signal handler may set while the same thread waits for it."""

from __future__ import annotations

import time

_POLL_SECONDS = 0.1


class StopFlag:
    """Like `threading.Event`, without its lock.

    `Event.set` in a signal handler deadlocks if the handler interrupts `Event.wait` in the same
    thread while that holds the lock.

    :param parent: a flag that, once set, sets this one too.
    """

    def __init__(self, parent: StopFlag | None = None) -> None:
        self._is_set = False
        self._parent = parent

    def is_set(self) -> bool:
        """Return whether `set` was called, here or on the parent."""
        return self._is_set or (self._parent is not None and self._parent.is_set())

    def set(self) -> None:
        """End every wait within a tenth of a second."""
        self._is_set = True

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or soon after `set`."""
        ends = time.monotonic() + seconds
        while not self.is_set() and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
