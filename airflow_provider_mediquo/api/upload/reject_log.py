"""Writes rejected and unsettled records down, as they come; on request also the unsubscribed."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

from airflow_provider_mediquo.api.patients.rules import describe
from airflow_provider_mediquo.api.patients.schema import PATIENT_FIELDS
from airflow_provider_mediquo.api.records import ValidRecord
from airflow_provider_mediquo.api.report import Rejection
from airflow_provider_mediquo.api.upload.reject_files import Line, LineWriter, RejectFile

log = logging.getLogger(__name__)

_OTHERS = {"omitted": "Omitted", "withheld": "Withheld"}

SHOWN = 20
"""Rejected records that are logged if there is no file."""

_FIELDS = frozenset({*PATIENT_FIELDS, "record"})

MAX_KINDS = 500  # of problems that are counted: names of unknown fields are the source's own


class RejectLog:
    """Files of JSON Lines, or the first lines in the log.

    :param file: of the rejects; if a write to it fails, all are logged instead.
    :param unsubscribed: in the same folder; None: nobody asked who was unsubscribed.
    """

    def __init__(
        self, file: RejectFile | None = None, unsubscribed: RejectFile | None = None
    ) -> None:
        self.kinds: Counter[str] = Counter()
        self.by_rule: dict[str, Counter[str]] = {}
        """Field -> rule -> rejected records; a name that the source gave is `other`."""
        self.has_file = file is not None
        self._files = [each for each in (file, unsubscribed) if each]
        self._rejects = LineWriter(file, self._log)
        self._unsubscribed = LineWriter(unsubscribed, _log_unsubscribed) if unsubscribed else None
        self._lock = threading.Lock()
        self._left_to_log: float = math.inf if file else SHOWN

    def check(self) -> None:
        """Raise MediquoError if it is certain that nothing can be written."""
        for file in self._files[:1]:
            file.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.flush()

    def hurry(self) -> None:
        """Let writes take a few seconds at most: the task is being killed. Takes no lock."""
        for file in self._files:
            file.is_hurried = True

    @property
    def written_to(self) -> str | None:
        """The file of the rejects, if anything is in it."""
        return self._rejects.written_to

    @property
    def unsubscribed_to(self) -> str | None:
        """The file of the unsubscribed, if anything is in it."""
        return self._unsubscribed.written_to if self._unsubscribed else None

    @property
    def unwritten(self) -> int:
        """Lines that the files did not take."""
        return self._rejects.unwritten + (self._unsubscribed.unwritten if self._unsubscribed else 0)

    def add(self, *rejections: Rejection) -> None:
        """Write them down, a line each; in an object store a little later."""
        self.keep(*rejections)
        self.write_if_due()

    def keep(self, *rejections: Rejection) -> None:
        """Take them for the next write."""
        with self._lock:
            for rejection in rejections:
                self._count(rejection)
        self._rejects.keep(rejection.as_dict() for rejection in rejections)

    def write_if_due(self) -> None:
        """Write down the rejects that wait; in an object store once they are many."""
        self._rejects.write_if_due()

    def add_unsubscribed(self, records: Iterable[ValidRecord]) -> None:
        """Write down records whose patients are unsubscribed now, if somebody asked for them."""
        if self._unsubscribed:
            self._unsubscribed.add(map(_unsubscribed_line, records))

    def add_left(self, codes: Iterable[str]) -> None:
        """Write down members that had a plan and lost it because they left the source."""
        if self._unsubscribed:
            self._unsubscribed.add(
                {"row": 0, "code": code, "reason": "left", "had_plan": True} for code in codes
            )

    def flush(self) -> None:
        """Write down what is waiting."""
        self._rejects.flush()
        if self._unsubscribed:
            self._unsubscribed.flush()

    def _count(self, rejection: Rejection) -> None:
        if rejection.refused_by in ("unsettled", "omitted", "withheld"):
            return  # not a reject
        for name, rule in (rejection.problems or {"record": "refused"}).items():
            known = name if name in _FIELDS else "other"
            self.by_rule.setdefault(known, Counter())[rule] += 1
        kinds = [describe(name, rule) for name, rule in rejection.problems.items()]
        status = f" {rejection.status}" if rejection.status else ""
        for kind in kinds or [f"{rejection.refused_by}{status}"]:
            if kind in self.kinds or len(self.kinds) < MAX_KINDS:
                self.kinds[kind] += 1

    def _log(self, lines: Sequence[Line]) -> None:
        # All of the unsettled: without a file only this line names them.
        if unsettled := [line["code"] for line in lines if line["refused_by"] == "unsettled"]:
            log.warning(
                "Not sent, or not confirmed, so the next run sends them: %s", json.dumps(unsettled)
            )
        for line in (each for each in lines if each["refused_by"] != "unsettled"):
            if not self._left_to_log:
                return
            self._left_to_log -= 1
            what = _OTHERS.get(line["refused_by"], "Rejected")
            log.warning("%s: %s", what, json.dumps(line))
            if not self._left_to_log:
                log.warning("Further rejects are only counted: set `rejects_path` to keep all.")


def _unsubscribed_line(record: ValidRecord) -> Line:
    location = record.location._asdict() if record.location else {}
    line = {"row": record.row, **location, "code": record.code, "reason": "no plan"}
    return line | {"had_plan": record.change.had_plan} if record.change else line


def _log_unsubscribed(lines: Sequence[Line]) -> None:
    log.warning("Unsubscribed: %s", json.dumps([line["code"] for line in lines]))
