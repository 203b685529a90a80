"""A source, or an account, that is broken throughout ends the run early."""

from __future__ import annotations

_CHUNKS = 3
_FEWEST = 30  # records: small chunks prove little


class Streak:
    """Counts bad records in a row, where a whole source should not be."""

    def __init__(self, chunk_size: int) -> None:
        self.count = 0
        self._most = max(_CHUNKS * chunk_size, _FEWEST)

    def add(self, count: int) -> bool:
        """Count bad records; return whether these are too many."""
        self.count += count
        return self.count >= self._most

    def end(self) -> None:
        """Forget them: a good one came."""
        self.count = 0
