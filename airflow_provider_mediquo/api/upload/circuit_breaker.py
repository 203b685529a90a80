"""A source, or an account, that is broken throughout ends the run early."""

from __future__ import annotations

from airflow_provider_mediquo.api.patients.limits import MAX_PATIENTS

CHUNKS = 3
"""Chunks in a row that are bad throughout, and end a run."""

_FEWEST = 30  # records: small chunks prove little
MAX_INVALID = CHUNKS * MAX_PATIENTS


class InvalidStreak:
    """Counts records in a row that break a rule."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> bool:
        """Count one; return whether these are too many."""
        self.count += 1
        return self.count >= MAX_INVALID

    def end(self) -> None:
        """Forget them: a good one came."""
        self.count = 0


class RefusedChunks:
    """Finds chunks in a row, in the order of their source, that mediQuo refuses throughout.

    Which are, becomes known in any order: several are searched at a time.
    """

    def __init__(self, chunk_size: int) -> None:
        self._sizes: dict[int, int] = {}
        self._most = max(CHUNKS * chunk_size, _FEWEST)

    def add(self, number: int, size: int) -> int:
        """Add a chunk; return how many records those in a row hold, or 0 if that is not too many."""
        self._sizes[number] = size
        first = last = number
        while first - 1 in self._sizes:
            first -= 1
        while last + 1 in self._sizes:
            last += 1
        count = sum(self._sizes[each] for each in range(first, last + 1))
        return count if count >= self._most else 0
