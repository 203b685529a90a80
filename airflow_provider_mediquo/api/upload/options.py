"""The options of an upsert, validated before anything is read."""

from __future__ import annotations

import math
from calendar import timegm
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, Final, Literal, TypedDict

from airflow_provider_mediquo.api.patients.limits import MAX_PATIENTS
from airflow_provider_mediquo.api.patients.phone_region import check_region, phone_rules_version
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS

HALF: Final = "half"
RESEND_AFTER: Final = timedelta(days=30)
RECEIPTS_FOR: Final = timedelta(days=400)
MAX_SYNC_NAME = 250
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
    state_conn_id: str | None
    sync_name: str | None
    on_missing: Literal["keep", "unsubscribe"]
    max_unsubscribed: int | float | None
    resend_after: timedelta
    receipts_for: timedelta
    as_of: datetime | str | None
    dry_run: bool
    unsubscribed_report: bool
    warn_rejects: int | float | None


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
    :param state_conn_id: an SQL connection whose database keeps what mediQuo has. With it, only what
        changed is sent.
    :param sync_name: identifies this sync in the state; it has one run at a time.
    :param on_missing: `keep`, or `unsubscribe` to take the plan from members that this sync sent
        before and that its source no longer has.
    :param max_unsubscribed: how many may lose their plan in one run, by a record without a plan or by
        leaving the source: a count, a fraction of those who have one, or None for no limit.
    :param resend_after: after this time an unchanged record is sent again. Each member has a day of its
        own, so that not all are sent on the same day.
    :param receipts_for: how long the state keeps the receipts of this sync's runs.
    :param as_of: the time of the source's data; UTC if it has no zone. A run with an earlier `as_of`
        than the last run fails.
    :param dry_run: read, check and compare, but send and change nothing.
    :param unsubscribed_report: list the patients that have no plan after this run, and why they have
        none, in a file next to the reject report. Needs `rejects_path`.
    :param warn_rejects: above this many rejects (a count or a fraction), a run that succeeds logs a
        warning. None: any reject.
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
    state_conn_id: str | None = None
    sync_name: str | None = None
    on_missing: Literal["keep", "unsubscribe"] = "keep"
    max_unsubscribed: int | float | None = 0.01
    resend_after: timedelta = RESEND_AFTER
    receipts_for: timedelta = RECEIPTS_FOR
    as_of: datetime | str | None = None
    dry_run: bool = False
    unsubscribed_report: bool = False
    warn_rejects: int | float | None = None

    def __post_init__(self) -> None:
        for name in ("omit_invalid", "dry_run", "unsubscribed_report"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be True or False")  # noqa: TRY004  # as for any
        check_limit("max_rejects", self.max_rejects)
        if self.max_without_plan not in (None, HALF):
            check_limit("max_without_plan", self.max_without_plan)
        if self.warn_rejects is not None:
            check_limit("warn_rejects", self.warn_rejects)
        _check_count("chunk_size", self.chunk_size, MAX_PATIENTS)
        _check_count("max_in_flight", self.max_in_flight, MAX_IN_FLIGHT)
        if self.rejects_path is not None and not isinstance(self.rejects_path, str):
            raise ValueError("`rejects_path` must be a folder's path as a string")
        if self.unsubscribed_report and not self.rejects_path:
            raise ValueError(
                "`unsubscribed_report` needs `rejects_path`, the folder it is written to"
            )
        _check_columns(self.columns)
        if self.transform is not None and not callable(self.transform):
            raise ValueError("`transform` must be a function: record -> record or None")
        _check_count("min_records", self.min_records, MAX_MIN_RECORDS, least=0)
        if self.phone_region is not None:
            check_region(self.phone_region)
        self._check_sync()

    def dropped(self) -> frozenset[str]:
        """Return the columns that are not read."""
        return frozenset(name for name, target in (self.columns or {}).items() if target is None)

    def reading(self) -> tuple[object, ...]:
        """Return all options that decide what a record becomes."""
        renamed = sorted(
            (str(name), target) for name, target in (self.columns or {}).items() if target
        )
        return (
            renamed,
            self.omit_invalid,
            self.phone_region,
            phone_rules_version(self.phone_region),
        )

    def source_of(self, field: str) -> str:
        """Return the column that becomes a field."""
        names = (name for name, target in (self.columns or {}).items() if target == field)
        return next(names, field)

    def _check_sync(self) -> None:
        for name in ("state_conn_id", "sync_name"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise ValueError(f"`{name}` must be text that is not blank")
        if self.sync_name and len(self.sync_name) > MAX_SYNC_NAME:
            raise ValueError(f"`sync_name` must have at most {MAX_SYNC_NAME} characters")
        if self.on_missing not in ("keep", "unsubscribe"):
            raise ValueError("`on_missing` must be 'keep' or 'unsubscribe'")
        if self.max_unsubscribed is not None:
            check_limit("max_unsubscribed", self.max_unsubscribed)
        for name in ("resend_after", "receipts_for"):
            value = getattr(self, name)
            if not isinstance(value, timedelta) or value < timedelta(0):
                raise ValueError(f"`{name}` must be a timedelta of 0 or more")
        as_of_microseconds(self.as_of)
        if not self.state_conn_id:
            for name in ("sync_name", "as_of"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` needs a state: set `state_conn_id`")
            if self.on_missing != "keep":
                raise ValueError("`on_missing` needs a state: set `state_conn_id`")

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
    return count <= (limit if isinstance(limit, int) else Fraction(str(limit)) * of)


def as_of_microseconds(as_of: datetime | str | None) -> int | None:
    """Return a time in microseconds since 1970; a day or a time without a zone is in UTC."""
    if as_of is None:
        return None
    time = as_of
    if isinstance(as_of, str):
        with suppress(ValueError):
            time = datetime.fromisoformat(as_of.strip())
    if isinstance(time, datetime):
        moment = time if time.tzinfo else time.replace(tzinfo=UTC)
        with suppress(OverflowError):  # a zone may lead out of the calendar
            # Without a timedelta: that of a pendulum DateTime, such as Airflow's, cannot be divided.
            return timegm(moment.utctimetuple()) * 1_000_000 + moment.microsecond
    raise ValueError("`as_of` must be a time in ISO 8601, such as {{ data_interval_end }}")


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
    if twice := sorted({target for target in targets if targets.count(target) > 1}):
        raise ValueError(f"`columns` maps two columns to {twice[0]}.\nDrop one of them with None")


def check_limit(name: str, limit: object) -> None:
    """Raise ValueError if this is neither a count nor a fraction."""
    is_number = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
    is_share = isinstance(limit, float) and math.isfinite(limit) and 0 <= limit < 1
    if not is_number and not is_share:
        raise ValueError(f"`{name}` must be a count (0, 10) or a fraction below 1.0 (0.01)")


def _check_count(name: str, count: object, most: int, least: int = 1) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= most:
        raise ValueError(f"`{name}` must be a whole number from {least} to {most}")
