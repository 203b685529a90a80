"""Where the records that are not in mediQuo are written down, as it happens."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

from airflow_provider_mediquo.api.ledger import Rejection

log = logging.getLogger(__name__)

SHOWN = 20
"""Rejected records that are logged where there is no file."""

_MOST_KINDS = 500  # of problems that are counted: names of unknown fields are the source's own


class RejectLog:
    """A file of JSON lines, or the first lines in the log.

    :param path: of the file; its folder is made. It is appended to, never overwritten, and left
        out where nothing was rejected.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.kinds: Counter[str] = Counter()
        self._file: TextIO | None = None
        self._lock = threading.Lock()
        self._logged = 0

    def __enter__(self) -> Self:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", buffering=1, encoding="utf-8")
        return self

    def __exit__(self, *failure: object) -> None:
        if self.path and self._file:
            self._file.close()
            if not self.path.stat().st_size:
                self.path.unlink()

    @property
    def written_to(self) -> str | None:
        """The file, if anything is in it."""
        return str(self.path) if self.path and self.kinds else None

    def add(self, *rejections: Rejection) -> None:
        """Write them down, a line each."""
        with self._lock:
            for rejection in rejections:
                self._count(rejection)
                if self._file:
                    self._file.write(json.dumps(rejection.as_dict()) + "\n")
            if not self._file:
                self._log(rejections)

    def _count(self, rejection: Rejection) -> None:
        kinds = [f"{name}: {rule}" for name, rule in rejection.problems.items()]
        status = f" {rejection.status}" if rejection.status else ""
        for kind in kinds or [f"{rejection.refused_by}{status}"]:
            if kind in self.kinds or len(self.kinds) < _MOST_KINDS:
                self.kinds[kind] += 1

    def _log(self, rejections: Sequence[Rejection]) -> None:
        # All of the unsettled: without a file this is the only place that names them.
        if unsettled := [r.code for r in rejections if r.refused_by == "unsettled"]:
            log.warning("Unsettled, to be sent again: %s", json.dumps(unsettled))
        for rejection in (r for r in rejections if r.refused_by != "unsettled"):
            if self._logged == SHOWN:
                return
            self._logged += 1
            log.warning("Rejected: %s", json.dumps(rejection.as_dict()))
            if self._logged == SHOWN:
                log.warning("More rejects are only counted: set `rejects_path` to keep them all.")
