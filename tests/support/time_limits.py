"""A time limit that strikes where a test wants it to."""

import signal
from collections.abc import Callable, Iterator

import pytest


class TimeLimit(BaseException):
    """As Airflow's for `execution_timeout`."""


@pytest.fixture
def strike() -> Iterator[Callable[[], None]]:
    """Return a function that sends the alarm of a time limit, whose handler raises TimeLimit."""

    def end(*_: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, end)
    yield lambda: signal.raise_signal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, before)
