"""The fields of a patient: how each is read, and the one word out of RULES that refuses it.

Written to be cheap, because every record of every night passes here; a rule is one word, so that
nothing of a refused value can get into an error.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pendulum
from marshmallow import ValidationError, fields, missing, validate

from airflow_provider_mediquo.api.patients.limits import MAX_CODE, MAX_RECORD_BYTES
from airflow_provider_mediquo.api.patients.meta import read_meta
from airflow_provider_mediquo.api.text import is_valid_text

RULES: Mapping[str, str] = MappingProxyType(
    {
        "required": "must be there and not blank",
        "unknown": "is not a field of a patient; rename it with `columns`, or drop it with None",
        "twice": "is given twice (`birthdate` is another name of `birth_date`); drop one",
        "record": "must be a mapping of field names to values, in a file a JSON object a line",
        "cells": "must have as many cells as the header has, each rightly quoted",
        "header": "is the header again, as where files were put one behind the other",
        "lines": "has a cell of several lines, or may be one of them: a quote is missing or too many",
        "size": "must be smaller: a whole record may take 64 KiB as JSON",
        "text": "must be text, in valid Unicode without NUL",
        "number": "must be text: a number may have lost its + or its first zeros",
        "code": "must be one line of 255 characters at most, none of control, and not `.` or `..`",
        "choice": "must be one of the documented values",
        "date": "must be a real day as YYYY-MM-DD, a date or a datetime",
        "zone": "has a time and its zone, so that another day may be meant; cast it to a date",
        "future": "must not be in the future",
        "email": "must be a plausible e-mail address",
        "phone": "must be 7 to 15 digits, with spaces, dots, hyphens or brackets at most",
        "prefix": "must begin with its country's prefix: + or 00",
        "object": "must be a JSON object of at most 32 levels, without NUL",
        "duplicate": "came before in this run, and the first one counts",
        "refused": "is refused by mediQuo",
        "lost": "is given here, though the first record of this code went out without one",
    }
)
"""Every rule that a record can break, as what is said of the field."""

MAX_EMAIL = 254
"""Characters; RFC 5321 allows no more."""

MAX_DIGITS = 64  # of a numeric code; converting longer ones takes time quadratic in their length
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_GAP = r"[ ().\-/]*"
_DIGITS = re.compile(rf"\+?[0-9](?:{_GAP}[0-9])*{_GAP}")
_PHONE = re.compile(rf"(?:\+|00{_GAP})[1-9](?:{_GAP}[0-9]){{6,14}}{_GAP}")


def is_blank(value: object) -> bool:
    """Whether there is nothing in it: null, empty, white space, or what databases have for null."""
    if isinstance(value, str):
        return not str.strip(value)  # also where a class of its own says otherwise
    return value is None or (isinstance(value, float | Decimal | dt.date) and _is_nan(value))


class PatientField(fields.Field):  # type: ignore[type-arg]  # generic in marshmallow 4 alone
    """A field that knows what blank means; a subclass only says how to read what is not."""

    default_error_messages = {"required": "required"}  # noqa: RUF012  # marshmallow's own form

    def deserialize(self, value: Any, attr: Any = None, data: Any = None, **kwargs: Any) -> Any:
        """Return what goes out: None for a blank, `missing` for an absent field."""
        if value is missing and not self.required:
            return missing
        if value is missing or is_blank(value):
            return self.blank()
        return self.read(value)

    def blank(self) -> Any:
        """Return what a blank goes out as."""
        if self.required:
            raise ValidationError("required")
        return None

    def read(self, value: Any) -> Any:
        """Return what a value goes out as, or raise ValidationError with a rule."""
        raise NotImplementedError


class Text(PatientField):
    """Text, its outer white space trimmed, otherwise as given."""

    def read(self, value: Any) -> str:
        """Return it trimmed."""
        if not isinstance(value, str):
            is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
            raise ValidationError("number" if is_number else "text")
        if len(value) > MAX_RECORD_BYTES:
            raise ValidationError("size")
        text = str.strip(value)
        if not is_valid_text(text):
            raise ValidationError("text")
        return text


class Code(Text):
    """The identifier: text, or the whole number that a database keeps it as."""

    def read(self, value: Any) -> str:
        """Return it as text that is safe in a path."""
        code = super().read(value if isinstance(value, str) else _as_text(value))
        if len(code) > MAX_CODE or code in (".", "..") or _CONTROL.search(code):
            raise ValidationError("code")
        return code


class Plan(Text):
    """A plan's name; a blank one is left out, which unsubscribes."""

    def blank(self) -> Any:
        """Leave it out."""
        return missing


class Choice(Text):
    """One of a few words."""

    def __init__(self, allowed: frozenset[str]) -> None:
        super().__init__()
        self.allowed = allowed

    def read(self, value: Any) -> str:
        """Return the word."""
        word = super().read(value)
        if word not in self.allowed:
            raise ValidationError("choice")
        return word


class Day(PatientField):
    """A real day that has begun somewhere (UTC), as YYYY-MM-DD."""

    def read(self, value: Any) -> str:
        """Return it as YYYY-MM-DD."""
        day = _day_of(value)
        if day is None:
            raise ValidationError("date")
        if isinstance(value, dt.datetime) and value.tzinfo and value.time() != dt.time():
            raise ValidationError("zone")
        if day > dt.datetime.now(dt.UTC).date():
            raise ValidationError("future")
        return day.isoformat()


class Email(Text):
    """An e-mail address that could exist."""

    _plausible = staticmethod(validate.Email(error="email"))

    def read(self, value: Any) -> str:
        """Return it trimmed, in the case it was given."""
        email = super().read(value)
        if len(email) > MAX_EMAIL or not _accepts(self._plausible, email):
            raise ValidationError("email")
        return email


class Phone(Text):
    """A phone number with its country's prefix, in any usual way of writing it."""

    def read(self, value: Any) -> str:
        """Return it trimmed, as it was written."""
        phone = super().read(value)
        if not _PHONE.fullmatch(phone):
            is_national = _DIGITS.fullmatch(phone) and not phone.startswith(("+", "00"))
            raise ValidationError("prefix" if is_national else "phone")
        return phone


class JsonObject(PatientField):
    """An object of the caller's own, or its JSON, which is all that some sources can hold."""

    def read(self, value: Any) -> dict[str, Any]:
        """Return it as it is, proven to be JSON."""
        return read_meta(value)


class Timestamp(fields.Field):  # type: ignore[type-arg]  # generic in marshmallow 4 alone
    """A time in either of mediQuo's formats, as an aware time in UTC; None if it is neither."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        try:
            return pendulum.instance(dt.datetime.fromisoformat(value)).in_timezone("UTC")
        except (TypeError, ValueError, OverflowError):
            return None  # MySQL's zero date, say: it must not keep a patient from being read


def _is_nan(value: float | Decimal | dt.date) -> bool:
    if isinstance(value, Decimal):
        return value.is_nan()
    return value != value  # noqa: PLR0124  # true of what is none, of a NaT too, and of nothing else


def _as_text(value: Any) -> Any:
    """Return what databases keep a code as, a whole number or a UUID, as text; else the value."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits(value)
    if isinstance(value, UUID):
        return UUID.__str__(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return _digits(int(value) if value.adjusted() < MAX_DIGITS else 10**MAX_DIGITS)
    return value


def _digits(number: int) -> str:
    if int.bit_length(number) >= 3 * MAX_DIGITS:
        raise ValidationError("code")
    return int.__repr__(number)


def _day_of(value: Any) -> dt.date | None:
    try:
        if isinstance(value, dt.date):
            return dt.date(value.year, value.month, value.day)
        text = str.strip(value) if isinstance(value, str) else ""
        return dt.date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except (TypeError, ValueError):  # pandas' NaT is a datetime without a year
        return None


def _accepts(validator: Any, value: str) -> bool:
    try:
        validator(value)
    except ValidationError:
        return False
    return True
