"""What happens to each record: the one place that counts, safe between threads.

Others tell it what happened, and only read its report.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.records import SourceLocation, ValidRecord
from airflow_provider_mediquo.api.report import Receipt, Rejection, UploadReport
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.visibility.sample import Sample

_SHOWN_LOST_PLANS = 20
_COUNTED_AS = {"schema": "invalid", "duplicate": "duplicate", "mediquo": "refused"}


class Ledger:
    """Owns the counts, the records that are not settled yet, the reject log and the sample."""

    def __init__(
        self,
        rejects: RejectLog,
        sample: Sample,
        receipt: Receipt | None = None,
        *,
        is_dry_run: bool = False,
    ) -> None:
        self.report: Final = UploadReport(receipt=receipt, is_dry_run=is_dry_run)
        """What is known so far. Only the ledger changes it."""
        self.stats = RequestStats()
        self.lost_plans: list[Rejection] = []
        """Records with a plan whose code was sent without one: the first few."""
        self.lost_plan_count = 0
        self._rejects = rejects
        self._sample = sample
        self._unsettled: dict[int, ValidRecord] = {}  # by row
        self._lock = threading.Lock()

    @property
    def problems(self) -> Counter[str]:
        """How often each field and rule, or each status, was found."""
        return self._rejects.kinds

    @property
    def is_logged(self) -> bool:
        """Whether the log is the only place that names the rejects."""
        return not self._rejects.has_file

    def note_sync(self, description: Mapping[str, Any]) -> None:
        """Note where the state is, which sync this is and which run of it."""
        self.report.sync = {**description}

    def next_row(self) -> int:
        """Count a record of the source; return its row, from 1. Only the reading thread calls this."""
        self.report.read += 1
        return self.report.read

    def open(self, record: ValidRecord) -> None:
        """Take a record that may be sent: it is unsettled until something else is known."""
        with self._lock:
            self._unsettled[record.row] = record

    def reject(
        self,
        row: int,
        code: str | None,
        refused_by: str,
        problems: Mapping[str, str],
        location: SourceLocation | None,
    ) -> Rejection:
        """Write down a record that may not be sent."""
        rejection = Rejection(row, code, refused_by, problems, location=location)
        self._rejects.keep(rejection)
        self._count(rejection)  # not after it is written: a time limit may strike meanwhile
        self._rejects.write_if_due()
        return rejection

    def begin(self, records: Sequence[ValidRecord]) -> None:
        """Note which fields are about to be sent."""
        if receipt := self.report.receipt:
            receipt.add(records)

    def check(self) -> None:
        """Do nothing: without a state any run may send."""

    def lose_answer(self, records: Iterable[ValidRecord]) -> None:
        """Do nothing: without a state nothing is known of what mediQuo has."""

    def count_unchanged(self) -> None:
        """Count a record that mediQuo has already. Only the reading thread calls this."""
        self.report.unchanged += 1

    def withhold(self, record: ValidRecord) -> None:
        """Write down a record that would take a plan away, and is not sent."""
        with self._lock:
            self.report.withheld += 1
        self._settle(_rejection(record, "withheld", None))

    def settle_missing(
        self,
        had_plan: Sequence[str],
        others: int = 0,
        records: Sequence[ValidRecord] = (),
        sent_at: int | None = None,
    ) -> None:
        """Count missing members that have no plan any more.

        :param had_plan: codes of those that had one.
        :param others: how many had none.
        :param records: those that were sent.
        """
        with self._lock:
            self.report.missing_unsubscribed += len(had_plan) + others
            self.report.missing_had_plan += len(had_plan)
            self.report.unsubscribed += len(had_plan)
            for record in records:
                self._sample.consider(record, sent_at)
        self._rejects.add_left(had_plan)

    def count_missing(self, count: int) -> None:
        """Set how many members are missing, apart from those that are withheld."""
        with self._lock:
            self.report.missing = count + self.report.missing_withheld

    def decide_missing(self, missing: int, withheld: int, would_unsubscribe: int) -> None:
        """Note how many members are missing, how many of them keep their plan, and how many would lose it.

        :param would_unsubscribe: by a record without a plan, too.
        """
        with self._lock:
            self.report.missing = missing
            self.report.missing_withheld = withheld
            self.report.would_unsubscribe = would_unsubscribe

    def refuse_missing(self, code: str, status: int | None, fields: Iterable[str] = ()) -> None:
        """Write down a missing member that mediQuo refuses to show or to unsubscribe."""
        problems = dict.fromkeys(fields, "refused")
        self._rejects.add(Rejection(0, code, "mediquo", problems, status))

    def skip(self) -> None:
        """Count a record that `transform` left out. Only the reading thread calls this."""
        self.report.skipped += 1

    def omit(
        self,
        row: int,
        patient: Mapping[str, Any],
        problems: Mapping[str, str],
        location: SourceLocation | None,
    ) -> None:
        """Write down the fields that a record is sent without."""
        with self._lock:
            self.report.omitted += 1
        self._rejects.add(Rejection(row, patient["code"], "omitted", problems, location=location))

    def lose_plan(self, rejection: Rejection) -> None:
        """Note a record with a plan whose code was sent without one."""
        with self._lock:
            self.lost_plan_count += 1
            if len(self.lost_plans) < _SHOWN_LOST_PLANS:
                self.lost_plans.append(rejection)

    def accept(self, records: Sequence[ValidRecord], sent_at: int | None) -> None:
        """Settle records that mediQuo accepted.

        :param sent_at: the server's clock when their first attempt left.
        """
        with self._lock:
            for record in records:
                self.report.upserted += 1
                self.report.without_plan += not record.has_plan
                self.report.count_change(record)
                self._sample.consider(record, sent_at)
                del self._unsettled[record.row]
        self._rejects.add_unsubscribed(record for record in records if not record.has_plan)

    def refuse(self, record: ValidRecord, status: int | None, fields: Iterable[str]) -> None:
        """Settle a record that mediQuo refused when it was sent alone."""
        problems = dict.fromkeys(fields, "refused")
        self._settle(_rejection(record, "mediquo", status, problems))

    def give_up(self, records: Iterable[ValidRecord], status: int | None = None) -> None:
        """Write down records that got no final answer, or were not sent: they stay unsettled."""
        self._settle(*(_rejection(record, "unsettled", status) for record in records))

    def unsettled_of(self, records: Iterable[ValidRecord]) -> list[ValidRecord]:
        """Return those of some records of which nothing final is known."""
        with self._lock:
            return [record for record in records if record.row in self._unsettled]

    def close(self, seconds: float, stopped_because: str | None = None) -> UploadReport:
        """Complete the report: what is left is unsettled.

        :param stopped_because: why the run ended early.
        """
        with self._lock:
            left = [*self._unsettled.values()]
        self.give_up(left)
        self._rejects.flush()
        report, stats = self.report, self.stats
        report.seconds = seconds
        report.stopped_because = stopped_because
        report.throttled_seconds = stats.throttled_seconds()
        report.requests, report.retries = stats.requests, stats.retries
        report.rejects_path = self._rejects.written_to
        report.unsubscribed_path = self._rejects.unsubscribed_to
        report.unwritten = self._rejects.unwritten
        report.rejects_by_rule = {name: dict(c) for name, c in self._rejects.by_rule.items()}
        report.sample = {} if report.is_dry_run else self._sample.as_dict()
        return report

    def _settle(self, *rejections: Rejection) -> None:
        self._rejects.keep(*rejections)
        # Before they are written: a time limit may strike meanwhile, and the end writes the unsettled.
        with self._lock:
            for rejection in rejections:
                del self._unsettled[rejection.row]
        for rejection in rejections:
            self._count(rejection)
        self._rejects.write_if_due()

    def _count(self, rejection: Rejection) -> None:
        if name := _COUNTED_AS.get(rejection.refused_by):
            with self._lock:
                setattr(self.report, name, getattr(self.report, name) + 1)


def _rejection(
    record: ValidRecord,
    refused_by: str,
    status: int | None,
    problems: Mapping[str, str] | None = None,
) -> Rejection:
    return Rejection(record.row, record.code, refused_by, problems or {}, status, record.location)
