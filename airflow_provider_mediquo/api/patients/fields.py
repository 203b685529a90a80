"""The fields of a patient: how each is read, and which rule it breaks.

Fast, because every record passes through here.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from numbers import Number
from typing import Any

import pendulum
from marshmallow import ValidationError, fields, missing, validate

from airflow_provider_mediquo.api.patients.code import as_text
from airflow_provider_mediquo.api.patients.day import read_day
from airflow_provider_mediquo.api.patients.limits import MAX_CODE, MAX_RECORD_BYTES
from airflow_provider_mediquo.api.patients.meta import read_meta
from airflow_provider_mediquo.api.patients.phone import broken_phone_rule, plain_phone
from airflow_provider_mediquo.api.patients.words import (
    INVISIBLE,
    SUSPECT,
    broken_identifier_rule,
    broken_rule,
    is_invisible,
)
from airflow_provider_mediquo.api.text import is_misread, is_valid_text

MAX_EMAIL = 254
"""Characters; RFC 5321 allows no more."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_REGION = re.compile(r"[_-][a-z0-9]{2,8}(?:[_-][a-z0-9]{2,8})*(?:[.@][\w@.-]*)?")


def is_blank(value: object) -> bool:
    """Return whether a value is null, empty, invisible, or what databases have for null."""
    if isinstance(value, str):
        text = str.strip(value)  # a subclass may override `strip`
        return not text or (not text.isascii() and is_invisible(text))
    return value is None or (isinstance(value, Number | dt.date) and _is_nan(value))


class PatientField(fields.Field):  # type: ignore[type-arg]  # generic in marshmallow 4 alone
    """A field that handles blanks; a subclass reads the values that are not blank."""

    default_error_messages = {"required": "required"}  # noqa: RUF012  # as marshmallow declares it

    def deserialize(self, value: Any, attr: Any = None, data: Any = None, **kwargs: Any) -> Any:
        """Return the value to send: None for a blank, `missing` for an absent field."""
        if value is missing:
            return self.blank() if self.required else missing
        if isinstance(value, str):
            value = str.strip(value)  # plain text, whatever a subclass overrides
            is_empty = not value or (not value.isascii() and is_invisible(value))
        else:
            is_empty = is_blank(value)
        return self.blank() if is_empty else self.read(value)

    def blank(self) -> Any:
        """Return the value to send for a blank."""
        if self.required:
            raise ValidationError("required")
        return None

    def read(self, value: Any) -> Any:
        """Return the value to send, or raise ValidationError with a rule; text is trimmed."""
        raise NotImplementedError


class Text(PatientField):
    """Text, sent as given."""

    def read(self, value: Any) -> str:
        """Return it."""
        if not isinstance(value, str):
            is_number = isinstance(value, Number) and not isinstance(value, bool)
            raise ValidationError("number" if is_number else "text")
        if len(value) > MAX_RECORD_BYTES:
            raise ValidationError("size")
        if not (value.isascii() and value.isprintable()):  # most are
            _check_characters(value)
        if value[0] in SUSPECT and (rule := broken_rule(value)):
            raise ValidationError(rule)
        return value


class Identifier(Text):
    """Text that a word for a missing value, or a number from a spreadsheet, cannot be."""

    def read(self, value: Any) -> str:
        """Return it."""
        text = super().read(value)
        if rule := broken_identifier_rule(text):
            raise ValidationError(rule)
        return text


class Code(Identifier):
    """The code: text, or a whole number or UUID as databases store it."""

    def read(self, value: Any) -> str:
        """Return it as text that is safe in a URL path."""
        code = super().read(value if isinstance(value, str) else as_text(value))
        if len(code) > MAX_CODE or code in (".", "..") or _CONTROL.search(code):
            raise ValidationError("code")
        return code


class Plan(Identifier):
    """The name of a plan; a blank one is left out, which unsubscribes."""

    def blank(self) -> Any:
        """Leave it out."""
        return missing


class Choice(Text):
    """One of a few words, in any case."""

    def __init__(self, allowed: frozenset[str]) -> None:
        super().__init__()
        self.allowed = allowed

    def read(self, value: Any) -> str:
        """Return the word in lower case."""
        word = super().read(value).lower()
        return word if word in self.allowed else self.other(word)

    def other(self, word: str) -> str:
        """Return the word that another one stands for."""
        raise ValidationError("choice")


class Locale(Choice):
    """A language; a region is left out: es_ES is es."""

    def other(self, word: str) -> str:
        """Return the language."""
        if word[:2] in self.allowed and _REGION.fullmatch(word, 2):
            return word[:2]
        return super().other(word)


class Day(PatientField):
    """A real day, not after today in UTC."""

    def read(self, value: Any) -> str:
        """Return it as YYYY-MM-DD."""
        return read_day(value)


class Email(Text):
    """A plausible e-mail address."""

    _plausible = staticmethod(validate.Email(error="email"))

    def read(self, value: Any) -> str:
        """Return it with its case unchanged."""
        email = super().read(value)
        is_seen = email.isascii() or not INVISIBLE.search(email)
        if not is_seen or len(email) > MAX_EMAIL or not _accepts(self._plausible, email):
            raise ValidationError("email")
        return email


class Phone(Identifier):
    """A phone number with its country prefix, in any usual way to write it."""

    def read(self, value: Any) -> str:
        """Return it as it was written, with plain spaces and hyphens."""
        phone = plain_phone(super().read(value))
        if rule := broken_phone_rule(phone):
            raise ValidationError(rule)
        return phone


class JsonObject(PatientField):
    """The caller's own object, or its JSON as text."""

    def read(self, value: Any) -> dict[str, Any]:
        """Return it unchanged, if JSON can express it."""
        return read_meta(value)


class Timestamp(fields.Field):  # type: ignore[type-arg]  # generic in marshmallow 4 alone
    """A time in either of mediQuo's formats, converted to UTC; None if it is in neither."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        try:
            return pendulum.instance(dt.datetime.fromisoformat(value)).in_timezone("UTC")
        except (TypeError, ValueError, OverflowError):
            return None  # such as MySQL's zero date; the patient must stay readable


def _check_characters(text: str) -> None:
    if not is_valid_text(text):
        raise ValidationError("text")
    if is_misread(text):
        raise ValidationError("encoding")


def _is_nan(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_nan()
    return bool(value != value)  # noqa: PLR0124  # true only of NaN, and of pandas' NaT


def _accepts(validator: Any, value: str) -> bool:
    try:
        validator(value)
    except ValidationError:
        return False
    return True
