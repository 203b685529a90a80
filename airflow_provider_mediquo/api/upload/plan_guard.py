"""Guard against mass unsubscription: mediQuo unsubscribes any patient sent without a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from airflow_provider_mediquo.api.errors import UnsubscribeLimitError
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload.options import HALF, is_within

FIRST_LOOK = 1000
"""Records that are read before the first request leaves, to see whether they carry plans."""

_MIN_RECORDS = 100  # a smaller source may well be all without a plan


class PlanGuard:
    """Lets records through while `max_without_plan` allows it, else raises UnsubscribeLimitError.

    :param report: says how many records have been read.
    """

    def __init__(self, limit: float | None | Literal["half"], report: UploadReport) -> None:
        self._is_default = limit == HALF
        self._limit: float | None = 0.5 if limit == HALF else limit
        self._report = report
        self._first = self._let_through = self._without = 0

    def guard(self, records: Iterator[ValidRecord]) -> Iterator[ValidRecord]:
        """Hold back the first records until it is known that they may be sent."""
        held: list[ValidRecord] = []
        for record in records:
            held.append(record)
            if self._report.read >= FIRST_LOOK:
                break
        self._first = len(held)
        self._check_limit(_without(held), len(held))
        yield from held
        yield from records

    def check(self, chunk: list[ValidRecord]) -> None:
        """Check a chunk before it is sent, together with all before it."""
        self._let_through += len(chunk)
        self._without += _without(chunk)
        self._check_limit(self._without, max(self._first, self._let_through))

    def _check_limit(self, without: int, of: int) -> None:
        if self._is_default and self._report.read < _MIN_RECORDS:
            return
        of += self._report.unchanged
        if not is_within(self._limit, without, of):
            limit = "half of them" if self._is_default else self._limit
            raise UnsubscribeLimitError(
                f"No plan in {without:,} of the first {of:,} records, which would unsubscribe "
                "these patients.\nIf the plan column has another name, map it: "
                "columns={'its name': 'plan'}. If unsubscribing them is intended, raise "
                f"`max_without_plan` (now {limit})."
            )


def _without(records: list[ValidRecord]) -> int:
    """Count records that may unsubscribe someone. `Unsubscriptions` decides about known members."""
    return sum(
        not record.has_plan and not (record.change and record.change.was_known)
        for record in records
    )
