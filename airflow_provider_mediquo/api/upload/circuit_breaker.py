"""When to end a run early: the source, the account or mediQuo is broken throughout."""

from __future__ import annotations

import threading

from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.patients.limits import MAX_PATIENTS

CHUNKS = 3
"""Consecutive chunks that fail throughout, and end a run."""

_MIN_REFUSED = 30  # records: small chunks prove little
MAX_INVALID = CHUNKS * MAX_PATIENTS


class InvalidStreak:
    """Counts consecutive invalid records, except those that are only wrong in optional fields.

    :param max_rejects: if it is a count, that many are allowed.
    """

    def __init__(self, max_rejects: float) -> None:
        self.count = 0
        allowed = max_rejects if isinstance(max_rejects, int) else 0
        self._limit = max(MAX_INVALID, allowed + 1)

    def add(self) -> bool:
        """Count one; return whether these are too many."""
        self.count += 1
        return self.count >= self._limit

    def end(self) -> None:
        """Start again: a valid record came."""
        self.count = 0


class RefusedChunks:
    """Finds consecutive chunks, in the order of their source, that mediQuo refuses throughout.

    Chunks may be added in any order, because several are searched at a time.
    """

    def __init__(self, chunk_size: int) -> None:
        self._sizes: dict[int, int] = {}
        self._limit = max(CHUNKS * chunk_size, _MIN_REFUSED)

    def add(self, number: int, size: int) -> int:
        """Add a chunk; return how many consecutive records were refused, 0 if not too many."""
        self._sizes[number] = size
        first = last = number
        while first - 1 in self._sizes:
            first -= 1
        while last + 1 in self._sizes:
            last += 1
        count = sum(self._sizes[each] for each in range(first, last + 1))
        return count if count >= self._limit else 0


class UnansweredChunks:
    """Counts chunks, and reads of single members, without a final answer; safe between threads.

    :param host: for the error.
    """

    def __init__(self, host: str) -> None:
        self.count = self.answers = 0
        self.last: MediquoError | None = None
        self._host = host
        self._in_a_row = 0
        self._lock = threading.Lock()

    def on_answer(self) -> None:
        """Note that mediQuo accepted or refused a request: it is up."""
        with self._lock:
            self.answers += 1
            self._in_a_row = 0

    def add(self, error: MediquoError, *, is_up: bool) -> MediquoError | None:
        """Count one; return the error that ends the run, if mediQuo is down.

        :param is_up: whether mediQuo answered another request meanwhile: then it is not down.
        """
        with self._lock:
            self.last = error
            self.count += 1
            self._in_a_row += not is_up
            if self._in_a_row < CHUNKS:
                return None
        what = f"{CHUNKS} consecutive chunks had no final answer from {self._host}:\n{error}"
        return type(error)(what, status=error.status)
