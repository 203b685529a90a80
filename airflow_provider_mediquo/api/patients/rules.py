"""The rules that a record can break.

A rule is a single word, so that no part of a rejected value can reach an error message.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RULES: Mapping[str, str] = MappingProxyType(
    {
        "required": "must be present and not blank",
        "unknown": "is not a patient field; rename it with `columns`, or drop it with None",
        "twice": "is given twice (`birthdate` is an alias of `birth_date`); drop one",
        "record": "must be a mapping of field names to values; in JSON Lines, one object per line",
        "cells": "must have as many cells as the header, correctly quoted",
        "header": "is the header again, as in files that were concatenated",
        "lines": "has a cell with line breaks, or may be part of one: a quote is missing or extra",
        "size": "is too large: a record may take 64 KiB as JSON",
        "text": "must be text in valid Unicode without NUL; for a file, check `encoding`",
        "encoding": "has control characters of another encoding; set `encoding`, or correct the source",
        "number": "must be text: a number may have lost its + or its leading zeros",
        "null": r"is a word for a missing value (\N, NULL, #N/A); leave it blank instead",
        "spreadsheet": 'was changed by a spreadsheet (1.2E+11, ="00123"); export it as text',
        "code": "must be one line of at most 255 characters, no control characters, not `.` or `..`",
        "choice": "must be one of the allowed values",
        "date": "must be a real date since 1900: YYYY-MM-DD, a date or a datetime",
        "zone": "has a time other than midnight, so the date is ambiguous; cast it to a date",
        "future": "must not be in the future",
        "email": "must be a plausible e-mail address",
        "phone": "must be 7 to 15 digits; only spaces and punctuation may separate them",
        "prefix": "must start with the country prefix: + or 00",
        "object": "must be a JSON object of at most 32 levels, with unique keys and without NUL",
        "transform": "made `transform` fail; test the function with such a record",
        "duplicate": "came earlier in this run; the first valid record counts",
        "refused": "is refused by mediQuo",
        "lost": "is given here, but the first record with this code was sent without one",
    }
)
"""Rule -> the text that follows the field's name in a message."""

_CHOICES = {
    "gender": "must be male or female",
    "locale": "must be de, en, es or pt; a region may follow, as in es_ES",
}


def describe(field: str, rule: str) -> str:
    """Return what is wrong with a field."""
    text = _CHOICES.get(field) if rule == "choice" else None
    return f"{field} {text or RULES[rule]}"
