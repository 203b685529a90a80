"""A stream of records -> checked -> chunks of 100 -> sent -> a ledger that adds up.

One thread reads and checks, others send, `max_in_flight` requests at once. Memory holds the first
1,000 records, then a chunk per thread, and less than 100 bytes for each code.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.errors import MediquoError, StoppedError
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.sync.run import HEARTBEAT_SECONDS, SyncRun
from airflow_provider_mediquo.api.upload.accounting import close_ledger, close_sync, receipt_of
from airflow_provider_mediquo.api.upload.garbage import existing_objects_frozen
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.upload.missing import MissingMembers, by_plan
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.outcome import RunOutcome, add_ledger
from airflow_provider_mediquo.api.upload.plan_guard import PlanGuard
from airflow_provider_mediquo.api.upload.pool import SendingPool, chunked
from airflow_provider_mediquo.api.upload.progress import (
    PROGRESS_SECONDS,
    Progress,
    length_if_known,
    run_periodically,
)
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.sender import Sender
from airflow_provider_mediquo.api.upload.source_reader import Halted, SourceReader, iterate_records
from airflow_provider_mediquo.api.upload.synced_ledger import SyncedLedger
from airflow_provider_mediquo.api.upload.unsubscriptions import Unsubscriptions
from airflow_provider_mediquo.api.upload.validation import RecordValidator
from airflow_provider_mediquo.api.visibility.sample import Sample


class Upload:
    """One run over a source.

    :param rejects: writes down the records that are not accepted.
    :param sync: what mediQuo is known to have.
    :param progress_interval: seconds between two lines of progress.
    """

    def __init__(
        self,
        client: MediquoClient,
        options: UploadOptions,
        rejects: RejectLog,
        *,
        sync: SyncRun | None = None,
        progress_interval: float = PROGRESS_SECONDS,
    ) -> None:
        self._client, self._options, self._rejects = client, options, rejects
        self._interval = progress_interval
        sample, receipt = Sample(client.settings.secret_key), receipt_of(client.settings)
        self._ledger = Ledger(rejects, sample, receipt, is_dry_run=options.dry_run)
        self._sync = sync
        if sync:
            self._ledger.note_sync(sync.description)
        self._validator = RecordValidator(options, self._ledger, sync)
        self._plans = PlanGuard(options.max_without_plan, self.report)
        self._unsubscriptions = Unsubscriptions(options, sync, self._ledger) if sync else None
        ledger = SyncedLedger(self._ledger, sync) if sync else self._ledger
        # With a state, others write to it while as many requests as allowed are in flight.
        spare = options.max_in_flight // 2 if sync else 0
        self._pool = pool = SendingPool(options.max_in_flight, self._halt, spare=spare)
        self._sender = Sender(client, options.chunk_size, ledger, self._halt, pool.in_flight)
        self._reader = SourceReader(self._check_halted)
        self._reasons: list[MediquoError] = []  # why it ends early; the first one counts
        self._ended_by: str | None = None  # what the source raised, or a time limit
        self._is_aborted = False  # requests in progress were cut off

    @property
    def report(self) -> UploadReport:
        """The ledger so far."""
        return self._ledger.report

    def run(self, patients: Iterable[Any]) -> UploadReport:
        """Send every valid record, and return the ledger.

        Raises the MediquoError that stopped the run, or that says why it did not succeed; its
        `report` is the ledger. An error of the source is raised as it is, with the same `report`.
        """
        try:
            self._run(patients)
        except BaseException as error:
            add_ledger(error, self.report)
            raise
        return self.report

    def _run(self, patients: Iterable[Any]) -> None:
        started = time.monotonic()
        self._rejects.check()
        source = iterate_records(patients)
        progress = Progress(self.report, self._ledger.stats, length_if_known(patients))
        logs = run_periodically(self._interval, progress.log, self._rejects.flush)
        sync = self._sync
        beat = run_periodically(HEARTBEAT_SECONDS, sync.heartbeat) if sync else nullcontext()
        try:
            with existing_objects_frozen(), self._rejects, logs, beat:
                self._send_and_close(source)
            self._close_ledger(started)
        except BaseException as error:
            try:
                self._close_ledger(started, error)
            except BaseException as limit:  # which strikes once
                self._close_ledger(started, limit)
                raise
            raise
        self._raise_problem()

    def stop(self) -> None:
        """End every wait, because the task is being killed.

        A signal handler calls it, so nothing here takes a lock that it may have interrupted.
        """
        self._reasons.append(StoppedError("the task was killed."))
        self._abort()
        self._rejects.hurry()
        self._reader.interrupt()

    def _send_and_close(self, source: Iterator[Any]) -> None:
        try:
            try:
                self._send_all(source)
                self._close_sync(None)
            except Exception as error:
                self._close_sync(error)
                raise
        except BaseException as error:
            if not isinstance(error, Exception):  # a time limit, wherever it strikes
                self._abort()
                self._pool.close(self._abort)  # if it struck before that
                self._close_sync(error)
            raise

    def _send_all(self, source: Iterator[Any]) -> None:
        try:
            try:
                self._submit_all(source)
            finally:
                if close := getattr(source, "close", None):
                    close()
        except Exception as error:
            self._ended_by = f"the source failed: {type(error).__name__}"
            raise
        except BaseException:  # Airflow's timeout, wherever it strikes
            self._abort()
            raise
        finally:
            self._pool.close(self._abort)

    def _submit_all(self, source: Iterator[Any]) -> None:
        problem = None
        try:
            if self._sync:
                self._sync.start(self._check_halted, self.report)
                self._ledger.note_sync(self._sync.description)
            valid = self._validator.accept(self._reader.records(source))
            if self._unsubscriptions:
                valid = self._unsubscriptions.hold(valid)
            chunks = chunked(self._plans.guard(valid), self._options.chunk_size)
            for number, chunk in enumerate(chunks):
                self._send(number, chunk)
            self._unsubscribe_missing()
        except Halted:
            pass
        except MediquoError as error:  # of the source, the state, or the plan guard
            problem = error
        self._pool.wait()  # retries of what was sent may go on
        if problem:
            self._halt(problem)

    def _send(self, number: int, chunk: list[ValidRecord]) -> None:
        self._plans.check(chunk)
        if self._options.dry_run:
            self._ledger.begin(chunk)
            self._ledger.accept(chunk, None)
        elif not self._pool.submit(self._check_halted, self._sender.send, number, chunk):
            raise Halted

    def _unsubscribe_missing(self) -> None:
        if not self._unsubscriptions or not self._unsubscriptions.may_send_missing:
            return
        pool = self._pool
        size, sync = self._options.chunk_size, self._unsubscriptions.sync
        missing = MissingMembers(self._client, sync, self._ledger, size, self._halt, pool.in_flight)
        for number, chunk in enumerate(missing.chunks()):
            if self._options.dry_run:
                self._ledger.settle_missing(*by_plan(chunk))
            elif not pool.submit(self._check_halted, missing.unsubscribe, number, chunk):
                raise Halted
        pool.wait()
        self._ledger.count_missing(missing.found - len(missing.moved))

    def _abort(self) -> None:
        self._is_aborted = True
        self._client.stop(abort=True)
        if self._sync:
            self._sync.abort()

    def _halt(self, error: MediquoError) -> None:
        """End the run early. Appending is atomic, and the first reason counts."""
        self._reasons.append(error)
        self._client.stop()

    def _check_halted(self) -> None:
        if self._reasons:
            raise Halted

    def _close_ledger(self, started: float, error: BaseException | None = None) -> None:
        self._ended_by = self._ended_by or (type(error).__name__ if error else None)
        reason = self._reasons[0].as_line() if self._reasons else self._ended_by
        close_ledger(self._ledger, time.monotonic() - started, reason)

    def _close_sync(self, error: BaseException | None) -> None:
        if not self._sync:
            return
        error = error or self._pool.failure or self._outcome().error()
        was_cut = self._is_aborted and self._pool.was_stopped
        problem = close_sync(self._sync, error, next(iter(self._reasons), None), was_cut=was_cut)
        if problem and not error:  # else the run has failed for a better reason
            self._reasons.append(problem)

    def _raise_problem(self) -> None:
        if self._pool.failure:
            raise self._pool.failure
        outcome = self._outcome()
        if problem := outcome.error():
            raise problem
        outcome.log_rejects(self._options.warn_rejects)

    def _outcome(self) -> RunOutcome:
        return RunOutcome(
            ledger=self._ledger,
            max_rejects=self._options.max_rejects,
            stopped_by=next(iter(self._reasons), None),
            unanswered=self._sender.unanswered.last,
            unanswered_count=self._sender.unanswered.count,
            withheld=self._unsubscriptions.problem if self._unsubscriptions else None,
        )
