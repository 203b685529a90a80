"""The three exchanges of mediQuo's Patients API: https://sdk.mediquo.com/docs/patients."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
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
from airflow_provider_mediquo.api.patients.fields import Code, is_blank
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS, PatientAnswerSchema

_BLAMED = re.compile(r"patients\.([0-9]{1,3})\b(?:\.([a-z_]+))?")
_SCHEME = re.compile("[A-Za-z]{1,20}")  # of authentication: it is shown, and must be no token
_ANSWER = PatientAnswerSchema()
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":")
).encode  # made once: 3 times faster


@dataclass(frozen=True)
class AccessToken:
    """What a patient logs in to the widget with, for 24 hours. It is not to be stored."""

    access_token: str = field(repr=False)
    token_type: str


def encode_patient(patient: dict[str, Any]) -> bytes:
    """Return a checked patient as JSON."""
    return _encode(patient).encode()


def upsert(patients: Iterable[bytes]) -> Operation[None]:
    """Create or update up to MAX_PATIENTS encoded patients; all of them or none.

    https://sdk.mediquo.com/docs/patients#create-or-update-patients
    """
    body = b'{"patients":[' + b",".join(patients) + b"]}"
    return Operation(
        "patients", "PUT", "/patients", _read_success, body, parse_invalid_records=_read_blame
    )


def get(code: str) -> Operation[dict[str, Any]]:
    """Read one patient: its fields, with times in UTC.

    https://sdk.mediquo.com/docs/patients#get-patient
    """
    code = check_code(code)
    path = f"/patients/{quote(code, safe='')}"
    return Operation("patients/{code}", "GET", path, _PatientOf(code), can_be_missing=True)


def authenticate(code: str) -> Operation[AccessToken]:
    """Get the token that a patient logs in with.

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

    mediQuo answers an unknown patient with 404, or with the 401 of a wrong key: whether the same
    keys may read the patient tells the two apart.
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
    """Return a code as mediQuo knows it; raises InvalidPatientsError if it cannot be one."""
    try:
        if not is_blank(code):
            return Code().read(code)
    except ValidationError:
        pass
    raise InvalidPatientsError(
        "A patient's code must be text of one line, of 255 characters at most, without control "
        "characters, and not `.` or `..`; what was given is not, and is not shown here."
    )


def _read_success(content: Any) -> None:
    """Accept both documented bodies."""
    answer = content.get("data", content) if isinstance(content, dict) else None
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, dict) or answer.get("message") != "Success":
        raise ValueError


def _read_blame(content: Any) -> dict[int, set[str]]:
    """Find names like `patients.37.email`, wherever they are: the message, the keys of `errors`.

    Nothing else is taken from it: it may quote a patient.
    """
    blame: dict[int, set[str]] = {}
    for place, name in _BLAMED.findall(json.dumps(content)):
        blame.setdefault(int(place), set()).update({name} & {*PATIENT_FIELDS})
    return blame


@dataclass(frozen=True)
class _PatientOf:
    """Reads the patient that was asked for: nobody else's record may pass for it."""

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
    """Return what stays of a code where a database takes cases and forms of Unicode for one."""
    return unicodedata.normalize("NFC", code).strip().casefold()


def _read_token(content: Any) -> AccessToken:
    token = content.get("access_token") if isinstance(content, dict) else None
    kind = content.get("token_type") if token else None
    if isinstance(token, str) and isinstance(kind, str) and _SCHEME.fullmatch(kind):
        return AccessToken(token, kind)
    raise ValueError
