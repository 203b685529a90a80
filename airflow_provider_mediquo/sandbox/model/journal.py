"""What happened: the latest requests and the totals, without any patient's value."""

import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

KEPT = 10_000
NO_ANSWER = "none"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request: `at` in epoch seconds, `seconds` from its head to the end of its answer.

    `status` is None where no answer was given; `fault` names what was done to the request on
    purpose, or is empty; `patients` is how many it carried.
    """

    at: float
    method: str
    path: str
    endpoint: str
    status: int | None
    patients: int
    seconds: float
    fault: str


@dataclass(slots=True)
class Counters:
    """Totals since the start or the last reset.

    `requests` is by endpoint and status: `requests["upsert"]["200"]`, and "none" where no answer
    was given. `accepted` counts patients in accepted writes, each time anew.
    """

    total: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    accepted: int = 0
    requests: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    faults: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "accepted": self.accepted,
            "requests": {name: dict(statuses) for name, statuses in self.requests.items()},
            "faults": dict(self.faults),
        }


class Journal:
    """Written by the server's thread, read by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self.counters = Counters()

    def entries(self) -> list[Entry]:
        """The latest requests, oldest first."""
        with self._lock:
            return list(self._entries)

    def opened(self) -> None:
        with self._lock:
            self.counters.total += 1
            self.counters.in_flight += 1
            self.counters.max_in_flight = max(self.counters.max_in_flight, self.counters.in_flight)

    def closed(self, entry: Entry) -> None:
        with self._lock:
            self._entries.append(entry)
            self.counters.in_flight -= 1
            self.counters.requests[entry.endpoint][str(entry.status or NO_ANSWER)] += 1
            if entry.fault:
                self.counters.faults[entry.fault] += 1

    def accepted(self, patients: int) -> None:
        with self._lock:
            self.counters.accepted += patients

    def totals(self) -> dict[str, Any]:
        with self._lock:
            return self.counters.as_dict()

    def reset(self) -> None:
        """Forget everything but the requests that are still in flight."""
        with self._lock:
            self._entries.clear()
            open_now = self.counters.in_flight
            self.counters = Counters(in_flight=open_now, max_in_flight=open_now)


class Exchange:
    """One request on its way: opened by its endpoint, closed once, before its last byte leaves."""

    def __init__(self, journal: Journal, method: str) -> None:
        self._journal = journal
        self._method = method
        self._at = time.time()
        self._started = time.monotonic()
        self._open = False
        self.endpoint = self.path = self.fault = ""
        self.patients = 0
        self.status: int | None = None
        self.headers: dict[str, str] = {}

    def open(self, endpoint: str, path: str) -> None:
        """Start to count it; what is never opened is no request to mediQuo."""
        self.endpoint, self.path, self._open = endpoint, path, True
        self._journal.opened()

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._journal.closed(
            Entry(
                at=self._at,
                method=self._method,
                path=self.path,
                endpoint=self.endpoint,
                status=self.status,
                patients=self.patients,
                seconds=time.monotonic() - self._started,
                fault=self.fault,
            )
        )
