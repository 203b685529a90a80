"""A stream of records -> checked -> chunks of 100 -> sent -> a ledger that adds up.

One thread reads and checks, `max_in_flight` threads send. What is in memory at a time is the
first 1,000 records, then a chunk per thread, and less than 100 bytes for each code.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import length_hint
from typing import Any

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.errors import MediquoError, StoppedError, UnsubscribeLimitError
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import UploadReport
from airflow_provider_mediquo.api.upload.options import UploadOptions
from airflow_provider_mediquo.api.upload.outcome import AGAIN, RunOutcome, verdict
from airflow_provider_mediquo.api.upload.plan_guard import PlanGuard
from airflow_provider_mediquo.api.upload.progress import BEAT, Progress, every
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.sender import Sender
from airflow_provider_mediquo.api.upload.validation import RecordValidator, iterate_records

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5  # seconds


class _Halted(BaseException):
    """Leaves the reading loop, through whatever the source catches."""


class Upload:
    """One run over a source.

    :param rejects: where the records that do not arrive are written down.
    """

    def __init__(self, client: MediquoClient, options: UploadOptions, rejects: RejectLog) -> None:
        self.report = UploadReport()
        self._client = client
        self._options = options
        self._rejects = rejects
        self._slots = threading.BoundedSemaphore(options.max_in_flight)
        self._reader: int | None = None  # the thread that is inside the source right now
        self._intake = RecordValidator(options, rejects, self.report)
        self._plans = PlanGuard(options.max_without_plan, self.report)
        self._sender = Sender(
            client, options.chunk_size, self._intake, rejects, self.report, self._halt
        )
        self._stopped_by: MediquoError | None = None
        self._broken: Exception | None = None

    def run(self, patients: Iterable[Any]) -> UploadReport:
        """Send every good record, and return the ledger.

        Raises the MediquoError that stopped it, or that says why it did not all go well; its
        `report` is the ledger. What the source raises comes through as it is, after the ledger.
        """
        started = time.monotonic()
        source = iterate_records(patients)
        progress = Progress(self.report, self._sender.tally, _total(patients))
        with self._rejects, every(BEAT, progress.log, self._rejects.flush):
            try:
                self._send_all(source)
            except BaseException as error:
                self._complete_ledger(time.monotonic() - started)
                error.add_note(f"The upload ended with {self.report}. {AGAIN}")
                raise
            self._complete_ledger(time.monotonic() - started)
        self._judge()
        return self.report

    def stop(self) -> None:
        """End every wait, because the task is being killed; a signal handler may call it."""
        self._halt(StoppedError("the task was killed."))
        self._client.stop(abort=True)
        self._rejects.hurry()
        if self._reader == threading.get_ident():
            self._reader = None  # once: what is closed then shall be closed to its end
            raise _Halted  # a source that waits for a database would go on waiting

    def _send_all(self, source: Iterator[Any]) -> None:
        pool = ThreadPoolExecutor(self._options.max_in_flight, thread_name_prefix="mediquo")
        try:
            self._submit_all(pool, source)
        except BaseException as error:
            # Not only what the source raises: also Airflow's time-out, wherever it strikes.
            is_source = isinstance(error, Exception)
            name = type(error).__name__
            self.report.stopped_because = f"the source failed: {name}" if is_source else name
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
        try:
            good = self._intake.good(self._records(source))
            chunks = _chunks(self._plans.guard(good), self._options.chunk_size)
            for number, chunk in enumerate(chunks):
                self._submit(pool, number, chunk)
        except _Halted:
            self._wait_for_answers()
        except UnsubscribeLimitError as error:
            self._halt(error)
            self._wait_for_answers()
        except MediquoError as error:  # of the source: what was sent is waited for
            self._wait_for_answers()
            self._halt(error)
        else:
            self._wait_for_answers()

    def _records(self, source: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._check_halted()
            self._reader = threading.get_ident()
            try:
                record = next(source)
            except StopIteration:
                return
            finally:
                self._reader = None
            yield record

    def _submit(self, pool: ThreadPoolExecutor, number: int, chunk: list[ValidRecord]) -> None:
        self._plans.check(chunk)
        self._take_slot()
        if self._stopped_by:
            self._slots.release()
            raise _Halted
        try:
            pool.submit(self._send, number, chunk)
        except BaseException:  # no thread could be started, say
            self._slots.release()
            raise

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
            pass  # what stopped it is known, and the records are still unsettled
        except MediquoError as error:
            self._halt(error)
        except Exception as error:  # noqa: BLE001  # a full disk, say; raised in the reading thread
            self._broken = error
            self._halt(MediquoError(f"{type(error).__name__}."))
        finally:
            self._slots.release()

    def _halt(self, error: MediquoError) -> None:
        """End the run early; the first reason counts."""
        self._stopped_by = self._stopped_by or error
        self._client.stop()

    def _check_halted(self) -> None:
        if self._stopped_by:
            raise _Halted

    def _complete_ledger(self, seconds: float) -> None:
        report = self.report
        self._sender.write_down([*self._intake.unsettled.values()], "unsettled")
        self._rejects.flush()
        report.seconds, report.throttled_seconds = seconds, self._sender.tally.seconds_throttled()
        report.requests = self._sender.tally.requests
        report.retries = self._sender.tally.retries
        report.rejects_path = self._rejects.written_to
        report.sample = self._sender.sample.as_dict()
        if self._stopped_by:
            report.stopped_because = str(self._stopped_by)
        log.info("Ledger\n%s", report.as_text())

    def _judge(self) -> None:
        if self._broken:
            raise self._broken
        problem = verdict(
            RunOutcome(
                report=self.report,
                max_rejects=self._options.max_rejects,
                stopped_by=self._stopped_by,
                unanswered=self._sender.unanswered,
                unanswered_chunks=self._sender.unanswered_chunks,
                lost_plans=self._intake.lost_plans,
                lost_plan_count=self._intake.lost_plan_count,
                kinds=self._rejects.kinds,
                last_status=self._sender.tally.last_bad_status,
            )
        )
        if problem:
            raise problem


def _total(patients: Any) -> int:
    """Return how many there are, if that is known without asking anybody."""
    is_known = isinstance(patients, list | tuple) or hasattr(patients, "__length_hint__")
    return length_hint(patients) if is_known else 0


def _chunks(items: Iterator[ValidRecord], size: int) -> Iterator[list[ValidRecord]]:
    chunk: list[ValidRecord] = []
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception:  # of the source: what it gave before is good all the same
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk
