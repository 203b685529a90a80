"""A stream of records -> checked -> chunks of 100 -> sent -> a ledger that adds up.

One thread reads and checks, `max_in_flight` threads send. Memory holds the first 1,000 records,
then a chunk per thread, and less than 100 bytes for each code.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.errors import MediquoError, StoppedError
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.outcome import AGAIN, RunOutcome
from airflow_provider_mediquo.api.upload.plan_guard import PlanGuard
from airflow_provider_mediquo.api.upload.progress import (
    PROGRESS_SECONDS,
    Progress,
    length_if_known,
    run_periodically,
)
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.sender import Sender
from airflow_provider_mediquo.api.upload.validation import RecordValidator, iterate_records
from airflow_provider_mediquo.api.visibility.sample import Sample

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


class _Halted(BaseException):
    """Ends the reading loop; a BaseException, so that no source catches it by accident."""


class Upload:
    """One run over a source.

    :param rejects: writes down the records that are not accepted.
    :param progress_interval: seconds between two lines of progress.
    """

    def __init__(
        self,
        client: MediquoClient,
        options: UploadOptions,
        rejects: RejectLog,
        *,
        progress_interval: float = PROGRESS_SECONDS,
    ) -> None:
        self._client, self._options = client, options
        self._rejects = rejects
        self._interval = progress_interval
        self._slots = threading.BoundedSemaphore(options.max_in_flight)
        self._reader: int | None = None  # the thread that is inside the source right now
        self._ledger = Ledger(rejects, Sample(client.settings.secret_key))
        self._validator = RecordValidator(options, self._ledger)
        self._plans = PlanGuard(options.max_without_plan, self.report)
        self._sender = Sender(client, options.chunk_size, self._ledger, self._halt)
        self._reasons: list[MediquoError] = []  # why it ends early; the first one counts
        self._failure: Exception | None = None
        self._ended_by: str | None = None  # what the source raised, or a time limit

    @property
    def report(self) -> UploadReport:
        """The ledger so far."""
        return self._ledger.report

    def run(self, patients: Iterable[Any]) -> UploadReport:
        """Send every valid record, and return the ledger.

        Raises the MediquoError that stopped the run, or that says why it did not succeed; its
        `report` is the ledger. An error of the source is raised as it is, after the ledger.
        """
        started = time.monotonic()
        source = iterate_records(patients)
        progress = Progress(self.report, self._ledger.stats, length_if_known(patients))
        self._check_rejects()
        with self._rejects, run_periodically(self._interval, progress.log, self._rejects.flush):
            try:
                self._send_all(source)
            except BaseException as error:
                self._close_ledger(started)
                error.add_note(f"The upload ended with {self.report}. {AGAIN}")
                raise
            self._close_ledger(started)
        self._raise_problem()
        return self.report

    def _check_rejects(self) -> None:
        try:
            self._rejects.check()
        except MediquoError as error:
            error.report = self.report
            raise

    def stop(self) -> None:
        """End every wait, because the task is being killed.

        A signal handler calls it, so nothing here takes a lock that the interrupted thread may
        hold.
        """
        self._reasons.append(StoppedError("the task was killed."))
        self._client.stop(abort=True)
        self._rejects.hurry()
        if self._reader == threading.get_ident():
            self._reader = None  # once: closing the source must not be interrupted
            raise _Halted  # a source that waits for a database would go on waiting

    def _send_all(self, source: Iterator[Any]) -> None:
        pool = ThreadPoolExecutor(self._options.max_in_flight, thread_name_prefix="mediquo")
        try:
            self._submit_all(pool, source)
        except BaseException as error:
            # Not only what the source raises: also Airflow's timeout, wherever it strikes.
            is_source = isinstance(error, Exception)
            name = type(error).__name__
            self._ended_by = f"the source failed: {name}" if is_source else name
            if not is_source:
                self._client.stop(abort=True)
            raise
        finally:
            try:
                if close := getattr(source, "close", None):
                    close()
            finally:
                pool.shutdown()

    def _submit_all(self, pool: ThreadPoolExecutor, source: Iterator[Any]) -> None:
        problem = None
        try:
            valid = self._validator.accept(self._records(source))
            chunks = _chunks(self._plans.guard(valid), self._options.chunk_size)
            for number, chunk in enumerate(chunks):
                self._submit(pool, number, chunk)
        except _Halted:
            pass
        except MediquoError as error:  # of the source, or the plan guard
            problem = error
        self._wait_for_answers()  # retries of what was sent may go on
        if problem:
            self._halt(problem)

    def _records(self, source: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._reader = threading.get_ident()
            try:
                self._check_halted()  # inside `try`, so that no kill is missed
                record = next(source)
            except StopIteration:
                return
            finally:
                self._reader = None
            yield record

    def _submit(self, pool: ThreadPoolExecutor, number: int, chunk: list[ValidRecord]) -> None:
        self._plans.check(chunk)
        self._take_slot()
        problem = None
        try:
            self._check_halted()
            pool.submit(self._send, number, chunk)
        except _Halted:
            self._slots.release()
            raise
        except RuntimeError as error:
            problem = str(error)
        if problem:
            self._slots.release()
            self._halt(
                MediquoError(
                    f"This worker cannot start a thread to send with: {problem}. Lower "
                    "`max_in_flight`, or allow the worker more threads."
                )
            )
            raise _Halted

    def _wait_for_answers(self) -> None:
        for _ in range(self._options.max_in_flight):
            self._take_slot()

    def _take_slot(self) -> None:
        while not self._slots.acquire(timeout=_POLL_SECONDS):
            pass  # a signal that comes just before a wait does not end it

    def _send(self, number: int, chunk: list[ValidRecord]) -> None:
        try:
            self._sender.send(number, chunk)
        except StoppedError:
            pass  # the reason is known, and the records are still unsettled
        except MediquoError as error:
            self._halt(error)
        except Exception as error:  # noqa: BLE001  # a full disk, say; raised in the reading thread
            self._failure = error
            self._halt(MediquoError(f"{type(error).__name__}."))
        finally:
            self._slots.release()

    def _halt(self, error: MediquoError) -> None:
        """End the run early. Appending is atomic, and the first reason counts."""
        self._reasons.append(error)
        self._client.stop()

    def _check_halted(self) -> None:
        if self._reasons:
            raise _Halted

    def _close_ledger(self, started: float) -> None:
        reason = str(self._reasons[0]) if self._reasons else self._ended_by
        report = self._ledger.close(time.monotonic() - started, reason)
        log.info("Ledger\n%s", report.as_text())

    def _raise_problem(self) -> None:
        if self._failure:
            raise self._failure
        outcome = RunOutcome(
            ledger=self._ledger,
            max_rejects=self._options.max_rejects,
            stopped_by=next(iter(self._reasons), None),
            unanswered=self._sender.unanswered.last,
            unanswered_count=self._sender.unanswered.count,
        )
        if problem := outcome.error():
            raise problem
        if kinds := outcome.problems():
            log.warning("%s rejected: %s.", f"{self.report.rejected:,}", kinds)


def _chunks(records: Iterator[ValidRecord], size: int) -> Iterator[list[ValidRecord]]:
    chunk: list[ValidRecord] = []
    try:
        for record in records:
            chunk.append(record)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception:  # of the source: the records before it are sent all the same
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk
