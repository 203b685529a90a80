"""What a patient is: one schema for what PUT takes, one for what GET gives."""

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
    JsonObject,
    Phone,
    Plan,
    Text,
    Timestamp,
)

GENDERS = frozenset({"male", "female"})
LOCALES = frozenset({"de", "en", "es", "pt"})

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
MAX_PROBLEMS = 30  # that are named of a record: its unknown fields may be any number


class PatientSchema(Schema):
    """A patient as PUT takes it: https://sdk.mediquo.com/docs/patients#create-or-update-patients."""

    class Meta:
        unknown = RAISE

    error_messages = {"unknown": "unknown", "type": "record"}  # noqa: RUF012  # marshmallow's form

    code = Code(required=True)
    first_name = Text(required=True)
    last_name = Text()
    gender = Choice(GENDERS)
    birth_date = Day()
    tax_id = Text()
    email = Email()
    plan = Plan()
    phone = Phone()
    locale = Choice(LOCALES)
    meta = JsonObject()


class PatientAnswerSchema(Schema):
    """A patient as GET gives it; fields that mediQuo adds later are kept.

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
"""Fields that every patient has; columns that are not among others may be a patient's values."""


def check_patient(record: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a record as it goes out, and the rules it breaks: field -> rule, empty if none.

    Of a record that breaks one, the fields that are well are returned.

    An unknown field is named only in a record that has `code` and `first_name`: the others may be
    rows of a file without a header, whose "names" are a patient's values.
    """
    if not isinstance(record, Mapping):
        return {}, {"record": "record"}
    fields, problems = _one_birth_date(record)
    if not problems and (patient := _read_good(fields)) is not None:
        return patient, {}
    try:
        return _PATIENT.load(fields), problems
    except ValidationError as error:
        messages, well = error.messages_dict, error.valid_data
    may_name = fields.keys() >= REQUIRED
    return dict(well or {}), _problems(messages, may_name=may_name) | problems


def _read_good(record: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Return a patient if no field of the schema says no, without the bookkeeping of `load`.

    That takes as long as all the fields together, and most records are good.
    """
    try:
        values = [(name, read(record.get(name, missing))) for name, read in _READERS]
    except ValidationError:
        return None
    if not record.keys() <= _NAMES:
        return None
    return {name: value for name, value in values if value is not missing}


def _one_birth_date(record: Mapping[Any, Any]) -> tuple[dict[Any, Any], dict[str, str]]:
    """Take the earlier document's name for the birth date; both at once is a mistake."""
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
