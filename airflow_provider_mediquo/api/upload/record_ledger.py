"""What a sender tells a ledger: that of the run, that of a state, or that of the missing members."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.records import ValidRecord


class RecordLedger(Protocol):
    """What a sender needs to know of a ledger."""

    stats: RequestStats

    def begin(self, records: Sequence[ValidRecord]) -> None:
        """Note that records are about to be sent."""

    def check(self) -> None:
        """Raise what must keep a request from being sent."""

    def accept(self, records: Sequence[ValidRecord], sent_at: int | None) -> None:
        """Settle records that mediQuo accepted."""

    def refuse(self, record: ValidRecord, status: int | None, fields: Iterable[str]) -> None:
        """Settle a record that mediQuo refused when it was sent alone."""

    def lose_answer(self, records: Iterable[ValidRecord]) -> None:
        """Note that an attempt with these records had no answer: mediQuo may have accepted it."""

    def give_up(self, records: Iterable[ValidRecord], status: int | None = None) -> None:
        """Write down records that got no final answer."""

    def unsettled_of(self, records: Iterable[ValidRecord]) -> list[ValidRecord]:
        """Return those of some records of which nothing final is known."""
