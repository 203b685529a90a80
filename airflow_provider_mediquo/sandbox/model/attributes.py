"""The attributes of a patient: which values are valid, and how mediQuo stores them.

A reader takes a value that is not blank and returns the stored value. It raises Refused for values
that the documentation does not allow.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Any

ATOM = r"[^\s@.,;:<>()\[\]\\\"]+"
LABEL = r"[^\W_](?:[\w-]*[^\W_])?"
EMAIL = re.compile(rf"{ATOM}(?:\.{ATOM})*@{LABEL}(?:\.{LABEL})*")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
PHONE_PUNCTUATION = re.compile(r"[\s().\-/]")

Reader = Callable[[Any], Any]


class Refused(ValueError):
    """A value is refused; the message is Laravel's, with a placeholder for the attribute's path."""


def blank_to_none(value: Any) -> Any:
    """Trim text, and turn empty text into null, as Laravel does before it validates."""
    return (value.strip() or None) if isinstance(value, str) else value


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("The {} field must be a string.")
    return value


def name(value: Any) -> str:
    return unicodedata.normalize("NFC", text(value))


def phone(value: Any) -> str:
    return PHONE_PUNCTUATION.sub("", text(value)) or value


def email(value: Any) -> str:
    if not EMAIL.fullmatch(text(value)):
        raise Refused("The {} field must be a valid email address.")
    return text(value).lower()


def day(value: Any) -> str:
    try:
        if DAY.fullmatch(text(value)):
            return date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    raise Refused("The {} field must match the format Y-m-d.")


def one_of(*allowed: str) -> Reader:
    def read(value: Any) -> str:
        if value not in allowed:
            raise Refused("The selected {} is invalid.")
        return text(value)

    return read


def meta(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("The {} field must be an object.")
    return value


READERS: dict[str, Reader] = {
    "code": text,
    "first_name": name,
    "last_name": name,
    "gender": one_of("male", "female"),
    "birth_date": day,
    "tax_id": text,
    "email": email,
    "plan": text,
    "phone": phone,
    "locale": one_of("de", "en", "es", "pt"),
    "meta": meta,
}
REQUIRED = ("code", "first_name")
