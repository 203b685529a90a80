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
_encode_sorted = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_SCALARS = frozenset({str, int, float, bool, type(None)})
_MAX_ROW_TYPES = 10_000  # combinations of types in a row that are remembered


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
        self._of_named = self._of_source
        self._not_scalar: dict[tuple[type, ...], list[int]] = {}  # by the types of a row

    def of_patient(self, patient: Mapping[str, Any], encoded: bytes) -> int:
        """Return that of a patient as it is sent.

        :param encoded: its JSON, whose fields always have the same order, except in `meta`.
        """
        if "meta" in patient:
            encoded = _encode_sorted(patient).encode()
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
        types = tuple(map(type, values))
        # Remembered by type, because this is most of what an unchanged record costs.
        positions = self._not_scalar.get(types)
        if positions is None:
            positions = self._find_not_scalar(types)
        try:
            for at in positions:
                values[at] = _as_plain(values[at])
            return self._of_named.of(marshal.dumps(values, _PLAIN_FORMAT))
        except (ValueError, RecursionError):
            return None

    def _find_not_scalar(self, types: tuple[type, ...]) -> list[int]:
        if len(self._not_scalar) >= _MAX_ROW_TYPES:
            self._not_scalar.clear()
        found = [at for at, each in enumerate(types) if each not in _SCALARS]
        return self._not_scalar.setdefault(types, found)

    def _set_names(self, names: tuple[Any, ...]) -> bool:
        read = tuple(name for name in names if name not in self._dropped)
        if len(read) < 2 or not all(type(name) is str for name in names):
            return False
        self._names = names
        self._values = itemgetter(*read) if len(read) < len(names) else dict.values
        self._of_named = self._of_source.with_prefix(marshal.dumps(read, _PLAIN_FORMAT))
        return True


def _as_plain(value: Any) -> Any:
    """Return a value that marshal writes in a way of its own; it takes those of numpy for bytes."""
    kind = type(value)
    if kind is date:
        return (value.toordinal(),)  # a tuple of the source's own has no fingerprint
    if kind in _SCALARS:
        return value
    if kind is dict:
        if _SCALARS.issuperset(map(type, value)) and _SCALARS.issuperset(map(type, value.values())):
            return value
        return {_as_plain(key): _as_plain(inner) for key, inner in value.items()}
    if kind is list:
        return [_as_plain(inner) for inner in value]
    if kind is datetime:
        return (value.isoformat(),)  # with its offset
    if kind is Decimal:
        return ("decimal", repr(value))
    raise ValueError


def _keyed(secret_key: str, purpose: str) -> _Keyed:
    key = hmac.digest(secret_key.encode(), f"mediquo: {purpose}".encode(), hashlib.sha256)
    return _Keyed(hashlib.blake2b(key=key, digest_size=_SIZE))
