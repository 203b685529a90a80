"""What is new, what has changed, and what mediQuo has already."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow_provider_mediquo.api.records import Change, ChangeKind
from airflow_provider_mediquo.api.sync.fingerprints import Fingerprints
from airflow_provider_mediquo.api.sync.members import (
    ACKNOWLEDGED,
    DOUBT,
    LOST_PLAN,
    OWN,
    PLAN,
    PRESENT,
    SEEN,
    SEEN_PLAN,
    Members,
)
from airflow_provider_mediquo.api.sync.spelling import key_of

_DAY = 86_400  # seconds


class ResendPolicy:
    """When an unchanged member is sent again: after so long at the latest, spread over the days.

    Each member has its day. Otherwise all that were sent on one day would be sent again on the same
    day.
    """

    def __init__(self, after: timedelta, now: float | None = None) -> None:
        now = int(time.time() if now is None else now)
        seconds = after.total_seconds()
        self._oldest = now - seconds
        # A later time is that of a clock that was wrong.
        self._latest = now + _DAY if seconds else self._oldest
        self._period = math.floor(seconds / _DAY)  # days
        self._today = now // _DAY

    def is_due(self, sent_at: int, fingerprint: int) -> bool:
        """Return whether a member that was sent then is to be sent again."""
        if not self._oldest < sent_at <= self._latest:
            return True
        days = self._today - sent_at // _DAY
        if self._period < 2 or days < 1:
            return False
        # How many days ago its day was.
        return (self._today - fingerprint) % self._period < days


class Comparison:
    """Compares the records of one run with the state.

    :param members: what the state knew when the run began.
    """

    def __init__(self, members: Members, fingerprints: Fingerprints, resend: ResendPolicy) -> None:
        self.members = members
        self._fingerprints = fingerprints
        self._resend = resend
        self.unreadable = 0
        """How many records had no readable code; each may be that of any member."""
        self.empty_parts: list[str] = []
        """The files without a record: any missing member may belong in one of them."""
        self.unknown = array("q")
        """Keys of the codes that are in the source and not in the state; none if the state was empty."""
        self.respelled: list[tuple[str, int, int]] = []
        """Unchanged members whose record looks different now: code and both fingerprints."""

    def is_unchanged(self, record: Any, column: str) -> bool:
        """Return whether a record is equal to one that was sent, without checking it.

        :param column: where its code is.
        """
        code = record.get(column) if type(record) is dict else None
        if type(code) is not str:
            if type(code) is not int:
                return False
            code = str(code)
        members = self.members
        number = members.find(code)
        if number < 0:
            return False
        flags = members.flags[number]
        if flags & (ACKNOWLEDGED | OWN | DOUBT | PRESENT) != ACKNOWLEDGED | OWN:
            return False
        source = members.sources[number]
        if not source or source != self._fingerprints.of_source(record):
            return False
        if self._resend.is_due(members.sent_at[number], members.fingerprints[number]):
            return False
        members.flags[number] = flags | PRESENT | SEEN | (SEEN_PLAN if flags & PLAN else 0)
        return True

    def seen(self, code: str) -> bool | None:
        """Return whether the first valid record of a known member had a plan; None without one."""
        number = self.members.find(code)
        flags = self.members.flags[number] if number >= 0 else 0
        return bool(flags & SEEN_PLAN) if flags & SEEN else None

    def see(self, code: str, *, has_plan: bool) -> bool:
        """Note a valid record; return whether its member is known."""
        number = self.members.find(code)
        if number < 0:
            self._note_unknown(code)
            return False
        self.members.flags[number] |= PRESENT | SEEN | (SEEN_PLAN if has_plan else 0)
        return True

    def lose_plan(self, code: str) -> None:
        """Note that a member has a plan in one record, but not in its first valid one."""
        if (number := self.members.find(code)) >= 0:
            self.members.flags[number] |= LOST_PLAN

    def has_lost_plan(self, code: str) -> bool:
        """Return whether `lose_plan` was called for a member."""
        number = self.members.find(code)
        return number >= 0 and bool(self.members.flags[number] & LOST_PLAN)

    def see_rejected(self, code: str | None) -> None:
        """Note a record that may not be sent: its member is not missing."""
        if code is None:
            self.unreadable += 1
        elif (number := self.members.find(code)) >= 0:
            self.members.flags[number] |= PRESENT
        else:
            self._note_unknown(code)

    def compare(
        self, record: Any, patient: Mapping[str, Any], encoded: bytes, *, can_skip: bool = True
    ) -> Change:
        """Return how a valid record differs from what mediQuo has.

        :param record: as it comes from the source.
        :param can_skip: whether an equal record may be skipped in the next run without a check.
        """
        source = self._fingerprints.of_source(record) if can_skip else None
        fingerprint = self._fingerprints.of_patient(patient, encoded)
        number = self.members.find(patient["code"])
        if number < 0:
            return Change("new", fingerprint, source)
        flags = self.members.flags[number]
        kind = self._kind(number, fingerprint)
        if kind == "unchanged" and source and source != self.members.sources[number]:
            self.respelled.append((patient["code"], fingerprint, source))
        is_foreign, is_doubted = not flags & OWN, bool(flags & DOUBT)
        return Change(kind, fingerprint, source, bool(flags & PLAN), True, is_doubted, is_foreign)

    def _kind(self, number: int, fingerprint: int) -> ChangeKind:
        flags = self.members.flags[number]
        if flags & DOUBT:
            return "resent"
        if not flags & ACKNOWLEDGED or self.members.fingerprints[number] != fingerprint:
            return "changed"
        # Sent so that it belongs to this sync: the source of the other one may have lost it.
        is_foreign = not flags & OWN
        is_due = is_foreign or self._resend.is_due(self.members.sent_at[number], fingerprint)
        return "resent" if is_due else "unchanged"

    def is_missing(self, code: str) -> bool:
        """Return whether the state knew a member that the source does not have."""
        number = self.members.find(code)
        return number >= 0 and not self.members.flags[number] & PRESENT

    def _note_unknown(self, code: str) -> None:
        if self.members:  # else nobody can be missing
            self.unknown.append(key_of(code))
