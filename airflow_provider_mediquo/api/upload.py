"""A stream of records -> checked -> chunks of 100 -> sent -> a ledger that adds up.

One thread reads and checks, `max_in_flight` threads send, and search what mediQuo refuses. What is in memory at a time is the
first 1,000 records, then a chunk per thread, and less than 100 bytes for each code.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from operator import length_hint
from types import MappingProxyType
from typing import Any

from airflow_provider_mediquo.api.broken import CHUNKS, RefusedChunks
from airflow_provider_mediquo.api.client import MediquoClient
from airflow_provider_mediquo.api.errors import (
    MediquoError,
    RejectedRequestError,
    ServerError,
    StoppedError,
    UnreachableError,
    UnsubscribeLimitError,
)
from airflow_provider_mediquo.api.intake import Intake, Item, iterate
from airflow_provider_mediquo.api.isolation import Search, isolate
from airflow_provider_mediquo.api.ledger import Rejection, Tally, UploadReport
from airflow_provider_mediquo.api.options import UploadOptions
from airflow_provider_mediquo.api.patients import upsert
from airflow_provider_mediquo.api.plans import PlanGuard
from airflow_provider_mediquo.api.progress import BEAT, Progress, every
from airflow_provider_mediquo.api.rejects import RejectLog
from airflow_provider_mediquo.api.sample import Sample
from airflow_provider_mediquo.api.verdict import AGAIN, Ending, verdict

log = logging.getLogger(__name__)

_UNANSWERED_IN_A_ROW = 3  # chunks after which mediQuo counts as down
_LOOK_UP = 0.5  # seconds
_NOTHING: Mapping[str, str] = MappingProxyType({})


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
        self._tally = Tally()
        self._slots = threading.BoundedSemaphore(options.max_in_flight)
        self._lock = threading.Lock()
        # Held while nothing of a chunk is accepted: where that is so for all there is, the fewest
        # requests are spent to know it.
        self._doubt = threading.BoundedSemaphore(CHUNKS)
        self._refused = RefusedChunks(options.chunk_size)
        self._refused_with: int | None = None  # status
        self._reader: int | None = None  # the thread that is inside the source right now
        self._intake = Intake(options, rejects, self.report)
        self._plans = PlanGuard(options.max_without_plan, self.report)
        self._sample = Sample(client.settings.secret_key)
        self._unanswered_chunks = self._unanswered_in_a_row = 0
        self._unanswered: MediquoError | None = None
        self._stopped_by: MediquoError | None = None
        self._broken: Exception | None = None

    def run(self, patients: Iterable[Any]) -> UploadReport:
        """Send every good record, and return the ledger.

        Raises the MediquoError that stopped it, or that says why it did not all go well; its
        `report` is the ledger. What the source raises comes through as it is, after the ledger.
        """
        started = time.monotonic()
        source = iterate(patients)
        progress = Progress(self.report, self._tally, _total(patients))
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

    def _submit(self, pool: ThreadPoolExecutor, number: int, chunk: list[Item]) -> None:
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
        while not self._slots.acquire(timeout=_LOOK_UP):
            pass  # a signal that comes just before a wait does not end it

    def _send(self, number: int, chunk: list[Item]) -> None:
        try:
            if self._settle(chunk) == len(chunk):
                self._count_refused(number, len(chunk))
        except StoppedError:
            pass  # what stopped it is known, and the records are still unsettled
        except MediquoError as error:
            self._halt(error)
        except Exception as error:  # noqa: BLE001  # a full disk, say; raised in the reading thread
            self._broken = error
            self._halt(MediquoError(f"{type(error).__name__}."))
        finally:
            self._slots.release()

    def _settle(self, chunk: list[Item]) -> int:
        """Send them, the good without the bad; return how many were refused alone."""
        refusal = self._try(chunk)
        if not refusal or len(chunk) == 1:
            return int(refusal is not None)
        if refusal.status == 413:
            middle = len(chunk) // 2
            return self._settle(chunk[:middle]) + self._settle(chunk[middle:])
        return self._isolate(chunk, refusal)

    def _isolate(self, chunk: list[Item], refusal: RejectedRequestError) -> int:
        alone = 0
        with ExitStack() as doubt:
            doubt.enter_context(self._doubt)
            search = isolate(chunk, refusal.named)
            group = next(search, None)
            while group:
                answer = self._try(group)
                if answer is None:
                    doubt.close()
                alone += bool(answer) and len(group) == 1
                group = _next(search, answer)
        return alone

    def _try(self, items: list[Item]) -> RejectedRequestError | None:
        """Send them; return the refusal, if they were refused."""
        try:
            answer = self._client.send(upsert(item.encoded for item in items), self._tally)
        except (RejectedRequestError, ServerError, UnreachableError) as error:
            # Its frames hold the records, in a circle that only the garbage collector would end.
            error.__traceback__ = None
            if not isinstance(error, RejectedRequestError):
                self._leave(items, error)
                return None
            if len(items) == 1:
                self._refuse(items[0], error)
            return error
        self._accept(items, answer.sent_at)
        return None

    def _accept(self, chunk: list[Item], sent_at: int | None) -> None:
        with self._lock:
            self._unanswered_in_a_row = 0
            for item in chunk:
                self.report.upserted += 1
                self.report.without_plan += not item.has_plan
                self._sample.consider(item, sent_at)
                del self._intake.unsettled[item.row]

    def _refuse(self, item: Item, error: RejectedRequestError) -> None:
        fields = {name for names in error.named.values() for name in names}
        self._write_down([item], "mediquo", error.status, dict.fromkeys(fields, "refused"))
        with self._lock:
            self._unanswered_in_a_row = 0
            self._refused_with = error.status
            self.report.refused += 1

    def _count_refused(self, number: int, size: int) -> None:
        with self._lock:
            if not (count := self._refused.add(number, size)):
                return
            status = self._refused_with
            what = (
                f"mediQuo refused {count:,} records in a row, each of them sent alone too, with "
                f"status {status}. Has a column changed its meaning, or is a quota of the account "
                "used up? Ask mediQuo about one of them."
            )
            self._halt(RejectedRequestError(what, status=status))

    def _leave(self, chunk: list[Item], error: MediquoError) -> None:
        self._write_down(chunk, "unsettled", error.status)
        with self._lock:
            self._unanswered = error
            self._unanswered_chunks += 1
            self._unanswered_in_a_row += 1
            if self._unanswered_in_a_row >= _UNANSWERED_IN_A_ROW:
                host = self._client.settings.host
                what = f"{_UNANSWERED_IN_A_ROW} chunks in a row got no answer from {host}: {error}"
                self._halt(type(error)(what, status=error.status))

    def _write_down(
        self,
        items: Collection[Item],
        refused_by: str,
        status: int | None = None,
        problems: Mapping[str, str] = _NOTHING,
    ) -> None:
        self._rejects.add(
            *(Rejection(i.row, i.code, refused_by, problems, status, i.place) for i in items)
        )
        for item in items:
            del self._intake.unsettled[item.row]

    def _halt(self, error: MediquoError) -> None:
        """End the run early; the first reason counts."""
        self._stopped_by = self._stopped_by or error
        self._client.stop()

    def _check_halted(self) -> None:
        if self._stopped_by:
            raise _Halted

    def _complete_ledger(self, seconds: float) -> None:
        report = self.report
        self._write_down([*self._intake.unsettled.values()], "unsettled")
        self._rejects.flush()
        report.seconds, report.throttled_seconds = seconds, self._tally.seconds_throttled()
        report.requests, report.retries = self._tally.requests, self._tally.retries
        report.rejects_path = self._rejects.written_to
        report.sample = self._sample.as_dict()
        if self._stopped_by:
            report.stopped_because = str(self._stopped_by)
        log.info("Ledger\n%s", report.as_text())

    def _judge(self) -> None:
        if self._broken:
            raise self._broken
        problem = verdict(
            Ending(
                report=self.report,
                max_rejects=self._options.max_rejects,
                stopped_by=self._stopped_by,
                unanswered=self._unanswered,
                unanswered_chunks=self._unanswered_chunks,
                lost_plans=self._intake.lost_plans,
                lost_plan_count=self._intake.lost_plan_count,
                kinds=self._rejects.kinds,
                last_status=self._tally.last_bad_status,
            )
        )
        if problem:
            raise problem


def _total(patients: Any) -> int:
    """Return how many there are, if that is known without asking anybody."""
    is_known = isinstance(patients, list | tuple) or hasattr(patients, "__length_hint__")
    return length_hint(patients) if is_known else 0


def _next(search: Search[Item], answer: RejectedRequestError | None) -> list[Item] | None:
    try:
        return search.send(None if answer is None else answer.named)
    except StopIteration:
        return None


def _chunks(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    chunk: list[Item] = []
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
