"""What becomes of each record of a chunk: accepted, refused alone, or left without an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from types import MappingProxyType

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.stats import RequestStats
from airflow_provider_mediquo.api.errors import (
    MediquoError,
    RejectedRequestError,
    ServerError,
    UnreachableError,
)
from airflow_provider_mediquo.api.patients.endpoints import upsert
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import Rejection, UploadReport
from airflow_provider_mediquo.api.upload.circuit_breaker import CHUNKS, RefusedChunks
from airflow_provider_mediquo.api.upload.isolation import Search, isolate
from airflow_provider_mediquo.api.upload.reject_log import RejectLog
from airflow_provider_mediquo.api.upload.validation import RecordValidator
from airflow_provider_mediquo.api.visibility.sample import Sample

_UNANSWERED_IN_A_ROW = 3  # chunks after which mediQuo counts as down
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Sender:
    """Sends chunks, from any number of threads, the good records of each without the bad.

    :param intake: whose records these are.
    :param rejects: where those that do not arrive are written down.
    :param report: where they are counted.
    :param halt: ends the run, where going on makes no sense.
    """

    def __init__(
        self,
        client: MediquoClient,
        chunk_size: int,
        intake: RecordValidator,
        rejects: RejectLog,
        report: UploadReport,
        halt: Callable[[MediquoError], None],
    ) -> None:
        self.tally = RequestStats()
        self.sample = Sample(client.settings.secret_key)
        self.unanswered_chunks = self._unanswered_in_a_row = self._answers = 0
        self.unanswered: MediquoError | None = None
        """The last error of those whose attempts were used up."""
        self._client = client
        self._intake = intake
        self._rejects = rejects
        self._report = report
        self._halt = halt
        self._lock = threading.Lock()
        # Held while nothing of a chunk is accepted: where that is so for all there is, the fewest
        # requests are spent to know it.
        self._doubt = threading.BoundedSemaphore(CHUNKS)
        self._refused = RefusedChunks(chunk_size)
        self._refused_with: int | None = None  # status

    def send(self, number: int, chunk: list[ValidRecord]) -> None:
        """Send a chunk of a source, of which it is that number; raises what must end the run."""
        if self._settle(chunk) == len(chunk):
            self._count_refused(number, len(chunk))

    def _settle(self, chunk: list[ValidRecord]) -> int:
        """Send them, the good without the bad; return how many were refused alone."""
        refusal = self._try(chunk)
        if not refusal or len(chunk) == 1:
            return int(refusal is not None)
        if refusal.status == 413:
            middle = len(chunk) // 2
            return self._settle(chunk[:middle]) + self._settle(chunk[middle:])
        return self._isolate(chunk, refusal)

    def _isolate(self, chunk: list[ValidRecord], refusal: RejectedRequestError) -> int:
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

    def _try(self, items: list[ValidRecord]) -> RejectedRequestError | None:
        """Send them; return the refusal, if they were refused."""
        answers = self._answers
        try:
            answer = self._client.send(upsert(item.encoded for item in items), self.tally)
        except (RejectedRequestError, ServerError, UnreachableError) as error:
            # Its frames hold the records, in a circle that only the garbage collector would end.
            error.__traceback__ = None
            if not isinstance(error, RejectedRequestError):
                self._leave(items, error, is_up=self._answers > answers)
                return None
            if len(items) == 1:
                self._refuse(items[0], error)
            return error
        self._accept(items, answer.sent_at)
        return None

    def _accept(self, chunk: list[ValidRecord], sent_at: int | None) -> None:
        with self._lock:
            self._note_answer()
            for item in chunk:
                self._report.upserted += 1
                self._report.without_plan += not item.has_plan
                self.sample.consider(item, sent_at)
                del self._intake.unsettled[item.row]

    def _refuse(self, item: ValidRecord, error: RejectedRequestError) -> None:
        fields = {name for names in error.named.values() for name in names}
        self.write_down([item], "mediquo", error.status, dict.fromkeys(fields, "refused"))
        with self._lock:
            self._note_answer()
            self._refused_with = error.status
            self._report.refused += 1

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

    def _note_answer(self) -> None:
        self._answers += 1
        self._unanswered_in_a_row = 0

    def _leave(self, chunk: list[ValidRecord], error: MediquoError, *, is_up: bool) -> None:
        """Leave a chunk whose attempts are used up.

        :param is_up: whether others had an answer meanwhile: then it says nothing of mediQuo.
        """
        self.write_down(chunk, "unsettled", error.status)
        with self._lock:
            self.unanswered = error
            self.unanswered_chunks += 1
            self._unanswered_in_a_row += not is_up
            if self._unanswered_in_a_row >= _UNANSWERED_IN_A_ROW:
                host = self._client.settings.host
                what = f"{_UNANSWERED_IN_A_ROW} chunks in a row had no final answer from {host}: {error}"
                self._halt(type(error)(what, status=error.status))

    def write_down(
        self,
        items: Collection[ValidRecord],
        refused_by: str,
        status: int | None = None,
        problems: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Write down records that have not arrived; they are settled then."""
        self._rejects.add(
            *(Rejection(i.row, i.code, refused_by, problems, status, i.place) for i in items)
        )
        for item in items:
            del self._intake.unsettled[item.row]


def _next(
    search: Search[ValidRecord], answer: RejectedRequestError | None
) -> list[ValidRecord] | None:
    try:
        return search.send(None if answer is None else answer.named)
    except StopIteration:
        return None
