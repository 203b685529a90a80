"""The options of an upsert, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from airflow_provider_mediquo.api.patients.limits import MAX_PATIENTS
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS

HALF: Final = "half"
MAX_IN_FLIGHT = 64
"""Requests at once, at most: ten a second is all that mediQuo's limit lets through."""


@dataclass(frozen=True)
class UploadOptions:
    """How an upsert behaves. Raises ValueError for what makes no sense.

    :param max_rejects: how many rejected records are no failure: a number, or a share below 1.0
        of those read.
    :param rejects_path: a folder for the rejects file, on any storage that Airflow reaches; None:
        the first 20 are logged.
    :param max_without_plan: how many patients may be sent without a plan, which unsubscribes
        them: a number, a share below 1.0, or None for no limit. Default: half of the records, in
        a source of 100 or more.
    :param columns: name in the record -> field of a patient, or None to drop it.
    :param chunk_size: patients in a request, 1 to 100.
    :param max_in_flight: requests at once.
    """

    max_rejects: int | float = 0
    rejects_path: str | None = None
    max_without_plan: int | float | None | Literal["half"] = HALF
    columns: Mapping[str, str | None] | None = None
    chunk_size: int = MAX_PATIENTS
    max_in_flight: int = 10

    def __post_init__(self) -> None:
        _check_limit("max_rejects", self.max_rejects)
        if self.max_without_plan not in (None, HALF):
            _check_limit("max_without_plan", self.max_without_plan)
        _check_count("chunk_size", self.chunk_size, MAX_PATIENTS)
        _check_count("max_in_flight", self.max_in_flight, MAX_IN_FLIGHT)
        if self.rejects_path is not None and not isinstance(self.rejects_path, str):
            raise ValueError("`rejects_path` must be the path of a folder, as text")
        _check_columns(self.columns)

    def rename(self, record: Any) -> tuple[Any, dict[str, str]]:
        """Return a record with its columns renamed, and the fields that it would then have twice."""
        if not self.columns or not isinstance(record, Mapping):
            return record, {}
        renamed: dict[Any, Any] = {}
        problems: dict[str, str] = {}
        for name, value in record.items():
            if name not in self.columns:
                target = name
            elif (mapped := self.columns[name]) is not None:
                target = mapped
            else:
                continue
            if target in renamed:  # else it is one that says it has a name twice
                problems[target if target in PATIENT_FIELDS else "?"] = "twice"
            renamed[target] = value
        return renamed, problems


def is_within(limit: float | None, count: int, of: int) -> bool:
    """Whether a count keeps to a limit: a number, a share of `of`, or None."""
    if limit is None:
        return True
    return count <= (limit if isinstance(limit, int) else limit * of)


def _check_columns(columns: Mapping[str, str | None] | None) -> None:
    if columns is not None and not isinstance(columns, Mapping):
        raise ValueError("`columns` must be a mapping: {'its name': 'field', 'another': None}")
    targets = [target for target in (columns or {}).values() if target is not None]
    if not all(isinstance(target, str) for target in targets):
        raise ValueError("`columns` must lead to names of fields, or to None")
    if unknown := sorted(map(str, {*targets} - {"birthdate", *PATIENT_FIELDS})):
        raise ValueError(
            f"`columns` leads to {', '.join(unknown)}: not a field of a patient. "
            f"The fields are {', '.join(PATIENT_FIELDS)}; None drops a column."
        )
    if len(targets) > len({*targets}):
        raise ValueError("`columns` leads from two columns to one field")


def _check_limit(name: str, limit: object) -> None:
    is_number = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
    is_share = isinstance(limit, float) and math.isfinite(limit) and 0 <= limit < 1
    if not is_number and not is_share:
        raise ValueError(f"`{name}` must be a whole number from 0, or a share from 0.0 below 1.0")


def _check_count(name: str, count: object, most: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise ValueError(f"`{name}` must be a whole number from 1 to {most}")
