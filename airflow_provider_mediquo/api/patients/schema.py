"""The schemas of a patient: one for PUT, one for GET."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import INCLUDE, RAISE, Schema, ValidationError, fields, missing

from airflow_provider_mediquo.api.patients.fields import (
    Choice,
    Code,
    Day,
    Email,
    Identifier,
    JsonObject,
    Locale,
    Phone,
    Plan,
    Text,
    Timestamp,
)

GENDERS = frozenset({"male", "female"})
LOCALES = frozenset({"de", "en", "es", "pt"})

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
MAX_PROBLEMS = 30  # reported for one record, which may have any number of unknown fields


class PatientSchema(Schema):
    """A patient for PUT: https://sdk.mediquo.com/docs/patients#create-or-update-patients."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": "unknown", "type": "record"}  # noqa: RUF012  # as marshmallow declares it

    code = Code(required=True)
    first_name = Text(required=True)
    last_name = Text()
    gender = Choice(GENDERS)
    birth_date = Day()
    tax_id = Identifier()
    email = Email()
    plan = Plan()
    phone = Phone()
    locale = Locale(LOCALES)
    meta = JsonObject()


class PatientAnswerSchema(Schema):
    """A patient from GET; fields that mediQuo adds later are kept.

    https://sdk.mediquo.com/docs/patients#get-patient
    """

    class Meta:
        unknown = INCLUDE

    code = fields.String(required=True)
    created_at = Timestamp(allow_none=True)
    updated_at = Timestamp(allow_none=True)
    unsubscribed_at = Timestamp(allow_none=True)


_PATIENT = PatientSchema()
ANSWER_FIELDS: tuple[str, ...] = (*_PATIENT.fields, *PatientAnswerSchema().fields)
PATIENT_FIELDS: tuple[str, ...] = tuple(_PATIENT.fields)
_READERS = tuple((name, field.deserialize) for name, field in _PATIENT.load_fields.items())
_NAMES = frozenset(PATIENT_FIELDS)
REQUIRED = frozenset(name for name, field in _PATIENT.fields.items() if field.required)
"""Fields that every patient has. Without them, the "names" of a source may be patient data."""

_OPTIONAL = _NAMES - REQUIRED - {"plan"}  # leaving out the plan would unsubscribe


def is_optional(problems: Mapping[str, str]) -> bool:
    """Return whether a record may be sent without the fields that break a rule."""
    return problems.keys() <= _OPTIONAL


def check_patient(record: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the patient to send, and the rules that the record breaks (field -> rule).

    The patient of an invalid record has its valid fields.

    An unknown field is named only if the record has `code` and `first_name`: otherwise the record
    may come from a file without a header, whose "names" are patient data.
    """
    if not isinstance(record, Mapping):
        return {}, {"record": "record"}
    fields, problems = _one_birth_date(record)
    if not problems and (patient := _read_valid(fields)) is not None:
        return patient, {}
    try:
        return _PATIENT.load(fields), problems
    except ValidationError as error:
        messages, valid = error.messages_dict, error.valid_data
    may_name = fields.keys() >= REQUIRED
    return dict(valid or {}), _problems(messages, may_name=may_name) | problems


def _read_valid(record: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Return the patient of a valid record, without the bookkeeping of `load`.

    The bookkeeping takes as long as all fields together, and most records are valid.
    """
    try:
        values = [(name, read(record.get(name, missing))) for name, read in _READERS]
    except ValidationError:
        return None
    if not record.keys() <= _NAMES:
        return None
    return {name: value for name, value in values if value is not missing}


def _one_birth_date(record: Mapping[Any, Any]) -> tuple[dict[Any, Any], dict[str, str]]:
    """Rename the alias `birthdate`; both names at once are an error."""
    fields = record if isinstance(record, dict) else dict(record)
    if "birthdate" not in fields:
        return fields, {}
    problems = {"birth_date": "twice"} if "birth_date" in fields else {}
    others = {name: value for name, value in fields.items() if name != "birthdate"}
    return {"birth_date": fields["birthdate"]} | others, problems


def _problems(messages: Mapping[Any, Any], *, may_name: bool) -> dict[str, str]:
    problems: dict[str, str] = {}
    for name, rules in messages.items():
        rule = rules[0]
        is_shown = rule != "unknown" or (may_name and _is_field_name(name))
        problems[str.__str__(name) if is_shown and len(problems) < MAX_PROBLEMS else "?"] = rule
    return problems


def _is_field_name(name: object) -> bool:
    return isinstance(name, str) and bool(_FIELD_NAME.fullmatch(name))
