"""Birth dates: which day a date, a datetime or a text means."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from marshmallow import ValidationError

_FIRST_YEAR = 1900  # earlier years are placeholders: 0001-01-01, 1753-01-01
_MIDNIGHT = dt.time()
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY_AND_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[ T]"
    r"(?:(?P<midnight>00:00(?::00(?:[.,]0+)?)?)|[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)"
    r"(?: ?(?:Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?))?"
)


def read_day(value: Any) -> str:
    """Return a day as YYYY-MM-DD; raises ValidationError with a rule."""
    day = _day_of(value)
    if day is None or day.year < _FIRST_YEAR:
        raise ValidationError("date")
    if day > dt.datetime.now(dt.UTC).date():
        raise ValidationError("future")
    return day.isoformat()


def _day_of(value: Any) -> dt.date | None:
    try:
        if isinstance(value, dt.date):
            return _day_of_date(value)
        return _day_of_text(value) if isinstance(value, str) else None
    except (TypeError, ValueError):  # no such day, or pandas' NaT: a datetime without a year
        return None


def _day_of_date(value: dt.date) -> dt.date:
    """Return the day of a date, or of a datetime at midnight.

    With another time, the day may be another one where the patient lives: midnight of Madrid is
    23:00 of the day before in UTC.
    """
    day = dt.date(value.year, value.month, value.day)
    if isinstance(value, dt.datetime) and value.time() != _MIDNIGHT:
        raise ValidationError("zone")
    return day


def _day_of_text(text: str) -> dt.date | None:
    if _DAY.fullmatch(text):
        return dt.date.fromisoformat(text)
    if not (found := _DAY_AND_TIME.fullmatch(text)):
        return None
    day = dt.date.fromisoformat(found["day"])
    if not found["midnight"]:
        raise ValidationError("zone")
    return day
