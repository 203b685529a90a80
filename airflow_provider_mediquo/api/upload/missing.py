"""Takes the plan from members that have left the source, and leaves their other data unchanged."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice
from typing import Any

from airflow_provider_mediquo.api.client.client import MediquoClient
from airflow_provider_mediquo.api.client.request import Result
from airflow_provider_mediquo.api.errors import (
    MediquoError,
    RejectedRequestError,
    ServerError,
    UnreachableError,
)
from airflow_provider_mediquo.api.patients.endpoints import get
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS
from airflow_provider_mediquo.api.records import Change, ValidRecord
from airflow_provider_mediquo.api.sync.members import Missing
from airflow_provider_mediquo.api.sync.run import SyncRun
from airflow_provider_mediquo.api.upload.ledger import Ledger
from airflow_provider_mediquo.api.upload.sender import Sender
from airflow_provider_mediquo.api.visibility.fingerprint import differences

_WAITS = (1, 2, 4, 8, 15)  # seconds, for what was sent just before and is not shown yet
_MAX_REFUSED = 30  # in a row: then it is not about each of them


class MissingMembers:
    """Reads each member from mediQuo and writes it back without its plan.

    :param halt: ends the run early.
    :param in_flight: held while a request waits for its answer.
    """

    def __init__(
        self,
        client: MediquoClient,
        sync: SyncRun,
        ledger: Ledger,
        chunk_size: int,
        halt: Callable[[MediquoError], None],
        in_flight: AbstractContextManager[object],
    ) -> None:
        self._client, self._sync, self._ledger = client, sync, ledger
        self._chunk_size = chunk_size
        self._halt, self._in_flight = halt, in_flight
        self.found = 0
        """How many there are; another sync may have sent some since they were counted."""
        self.moved: list[str] = []
        """Those that another sync has sent since they were found."""
        self._refused_in_a_row = 0
        self._lock = threading.Lock()
        self._sender = Sender(client, chunk_size, _MissingLedger(sync, ledger), halt, in_flight)

    def chunks(self) -> Iterator[list[Missing]]:
        """Yield the missing members in chunks."""
        missing = self._sync.missing()
        while chunk := [*islice(missing, self._chunk_size)]:
            self.found += len(chunk)
            yield chunk

    def unsubscribe(self, number: int, chunk: Sequence[Missing]) -> None:
        """Unsubscribe a chunk; raises what must end the run."""
        self._forget([member for member in chunk if not member.had_plan])
        waiting = [member for member in chunk if member.had_plan]
        for seconds in _WAITS:
            waiting = self._try(number, waiting)
            if not waiting:
                return
            self._client.pause(seconds)
        self._try(number, waiting, is_last=True)

    def _try(
        self, number: int, members: Sequence[Missing], *, is_last: bool = False
    ) -> list[Missing]:
        """Unsubscribe members; return those that mediQuo may not show yet as they were sent."""
        without_plan: list[Missing] = []
        waiting: list[Missing] = []
        to_send: list[ValidRecord] = []
        for member in members:
            patient, is_answered = self._read(member)
            if patient and patient["code"] != member.code:
                # mediQuo compares codes exactly, as far as its page says. If it still shows
                # another spelling, the plan belongs to the member with that one.
                without_plan.append(member._replace(had_plan=False))
            elif patient and not (is_last or self._is_shown(member, patient)):
                waiting.append(member)
            elif patient and (patient.get("plan") or member.is_recent):
                to_send.append(_without_plan(member.code, patient))
            elif is_answered:
                # Many servers decode `%2F` in a path and never find such a code. There is no other way
                # to read it, and a write needs at least the first name, which is not in the state.
                is_unknown = member.is_recent or "/" in member.code
                (waiting if is_unknown else without_plan).append(member)
        self._forget(without_plan)
        self._send(number, to_send)
        return waiting

    def _send(self, number: int, records: list[ValidRecord]) -> None:
        """Send those that no other sync has taken over meanwhile."""
        if not records:
            return
        own = self._sync.begin_missing([record.code for record in records])
        moved = [record.code for record in records if record.code not in own]
        self.moved.extend(moved)
        if to_send := [record for record in records if record.code in own]:
            self._sender.send(number, to_send)

    def _read(self, member: Missing) -> tuple[dict[str, Any] | None, bool]:
        """Return a patient, None if mediQuo has none; and whether it has answered."""
        try:
            with self._in_flight:
                result = self._client.send(get(member.code), self._ledger.stats)
            self._check_answer(member, result)
        except (ServerError, UnreachableError) as error:
            if down := self._sender.unanswered.add(error, is_up=False):
                self._halt(down)
            return None, False
        except RejectedRequestError as error:  # for example from a firewall
            with self._lock:
                self._refused_in_a_row += 1
                is_about_all = self._refused_in_a_row > _MAX_REFUSED
            if is_about_all:
                raise
            self._ledger.refuse_missing(member.code, error.status)
            return None, False
        self._refused_in_a_row = 0
        self._sender.unanswered.on_answer()
        return result.value, True

    def _check_answer(self, member: Missing, result: Result[dict[str, Any]]) -> None:
        """Raise ServerError for a 404 that need not be mediQuo's own.

        mediQuo has acknowledged the member, and one that is forgotten by mistake keeps the plan forever.
        """
        if result.value is None and result.lacks_limit:
            self._ledger.refuse_missing(member.code, 404)
            raise ServerError(
                "A 404 without the header `x-ratelimit-limit` is not from mediQuo.\nCheck the gateway or "
                "proxy in between.",
                status=404,
            )

    def _is_shown(self, member: Missing, patient: Mapping[str, Any]) -> bool:
        """Return whether mediQuo shows what was sent last; if not, writing it back would undo that."""
        if not member.is_recent:
            return True
        key = self._client.settings.secret_key
        with suppress(ValueError):  # there is no proof, or it was made with another key
            return not differences(member.proof or "", patient, key, by_time=False)
        return False

    def _forget(self, members: Sequence[Missing]) -> None:
        """Forget members that have no plan, or that mediQuo does not have."""
        if members:
            self._sync.forget([member.code for member in members])
            self._ledger.settle_missing(*by_plan(members))


class _MissingLedger:
    """Counts what becomes of the missing members; they are no records of the source."""

    def __init__(self, sync: SyncRun, ledger: Ledger) -> None:
        self._sync, self._ledger = sync, ledger
        self.stats = ledger.stats
        self._open: set[str] = set()  # codes of the chunks that are being sent
        self._lock = threading.Lock()

    def begin(self, records: Sequence[ValidRecord]) -> None:
        """Note which members and fields are being sent; the members are in doubt already."""
        with self._lock:
            self._open.update(record.code for record in records)
        self._ledger.begin(records)

    def check(self) -> None:
        """Raise StateError if another run may have taken over."""
        self._sync.check()

    def accept(self, records: Sequence[ValidRecord], sent_at: int | None) -> None:
        """Forget members that have no plan any more.

        mediQuo may show that later. They are in the ledger's sample, so the sensor sees if it never does.
        """
        self._sync.forget([record.code for record in records])
        self._ledger.settle_missing([record.code for record in records], 0, records, sent_at)
        self._settle(records)

    def refuse(self, record: ValidRecord, status: int | None, fields: Iterable[str]) -> None:
        """Leave a member that mediQuo refuses: it is unsettled."""
        self._ledger.refuse_missing(record.code, status, fields)
        self._settle([record])

    def lose_answer(self, records: Iterable[ValidRecord]) -> None:
        """Do nothing: they stay in doubt until they have no plan."""

    def give_up(self, records: Iterable[ValidRecord], status: int | None = None) -> None:
        """Leave members in doubt."""
        self._settle(records)

    def unsettled_of(self, records: Iterable[ValidRecord]) -> list[ValidRecord]:
        """Return those of some members of which nothing final is known."""
        with self._lock:
            return [record for record in records if record.code in self._open]

    def _settle(self, records: Iterable[ValidRecord]) -> None:
        with self._lock:
            self._open.difference_update(record.code for record in records)


def by_plan(members: Iterable[Missing]) -> tuple[list[str], int]:
    """Return the codes of those that had a plan, and how many had none."""
    members = [*members]
    had_plan = [member.code for member in members if member.had_plan]
    return had_plan, len(members) - len(had_plan)


def _without_plan(code: str, patient: dict[str, Any]) -> ValidRecord:
    """Return what mediQuo shows of a patient as a record that can be sent."""
    kept = {
        name: patient[name] for name in PATIENT_FIELDS if patient.get(name) not in (None, "", [])
    }
    kept = {**kept, "code": code}
    kept.pop("plan", None)
    change = Change("changed", 0, None, had_plan=True, was_known=True)
    # In ASCII: mediQuo may show what no record may have, such as half a surrogate pair. Encoded as UTF-8,
    # that would end the run with an error that holds the patient.
    encoded = json.dumps(kept).encode()
    return ValidRecord(0, code, False, encoded, change=change, fields=(*kept,))
