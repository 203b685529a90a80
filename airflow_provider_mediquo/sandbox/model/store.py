"""The patients: writes are accepted immediately and applied later, in the same order."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from airflow_provider_mediquo.sandbox.model.history import History
from airflow_provider_mediquo.sandbox.settings import Settings

TIME_FORMATS = {"space": "%Y-%m-%d %H:%M:%S%z", "iso": "%Y-%m-%dT%H:%M:%SZ"}
DEFAULT_LOCALE = "es"


@dataclass(frozen=True, slots=True)
class Patient:
    """A stored patient; times are in seconds since 1970 by the server's clock."""

    code: str
    first_name: str
    last_name: str | None = None
    gender: str | None = None
    birth_date: str | None = None
    tax_id: str | None = None
    email: str | None = None
    plan: str | None = None
    phone: str | None = None
    locale: str = DEFAULT_LOCALE
    meta: dict[str, Any] | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    unsubscribed_at: float | None = None

    def shown(self, time_format: str) -> dict[str, Any]:
        """Return it as in the response to a GET."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        for name in ("created_at", "updated_at", "unsubscribed_at"):
            fields[name] = _written(fields[name], time_format)
        return fields


@dataclass(frozen=True, slots=True)
class Write:
    """An accepted request: `due` by the monotonic clock, `at` by the server's clock."""

    due: float
    at: float
    patients: list[dict[str, Any]]


class Store(Mapping[str, dict[str, Any]]):
    """A mapping: code -> the patient that a GET returns now."""

    def __init__(self, settings: Settings, history: History | None = None) -> None:
        self._settings = settings
        self._history = history or History()
        self._lock = threading.Lock()
        self._visible: dict[str, Patient] = {}
        self._pending: deque[Write] = deque()
        self._accepted: Counter[str] = Counter()

    def accept(self, patients: list[dict[str, Any]]) -> None:
        """Accept a write, which becomes visible after the lag."""
        lag = self._settings.lag
        at = time.time() + self._settings.clock_skew + lag
        with self._lock:
            self._pending.append(Write(time.monotonic() + lag, at, patients))
            self._accepted.update(patient["code"] for patient in patients)
            self._apply_due()

    def accepted(self) -> Counter[str]:
        """Return code -> how many writes were accepted."""
        with self._lock:
            return self._accepted.copy()

    def pending(self) -> int:
        """Return the number of patients in accepted writes that are not visible yet."""
        with self._lock:
            self._apply_due()
            return sum(len(write.patients) for write in self._pending)

    def restart(self) -> None:
        """Drop the writes that are not visible yet."""
        with self._lock:
            self._apply_due()
            self._pending.clear()

    def reset(self) -> None:
        with self._lock:
            self._visible.clear()
            self._pending.clear()
            self._accepted.clear()

    def __getitem__(self, code: str) -> dict[str, Any]:
        with self._lock:
            self._apply_due()
            return self._visible[code].shown(TIME_FORMATS[self._settings.timestamp_format])

    def __len__(self) -> int:
        with self._lock:
            self._apply_due()
            return len(self._visible)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            self._apply_due()
            return iter(list(self._visible))

    def _apply_due(self) -> None:
        # From the oldest on: with a lowered lag, a later write must not overtake an earlier one.
        now = time.monotonic()
        while self._pending and self._pending[0].due <= now:
            write = self._pending.popleft()
            self._history.add("visible", len(write.patients), ago=now - write.due)
            for fields in write.patients:
                self._apply(fields, write.at)

    def _apply(self, fields: dict[str, Any], at: float) -> None:
        code = fields["code"]
        before = self._visible.get(code)
        after = _merge(before, fields, at)
        if before is None or after != before or self._settings.touch_unchanged:
            self._visible[code] = replace(after, updated_at=at)


def _merge(before: Patient | None, fields: dict[str, Any], at: float) -> Patient:
    """Return the patient after a write: given fields replace stored ones, a missing plan is removed."""
    given = {**fields, "plan": fields.get("plan")}
    if given.get("locale", DEFAULT_LOCALE) is None:
        given["locale"] = DEFAULT_LOCALE
    if given["plan"] is not None:
        given["unsubscribed_at"] = None
    elif before is None or before.unsubscribed_at is None:
        given["unsubscribed_at"] = at
    return replace(before, **given) if before else Patient(created_at=at, **given)


def _written(at: float | None, time_format: str) -> str | None:
    return None if at is None else datetime.fromtimestamp(int(at), UTC).strftime(time_format)
