"""Threads of a test, which must not keep the tests from ending: one that hangs fails the test."""

from threading import Thread

LIMIT = 60
"""Seconds to end, on a busy machine too."""


def launch(*threads: Thread) -> None:
    """Start them as daemons, for which Python does not wait at its end."""
    for thread in threads:
        thread.daemon = True
        thread.start()


def join(*threads: Thread) -> None:
    """Wait for their end."""
    for thread in threads:
        thread.join(LIMIT)
    assert not [thread for thread in threads if thread.is_alive()]
