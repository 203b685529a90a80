"""Nobody is unsubscribed by accident: mediQuo unsubscribes whom it is sent without a plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from airflow_provider_mediquo.api.errors import UnsubscribeLimitError
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload.options import NOT_ALL, is_within

FIRST_LOOK = 1000
"""Records that are read before the first request leaves, to see whether they carry plans."""

_FEWEST_FOR_NOT_ALL = 100  # records: fewer may well all be without a plan


class PlanGuard:
    """Lets records through as long as `max_without_plan` allows; else UnsubscribeLimitError.

    :param report: how many records have been read.
    """

    def __init__(self, limit: float | None | Literal["not all"], report: UploadReport) -> None:
        self._limit = limit
        self._report = report
        self._first = self._let_through = self._without = 0

    def guard(self, items: Iterator[ValidRecord]) -> Iterator[ValidRecord]:
        """Hold back the first records until it is known that they may be sent."""
        held: list[ValidRecord] = []
        for item in items:
            held.append(item)
            if self._report.read >= FIRST_LOOK:
                break
        self._first = len(held)
        without = _without(held)
        if self._limit == NOT_ALL:
            if held and without == len(held) and self._report.read >= _FEWEST_FOR_NOT_ALL:
                raise _too_many(f"None of the first {self._report.read:,} records has a plan")
        elif not is_within(self._limit, without, len(held)):
            raise _too_many(f"{without:,} of the first {len(held):,} patients have no plan")
        yield from held
        yield from items

    def check(self, chunk: list[ValidRecord]) -> None:
        """Judge a chunk before it is sent, together with all before it."""
        self._let_through += len(chunk)
        self._without += _without(chunk)
        of = max(self._first, self._let_through)
        if self._limit != NOT_ALL and not is_within(self._limit, self._without, of):
            raise _too_many(
                f"{self._without:,} of the first {self._let_through:,} patients have no plan"
            )


def _without(items: list[ValidRecord]) -> int:
    return sum(not item.has_plan for item in items)


def _too_many(what: str) -> UnsubscribeLimitError:
    return UnsubscribeLimitError(
        f"{what}, and a patient without one is unsubscribed. If the plan has another name in the "
        "source, map it: columns={'its name': 'plan'}. If they shall be unsubscribed, raise "
        "`max_without_plan`."
    )
