"""Checks that `meta` is a plain JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from marshmallow import ValidationError

from airflow_provider_mediquo.api.patients.limits import MAX_RECORD_BYTES
from airflow_provider_mediquo.api.text import is_misread, is_valid_text

_LEVELS = 32  # far below the limits of JSON parsers on both sides
MAX_VALUES = MAX_RECORD_BYTES // 2  # each takes two bytes or more
MAX_BITS = 1 << 10  # of a whole number


def read_meta(value: Any) -> dict[str, Any]:
    """Return an object, given as such or as JSON text; raises ValidationError with a rule."""
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, dict):
        raise ValidationError("object")
    _count(value, _LEVELS)
    return value


def _parsed(text: str) -> Any:
    if len(text) > MAX_RECORD_BYTES:
        raise ValidationError("size")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError  # a key given twice: only the last value would be sent
    return found


def _count(value: Any, levels: int) -> int:
    """Return the number of values inside; raises ValidationError for anything but plain JSON.

    A list that occurs ten times in a list that occurs ten times is counted a hundred times: it
    takes little memory, but as JSON it may take years to write.
    """
    if isinstance(value, dict):
        for key in value:
            if not (isinstance(key, str) and is_valid_text(key)):
                raise ValidationError("object")
        return _count_all(value.values(), levels)
    if isinstance(value, list):
        return _count_all(value, levels)
    if isinstance(value, str) and is_misread(value):
        raise ValidationError("encoding")
    if not _is_plain(value):
        raise ValidationError("object")
    return 1


def _count_all(values: Iterable[Any], levels: int) -> int:
    if not levels:
        raise ValidationError("object")
    count = 1
    for value in values:
        count += _count(value, levels - 1)
        if count > MAX_VALUES:
            raise ValidationError("size")
    return count


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return is_valid_text(value)
    if isinstance(value, int):
        return value.bit_length() < MAX_BITS
    return value is None or (isinstance(value, float) and math.isfinite(value))
