"""The latest requests and the totals, without patient data."""

import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from airflow_provider_mediquo.sandbox.model.history import History

MAX_ENTRIES = 10_000
NO_ANSWER = "none"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request.

    :param at: its time, in seconds since 1970.
    :param status: None if there was no response.
    :param patients: how many it contained.
    :param seconds: from its headers to the end of the response.
    :param fault: the name of the simulated fault, empty if none.
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

    `requests` is by endpoint and status: `requests["upsert"]["200"]`, with the status "none" if there
    was no response. `accepted` counts the patients in all accepted writes, repeated ones too.
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
    """Records requests; the server's thread writes it, any thread may read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self.counters = Counters()
        self.history = History()

    def entries(self) -> list[Entry]:
        """Return the latest requests, oldest first."""
        with self._lock:
            return list(self._entries)

    def opened(self, endpoint: str = "") -> None:
        self.history.add(endpoint)
        with self._lock:
            self.counters.total += 1
            self.counters.in_flight += 1
            self.counters.max_in_flight = max(self.counters.max_in_flight, self.counters.in_flight)

    def closed(self, entry: Entry) -> None:
        if entry.status == HTTPStatus.TOO_MANY_REQUESTS:
            self.history.add("refused")
        with self._lock:
            self._entries.append(entry)
            self.counters.in_flight -= 1
            self.counters.requests[entry.endpoint][str(entry.status or NO_ANSWER)] += 1
            if entry.fault:
                self.counters.faults[entry.fault] += 1

    def accepted(self, patients: int) -> None:
        self.history.add("accepted", patients)
        with self._lock:
            self.counters.accepted += patients

    def totals(self) -> dict[str, Any]:
        with self._lock:
            return self.counters.as_dict()

    def reset(self) -> None:
        """Clear everything except the requests in flight."""
        self.history.reset()
        with self._lock:
            self._entries.clear()
            in_flight = self.counters.in_flight
            self.counters = Counters(in_flight=in_flight, max_in_flight=in_flight)


class Exchange:
    """A request in flight: opened by its endpoint, closed once, before its last byte is sent."""

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
        """Start counting it. Requests that are never opened are not requests to mediQuo."""
        self.endpoint, self.path, self._open = endpoint, path, True
        self._journal.opened(endpoint)

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
