"""Threads that send: never more work than threads, so that memory stays constant."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from airflow_provider_mediquo.api import bounded
from airflow_provider_mediquo.api.errors import MediquoError, StoppedError
from airflow_provider_mediquo.api.records import ValidRecord

T = TypeVar("T")

_POLL_SECONDS = 0.5
_PAUSE_SECONDS = 0.02


class SendingPool:
    """Runs jobs, each in a thread, and halts the run if one raises.

    :param halt: ends the run early.
    :param spare: threads beyond `size`, for what jobs do before and after their requests.
    """

    def __init__(self, size: int, halt: Callable[[MediquoError], None], *, spare: int = 0) -> None:
        self.in_flight = threading.BoundedSemaphore(size)
        """Held by a job while it waits for an answer."""
        self.failure: Exception | None = None
        """What a job raised that is no MediquoError, such as a full disk."""
        self.was_stopped = False
        """Whether a job was stopped, maybe after its request had left."""
        self._size = size + spare
        self._halt = halt
        # One for each free thread. No semaphore: a time limit could leave its lock held.
        self._slots = queue.SimpleQueue[None]()
        self._release(self._size)
        self._workers = workers = list[threading.Thread]()
        self._busy: set[int] = set()  # workers that run a job
        self._threads = ThreadPoolExecutor(
            self._size,
            thread_name_prefix="mediquo",
            initializer=lambda: workers.append(threading.current_thread()),
        )

    def submit(
        self, check: Callable[[], None], job: Callable[[int, T], None], number: int, chunk: T
    ) -> bool:
        """Run `job(number, chunk)` as soon as a thread is free; return whether one could be started.

        :param check: raises what ends the run, once there is a free thread.
        """
        self._take_slot()
        try:
            check()
        except BaseException:
            self._release()
            raise
        try:
            with bounded.deferring_time_limit():
                self._threads.submit(self._run, job, number, chunk)
            return True
        except RuntimeError as error:
            problem = str(error)
        self._release()
        self._halt(
            MediquoError(
                f"This worker cannot start a thread to send with: {problem}.\nLower "
                "`max_in_flight`, or allow the worker more threads."
            )
        )
        return False

    def wait(self) -> None:
        """Return when all jobs are done."""
        for _ in range(self._size):
            self._take_slot()
        self._release(self._size)

    def close(self, abort: Callable[[], None]) -> None:
        """Wait until all jobs are done, and join the threads: no request may outlive the lease.

        :param abort: ends all requests, if a time limit strikes meanwhile.
        """
        try:
            self._join()
        except BaseException:
            abort()
            self._join()
            raise

    def _join(self) -> None:
        # Joining alone would not do: before Python 3.13, a thread counts as ended once a signal has
        # interrupted its join, and the executor loses a thread if Ctrl-C comes while it starts it.
        while self._busy:
            time.sleep(_PAUSE_SECONDS)
        self._threads.shutdown()
        for worker in self._workers:
            worker.join()

    def _take_slot(self) -> None:
        while True:
            try:
                return self._slots.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                pass  # a signal that comes just before a wait does not end it

    def _release(self, count: int = 1) -> None:
        for _ in range(count):
            self._slots.put(None)

    def _run(self, job: Callable[[int, T], None], number: int, chunk: T) -> None:
        self._busy.add(threading.get_ident())
        try:
            job(number, chunk)
        except StoppedError:  # the reason is known, and the records are still unsettled
            self.was_stopped = True
        except MediquoError as error:
            self._halt(error)
        except Exception as error:  # noqa: BLE001  # a full disk, say; raised in the reading thread
            self.failure = error
            self._halt(MediquoError(f"{type(error).__name__}."))
        finally:
            self._busy.discard(threading.get_ident())
            self._release()


def chunked(records: Iterator[ValidRecord], size: int) -> Iterator[list[ValidRecord]]:
    """Yield records in chunks; if the source fails, those before it first."""
    chunk: list[ValidRecord] = []
    try:
        for record in records:
            chunk.append(record)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception:  # of the source: the records before it are sent all the same
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk
