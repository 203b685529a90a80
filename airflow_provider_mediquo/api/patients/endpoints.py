"""The three operations of mediQuo's Patients API: https://sdk.mediquo.com/docs/patients."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from marshmallow import ValidationError

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.request import Operation
from airflow_provider_mediquo.api.errors import (
    AuthenticationError,
    InvalidPatientsError,
    PatientNotFoundError,
)
from airflow_provider_mediquo.api.patients.fields import Code
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS, PatientAnswerSchema

_INVALID_FIELD = re.compile(r"patients\.([0-9]{1,3})\b(?:\.([a-z_]+))?")
_SCHEME = re.compile(
    "[A-Za-z]{1,20}"
)  # of authentication; it is displayed, so it must not be a token
_ANSWER = PatientAnswerSchema()
_CODE = Code(required=True)
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":")
).encode  # reused: 3 times faster


@dataclass(frozen=True)
class AccessToken:
    """The token with which a patient logs in to the widget, for 24 hours. Do not store it."""

    access_token: str = field(repr=False)
    token_type: str


def encode_patient(patient: dict[str, Any]) -> bytes:
    """Return a valid patient as JSON."""
    return _encode(patient).encode()


def upsert(patients: Iterable[bytes]) -> Operation[None]:
    """Create or update up to MAX_PATIENTS encoded patients: all of them or none.

    https://sdk.mediquo.com/docs/patients#create-or-update-patients
    """
    body = b'{"patients":[' + b",".join(patients) + b"]}"
    return Operation(
        "patients",
        "PUT",
        "/patients",
        _read_success,
        body,
        parse_invalid_records=_parse_invalid_records,
    )


def get(code: str) -> Operation[dict[str, Any]]:
    """Read one patient: its fields, with times in UTC.

    https://sdk.mediquo.com/docs/patients#get-patient
    """
    code = check_code(code)
    path = f"/patients/{quote(code, safe='')}"
    return Operation("patients/{code}", "GET", path, _PatientOf(code), can_be_missing=True)


def authenticate(code: str) -> Operation[AccessToken]:
    """Get the token with which a patient logs in.

    https://sdk.mediquo.com/docs/patients#authenticate
    """
    body = json.dumps({"code": check_code(code)}).encode()
    return Operation(
        "patients/authenticate",
        "POST",
        "/patients/authenticate",
        _read_token,
        body,
        can_be_missing=True,
    )


def authenticate_patient(client: MediquoClient, code: str) -> AccessToken:
    """Return a patient's token; raises PatientNotFoundError if there is no such patient.

    For an unknown patient mediQuo answers 404, or 401 as for wrong keys. To tell these apart, the
    same keys then try to read the patient.
    """
    refusal = None
    try:
        token = client.send(authenticate(code)).value
    except AuthenticationError as error:
        if error.status != 401:
            raise
        token, refusal = None, error
    if token:
        return token
    if refusal and client.send(get(code)).value:
        raise refusal
    raise PatientNotFoundError(
        f"mediQuo has no patient with the code {code!r}, or does not show it yet.", status=404
    )


def check_code(code: object) -> str:
    """Return a code as it is sent; raises InvalidPatientsError if it is not valid."""
    with suppress(ValidationError):
        return str(_CODE.deserialize(code))
    raise InvalidPatientsError(
        "A patient's code must be one line of at most 255 characters. The given value is not shown.\n"
        "A control character, `.`, `..` and words such as NULL are no code either."
    )


def _read_success(content: Any) -> None:
    """Accept the body of either version of mediQuo's documentation."""
    answer = content.get("data", content) if isinstance(content, dict) else None
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, dict) or answer.get("message") != "Success":
        raise ValueError


def _parse_invalid_records(content: Any) -> dict[int, set[str]]:
    """Find names like `patients.37.email` anywhere: in the message or in the keys of `errors`.

    Nothing else is read, because the rest may quote a patient.
    """
    found: dict[int, set[str]] = {}
    for position, name in _INVALID_FIELD.findall(json.dumps(content)):
        found.setdefault(int(position), set()).update({name} & {*PATIENT_FIELDS})
    return found


@dataclass(frozen=True)
class _PatientOf:
    """Reads the requested patient; raises ValueError if the answer is another patient."""

    code: str

    def __call__(self, content: Any) -> dict[str, Any]:
        try:
            patient = dict(_ANSWER.load(content))
        except ValidationError:
            patient = {}
        if _identity(patient.get("code", "")) != _identity(self.code):
            raise ValueError
        return patient


def _identity(code: str) -> str:
    """Return a code without the differences that a database may ignore: case, Unicode form."""
    return unicodedata.normalize("NFC", code).strip().casefold()


def _read_token(content: Any) -> AccessToken:
    token = content.get("access_token") if isinstance(content, dict) else None
    kind = content.get("token_type") if token else None
    if isinstance(token, str) and isinstance(kind, str) and _SCHEME.fullmatch(kind):
        return AccessToken(token, kind)
    raise ValueError
