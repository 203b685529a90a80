"""Calls that may hang: a database's or a file system's, which ignore signals while they wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


def call(
    act: Callable[[], T],
    name: str,
    *,
    seconds: float,
    is_killed: Callable[[], bool],
    grace: float,
) -> T:
    """Call a function in a thread, which is abandoned if it takes too long.

    Raises what the function raises, or TimeoutError.

    :param name: of the thread.
    :param seconds: how long it may take.
    :param is_killed: whether the task is being killed; from then on it may take `grace` seconds.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def call_it() -> None:
        try:
            results.append(act())
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=call_it, name=name, daemon=True)
    thread.start()
    left = seconds
    while thread.is_alive() and left > 0:
        thread.join(_POLL_SECONDS)
        left = min(left, grace if is_killed() else left) - _POLL_SECONDS
    if failures:
        raise failures.pop()  # out of the list, because the error's frames hold the list
    if not results:
        raise TimeoutError("no answer")
    return results.pop()
