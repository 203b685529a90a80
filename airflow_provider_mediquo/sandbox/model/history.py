"""What happened in each of the last seconds: the lines on the sandbox's page."""

import threading
import time
from collections import Counter
from collections.abc import Callable

SECONDS = 120


class History:
    """Counts things by name and second; any thread may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[int, Counter[str]] = {}
        self._totals: Counter[str] = Counter()

    def add(self, name: str, count: int = 1, ago: float = 0.0) -> None:
        """Count something that happened so many seconds ago."""
        now = self._clock()
        with self._lock:
            self._totals[name] += count
            second = int(now - ago)
            if second not in self._seconds:
                self._forget(int(now) - SECONDS)
            self._seconds.setdefault(second, Counter())[name] += count

    def per_second(self, name: str) -> list[int]:
        """Return how many there were in each of the last seconds, oldest first, this one left out."""
        now = int(self._clock())
        with self._lock:
            return [self._in(second)[name] for second in range(now - SECONDS, now)]

    def totals(self, name: str) -> list[int]:
        """Return how many there had been since the start, at the end of each of the last seconds."""
        now = int(self._clock())
        with self._lock:
            total = self._totals[name]
            found = []
            for second in range(now, now - SECONDS, -1):
                total -= self._in(second)[name]
                found.append(total)
        return found[::-1]

    def reset(self) -> None:
        """Start again."""
        with self._lock:
            self._seconds.clear()
            self._totals.clear()

    def _in(self, second: int) -> Counter[str]:
        return self._seconds.get(second, Counter())

    def _forget(self, before: int) -> None:
        for second in [second for second in self._seconds if second < before]:
            del self._seconds[second]
