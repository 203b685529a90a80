"""The options of an upsert, validated before anything is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from airflow_provider_mediquo.api.patients.limits import MAX_PATIENTS
from airflow_provider_mediquo.api.patients.phone_region import check_region
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS

HALF: Final = "half"
Transform = Callable[[Any], Any]
MAX_MIN_RECORDS = 1_000_000_000
MAX_IN_FLIGHT = 64
"""More gains nothing: mediQuo's rate limit allows ten requests per second."""


class UploadArguments(TypedDict, total=False):
    """The fields of UploadOptions as keyword arguments."""

    max_rejects: int | float
    rejects_path: str | None
    max_without_plan: int | float | None | Literal["half"]
    columns: Mapping[str, str | None] | None
    chunk_size: int
    max_in_flight: int
    transform: Transform | None
    omit_invalid: bool
    phone_region: str | None
    min_records: int


@dataclass(frozen=True)
class UploadOptions:
    """The options of an upsert. Raises ValueError if one is invalid.

    :param max_rejects: how many rejected records are tolerated: a count (`10`) or a fraction of
        the records read (`0.01`).
    :param rejects_path: a folder for the reject report, on any storage that ObjectStoragePath
        supports. None: only the first 20 rejects are logged.
    :param max_without_plan: how many patients may be sent without a plan, which unsubscribes
        them: a count, a fraction, or None for no limit. Default: half of the records, in a source
        of 100 or more.
    :param columns: column name -> patient field, or None to drop the column.
    :param chunk_size: patients per request, 1 to 100.
    :param max_in_flight: concurrent requests, 1 to 64.
    :param transform: a function, record -> record, called before `columns` is applied. None leaves
        the record out; an exception rejects this record alone.
    :param omit_invalid: send a record without an optional field that breaks a rule, which leaves
        that field alone in mediQuo. Never `plan`.
    :param phone_region: a country code such as `ES`: phone numbers are read as people there write
        them, and sent as E.164.
    :param min_records: the run fails if the source has fewer records.
    """

    max_rejects: int | float = 0
    rejects_path: str | None = None
    max_without_plan: int | float | None | Literal["half"] = HALF
    columns: Mapping[str, str | None] | None = None
    chunk_size: int = MAX_PATIENTS
    max_in_flight: int = 10
    transform: Transform | None = None
    omit_invalid: bool = False
    phone_region: str | None = None
    min_records: int = 0

    def __post_init__(self) -> None:
        _check_limit("max_rejects", self.max_rejects)
        if self.max_without_plan not in (None, HALF):
            _check_limit("max_without_plan", self.max_without_plan)
        _check_count("chunk_size", self.chunk_size, MAX_PATIENTS)
        _check_count("max_in_flight", self.max_in_flight, MAX_IN_FLIGHT)
        if self.rejects_path is not None and not isinstance(self.rejects_path, str):
            raise ValueError("`rejects_path` must be a folder's path as a string")
        _check_columns(self.columns)
        if self.transform is not None and not callable(self.transform):
            raise ValueError("`transform` must be a function: record -> record or None")
        _check_count("min_records", self.min_records, MAX_MIN_RECORDS, least=0)
        if self.phone_region is not None:
            check_region(self.phone_region)

    def rename(self, record: Any) -> tuple[Any, dict[str, str]]:
        """Return the record with its columns renamed, and the fields that would appear twice."""
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
            if target in renamed:
                problems[target if target in PATIENT_FIELDS else "?"] = "twice"
            renamed[target] = value
        return renamed, problems


def is_within(limit: float | None, count: int, of: int) -> bool:
    """Whether `count` is within a limit: a number, a fraction of `of`, or None for no limit."""
    if limit is None:
        return True
    return count <= (limit if isinstance(limit, int) else limit * of)


def _check_columns(columns: Mapping[str, str | None] | None) -> None:
    if columns is not None and not isinstance(columns, Mapping):
        raise ValueError("`columns` must be a mapping, such as {'member_id': 'code', 'note': None}")
    targets = [target for target in (columns or {}).values() if target is not None]
    if not all(isinstance(target, str) for target in targets):
        raise ValueError("`columns` must map each column to a field name or None")
    if unknown := sorted(map(str, {*targets} - {"birthdate", *PATIENT_FIELDS})):
        raise ValueError(
            f"`columns` maps to unknown fields: {', '.join(unknown)}.\n"
            f"The fields are {', '.join(PATIENT_FIELDS)}; None drops a column."
        )
    if len(targets) > len({*targets}):
        raise ValueError("`columns` maps two columns to the same field")


def _check_limit(name: str, limit: object) -> None:
    is_number = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
    is_share = isinstance(limit, float) and math.isfinite(limit) and 0 <= limit < 1
    if not is_number and not is_share:
        raise ValueError(
            f"`{name}` must be a count (0, 10) or a fraction from 0.0 to below 1.0 (0.01)"
        )


def _check_count(name: str, count: object, most: int, least: int = 1) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= most:
        raise ValueError(f"`{name}` must be a whole number from {least} to {most}")
