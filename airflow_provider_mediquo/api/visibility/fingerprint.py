"""Checks whether mediQuo shows what was written: it applies a write after it has answered "Success".

A proof identifies the written values without containing them: a short keyed hash per field, with a
key derived from the connection's secret key. So proofs can be stored in XCom, and no value can be read
or guessed from them.
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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_mediquo.api.errors import ConnectionSettingsError
from airflow_provider_mediquo.api.patients.fields import is_blank
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS

_VERSION = 2
_HEAD = struct.Struct(">B4sQ16sH")  # version, key id, time, salt, which fields
_MAC_BYTES = 6
_BITS = {name: 1 << bit for bit, name in enumerate(PATIENT_FIELDS)}
_UNKNOWN_TIME = 0
_MAX_PHP_INTEGER = (1 << 63) - 1  # PHP reads a larger one as a float
_encode = json.JSONEncoder(sort_keys=True).encode  # json.dumps would make an encoder for each value


@dataclass(frozen=True)
class _Key:
    """The key of the proofs; hidden from tools that show the variables of an error."""

    derived: bytes = field(repr=False)


def make_proof(patient: Mapping[str, Any], secret_key: str, sent_at: int | None) -> str:
    """Return the proof of one checked patient.

    :param sent_at: the server's time when the first attempt was sent, in seconds since 1970.
    """
    return make_proofs([patient], secret_key, sent_at)[0]


def make_proofs(
    patients: Iterable[Mapping[str, Any]], secret_key: str, sent_at: int | None
) -> list[str]:
    """Return the proof of each patient of a request."""
    key = _derive(secret_key)
    del secret_key
    key_id, time = _key_id(key), max(sent_at or 0, _UNKNOWN_TIME)
    proofs = []
    for patient in patients:
        salt = secrets.token_bytes(16)
        names = [name for name in PATIENT_FIELDS if _is_compared(name, patient)]
        which = sum(_BITS[name] for name in names)
        keyed = _keyed(key, salt)
        macs = b"".join([_mac(keyed, name, patient.get(name)) for name in names])
        packed = _HEAD.pack(_VERSION, key_id, time, salt, which) + macs
        proofs.append(base64.urlsafe_b64encode(packed).decode().rstrip("="))
    return proofs


def differences(
    proof: str, patient: Mapping[str, Any], secret_key: str, *, by_time: bool = True
) -> list[str]:
    """Return the fields that do not show the written values yet; empty if the write is visible.

    A write is visible if every field that was sent reads back the same after normalising, or if
    `updated_at` is not earlier than the time of sending: mediQuo may rewrite a value, and a write
    that changes nothing may leave `updated_at` unchanged. Raises ConnectionSettingsError if the
    proof was made with another secret key, ValueError if it is not a proof.

    :param by_time: whether a later `updated_at` is enough; then somebody else may have changed it.
    """
    key = _derive(secret_key)
    del secret_key
    sent_at, salt, macs = _read(proof, key)
    keyed = _keyed(key, salt)
    updated_at = patient.get("updated_at")
    if by_time and updated_at and sent_at != _UNKNOWN_TIME and updated_at.timestamp() >= sent_at:
        return []
    return [
        name
        for name, mac in macs.items()
        if not hmac.compare_digest(mac, _mac(keyed, name, patient.get(name)))
    ]


def key_id(secret_key: str) -> str:
    """Return the ID of a secret key, which is in each proof too; it reveals nothing about the key."""
    return _key_id(_derive(secret_key)).hex()


def check_proof(proof: str, secret_key: str) -> None:
    """Raise the errors that `differences` raises for this proof."""
    key = _derive(secret_key)
    del secret_key  # not among the variables of an error
    _read(proof, key)


def _read(proof: str, key: _Key) -> tuple[int, bytes, dict[str, bytes]]:
    version, key_id, sent_at, salt, which, macs = _unpack(proof)
    names = [name for bit, name in enumerate(PATIENT_FIELDS) if which >> bit & 1]
    if version != _VERSION or len(macs) != _MAC_BYTES * len(names):
        raise ValueError("This proof is of another version. Run the upsert again.")
    if not hmac.compare_digest(key_id, _key_id(key)):
        raise ConnectionSettingsError(
            "The connection's secret key has changed since the upsert, so the written values cannot "
            "be compared.\nRun the upsert again."
        )
    pieces = [macs[at : at + _MAC_BYTES] for at in range(0, len(macs), _MAC_BYTES)]
    return sent_at, salt, dict(zip(names, pieces, strict=True))


def _unpack(proof: str) -> tuple[int, bytes, int, bytes, int, bytes]:
    try:
        packed = base64.b64decode(proof + "=" * (-len(proof) % 4), b"-_", validate=True)
        return (*_HEAD.unpack_from(packed), packed[_HEAD.size :])
    except (TypeError, ValueError, struct.error):
        pass
    raise ValueError("`written` must be the ledger that an upsert returned, with its `sample`.")


def _is_compared(name: str, patient: Mapping[str, Any]) -> bool:
    if name == "locale":
        return patient.get(name) is not None  # mediQuo replaces a null with its default
    return name in patient or name == "plan"  # a plan that is left out is removed


def _derive(secret_key: str) -> _Key:
    purpose = b"mediquo: proof of what was written"
    return _Key(hmac.digest(secret_key.encode(), purpose, hashlib.sha256))


def _key_id(key: _Key) -> bytes:
    return hmac.digest(key.derived, b"key id", hashlib.sha256)[:4]


def _keyed(key: _Key, salt: bytes) -> hashlib.blake2b:
    """Return the start of each MAC of a proof; half as much CPU as HMAC."""
    return hashlib.blake2b(digest_size=_MAC_BYTES, key=key.derived, salt=salt)


def _mac(keyed: hashlib.blake2b, name: str, value: Any) -> bytes:
    mac = keyed.copy()
    mac.update(f'["{name}", {_encode(_normalise(name, value))}]'.encode())  # [name, value] as JSON
    return mac.digest()


def _normalise(name: str, value: Any) -> Any:
    """Return a value without the differences that storing it in mediQuo may make."""
    if is_blank(value):
        return None
    if not isinstance(value, str):
        return _stored(value) or None
    text = unicodedata.normalize("NFC", value).strip()
    if name == "phone":
        return re.sub("[^0-9]", "", text).removeprefix("00")
    return text.lower() if name == "email" else text


def _stored(value: Any) -> Any:
    """Return JSON as PHP gives it back: an empty object is an empty list, and 1.0 is 1."""
    if isinstance(value, dict):
        return _stored_object({_composed(key): _stored(item) for key, item in value.items()})
    if isinstance(value, list):
        return [_stored(item) for item in value]
    if isinstance(value, str):
        return _composed(value).strip() or None  # as Laravel trims its input
    if isinstance(value, bool) or value is None:
        return value
    return _stored_number(value)


def _stored_number(value: float) -> float:
    if isinstance(value, int) and abs(value) <= _MAX_PHP_INTEGER:
        return value
    with suppress(OverflowError):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _stored_object(value: dict[str, Any]) -> Any:
    indexes = [str(index) for index in range(len(value))]
    return [value[index] for index in indexes] if value.keys() == set(indexes) else value


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
