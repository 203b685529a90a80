"""One run of a sync: its lease, its comparison, and what it writes to the state."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy.engine import Connection

from airflow_provider_mediquo.api.errors import StateError
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.sync import lease, statements
from airflow_provider_mediquo.api.sync.comparison import Comparison, ResendPolicy
from airflow_provider_mediquo.api.sync.fingerprints import Fingerprints
from airflow_provider_mediquo.api.sync.members import (
    DOUBT,
    OWN,
    PLAN,
    PRESENT,
    Members,
    Missing,
    find_missing,
    read_members,
)
from airflow_provider_mediquo.api.sync.receipts import SUCCEEDED, RunReceipt
from airflow_provider_mediquo.api.sync.settings import SyncSettings
from airflow_provider_mediquo.api.sync.spelling import keep_other_spellings
from airflow_provider_mediquo.api.sync.statements import Doubt, Sent
from airflow_provider_mediquo.api.sync.store import Store
from airflow_provider_mediquo.api.sync.writes import Act, GroupedWrites
from airflow_provider_mediquo.api.text import counted
from airflow_provider_mediquo.api.visibility.fingerprint import make_proofs

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
_MAX_RESPELLED = 2000  # kept before they are written


class SyncRun:
    """Keeps the state in sync with what mediQuo accepts.

    Before a request its members are in doubt; after its answer they are certain. Every write is one
    transaction, which only the holder of the lease may make.
    """

    def __init__(self, store: Store, settings: SyncSettings) -> None:
        self._store, self._settings = store, settings
        self._receipt: RunReceipt | None = None
        self._lease: lease.Lease | None = None
        self._is_ending = False  # no heartbeat from now on
        self._writes: GroupedWrites | None = None
        self._contested: set[str] = set()  # codes that another sync was sending when this one began
        self._own: int | None = None  # ID of this sync
        self._resend = ResendPolicy(settings.resend_after)
        self._fingerprints = Fingerprints(settings.secret_key, settings.reading, settings.dropped)
        self.comparison = Comparison(Members(0), self._fingerprints, self._resend)

    def start(self, check: Callable[[], None], report: UploadReport) -> None:
        """Take the lease and read the state.

        :param check: raises what ends the run; called now and then.
        :param report: the ledger of the run, for its receipt.
        """
        settings = self._settings
        if settings.dry_run:
            if self._store.check_version():
                row = self._store.read(lambda connection: lease.find(connection, settings.name))
                lease.check_as_of(row, settings.as_of)
                self._own = row and row.id
                self._load(check)
            return
        self._store.create()
        lease.wait_for_late_requests(self._store, settings.name, check)
        self._lease = lease.Lease(self._store, settings.name, settings.as_of, settings.held_by.text)
        self._writes = GroupedWrites(self._lease)
        self._own = self._lease.sync_id
        self._receipt = RunReceipt(settings, self._lease, report)
        self._lease.write(self._receipt.open)
        self._load(check)

    @property
    def description(self) -> dict[str, Any]:
        """Where the state is, which sync this is and which run of it, for the ledger."""
        sync = self._settings
        return {"state_conn_id": sync.conn_id, "name": sync.name, "run": self.run}

    @property
    def run(self) -> int | None:
        """The number of this run in its sync; None for a dry run."""
        return self._lease.run if self._lease else None

    def abort(self) -> None:
        """Let no write wait long for the database, because the task is over its time limit."""
        self._store.abort()

    def close(
        self, outcome: str = SUCCEEDED, error: str | None = None, *, was_cut: bool = False
    ) -> None:
        """Write what is left and the receipt, and let the next run begin.

        If a time limit interrupts it, call it again. Raises StateError if the receipt cannot be written.

        :param error: the class of what ended the run.
        :param was_cut: that of `Lease.free`.
        """
        self._is_ending = True
        held, receipt = self._lease, self._receipt

        def end(connection: Connection) -> None:
            if receipt:
                receipt.close(connection, outcome, error)
            if held:
                held.free(connection, was_cut=was_cut)

        with closing(self._store):
            try:
                self._write_respelled()
            except StateError as problem:
                log.warning(
                    "Cannot update the fingerprints of unchanged members: %s", problem.as_line()
                )
            try:
                if held:
                    self._store.write(end)
                    self._lease = None
            except StateError as problem:
                raise StateError(f"Cannot write the receipt of this run:\n{problem}") from None
        if receipt and (moved := receipt.report.moved):
            log.info("%s taken over from other syncs.", counted(moved, "member"))

    def heartbeat(self) -> None:
        """Keep the lease; a failure shows at the next write."""
        held, receipt = self._lease, self._receipt
        try:
            if held and not self._is_ending:
                held.heartbeat()
                if receipt:  # a write of its own, because it must not cost the lease
                    self._store.write(receipt.note)
        except Exception as error:  # noqa: BLE001  # else the next heartbeats would not come
            if not self._is_ending:  # else it was released meanwhile
                text = error.as_line() if isinstance(error, StateError) else type(error).__name__
                log.warning("Heartbeat: %s", text)

    def check(self) -> None:
        """Raise StateError if another run may have taken over."""
        if held := self._lease:
            held.check()

    def subscribers(self) -> int:
        """Return how many members of this sync have a plan."""
        return self.comparison.members.count(OWN | PLAN)

    def begin(self, records: Iterable[ValidRecord]) -> None:
        """Note that records are about to be sent."""
        doubts = [
            Doubt(record.code, change.was_known, change.had_plan or record.has_plan)
            for record in records
            if (change := record.change)
        ]
        self._write(self._doubt, doubts)

    def begin_missing(self, codes: Sequence[str]) -> set[str]:
        """Note that missing members are about to be sent; return those that still belong to the sync."""
        found: list[set[str]] = []
        self._write(lambda c, own, _: found.append(statements.doubt_own(c, own, codes)))
        return found[-1]

    def acknowledge(self, records: Sequence[ValidRecord], sent_at: int | None) -> None:
        """Note that mediQuo has accepted records.

        :param sent_at: mediQuo's time when they were sent.
        """
        patients = (json.loads(record.encoded) for record in records)
        proofs = make_proofs(patients, self._settings.secret_key, sent_at)
        sent = [Sent.of(*each) for each in zip(records, proofs, strict=True)]
        self._write(self._acknowledge, sent)
        self._contested.difference_update(record.code for record in records)

    def refuse(self, record: ValidRecord) -> None:
        """Note that mediQuo has refused a record, so it has what it had before."""
        change = record.change
        if not change or change.was_in_doubt or record.code in self._contested:
            return
        code, had_plan = record.code, change.had_plan
        self._write(lambda c, own, _: statements.restore(c, own, code, has_plan=had_plan))

    def forget(self, codes: Sequence[str]) -> None:
        """Delete members."""
        self._write(statements.forget, codes)

    def note_spelling(self) -> None:
        """Write how unchanged members look in the source, if there are many."""
        if len(self.comparison.respelled) >= _MAX_RESPELLED:
            self._write_respelled()

    def count_missing(self) -> tuple[int, int]:
        """Return how many members are missing, and how many of these have a plan.

        The source must have been read to its end.
        """
        members = self.comparison.members
        return members.count(OWN, PRESENT), members.count(OWN | PLAN, PRESENT)

    def keep_other_spellings(self) -> int:
        """Let missing members keep their plan if the source spells their code differently.

        In doubt: if mediQuo takes both for the same, it has what was sent under the other spelling.
        """
        kept = keep_other_spellings(self._store, self.comparison.members, self.comparison.unknown)
        self._write(lambda connection, own, _: statements.doubt_again(connection, kept))
        return len(kept)

    def missing(self) -> Iterator[Missing]:
        """Return the members that are missing."""
        if self._own is None:
            return iter(())
        return find_missing(self._store, self._own, self.comparison.is_missing)

    def _load(self, check: Callable[[], None]) -> None:
        members = read_members(self._store, self._own, check)
        self.comparison = Comparison(members, self._fingerprints, self._resend)
        known, in_doubt = counted(len(members), "member"), members.count(DOUBT)
        log.info("The state has %s, %s of them in doubt.", known, f"{in_doubt:,}")

    def _write_respelled(self) -> None:
        respelled, self.comparison.respelled = self.comparison.respelled, []
        if respelled:
            self._write(lambda connection, own, _: statements.refresh(connection, respelled))

    def _doubt(self, connection: Connection, own: int, doubts: Sequence[Doubt]) -> None:
        self._contested.update(statements.doubt(connection, own, doubts))

    def _acknowledge(self, connection: Connection, own: int, sent: Sequence[Sent]) -> None:
        statements.acknowledge(connection, own, self.run or 0, sent, self._contested)

    def _write(self, act: Act, items: Sequence[Any] = ()) -> None:
        """Write, if this is no dry run and the lease is still held."""
        if self._writes:
            self._writes.write(act, items)
