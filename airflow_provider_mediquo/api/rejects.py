"""Where the records that are not in mediQuo are written down, as it happens."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

from airflow_provider_mediquo.api.errors import MediquoError
from airflow_provider_mediquo.api.fields import RULES
from airflow_provider_mediquo.api.ledger import Rejection

log = logging.getLogger(__name__)

SHOWN = 20
"""Rejected records that are logged where there is no file."""

_MOST_KINDS = 500  # of problems that are counted: names of unknown fields are the source's own


class RejectLog:
    """A file of JSON lines, or the first lines in the log.

    :param path: of the file, which is made with the first line and appended to, never
        overwritten. What cannot be written to it is logged instead, all of it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.kinds: Counter[str] = Counter()
        self._file: TextIO | None = None
        self._lock = threading.Lock()
        self._left_to_log: float = math.inf if path else SHOWN

    def __enter__(self) -> Self:
        if self.path:
            there = next(folder for folder in self.path.absolute().parents if folder.exists())
            if not there.is_dir() or not os.access(there, os.W_OK):
                raise MediquoError(
                    f"`rejects_path`: nothing can be written in {there} on this worker, so nothing "
                    "was sent. Give another folder."
                )
        return self

    def __exit__(self, *failure: object) -> None:
        self._close()

    @property
    def written_to(self) -> str | None:
        """The file, if anything is in it."""
        return str(self.path) if self.path and self.kinds else None

    def add(self, *rejections: Rejection) -> None:
        """Write them down, a line each."""
        if not rejections:
            return
        with self._lock:
            for rejection in rejections:
                self._count(rejection)
            if not self.path or not self._write(rejections):
                self._log(rejections)

    def _write(self, rejections: Sequence[Rejection]) -> bool:
        """Append them to the file; return whether that went well."""
        assert self.path
        try:
            if not self._file:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", buffering=1, encoding="utf-8")
            for rejection in rejections:
                self._file.write(json.dumps(rejection.as_dict()) + "\n")
        except OSError as error:
            log.error(
                "%s cannot be written (%s): rejects are logged.", self.path, type(error).__name__
            )
            self._close()
            self.path = None
            return False
        return True

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            if self._file:
                self._file.close()
        self._file = None

    def _count(self, rejection: Rejection) -> None:
        kinds = [f"{name} {RULES[rule]}" for name, rule in rejection.problems.items()]
        status = f" {rejection.status}" if rejection.status else ""
        for kind in kinds or [f"{rejection.refused_by}{status}"]:
            if kind in self.kinds or len(self.kinds) < _MOST_KINDS:
                self.kinds[kind] += 1

    def _log(self, rejections: Sequence[Rejection]) -> None:
        # All of the unsettled: without a file this is the only place that names them.
        if unsettled := [r.code for r in rejections if r.refused_by == "unsettled"]:
            log.warning("Unsettled, to be sent again: %s", json.dumps(unsettled))
        for rejection in (r for r in rejections if r.refused_by != "unsettled"):
            if not self._left_to_log:
                return
            self._left_to_log -= 1
            log.warning("Rejected: %s", json.dumps(rejection.as_dict()))
            if not self._left_to_log:
                log.warning("More rejects are only counted: set `rejects_path` to keep them all.")
