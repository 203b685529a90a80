"""The members that the state knows, in memory: 37 bytes each. As objects they would take 300."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import case, func

from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.tables import MEMBER, is_of

OWN = 1  # this sync was the last to send it
PLAN = 2  # it has a plan, or may have one
DOUBT = 4  # a request for it has no answer
ACKNOWLEDGED = 8  # its fingerprint is known
PRESENT = 16  # the source has it, be it valid or not
SEEN = 32  # the source had a valid record of it
SEEN_PLAN = 64  # and that had a plan
LOST_PLAN = 128  # another record of it has a plan, and that has none


_RECENT = 15 * 60  # seconds after a write in which mediQuo may not show it yet


class Missing(NamedTuple):
    """A member that this sync sent before, and its source no longer has.

    :param is_recent: whether mediQuo may not show yet what was sent last.
    :param proof: of what was sent last, if that is certain.
    """

    code: str
    had_plan: bool
    is_recent: bool
    proof: str | None = None


class Members:
    """An open-addressing hash table over arrays; a member is a number.

    Codes are found by Python's hash of 64 bits: two of 2 million are the same in one run out of
    10 million, and count as one member then, which is sent because its fingerprint differs.

    :param size: how many there will be, about.
    """

    def __init__(self, size: int) -> None:
        self.fingerprints = array("q")
        self.sources = array("q")
        self.sent_at = array("I")
        self.flags = bytearray()
        self._hashes = array("q")
        self._slots = _empty(2 * size + 1024)

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add members.

        :param rows: code, fingerprint, source, sent_at and flags of each; 0 for what is not known.
        """
        first = len(self)
        self._hashes.extend([hash(row[0]) for row in rows])
        self.fingerprints.extend([row[1] for row in rows])
        self.sources.extend([row[2] for row in rows])
        self.sent_at.extend([row[3] for row in rows])
        self.flags.extend([row[4] for row in rows])
        if 3 * len(self) > 2 * len(self._slots):
            first, self._slots = 0, _empty(3 * len(self))
        self._put(first)

    def find(self, code: str) -> int:
        """Return the number of a member, or -1."""
        key, slots, mask = hash(code), self._slots, len(self._slots) - 1
        at = key & mask
        while number := slots[at]:
            if self._hashes[number - 1] == key:
                return number - 1
            at = (at + 1) & mask
        return -1

    def count(self, having: int, without: int = 0) -> int:
        """Return how many members have all of some flags and none of others."""
        matching = bytes(
            flags for flags in range(256) if flags & having == having and not flags & without
        )
        return len(self.flags) - len(self.flags.translate(None, matching))

    def _put(self, first: int) -> None:
        """Put all members from a number on into their slots."""
        slots, mask = self._slots, len(self._slots) - 1
        for number, key in enumerate(self._hashes[first:], first + 1):
            at = key & mask
            while slots[at]:
                at = (at + 1) & mask
            slots[at] = number


def _empty(least: int) -> array[int]:
    # Not of bytes: once such a large object was freed, glibc takes the memory of what grows from a heap
    # that it fragments. That takes half as much again for 2 million members.
    return array("i", [0]) * (1 << (least - 1).bit_length())


def read_members(store: Store, sync_id: int | None, check: Callable[[], None]) -> Members:
    """Return all members of a state.

    :param sync_id: those of this sync are its own.
    :param check: called now and then; raises what ends the run.
    """
    members = Members(store.count())
    member = MEMBER.c
    known = (func.coalesce(member[name], 0) for name in ("fingerprint", "source", "sent_at"))
    for page in store.pages(member.code, *known, _flags(sync_id)):
        check()
        members.add(page)
    return members


def find_missing(
    store: Store, sync_id: int, is_missing: Callable[[str], bool]
) -> Iterator[Missing]:
    """Yield the members of a sync that are missing."""
    now = time.time()
    for page in store.codes_of(sync_id):
        for code, has_plan, sent_at, in_doubt_by, in_doubt_since, proof in page:
            if is_missing(code):
                times = sent_at or 0, in_doubt_since or 0
                # A time far in the future was written by a clock that was wrong.
                is_recent = any(abs(now - at) < _RECENT for at in times)
                certain = proof if in_doubt_by is None else None
                yield Missing(code, bool(has_plan), is_recent, certain)


def _flags(sync_id: int | None) -> Any:
    """Return the expression for the flags of a member: the database works it out for less CPU."""
    member = MEMBER.c
    conditions = {
        PLAN: member.has_plan != 0,
        ACKNOWLEDGED: member.fingerprint.is_not(None),
        DOUBT: member.in_doubt_by.is_not(None),
        OWN: is_of(sync_id or 0),
    }
    return sum(case((met, flag), else_=0) for flag, met in conditions.items())
