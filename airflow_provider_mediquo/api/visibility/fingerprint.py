"""Whether mediQuo shows what was written: it applies a write later than it says "Success".

A proof tells what was written without holding it: per field a short HMAC under a key derived from
the connection's secret key, so that it can lie in XCom and nobody can read or guess a value.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_mediquo.api.errors import ConnectionSettingsError
from airflow_provider_mediquo.api.patients.fields import is_blank
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS

_VERSION = 1
_HEAD = struct.Struct(">B4sQ16sH")  # version, key id, time, salt, which fields
_MAC_BYTES = 6
_UNKNOWN_TIME = 0


@dataclass(frozen=True)
class _Key:
    """What proofs are made with; tools that show an error's variables show nothing of it."""

    derived: bytes = field(repr=False)


def make_proof(patient: Mapping[str, Any], secret_key: str, sent_at: int | None) -> str:
    """Return the proof of one checked patient.

    :param sent_at: the server's clock when its first attempt left, in seconds since 1970.
    """
    key, salt = _derive(secret_key), secrets.token_bytes(16)
    names = [name for name in PATIENT_FIELDS if _is_compared(name, patient)]
    which = sum(1 << PATIENT_FIELDS.index(name) for name in names)
    macs = b"".join(_mac(key, salt, name, patient.get(name)) for name in names)
    head = _HEAD.pack(_VERSION, _key_id(key), max(sent_at or 0, _UNKNOWN_TIME), salt, which)
    return base64.urlsafe_b64encode(head + macs).decode().rstrip("=")


def differences(proof: str, patient: Mapping[str, Any], secret_key: str) -> list[str]:
    """Return the fields in which mediQuo does not show yet what was written; empty if visible.

    It is visible if every field that was sent reads back the same after normalising, or if
    `updated_at` is not before the time the write left: mediQuo may rewrite a value, and a write
    that changes nothing may leave `updated_at` alone. Raises ConnectionSettingsError if the proof
    was made with another secret key, ValueError if it is no proof.
    """
    key = _derive(secret_key)
    del secret_key
    sent_at, salt, macs = _read(proof, key)
    updated_at = patient.get("updated_at")
    if updated_at and sent_at != _UNKNOWN_TIME and updated_at.timestamp() >= sent_at:
        return []
    return [
        name
        for name, mac in macs.items()
        if not hmac.compare_digest(mac, _mac(key, salt, name, patient.get(name)))
    ]


def check_proof(proof: str, secret_key: str) -> None:
    """Raise what `differences` would raise for this proof, whatever the patient."""
    key = _derive(secret_key)
    del secret_key  # out of the variables of an error
    _read(proof, key)


def _read(proof: str, key: _Key) -> tuple[int, bytes, dict[str, bytes]]:
    version, key_id, sent_at, salt, which, macs = _unpack(proof)
    names = [name for bit, name in enumerate(PATIENT_FIELDS) if which >> bit & 1]
    if version != _VERSION or len(macs) != _MAC_BYTES * len(names):
        raise ValueError("this is not a proof of this version; run the upsert again")
    if not hmac.compare_digest(key_id, _key_id(key)):
        raise ConnectionSettingsError(
            "The secret key of the connection is not the one these patients were upserted with, "
            "so what was written cannot be compared. Run the upsert again."
        )
    pieces = [macs[at : at + _MAC_BYTES] for at in range(0, len(macs), _MAC_BYTES)]
    return sent_at, salt, dict(zip(names, pieces, strict=True))


def _unpack(proof: str) -> tuple[int, bytes, int, bytes, int, bytes]:
    try:
        packed = base64.b64decode(proof + "=" * (-len(proof) % 4), b"-_", validate=True)
        return (*_HEAD.unpack_from(packed), packed[_HEAD.size :])
    except (TypeError, ValueError, struct.error):
        pass
    raise ValueError("`written` must be what an upsert returned: its ledger, with `sample`")


def _is_compared(name: str, patient: Mapping[str, Any]) -> bool:
    if name == "locale":
        return patient.get(name) is not None  # mediQuo puts its default in the place of a null
    return name in patient or name == "plan"  # a plan left out is a plan taken away


def _derive(secret_key: str) -> _Key:
    purpose = b"mediquo: proof of what was written"
    return _Key(hmac.digest(secret_key.encode(), purpose, hashlib.sha256))


def _key_id(key: _Key) -> bytes:
    return hmac.digest(key.derived, b"key id", hashlib.sha256)[:4]


def _mac(key: _Key, salt: bytes, name: str, value: Any) -> bytes:
    message = json.dumps([name, _normalise(name, value)], sort_keys=True).encode()
    return hmac.digest(key.derived, salt + message, hashlib.sha256)[:_MAC_BYTES]


def _normalise(name: str, value: Any) -> Any:
    """Return what stays of a value when mediQuo tidies it up."""
    if is_blank(value):
        return None
    if not isinstance(value, str):
        return value or None  # PHP gives an empty object back as an empty list
    text = unicodedata.normalize("NFC", value).strip()
    if name == "phone":
        return re.sub("[^0-9]", "", text).removeprefix("00")
    return text.lower() if name == "email" else text
