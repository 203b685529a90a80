"""Which records of a source may be sent: they pass the schema, and their code is new."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_mediquo.api.errors import InvalidPatientsError
from airflow_provider_mediquo.api.patients.endpoints import encode_patient
from airflow_provider_mediquo.api.patients.limits import MAX_RECORD_BYTES
from airflow_provider_mediquo.api.patients.schema import check_patient
from airflow_provider_mediquo.api.records import (
    LocatedRecord,
    SourceLocation,
    Unreadable,
    ValidRecord,
)
from airflow_provider_mediquo.api.report import Rejection, UploadReport
from airflow_provider_mediquo.api.upload.circuit_breaker import InvalidStreak
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.reject_log import RejectLog

_HASH_BITS = (1 << 58) - 1  # with a bit for the plan, an int of 32 bytes
_SHOWN_LOST_PLANS = 20
_LOST = {"plan": "lost"}
_JOINED = {"record": "lines"}  # by a lost quote, any number of rows; those that follow may be well


class RecordValidator:
    """Reads records, counts them, and writes down those that may not be sent.

    :param report: where they are counted.
    """

    def __init__(self, options: UploadOptions, rejects: RejectLog, report: UploadReport) -> None:
        self.unsettled: dict[int, ValidRecord] = {}
        """By row, what may be sent and has no final answer yet."""
        self.lost_plans: list[Rejection] = []
        self.lost_plan_count = 0
        self._options = options
        self._rejects = rejects
        self._report = report
        self._seen: set[int] = set()
        self._refused_plans: set[int] = set()  # the codes of records with a plan that break a rule
        self._bad = InvalidStreak()

    def good(self, records: Iterable[Any]) -> Iterator[ValidRecord]:
        """Yield the records that may be sent.

        Raises InvalidPatientsError where so many in a row break a rule that all will.
        """
        for given in records:
            self._report.read += 1
            record, place = given if isinstance(given, LocatedRecord) else (given, None)
            patient, problems, encoded = self._check(record)
            if problems:
                self._refuse(patient, problems, place)
                if problems != _JOINED:
                    self._count_bad()
                continue
            self._bad.end()
            if self._is_new(patient, place):
                yield self._item(patient, encoded, place)

    def _item(
        self, patient: dict[str, Any], encoded: bytes, place: SourceLocation | None
    ) -> ValidRecord:
        row = self._report.read
        item = ValidRecord(row, patient["code"], "plan" in patient, encoded, place)
        self.unsettled[row] = item
        return item

    def _count_bad(self) -> None:
        if self._bad.add():
            raise InvalidPatientsError(
                f"{self._bad.count:,} records in a row break a rule, as all of a broken source do. "
                "Has a column been renamed, or is this another file than usual?"
            )

    def _check(self, record: Any) -> tuple[dict[str, Any], dict[str, str], bytes]:
        """Return a record as it goes out, the rules it breaks, and its JSON if there are none."""
        if isinstance(record, Unreadable):
            return {}, {"record": record.rule}, b""
        try:
            renamed, twice = self._options.rename(record)
            patient, broken = check_patient(renamed)
            problems = broken | twice
            encoded = b"" if problems else encode_patient(patient)
        except Exception:  # noqa: BLE001  # an object of the source's own: it may do anything
            return {}, {"record": "record"}, b""
        if len(encoded) > MAX_RECORD_BYTES:
            return patient, {"record": "size"}, b""
        return patient, problems, encoded

    def _is_new(self, patient: Mapping[str, Any], place: SourceLocation | None) -> bool:
        """Whether this code did not come before; if it did, the record is rejected.

        Kept as small numbers rather than codes, the lowest bit telling whether there was a plan.
        Two codes out of 2 million are taken for one in a run out of 100,000: the second is then
        reported as a duplicate, and is none in the next run: Python hashes anew in each process,
        unless PYTHONHASHSEED is set.
        """
        known = _known(patient["code"])
        has_plan = "plan" in patient
        if known not in self._seen and known | 1 not in self._seen:
            self._seen.add(known | has_plan)
            if known in self._refused_plans and not has_plan:
                self._lose_plan(
                    Rejection(self._report.read, patient["code"], "schema", _LOST, place=place)
                )
            return True
        self._report.duplicate += 1
        is_lost = has_plan and known in self._seen
        problems = {"code": "duplicate"} | (_LOST if is_lost else {})
        rejection = self._reject(patient["code"], "duplicate", problems, place)
        if is_lost:
            self._lose_plan(rejection)
        return False

    def _refuse(
        self, patient: Mapping[str, Any], problems: Mapping[str, str], place: SourceLocation | None
    ) -> None:
        """Reject a record that breaks a rule; its plan counts all the same, as one that is lost."""
        self._report.invalid += 1
        is_lost = False
        if "code" in patient and "plan" in patient:
            known = _known(patient["code"])
            is_lost = known in self._seen
            self._refused_plans.add(known)
        problems = {**problems, **(_LOST if is_lost else {})}
        rejection = self._reject(patient.get("code"), "schema", problems, place)
        if is_lost:
            self._lose_plan(rejection)

    def _lose_plan(self, rejection: Rejection) -> None:
        self.lost_plan_count += 1
        self.lost_plans += [rejection] * (len(self.lost_plans) < _SHOWN_LOST_PLANS)

    def _reject(
        self, code: str | None, by: str, problems: Mapping[str, str], place: SourceLocation | None
    ) -> Rejection:
        rejection = Rejection(self._report.read, code, by, problems, place=place)
        self._rejects.add(rejection)
        return rejection


def _known(code: str) -> int:
    return (hash(code) & _HASH_BITS) << 1


def iterate_records(patients: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator over records; raises InvalidPatientsError for what cannot be any."""
    if isinstance(patients, str | bytes | Mapping) or not isinstance(patients, Iterable):
        raise InvalidPatientsError(
            "`patients` must be a list, a generator or anything else that gives one patient (a "
            f"mapping) after the other; this is a {type(patients).__name__}."
        )
    return iter(patients)
