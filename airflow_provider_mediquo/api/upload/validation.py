"""Which records of a source may be sent: they pass the schema, and their code is new."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from airflow_provider_mediquo.api.errors import InvalidPatientsError, SourceError
from airflow_provider_mediquo.api.patients.endpoints import encode_patient
from airflow_provider_mediquo.api.patients.limits import MAX_RECORD_BYTES
from airflow_provider_mediquo.api.patients.phone_region import to_e164
from airflow_provider_mediquo.api.patients.schema import check_patient, is_optional
from airflow_provider_mediquo.api.records import (
    Change,
    EmptyPart,
    LocatedRecord,
    SourceLocation,
    Unreadable,
    ValidRecord,
)
from airflow_provider_mediquo.api.report import Rejection
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.text import counted
from airflow_provider_mediquo.api.upload.circuit_breaker import InvalidStreak
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.upload.options import UploadOptions, is_within
from airflow_provider_mediquo.api.upload.seen_codes import SeenCodes
from airflow_provider_mediquo.api.upload.transformation import Transformation

log = logging.getLogger(__name__)

_LOST = {"plan": "lost"}
# What lower case letters with accents become in UTF-8 that is read as Latin-1 or Windows-1252.
_MOJIBAKE = b"\xc3\x83\xc2"
_REPLACED = "\ufffd".encode()  # for what an encoding does not have
_JOINED = {"record": "lines"}  # a lost quote joins any number of rows; the next may be valid


class _Checked(NamedTuple):
    """A record as it is sent.

    :param problems: the rules that it breaks.
    :param encoded: its JSON, if it breaks none.
    :param omitted: the fields that it is sent without, and the rules that they break.
    :param change: how it differs from what mediQuo has, with a state.
    """

    patient: Mapping[str, Any]
    problems: Mapping[str, str]
    encoded: bytes = b""
    omitted: Mapping[str, str] = MappingProxyType({})
    change: Change | None = None


_SKIPPED = _Checked({}, {})
_UNCHANGED = _Checked({}, {})


class RecordValidator:
    """Reads records and tells the ledger about those that may not be sent."""

    def __init__(self, options: UploadOptions, ledger: Ledger, sync: SyncRun | None = None) -> None:
        self._options = options
        self._ledger = ledger
        self._sync = sync
        self._code_column = options.source_of("code")
        self._seen = SeenCodes(sync)
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._streak = InvalidStreak(options.max_rejects)
        self._transform = Transformation(options)
        self._garbled = 0

    def accept(self, records: Iterable[Any]) -> Iterator[ValidRecord]:
        """Yield the records that may be sent.

        Raises InvalidPatientsError after so many invalid records in a row that the source is broken.
        """
        for given in records:
            record, location = given if isinstance(given, LocatedRecord) else (given, None)
            if isinstance(record, EmptyPart):
                if self._sync:
                    self._sync.comparison.empty_parts.append(record.name)
                continue
            row = self._ledger.next_row()
            if valid := self._valid(row, self._check(record), location):
                self._ledger.open(valid)
                yield valid
            elif self._sync:
                self._sync.note_spelling()
        self._check_count()
        self._check_transform()
        self._warn()

    def _valid(
        self, row: int, checked: _Checked, location: SourceLocation | None
    ) -> ValidRecord | None:
        """Return a record that may be sent; tell the ledger about any other."""
        if checked is _UNCHANGED:
            self._streak.end()
            self._ledger.count_unchanged()
            return None
        if checked is _SKIPPED:
            self._ledger.skip()
            return None
        patient, problems, encoded, omitted, change = checked
        if problems:
            self._reject_invalid(row, patient, problems, location)
            if problems != _JOINED and not is_optional(problems):
                self._count_invalid()
            return None
        self._streak.end()
        if not self._is_first(row, patient, location):
            return None
        if omitted:
            self._ledger.omit(row, patient, omitted, location)
        if change and change.kind == "unchanged":
            self._ledger.count_unchanged()
            return None
        names = tuple(patient)
        names = self._names.setdefault(names, names)  # one object for all that have the same
        return ValidRecord(
            row, patient["code"], "plan" in patient, encoded, location, change, names
        )

    def _check_count(self) -> None:
        """Raise SourceError if the source has too few records.

        If it has fewer than 1,000, nothing has been sent by then.
        """
        read, least = self._ledger.report.read, self._options.min_records
        if read < least:
            raise SourceError(
                f"The source has {counted(read, 'record')}, fewer than `min_records` ({least:,}).\nCheck "
                "that it is complete, or lower `min_records`."
            )

    def _check_transform(self) -> None:
        """Raise InvalidPatientsError if `transform` found no column, unless so many may be rejected."""
        if not self._transform.finds_nothing:
            return
        report, problem = self._ledger.report, self._transform.problem()
        if not is_within(self._options.max_rejects, report.rejected, report.read):
            raise InvalidPatientsError(problem)
        log.warning(problem.replace("\n", " "))

    def _warn(self) -> None:
        """Log what is likely a mistake."""
        report = self._ledger.report
        if self._garbled:
            log.warning(
                "Text such as `Ã±` or U+FFFD in %s: it was read in the wrong encoding, here or before. "
                "Set `encoding`, or correct the source.",
                counted(self._garbled, "record"),
            )
        if not report.read:
            log.warning("The source has no records.")
        elif report.read == report.skipped:
            log.warning("`transform` left out every record. Does it return the record?")

    def _count_invalid(self) -> None:
        if self._streak.add():
            if problem := self._transform.problem():
                raise InvalidPatientsError(problem)
            raise InvalidPatientsError(
                f"{self._streak.count:,} consecutive records are invalid; the source looks broken.\n"
                "Has a column been renamed, or was the wrong file delivered?"
            )

    def _check(self, record: Any) -> _Checked:
        """Return a record as it is sent, and the rules that it breaks."""
        if isinstance(record, Unreadable):
            return _Checked({}, {"record": record.rule})
        if self._options.transform:
            try:
                record = self._transform(record)
            except Exception:  # noqa: BLE001  # the user's function; nothing of the error is shown
                return _Checked({}, {"record": "transform"})
            if record is None:
                return _SKIPPED
        try:
            if self._sync and self._sync.comparison.is_unchanged(record, self._code_column):
                return _UNCHANGED
            return self._encoded(record)
        except Exception:  # noqa: BLE001  # an object of the source's own may raise anything
            return _Checked({}, {"record": "record"})

    def _encoded(self, record: Any) -> _Checked:
        renamed, twice = self._options.rename(record)
        if self._options.phone_region and isinstance(renamed, Mapping) and "phone" in renamed:
            renamed = {**renamed, "phone": to_e164(renamed["phone"], self._options.phone_region)}
        patient, broken = check_patient(renamed)
        problems, omitted = broken | twice, {}
        if problems and self._options.omit_invalid and is_optional(problems):
            patient = {name: value for name, value in patient.items() if name not in problems}
            problems, omitted = {}, problems
        if problems:
            return _Checked(patient, problems)
        encoded = encode_patient(patient)
        if len(encoded) > MAX_RECORD_BYTES:
            return _Checked(patient, {"record": "size"})
        self._garbled += _MOJIBAKE in encoded or _REPLACED in encoded
        change = None
        if self._sync:
            can_skip = not omitted  # so that the reject report names these fields each time
            change = self._sync.comparison.compare(record, patient, encoded, can_skip=can_skip)
        return _Checked(patient, {}, encoded, omitted, change)

    def _is_first(
        self, row: int, patient: Mapping[str, Any], location: SourceLocation | None
    ) -> bool:
        """Whether this is the first valid record of its code; otherwise it is rejected."""
        code, has_plan = patient["code"], "plan" in patient
        first_had_plan = self._seen.first_had_plan(code)
        if first_had_plan is None:
            if self._seen.add(code, has_plan=has_plan):
                self._lose_plan(Rejection(row, code, "schema", _LOST, location=location))
            return True
        is_lost = has_plan and not first_had_plan
        problems = {"code": "duplicate"} | (_LOST if is_lost else {})
        rejection = self._ledger.reject(row, code, "duplicate", problems, location)
        if is_lost:
            self._lose_plan(rejection)
        return False

    def _reject_invalid(
        self,
        row: int,
        patient: Mapping[str, Any],
        problems: Mapping[str, str],
        location: SourceLocation | None,
    ) -> None:
        """Reject a record; its plan is lost if the same code is sent without one."""
        code = None if "code" in problems else patient.get("code")  # it may be given twice
        is_lost = self._seen.reject(code, has_plan="plan" in patient)
        problems = {**problems, **(_LOST if is_lost else {})}
        rejection = self._ledger.reject(row, code, "schema", problems, location)
        if is_lost:
            self._lose_plan(rejection)

    def _lose_plan(self, rejection: Rejection) -> None:
        self._ledger.lose_plan(rejection)
        if rejection.code is not None:
            self._seen.lose_plan(rejection.code)
