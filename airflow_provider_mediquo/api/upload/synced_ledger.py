"""The ledger of a run with a state: what mediQuo answers is written to the state too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.upload.ledger import Ledger

DEFINITE = frozenset({400, 413, 422})
"""Refusals after which mediQuo has stored nothing; another may be that of an intermediary."""


class SyncedLedger:
    """Puts records in doubt before their request, and is certain after its answer."""

    def __init__(self, ledger: Ledger, sync: SyncRun) -> None:
        self._ledger, self._sync = ledger, sync
        self.stats = ledger.stats
        self._unanswered: set[int] = set()  # rows that mediQuo may have accepted without an answer

    def begin(self, records: Sequence[ValidRecord]) -> None:
        """Note that records are about to be sent; raises StateError if that cannot be written."""
        self._sync.begin(records)
        self._ledger.begin(records)

    def check(self) -> None:
        """Raise StateError if another run may have taken over."""
        self._sync.check()

    def accept(self, records: Sequence[ValidRecord], sent_at: int | None) -> None:
        """Settle records that mediQuo accepted."""
        self._ledger.accept(records, sent_at)
        self._unanswered.difference_update(record.row for record in records)
        self._sync.acknowledge(records, sent_at)

    def refuse(self, record: ValidRecord, status: int | None, fields: Iterable[str]) -> None:
        """Settle a record that mediQuo refused when it was sent alone."""
        self._ledger.refuse(record, status, fields)
        if status in DEFINITE and record.row not in self._unanswered:
            self._sync.refuse(record)

    def lose_answer(self, records: Iterable[ValidRecord]) -> None:
        """Keep these in doubt even if they are refused later: a quota may have ended meanwhile."""
        self._unanswered.update(record.row for record in records)

    def give_up(self, records: Iterable[ValidRecord], status: int | None = None) -> None:
        """Write down records that got no final answer: they stay in doubt."""
        self._ledger.give_up(records, status)

    def unsettled_of(self, records: Iterable[ValidRecord]) -> list[ValidRecord]:
        """Return those of some records of which nothing final is known."""
        return self._ledger.unsettled_of(records)
