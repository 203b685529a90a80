"""No test goes on for ever, whatever the code that it runs does.

pytest-timeout raises an error, once, by SIGALRM. Code that waits again afterwards hangs on, and so does
code that takes SIGALRM for itself, as Airflow does for `execution_timeout`. Then the process ends a
minute later, with the stack of each thread.
"""

import faulthandler
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key as STDERR  # a constant

GRACE = 60
"""Seconds from the limit of a test to the end of the process; and so long the process may take to end."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    marker = item.get_closest_marker("timeout")
    usual = item.config.getoption("timeout") or item.config.getini("timeout")
    limit = float([*marker.args, marker.kwargs.get("timeout")][0] if marker else usual)
    faulthandler.dump_traceback_later(limit + GRACE, exit=True, file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Python waits for each thread that is no daemon: those of an upload that hangs, say."""
    if not hasattr(config, "workerinput"):  # xdist ends its processes itself
        faulthandler.dump_traceback_later(GRACE, exit=True)


@contextmanager
def alarm_kept() -> Iterator[None]:
    """Give pytest-timeout its alarm back afterwards."""
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)
