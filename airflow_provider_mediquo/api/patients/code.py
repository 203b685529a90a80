"""Codes that are not text: databases store them as whole numbers and UUIDs, too."""

from __future__ import annotations

import operator
from decimal import Decimal
from numbers import Integral
from typing import Any
from uuid import UUID

from marshmallow import ValidationError

_MAX_DIGITS = 64  # converting longer numbers takes quadratic time


def as_text(value: Any) -> Any:
    """Return a whole number or a UUID as text; any other value unchanged."""
    if isinstance(value, UUID):
        return UUID.__str__(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return _digits(operator.index(value))  # numpy's integers, too
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return _digits(int(value) if value.adjusted() < _MAX_DIGITS else 10**_MAX_DIGITS)
    return value


def _digits(number: int) -> str:
    if int.bit_length(number) >= 3 * _MAX_DIGITS:
        raise ValidationError("code")
    return int.__repr__(number)
