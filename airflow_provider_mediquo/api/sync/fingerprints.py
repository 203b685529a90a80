"""Keyed fingerprints: whether a member is still as it was sent, without any of its values."""

from __future__ import annotations

import hashlib
import hmac
import json
import marshal
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any

from airflow_provider_mediquo import __version__

_SIZE = 8  # bytes: a BIGINT
_PLAIN_FORMAT = 0  # of marshal: the later ones depend on how often an object is used
_PLAIN = frozenset({str, int, float, bool, type(None), dict, list})


@dataclass(frozen=True)
class _Keyed:
    """A hash with its key; hidden from tools that show the variables of an error."""

    base: Any = field(repr=False)

    def of(self, data: bytes) -> int:
        digest = self.base.copy()
        digest.update(data)
        return int.from_bytes(digest.digest(), "big", signed=True)

    def with_prefix(self, data: bytes) -> _Keyed:
        base = self.base.copy()
        base.update(data)
        return _Keyed(base)


class Fingerprints:
    """Makes the fingerprints of one run.

    :param reading: all that decides how a record of the source is read.
    :param dropped: columns that are not read.
    """

    def __init__(
        self, secret_key: str, reading: object, dropped: Collection[str] = frozenset()
    ) -> None:
        self._dropped = frozenset(dropped)
        self._values: Callable[[dict[str, Any]], Iterable[Any]] = dict.values
        self._of_patient = _keyed(secret_key, "what was sent")
        self._of_source = _keyed(secret_key, f"as it came {__version__} {reading!r}")
        self._names: tuple[Any, ...] | None = None
        self._converted: list[int] = []  # positions where there was a date, or another object
        self._of_named = self._of_source

    def of_patient(self, patient: Mapping[str, Any], encoded: bytes) -> int:
        """Return that of a patient as it is sent.

        :param encoded: its JSON, whose fields always have the same order, except in `meta`.
        """
        if "meta" in patient:
            encoded = json.dumps(patient, sort_keys=True, separators=(",", ":")).encode()
        return self._of_patient.of(encoded)

    def of_source(self, record: Any) -> int | None:
        """Return that of a record as it comes; None if it cannot have one.

        Equal ones mean equal names and equal values of equal types.
        """
        if type(record) is not dict:
            return None
        names = tuple(record)
        if names != self._names and not self._set_names(names):
            return None
        values = [*self._values(record)]
        if (dumped := self._dump(values)) is None and self._find_converted(record):
            dumped = self._dump([*self._values(record)])
        return None if dumped is None else self._of_named.of(dumped)

    def _dump(self, values: list[Any]) -> bytes | None:
        """Return the values as bytes; None if one of them is of an unknown type."""
        converted = {}
        try:
            for at in self._converted:
                if type(value := values[at]) not in _PLAIN:
                    values[at], converted[at] = None, _as_plain(value)
            # Apart, so that nothing that comes from a source can look like a converted value.
            values.append(converted)
            return marshal.dumps(values, _PLAIN_FORMAT)
        except ValueError:
            return None

    def _find_converted(self, record: dict[str, Any]) -> bool:
        """Return whether a record has objects where none had any so far.

        To look at the type of each value of each record would take longer than all the rest.
        """
        values = enumerate(self._values(record))
        found = {at for at, value in values if type(value) not in _PLAIN}
        before, self._converted = self._converted, sorted({*self._converted, *found})
        return before != self._converted

    def _set_names(self, names: tuple[Any, ...]) -> bool:
        read = tuple(name for name in names if name not in self._dropped)
        if len(read) < 2 or not all(type(name) is str for name in names):
            return False
        self._names = names
        self._converted = []
        self._values = itemgetter(*read) if len(read) < len(names) else dict.values
        self._of_named = self._of_source.with_prefix(marshal.dumps(read, _PLAIN_FORMAT))
        return True


def _as_plain(value: Any) -> Any:
    kind = type(value)
    if kind is date:
        return value.toordinal()
    if kind is datetime or kind is Decimal:
        return (kind.__name__, repr(value))
    raise ValueError


def _keyed(secret_key: str, purpose: str) -> _Keyed:
    key = hmac.digest(secret_key.encode(), f"mediquo: {purpose}".encode(), hashlib.sha256)
    return _Keyed(hashlib.blake2b(key=key, digest_size=_SIZE))
