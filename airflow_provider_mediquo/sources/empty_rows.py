"""Rows without any value, as deleted rows of a spreadsheet and outer joins leave them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_mediquo.api.patients.fields import is_blank


def is_empty(record: Any) -> bool:
    """Return whether a record has no value at all, so that there is nobody to send or to reject."""
    if type(record) is not dict and not isinstance(record, Mapping):
        return False
    for value in record.values():  # noqa: SIM110  # for every row, and the first one decides
        if not is_blank(value):
            return False
    return True
