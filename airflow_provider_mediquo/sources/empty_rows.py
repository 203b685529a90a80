"""Rows without any value, as deleted rows of a spreadsheet and outer joins leave them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_mediquo.api.patients.fields import is_blank


def is_empty(record: Any) -> bool:
    """Return whether a record has no value at all, so that there is nobody to send or to reject."""
    return isinstance(record, Mapping) and all(map(is_blank, record.values()))
