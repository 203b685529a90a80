"""Sends chunks, and finds the records in them that mediQuo refuses or never answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.errors import (
    MediquoError,
    RejectedRequestError,
    ServerError,
    UnreachableError,
)
from airflow_provider_mediquo.api.patients.endpoints import upsert
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.text import counted
from airflow_provider_mediquo.api.upload.circuit_breaker import (
    CHUNKS,
    RefusedChunks,
    UnansweredChunks,
)
from airflow_provider_mediquo.api.upload.isolation import Search, isolate
from airflow_provider_mediquo.api.upload.record_ledger import RecordLedger

log = logging.getLogger(__name__)

_PARTS = 4  # of a chunk without an answer: if one is accepted, mediQuo is up
_SEARCH_ATTEMPTS = 2  # per group in a search: mediQuo answers others meanwhile
_MAX_SILENT = 10  # groups in a row without any answer: halving a chunk takes 7
_MAX_UNREACHABLE = 3


@dataclass
class _ChunkResult:
    """What became of a chunk that was not accepted as a whole.

    :param refused: records that mediQuo refused.
    :param status: with which it refused the last of them.
    :param failure: of the records that got no final answer, if there are any.
    :param is_logged: whether a line says that it is sent in parts.
    """

    refused: int = 0
    status: int | None = None
    failure: MediquoError | None = None
    is_logged: bool = False

    def log_parts(self, what: str, size: int) -> None:
        """Log that a request is sent again in parts: once, however many requests that takes."""
        if not self.is_logged:
            log.info(what, counted(size, "record"))
        self.is_logged = True


_SEARCH = "A request of %s failed: looking for the cause."


class Sender:
    """Sends chunks, from any number of threads, and tells the ledger what happened to each record.

    :param halt: ends the run early.
    :param in_flight: held while a request waits for its answer.
    """

    def __init__(
        self,
        client: MediquoClient,
        chunk_size: int,
        ledger: RecordLedger,
        halt: Callable[[MediquoError], None],
        in_flight: AbstractContextManager[object],
    ) -> None:
        self.unanswered = UnansweredChunks(client.settings.host)
        self._client = client
        self._ledger = ledger
        self._halt, self._in_flight = halt, in_flight
        self._lock = threading.Lock()
        # Limits concurrent searches: if all records are refused, few requests prove it.
        self._searches = threading.BoundedSemaphore(CHUNKS)
        self._refused = RefusedChunks(chunk_size)

    def send(self, number: int, chunk: list[ValidRecord]) -> None:
        """Send a chunk; raises what must end the run.

        :param number: of the chunk in its source.
        """
        self._ledger.begin(chunk)
        answers = self.unanswered.answers
        result = _ChunkResult()
        self._resolve(chunk, result)
        if result.refused == len(chunk):
            self._count_refused(number, len(chunk), result.status)
        if result.failure:
            is_up = self.unanswered.answers > answers
            if down := self.unanswered.add(result.failure, is_up=is_up):
                self._halt(down)

    def _resolve(self, chunk: list[ValidRecord], result: _ChunkResult) -> None:
        """Send the records, without those that fail alone."""
        answers = self.unanswered.answers
        failure = self._send_group(chunk)
        if not failure:
            return
        if len(chunk) == 1:
            self._settle_alone(chunk[0], failure, result)
        elif failure.status == 413:
            result.log_parts("A request of %s is too large (413): sending halves.", len(chunk))
            middle = len(chunk) // 2
            self._resolve(chunk[:middle], result)
            self._resolve(chunk[middle:], result)
        elif isinstance(failure, RejectedRequestError):
            result.log_parts(_SEARCH, len(chunk))
            self._isolate(chunk, failure.named, result)
        else:
            self._resolve_unanswered(chunk, failure, answers, result)

    def _resolve_unanswered(
        self, chunk: list[ValidRecord], failure: MediquoError, answers: int, result: _ChunkResult
    ) -> None:
        """Find the records to which mediQuo gives no final answer, if it answers others.

        :param answers: how many there were before the chunk was sent.
        """
        failed = [chunk]
        if self.unanswered.answers == answers:  # nobody else was answered: is mediQuo up?
            size = -(-len(chunk) // _PARTS)
            parts = [chunk[at : at + size] for at in range(0, len(chunk), size)]
            is_gone = isinstance(failure, UnreachableError)
            failed = parts if is_gone else [p for p in parts if self._send_group(p, attempts=1)]
            if self.unanswered.answers == answers:
                self._give_up(chunk, failure, result)
                return
        result.log_parts(_SEARCH, len(chunk))
        for part in failed:
            if not self._isolate(part, (), result, _SEARCH_ATTEMPTS):  # it has gone down meanwhile
                self._give_up(self._ledger.unsettled_of(chunk), failure, result)
                break

    def _isolate(
        self,
        chunk: list[ValidRecord],
        named: Collection[int],
        result: _ChunkResult,
        attempts: int | None = None,
    ) -> bool:
        """Send groups until each record that fails was sent alone; return whether all were tried."""
        silent = 0
        with ExitStack() as searching:
            searching.enter_context(self._searches)
            search = isolate(chunk, named) if len(chunk) > 1 else _only(chunk)
            group = next(search, None)
            while group:
                answers = self.unanswered.answers
                failure = self._send_group(group, attempts if len(group) > 1 else None)
                if not failure:
                    searching.close()
                elif len(group) == 1:
                    self._settle_alone(group[0], failure, result, is_search=True)
                silent = 0 if self.unanswered.answers > answers else silent + 1
                is_gone = isinstance(failure, UnreachableError) and silent >= _MAX_UNREACHABLE
                if failure and (is_gone or silent >= _MAX_SILENT):
                    self._give_up(self._ledger.unsettled_of(chunk), failure, result)
                    return False
                group = _next(search, failure)
        return True

    def _send_group(
        self, records: list[ValidRecord], attempts: int | None = None
    ) -> MediquoError | None:
        """Send records in one request; return why they were not accepted, if they were not."""
        operation, left = upsert(record.encoded for record in records), 0

        def check() -> None:
            nonlocal left
            self._ledger.check()
            left += 1

        try:
            with self._in_flight:
                result = self._client.send(
                    operation, self._ledger.stats, attempts=attempts, check=check
                )
        except (RejectedRequestError, ServerError, UnreachableError) as error:
            # Its frames hold the records, and would do so until a garbage collection.
            error.__traceback__ = None
            is_refusal = isinstance(error, RejectedRequestError)
            if is_refusal:
                self.unanswered.on_answer()
            if left > 1 or not is_refusal:
                self._ledger.lose_answer(records)
            return error
        self.unanswered.on_answer()
        self._ledger.accept(records, result.sent_at)
        return None

    def _settle_alone(
        self,
        record: ValidRecord,
        failure: MediquoError,
        result: _ChunkResult,
        *,
        is_search: bool = False,
    ) -> None:
        """Settle a record that failed alone.

        :param is_search: whether other records are accepted: then a 4xx is about this record, such
            as that of a firewall that inspects bodies.
        """
        is_refusal, status = isinstance(failure, RejectedRequestError), failure.status or 0
        is_blocked = is_search and 400 <= status < 500 and status != 408  # which is a timeout
        if not (is_refusal or is_blocked):
            self._give_up([record], failure, result)
            return
        fields = {name for names in getattr(failure, "named", {}).values() for name in names}
        self._ledger.refuse(record, failure.status, sorted(fields))
        result.refused += 1
        result.status = failure.status

    def _give_up(
        self, records: list[ValidRecord], failure: MediquoError, result: _ChunkResult
    ) -> None:
        """Leave records without a final answer."""
        self._ledger.give_up(records, failure.status)
        result.failure = failure

    def _count_refused(self, number: int, size: int, status: int | None) -> None:
        with self._lock:
            count = self._refused.add(number, size)
        if count:
            what = (
                f"mediQuo refused {count:,} consecutive records, each of them also when sent "
                f"alone, with status {status}.\nHas a column changed its meaning, or is a quota of "
                "the account used up? Ask mediQuo about one of them."
            )
            self._halt(RejectedRequestError(what, status=status))


def _only(chunk: list[ValidRecord]) -> Search[ValidRecord]:
    yield chunk


def _next(search: Search[ValidRecord], failure: MediquoError | None) -> list[ValidRecord] | None:
    try:
        return search.send(None if failure is None else getattr(failure, "named", ()))
    except StopIteration:
        return None
