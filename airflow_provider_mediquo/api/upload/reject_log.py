"""Writes rejected and unsettled records down, as they come."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Self

from airflow_provider_mediquo.api.patients.fields import RULES
from airflow_provider_mediquo.api.report import Rejection
from airflow_provider_mediquo.api.upload.reject_files import RejectFile

log = logging.getLogger(__name__)

SHOWN = 20
"""Rejected records that are logged if there is no file."""

MAX_KINDS = 500  # of problems that are counted: names of unknown fields are the source's own


class RejectLog:
    """A file of JSON lines, or the first lines in the log.

    :param file: if a write to it fails, all rejects are logged instead.
    """

    def __init__(self, file: RejectFile | None = None) -> None:
        self.kinds: Counter[str] = Counter()
        self.has_file = file is not None
        self._file = file
        self._waiting: list[Rejection] = []  # for the next write
        self._written_to: str | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # a slow store does not block those that only add
        self._left_to_log: float = math.inf if file else SHOWN

    def check(self) -> None:
        """Raise MediquoError if it is certain that nothing can be written."""
        if file := self._file:
            file.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.flush()

    def hurry(self) -> None:
        """Let writes take a few seconds at most: the task is being killed. Takes no lock."""
        if file := self._file:
            file.is_hurried = True

    @property
    def written_to(self) -> str | None:
        """The file, if anything is in it."""
        return self._written_to

    def add(self, *rejections: Rejection) -> None:
        """Write them down, a line each; in an object store a little later."""
        with self._lock:
            for rejection in rejections:
                self._count(rejection)
            self._waiting += rejections
            file = self._file  # once: another thread may find that it cannot be written
            is_due = not file or len(self._waiting) >= file.lines_at_once
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Write down what is waiting."""
        with self._writing:
            with self._lock:
                rejections, self._waiting = self._waiting, []
            file = self._file
            if rejections and not (file and self._is_written(file, rejections)):
                self._log(rejections)

    def _is_written(self, file: RejectFile, rejections: Sequence[Rejection]) -> bool:
        try:
            file.write("".join(json.dumps(each.as_dict()) + "\n" for each in rejections))
        except Exception as error:  # noqa: BLE001  # each store has errors of its own
            name = type(error).__name__
            log.error("Cannot write %s (%s): rejects are logged instead.", file.path, name)
            self._file = None
            return False
        self._written_to = str(file.path)
        return True

    def _count(self, rejection: Rejection) -> None:
        if rejection.refused_by in ("unsettled", "omitted"):
            return  # not a reject
        kinds = [f"{name} {RULES[rule]}" for name, rule in rejection.problems.items()]
        status = f" {rejection.status}" if rejection.status else ""
        for kind in kinds or [f"{rejection.refused_by}{status}"]:
            if kind in self.kinds or len(self.kinds) < MAX_KINDS:
                self.kinds[kind] += 1

    def _log(self, rejections: Sequence[Rejection]) -> None:
        # All of the unsettled: without a file only this line names them.
        if unsettled := [r.code for r in rejections if r.refused_by == "unsettled"]:
            log.warning("Not confirmed, will be sent again: %s", json.dumps(unsettled))
        for rejection in (r for r in rejections if r.refused_by != "unsettled"):
            if not self._left_to_log:
                return
            self._left_to_log -= 1
            what = "Omitted" if rejection.refused_by == "omitted" else "Rejected"
            log.warning("%s: %s", what, json.dumps(rejection.as_dict()))
            if not self._left_to_log:
                log.warning("Further rejects are only counted: set `rejects_path` to keep all.")
